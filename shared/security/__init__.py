"""API keys: made, recognised, and kept only as a keyed hash."""
