"""Training data without any data: requests that the base model writes, answered by the teacher LoRA."""
