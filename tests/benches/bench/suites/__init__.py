"""The suites of `scripts/bench`. Each module has `measure(setting)`."""
