"""One style for the figures of a notebook: the project's colours, one size of letters, two pixels for each point."""

from __future__ import annotations

import sys

import matplotlib
from cycler import cycler

from uanref.plots.style import COLORS, COMPONENT_COLORS

CYCLE = (COLORS["bn"], *COMPONENT_COLORS)
"""``"C0"`` to ``"C5"``."""
SETTINGS = {
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",  # legible on a dark page, too
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # Matplotlib brings it along: the same letters on every machine
    "font.size": 9,
    "image.cmap": "gray",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "mathtext.fontset": "dejavusans",
}


def notebook_style() -> None:
    """Give the figures that follow the style of the tutorials.

    It changes Matplotlib's settings for this process. In a notebook, figures are drawn with twice as many pixels as
    they take on the page, so that letters stay sharp on today's screens.
    """
    matplotlib.rcParams.update(SETTINGS)
    shell = sys.modules.get("IPython")
    if shell is not None and shell.get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")  # type: ignore[no-untyped-call]
