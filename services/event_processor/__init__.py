"""Queue in; enriched, rated, stored rows out."""
