"""How the fields of a policy and of a task file are written: units, secrets, and what is said of a
value that is wrong."""
