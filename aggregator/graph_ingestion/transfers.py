"""Transfer modes, which are ways to bring a graph into a repository, and the default values of options."""

MODES = ("auto", "link", "symlink", "hardlink", "copy", "move", "relsymlink", "direct")
"""Names of the reference's transfer modes; in Python there is `None`, too: the file stays where it is."""

DEFAULT = "move"
"""The mode unless another one is given."""

BATCH_SIZE = 10_000
"""Datasets in a transaction by default."""
