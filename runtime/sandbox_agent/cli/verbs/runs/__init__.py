"""The verbs that find a run again: one module a verb."""
