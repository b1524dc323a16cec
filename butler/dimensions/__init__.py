"""The dimension universe, and data IDs in it."""
