"""What a release promises to those who call it, and whether a new one keeps the promise of the old one."""
