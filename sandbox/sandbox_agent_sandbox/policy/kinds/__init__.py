"""Which kind of plan this host can do, found out by doing it."""
