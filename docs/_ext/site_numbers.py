"""The numbers of the ten-minute route: computed by the derivations when the site is built, never typed.

In ``ten-minutes.md`` ``<<name>>`` stands for a number of :func:`numbers`, rounded to three digits, and ``<<minutes>>``
for how long the page takes.
"""

from __future__ import annotations

import re

import numpy as np
from site_reading import minutes_of
from sphinx.application import Sphinx

from uanref.derivations import Trace, find

PAGE = "ten-minutes"
EXERCISE_MINUTES, EXPLORER_MINUTES = 1.5, 2
"""What an exercise and the explorer count for: this project's choice, and the page says so."""

X = (1.0, 3.0, 5.0, 7.0)
DY = (1.0, 0.0, 0.0, 0.0)
MEANS = (-2.0, 2.0)
ACTIVATION = -1.0


def setup(app: Sphinx) -> None:
    app.connect("source-read", fill_in)


def fill_in(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put numbers where the page names them."""
    if docname == PAGE:
        source[0] = filled(source[0])


def filled(markdown: str) -> str:
    """Return the page with its numbers.

    Raises:
        KeyError: the page names a number that there is not.
    """
    known = {name: shown(value) for name, value in numbers().items()} | {"minutes": str(minutes_of_page(markdown))}
    return re.sub(r"<<(\w+)>>", lambda found: known[found[1]], markdown)


def minutes_of_page(markdown: str) -> int:
    """Return the minutes that the page takes: its words and formulas, its exercises, the explorer."""
    exercises = len(re.findall(r"^## Exercise \d", markdown, re.MULTILINE))
    explorers = markdown.count("```{explorer}")
    return round(minutes_of(markdown) + EXERCISE_MINUTES * exercises + EXPLORER_MINUTES * explorers)


def numbers() -> dict[str, float]:
    """Return every number of the page by its name."""
    bn = find("bn")
    column = np.array(X)[:, None]
    plain = {"gamma": np.ones(1), "beta": np.zeros(1)}
    given = {"x": column, **plain, "eps": np.array(0.0)}
    trace = bn.trace(given, np.array(DY)[:, None], numerical=False)
    further = bn.trace({**given, "x": column + 10}, np.array(DY)[:, None], numerical=False)
    made = {f"x{i + 1}": x for i, x in enumerate(X)}
    made |= {f"dy{i + 1}": dy for i, dy in enumerate(DY)}
    made |= {f"y{i + 1}": float(y) for i, y in enumerate(trace.output[:, 0])}
    made |= {f"moved{i + 1}": float(y) for i, y in enumerate(further.output[:, 0])}
    dx = trace["x"].gradient[:, 0]
    made |= {f"dx{i + 1}": float(g) for i, g in enumerate(dx)}
    made |= {name: float(trace[name].value[0]) for name in ("mu", "var", "std")}
    made |= {"dgamma": float(trace["gamma"].gradient[0]), "dbeta": float(trace["beta"].gradient[0])}
    made |= {"sum_dx": abs(float(dx.sum())), "sum_dx_x_hat": abs(float(dx @ trace["x_hat"].value[:, 0]))}

    mixed = two_components(np.array([ACTIVATION]))
    tau = np.exp(mixed["log_weight"].value + 0.5 * mixed["log_prior"].value[:, None])[:, 0, 0]
    mean, variance = one_gaussian()
    return made | {
        "activation": ACTIVATION,
        "mean1": MEANS[0],
        "mean2": MEANS[1],
        "tau1": float(tau[0]),
        "tau2": float(tau[1]),
        "x_hat1": float(mixed["x_hat"].value[0, 0, 0]),
        "x_hat2": float(mixed["x_hat"].value[1, 0, 0]),
        "uan_y": float(mixed.output[0, 0]),
        "one_variance": variance,
        "one_y": (ACTIVATION - mean) / variance**0.5,
        "exponent": float(mixed["score"].value[0, 0, 0] - mixed["score"].value[1, 0, 0]),
    }


def two_components(x: np.ndarray) -> Trace:
    """Return UAN's trace, with the mixture's own moments, on activations x of one channel: the third exercise's."""
    inputs = {
        "x": x[:, None],
        "prior_logits": np.zeros((2, 1)),
        "mean": np.array(MEANS)[:, None],
        "raw_variance": np.full((2, 1), np.log(np.expm1(1.0))),  # softplus gives a variance of 1
        "gamma": np.ones(1),
        "beta": np.zeros(1),
        "eps": np.array(0.0),
    }
    return find("uan-learned").trace(inputs, np.ones((len(x), 1)), numerical=False)


def one_gaussian() -> tuple[float, float]:
    """Return mean and variance of the one Gaussian in the place of the two: the mixture's own."""
    mean = float(np.mean(MEANS))
    return mean, float(np.mean(np.square(MEANS))) - mean**2 + 1.0


def shown(value: float) -> str:
    """Return a number to three places, without zeros that say nothing and without a minus before 0.

    Its minus is the sign, not the hyphen: the page shows it in prose.
    """
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", "\N{MINUS SIGN}")
