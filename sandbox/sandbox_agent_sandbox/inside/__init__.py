"""The processes inside the walls, and the spawner that starts them.

This folder imports the standard library, msgspec, `sandbox_agent_ipc` and the shared modules at the
top of this package only: every call pays for what it imports.
"""
