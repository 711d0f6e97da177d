"""New adapter projects: the intrinsics that people know, each with a contract, sample data and a workflow."""
