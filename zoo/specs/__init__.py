"""Pydantic models of the files zoo reads and writes."""
