"""Builds of predicted graphs."""
