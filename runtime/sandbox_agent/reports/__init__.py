"""What people read of a run. Reports read the journal, never a live conversation."""
