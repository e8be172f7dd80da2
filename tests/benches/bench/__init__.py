"""What `scripts/bench` measures, how it counts, and how it writes and draws the figures."""
