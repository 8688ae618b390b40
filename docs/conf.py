"""Sphinx configuration: ``sphinx-build -W -b html docs docs/_build``. Needs the docs extra; reaches no network."""

from __future__ import annotations

import uanref

project = "uanref"
author = "The uanref authors"
copyright = "2026, The uanref authors"
release = uanref.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
nb_execution_mode = "off"

html_theme = "furo"
html_title = "uanref"
html_static_path = ["_static"]
mathjax_path = "mathjax/tex-svg.js"  # shipped in _static (MathJax 3.2.2, Apache 2.0): pages open without a network

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give shapes, which say more
autodoc_default_options = {"members": True, "show-inheritance": True}
