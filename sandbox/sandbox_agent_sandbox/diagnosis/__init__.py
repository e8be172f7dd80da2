"""What this host keeps, found out by trying it, and why a tool was denied something."""
