"""The walls of the sandbox, one kernel facility a file."""
