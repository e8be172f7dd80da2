"""From what people write to a conversation."""
