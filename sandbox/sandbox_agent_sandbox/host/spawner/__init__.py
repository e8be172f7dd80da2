"""What a spawner is started with, and what is said of one that cannot build its sandbox."""
