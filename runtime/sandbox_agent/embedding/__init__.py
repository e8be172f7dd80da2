"""What an embedding program shares with a run: event loop, signals, forks, callbacks."""
