"""What runs in the model process: litellm, and as little else as possible."""
