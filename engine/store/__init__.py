"""The engine's rows in Postgres: one module a subject, all writes behind a lock or a lease."""
