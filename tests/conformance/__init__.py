"""One suite for each interface, with a subclass for each implementation."""
