"""Databases: what they have in common, SQLite, PostgreSQL."""
