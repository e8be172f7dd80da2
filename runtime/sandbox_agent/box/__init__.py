"""A sandbox without a model, for programs that have an agent loop of their own."""
