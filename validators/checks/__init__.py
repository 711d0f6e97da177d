"""The static checks, one module a subject; each ends in a tuple of its checks."""
