"""What an adapter is: its kind, its spectrum, what it resembles, and how it lies to alignment."""
