"""What the pictures share: colours, the grid of panels, title and legend.

Colours are those of Okabe and Ito (2008), which stay apart for all common forms of colour
blindness; where many lines share a panel, line styles tell them apart as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from uanref.backend import Array

DPI = 150
BLACK, GREY = "#222222", "#9a9a9a"
COLORS = {
    "none": "#6b6b6b",
    "bn": "#0072b2",
    "ln": "#e69f00",
    "gn": "#56b4e9",
    "in": "#a89c00",
    "uan": "#d55e00",
    "uan-learned": "#009e73",
    "uan-joint": "#cc79a7",
    "mn": "#882255",
    "mode": "#332288",
    "uan-public": "#000000",
}
COMPONENT_COLORS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLES: dict[str, Any] = {
    "none": "-",
    "bn": "--",
    "ln": (0, (1, 1)),
    "gn": (0, (3, 1, 1, 1)),
    "in": (0, (6, 2)),
    "uan": "-.",
    "uan-learned": ":",
    "uan-joint": (0, (5, 1, 1, 1, 1, 1)),
    "mn": (0, (8, 1)),
    "mode": (0, (2, 2)),
    "uan-public": (0, (1, 3)),
}
OWN_COLORS = ("#cc3311", "#0077bb", "#ee7733", "#33bbee")  # of norms that are the reader's own


def line_style(norm: str, norms: Sequence[str]) -> dict[str, Any]:
    """Return colour and line style of ``norm``, one of ``norms``: those of the reader's own take turns."""
    if norm in COLORS:
        return {"color": COLORS[norm], "linestyle": STYLES[norm]}
    place = [one for one in norms if one not in COLORS].index(norm)
    return {"color": OWN_COLORS[place % len(OWN_COLORS)], "linestyle": [*STYLES.values()][place % len(STYLES)]}


def shown(norm: str) -> str:
    """Return a norm's label as Matplotlib shows it: without mathematics, and in the legend, which leaves out ``_x``."""
    return (" " if norm.startswith("_") else "") + plain(norm)


def plain(text: str) -> str:
    """Return text in which a dollar starts no mathematics and every character is one that the font has."""
    fonts = [get_font(findfont(FontProperties(family=[name]))) for name in FontProperties().get_family()]
    known = (c if any(font.get_char_index(ord(c)) for font in fonts) else "?" for c in text)
    return "".join(known).replace("$", r"\$")


def grid(rows: int, columns: int, *, width: float, row_height: float, share: bool = False) -> tuple[Figure, Array]:
    """Return a figure of ``rows`` times ``columns`` panels, in inches, and its axes ``(rows, columns)``."""
    # Title and legend take about 1.1 inches whatever the number of rows.
    figure = Figure(figsize=(width, row_height * rows + 1.1), dpi=DPI, layout="constrained")
    axes: Array = figure.subplots(rows, columns, squeeze=False, sharey="all" if share else False)
    for axis in axes.flat:
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(which="both", labelsize=8)
    return figure, axes


def finish(figure: Figure, title: str, handles: Sequence[Line2D | Patch]) -> None:
    """Write title and legend."""
    figure.suptitle(plain(title), fontsize=10)  # it may hold a path
    # One row if it fits, else equal columns: an entry takes about 0.085 inches a character and 0.7 for its sample.
    sizes = [0.7 + 0.085 * len(_shown(str(handle.get_label()))) for handle in handles]
    width = float(figure.get_figwidth())
    columns = len(handles) if sum(sizes) <= width else max(1, int(width / max(sizes)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _shown(label: str) -> str:
    """Return about as many characters as a label with mathematics shows."""
    return re.sub(r"\\[a-z]+|[${}_^\\]", "", label)


def whole_ticks(axis: Axes) -> None:
    """Count epochs in whole numbers, also where there is a single one."""
    low, high = axis.get_xlim()
    if high - low < 1.0:
        axis.set_xlim((low + high) / 2 - 0.5, (low + high) / 2 + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
