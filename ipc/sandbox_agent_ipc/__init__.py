"""What is said between processes: messages, framing, channels, the cancel board and its tokens.

This package knows messages and bytes, never processes. It is imported inside the walls, so it
imports msgspec and the standard library only.
"""
