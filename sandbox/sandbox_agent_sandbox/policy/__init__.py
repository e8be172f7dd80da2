"""What a sandbox is to allow, and the plan that follows from it: data and pure decisions."""
