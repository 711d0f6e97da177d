"""Release gates for continuous integration."""
