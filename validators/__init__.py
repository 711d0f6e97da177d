"""Validation of adapter folders: checks, the engine that runs them, the conformance reference."""
