"""The picture of the ten-minute route: two heaps, one Gaussian or two, and both transforms. Drawn with the site.

Its mixture is that of the page's third exercise (:mod:`site_numbers`). It also stands in for the mixture to drag on the
first page where no script runs.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import site_numbers
from sphinx.application import Sphinx

from uanref import files

NAME = "two-heaps.png"
SAMPLES = 400


def setup(app: Sphinx) -> None:
    app.connect("build-finished", write_picture)


def write_picture(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir) / "_images"
        folder.mkdir(exist_ok=True)
        files.write_bytes(folder / NAME, picture())


def picture() -> bytes:
    """Return the picture as a PNG."""
    from matplotlib.figure import Figure

    rng = np.random.default_rng(0)
    means = np.array(site_numbers.MEANS)
    x = means[rng.integers(len(means), size=SAMPLES)] + rng.standard_normal(SAMPLES)
    grid = np.linspace(-5.0, 5.0, 401)
    mixed = site_numbers.two_components(grid)
    density = np.exp(mixed["score"].value[:, :, 0]) / np.sqrt(2 * np.pi)
    mean, variance = site_numbers.one_gaussian()
    one = np.exp(-((grid - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    figure = Figure(figsize=(8.6, 3.4), dpi=200, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist(x, bins=32, range=(-5, 5), density=True, color="#d0d4da", label="activations")
    for k, (curve, colour) in enumerate(zip(density, ("#1f6fb4", "#c25b0a"), strict=True), 1):
        left.plot(grid, curve, color=colour, label=f"component {k}")
    left.plot(grid, density.sum(axis=0), color="#22262d", linewidth=2, label="mixture")
    left.plot(grid, one, "--", color="#8a3ea8", label="one Gaussian (BN)")
    left.set(xlabel="x", ylabel="density", title="What the channel holds", ylim=(0, 0.36))
    left.legend(fontsize=8, frameon=False, ncols=2, loc="upper center")
    right.axhline(0, color="#dcdad3", linewidth=1)
    right.plot(grid, mixed.output[:, 0], color="#22262d", linewidth=2, label="UAN")
    right.plot(grid, (grid - mean) / variance**0.5, "--", color="#8a3ea8", label="BN")
    right.set(xlabel="x", ylabel="y", title="What becomes of it")
    right.legend(fontsize=8, frameon=False, loc="upper left")
    made = BytesIO()
    figure.savefig(made, format="png", metadata={"Software": None})
    return made.getvalue()
