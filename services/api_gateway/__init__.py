"""The front door: authenticates, validates, enqueues; forwards reads."""
