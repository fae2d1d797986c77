"""Schema of the store, the same on TimescaleDB and on plain PostgreSQL."""
