"""What a sandbox allows, and the plan that follows from it: data and pure decisions."""
