"""The view without mounts: which files, sockets and shared memory tools reach."""
