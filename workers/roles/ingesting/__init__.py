"""Ingesting: from digests to rows in the database."""
