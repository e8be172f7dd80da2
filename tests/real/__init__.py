"""What people see, looked at in the programs with which they look: `scripts/real`."""
