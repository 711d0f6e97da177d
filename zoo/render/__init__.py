"""Reports as text: one module a format, each a pure function `Report -> str`."""
