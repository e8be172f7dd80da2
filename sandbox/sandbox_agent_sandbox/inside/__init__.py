"""What runs inside the walls. Imports the standard library, msgspec, ipc, shared modules only."""
