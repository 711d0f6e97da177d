"""What an adapter answers, and how often it is right."""
