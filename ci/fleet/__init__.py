"""A gate over a library that is too large for one process: workers on Ray, or Jobs on the Hub."""
