"""Training and distillation of activated LoRAs on the base model's cached prefix."""
