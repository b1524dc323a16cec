"""How Sphinx builds the site of these pages: `make docs`."""

from importlib import metadata

project = "Quantum-graph aggregator"
author = "the quantum-graph aggregator's developers"
version = release = metadata.version("quantum-graph-aggregator")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]

# Links to sections, as on GitHub.
myst_heading_anchors = 3
# Names in docstrings are in single backticks.
default_role = "literal"

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_copyright = False
