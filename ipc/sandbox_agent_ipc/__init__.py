"""What processes send to each other: messages, frames, channels, the cancel board, cancel tokens.

This package is about messages and bytes, not about processes. It is imported inside the walls, so
it imports msgspec and the standard library only.
"""
