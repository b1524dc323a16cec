"""Campaigns that others execute: aggregations that follow them, and end with the graph."""
