"""Pictures that lie in a release and that its card shows, drawn from what was measured."""
