"""What a person sees of a run at a terminal. Imported only there: it needs rich."""
