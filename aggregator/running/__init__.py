"""Runs of predicted graphs: what executes them for a user, and tells of it."""
