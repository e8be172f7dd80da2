"""Small wrong changes of the product, each of which a test must catch; see `scripts/check`."""
