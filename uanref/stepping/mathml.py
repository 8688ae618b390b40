"""Equations for a browser: LaTeX as MathML, which every current browser draws without a script or a font to load."""

from __future__ import annotations

import functools
import re

from latex2mathml.converter import convert

ACCENTS = {
    "&#x0005E;": "&#x002C6;",  # hat: the circumflex, for ^ is as large as a letter
    "&#x0007E;": "&#x002DC;",  # tilde
    "&#x000AF;": "&#x000AF;",  # bar
    "&#x002D9;": "&#x002D9;",  # dot
}
"""What the converter writes over a letter, and the accent that is meant."""

_OVER = re.compile(r"<mover[^>]*>(?P<base>(?:(?!<mover|<mo\b).)*)<mo[^>]*>(?P<sign>&#x[0-9A-F]+;)</mo></mover>")


@functools.cache
def mathml(latex: str, display: str = "block") -> str:
    r"""Return an equation as a ``<math>`` element.

    Args:
        latex: with ``\mathrel{+}=`` for "adds to".
        display: ``"block"`` or ``"inline"``.
    """
    made: str = convert(latex.replace(r"\mathrel{+}=", r"\mathrel{+=}"), display=display)
    # \mathrel comes out as an operator around a row of operators, which no browser spaces as one sign.
    made = made.replace("<mo><mrow><mo>&#x0002B;</mo><mo>&#x0003D;</mo></mrow></mo>", "<mo>+=</mo>")
    return _OVER.sub(_accented, made)


def _accented(found: re.Match[str]) -> str:
    """Return what stands over a letter as an accent, which browsers set close above it and in the middle."""
    if found["sign"] not in ACCENTS:
        return found[0]
    return f'<mover accent="true">{found["base"]}<mo stretchy="false">{ACCENTS[found["sign"]]}</mo></mover>'
