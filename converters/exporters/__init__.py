"""Adapters and base models in the file formats of other engines."""
