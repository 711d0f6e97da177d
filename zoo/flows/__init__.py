"""Flows: several adapters and the base model answer one request over one shared cache."""
