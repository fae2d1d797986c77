"""The `usage` command: the whole platform on one machine, and the few commands that operate it."""
