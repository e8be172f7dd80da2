"""What a sandbox has on the disk, from the host's side: watched, and removed in the end."""
