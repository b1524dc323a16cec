"""Benchmarks against the reference, on runs whose files look like those of a real campaign."""
