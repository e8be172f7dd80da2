"""A run of one call, without a conversation."""
