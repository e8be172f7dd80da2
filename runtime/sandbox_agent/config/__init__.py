"""What people write: task files, policies and settings, checked with file and line."""
