"""Where files of datasets are, and what is recorded about them."""
