"""Conformance vectors: the semantics of an activated LoRA as data, and a runner for any engine."""
