"""Comparisons with other people's programs that anybody can run on their own data."""
