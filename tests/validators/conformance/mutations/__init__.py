"""The mutation table: defects seeded into adapters, engines and caches, and what catches them."""
