"""Reports on a run, for people. They read the journal, never a live conversation."""
