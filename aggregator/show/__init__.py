"""The command `show`, which prints what a provenance graph knows."""
