"""How much the tools may use: who counts it, and what a limit that was met is called."""
