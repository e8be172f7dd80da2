"""Real programs: inside the walls, and those with which people look at what we print."""
