"""Scanning: from the files of a shard's quanta to its digest."""
