"""Runs as text for people: listed, shown, followed and compared."""
