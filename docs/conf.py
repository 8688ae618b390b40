"""Sphinx configuration: ``sphinx-build -W -b html docs docs/_build``. Needs the docs extra; reaches no network."""

from __future__ import annotations

import sys
from pathlib import Path

import uanref

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "uanref"
author = "The uanref authors"
copyright = "2026, The uanref authors"
release = uanref.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "uanref_site",
]
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"
smartquotes_action = "qe"  # two hyphens are an option of a command, not a dash

html_theme = "furo"
html_title = "uanref"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_search_summary = False  # summaries are fetched, which a page opened from a file may not do
mathjax_path = "mathjax/tex-svg.js"  # shipped in _static (MathJax 3.2.2, Apache 2.0): pages open without a network
mathjax3_config = {"options": {"enableMenu": False}}  # the menu would load its speech engine from a network

viewcode_follow_imported_members = False  # every name is described in the module that defines it
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give shapes, which say more
autodoc_default_options = {"members": True, "show-inheritance": True}
