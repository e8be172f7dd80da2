"""Living in somebody else's program: event loops, signals, forks, callbacks."""
