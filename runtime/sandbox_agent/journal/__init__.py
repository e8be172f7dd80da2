"""The record of a run on disk, and what follows from it."""
