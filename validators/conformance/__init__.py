"""Conformance: our own aLoRA forward, PEFT beside it, and what is measured between the two and the base."""
