"""What each group of routes answers; `tests.hub.routes` puts the groups together."""
