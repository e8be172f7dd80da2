"""The reports that a command writes into files, and into the log of a CI job."""
