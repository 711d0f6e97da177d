"""Engines that serve an adapter, behind one small protocol, and what each is known to do with an aLoRA."""
