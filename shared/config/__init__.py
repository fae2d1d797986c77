"""Settings shared by every service: read once, in `__main__`, validated, and handed down."""
