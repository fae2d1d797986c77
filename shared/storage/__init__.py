"""PostgreSQL/TimescaleDB: one module per noun. The only place with SQL."""
