"""Aggregation: reads what a run left, has it ingested, and has its provenance graph written."""
