"""Synthetic campaigns: executed runs of any size, to measure and to try out aggregation with."""
