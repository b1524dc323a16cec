"""Pipelines: from YAML to a graph of tasks and dataset types."""
