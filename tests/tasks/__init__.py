"""Real tasks: intrinsics over real text, each with its contract, its data, and what guessing is worth."""
