"""The font for mathematics that a page carries: a subset of STIX Math, ``stepping/page/math.woff``.

A browser lays equations out by a font's MATH table, and few systems have a font with one. The subset holds what the
derivations' equations use; tests/support/math_font.py makes it, its licence stands beside it.
"""

from __future__ import annotations

import base64
from importlib import resources

FAMILY = "uanref math"


def font() -> bytes:
    """Return the font's file, WOFF."""
    return (resources.files("uanref.stepping") / "page" / "math.woff").read_bytes()


def font_face() -> str:
    """Return the ``@font-face`` rule for a page's style sheet: the font as a ``data:`` URI, called :data:`FAMILY`."""
    data = base64.b64encode(font()).decode()
    return f'@font-face {{ font-family: "{FAMILY}"; src: url(data:font/woff;base64,{data}) format("woff"); }}\n'
