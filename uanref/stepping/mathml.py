"""Equations for a browser: LaTeX as MathML, which every current browser draws without a script or a font to load."""

from __future__ import annotations

import functools

from latex2mathml.converter import convert


@functools.cache
def mathml(latex: str, display: str = "block") -> str:
    r"""Return an equation as a ``<math>`` element.

    Args:
        latex: with ``\mathrel{+}=`` for "adds to".
        display: ``"block"`` or ``"inline"``.
    """
    made: str = convert(latex.replace(r"\mathrel{+}=", r"\mathrel{+=}"), display=display)
    # \mathrel comes out as an operator around a row of operators, which no browser spaces as one sign.
    return made.replace("<mo><mrow><mo>&#x0002B;</mo><mo>&#x0003D;</mo></mrow></mo>", "<mo>+=</mo>")
