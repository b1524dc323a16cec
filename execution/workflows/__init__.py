"""Workflows of batch systems: which jobs there are, in which order, and the files that describe them."""
