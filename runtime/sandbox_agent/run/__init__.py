"""One run, from its first turn to its end."""
