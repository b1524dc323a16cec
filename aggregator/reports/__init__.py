"""Reports on what became of a run, made from its provenance graph (docs/report.md)."""
