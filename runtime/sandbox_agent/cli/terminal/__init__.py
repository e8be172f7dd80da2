"""The live view of a run. Imported only at a terminal: it needs rich."""
