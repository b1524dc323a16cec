"""Runs of policies: one job for each data ID."""
