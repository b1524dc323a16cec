"""Writing: from digests to the provenance graph."""
