"""Model cards: one typed record in, one README out, byte-stable for the same input."""
