"""The public surface as it is at run time, and what changed in it; see `scripts/api`."""
