"""Makes ``uanref/stepping/page/math.woff``: of STIX Math the glyphs that the derivations' equations use.

    apt install fonts-stix; pip install fonttools; python tests/support/math_font.py

The font keeps its table of mathematical layout (MATH), which lets a browser place indices, roots and tall brackets.
Its licence (math.LICENSE.txt) reserves the name STIX Fonts: a subset has to bear another one.
"""

from __future__ import annotations

import html
import json
import re
import string
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SOURCE = Path("/usr/share/fonts/opentype/stix-word/STIXMath-Regular.otf")
TARGET = Path(__file__).parents[2] / "uanref" / "stepping" / "page" / "math.woff"
NAME = "uanref math"


def characters(told: Any) -> set[str]:
    """Return the characters of all ``<math>`` elements and symbols of an exported derivation, as a browser draws them.

    A single letter in ``<mi>`` is drawn as a mathematical italic.
    """
    found: set[str] = set()
    for markup in re.findall(r"<math.*?</math>", json.dumps(told, ensure_ascii=False)):
        markup = markup.replace('\\"', '"')
        found |= set(html.unescape(re.sub(r"<[^>]+>", "", markup)))
        found |= {italic(html.unescape(one)) for one in re.findall(r"<mi>([^<]+)</mi>", markup)} - {""}
    for node in told["nodes"]:
        found |= set(node["symbol"])
    return {one for one in found if not one.isspace()}


def italic(text: str) -> str:
    """Return the mathematical italic of a single letter; the empty string for everything else."""
    if len(text) != 1 or not text.isalpha():
        return ""
    return next((one for one in italics() if unicodedata.normalize("NFKC", one) == text), "")


def italics() -> Iterable[str]:
    """Return every mathematical italic letter."""
    return ["\u210e", *map(chr, range(0x1D434, 0x1D468)), *map(chr, range(0x1D6E2, 0x1D71C))]


def main() -> None:
    """Write the font."""
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    from uanref.derivations import DERIVATIONS
    from uanref.stepping.export import exported
    from uanref.stepping.mathml import ACCENTS

    wanted = set(string.digits + string.ascii_letters + "()[]{}|+-=<>.,:;/*^~\u2212\u00d7\u22c5\u2026\u221a")
    # Some more than is used today, so that another symbol needs no other font.
    wanted |= set(italics()) | {chr(code) for code in (*range(0x391, 0x3AA), *range(0x3B1, 0x3CA), 0x3D5, 0x3F5)}
    wanted |= {html.unescape(accent) for accent in ACCENTS.values()}
    for derivation in DERIVATIONS:
        wanted |= characters(exported(derivation.trace(numerical=False)))
    font = TTFont(SOURCE)
    options = Options(
        layout_features=["ssty", "dtls", "flac"], hinting=False, drop_tables=["FFTM"], name_IDs=[0, 13, 14]
    )
    subset = Subsetter(options)
    subset.populate(unicodes=[ord(one) for one in wanted])
    subset.subset(font)
    for record, text in ((1, NAME), (2, "Regular"), (4, NAME), (6, NAME.replace(" ", "-"))):
        font["name"].setName(text, record, 3, 1, 0x409)
    if "CFF " in font:
        font["CFF "].cff.fontNames = [NAME.replace(" ", "-")]
        top = font["CFF "].cff.topDictIndex[0]
        top.FullName = top.FamilyName = NAME
    font.flavor = "woff"
    font.save(TARGET)


if __name__ == "__main__":
    main()
