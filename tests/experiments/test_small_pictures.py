"""Pictures in fewer bytes: the same drawing."""

from __future__ import annotations

import numpy as np
from matplotlib.image import imread

from uanref.experiments.small_pictures import shrink
from uanref.plots.curves import curves
from uanref.plots.intervals import intervals


def test_a_picture_gets_smaller_and_stays_the_same(tmp_path):
    path = tmp_path / "x.png"
    intervals([("a", 1.0, 0.5, 2.0), ("b", 0.0, -1.0, 1.0)], path, x_label="x", margin=0.25)
    before, size = imread(path)[..., :3], path.stat().st_size
    shrink(path)
    after = imread(path)[..., :3]
    assert path.stat().st_size < 0.7 * size
    assert after.shape == before.shape
    assert np.abs(after - before).max() < 0.2  # of the range of a colour
    assert np.abs(after - before).mean() < 0.005


def test_lines_keep_their_colours_where_bands_overlap(tmp_path):
    path, rng = tmp_path / "x.png", np.random.default_rng(0)
    norms = ("none", "bn", "ln", "gn", "mn", "mode", "uan", "uan-learned")
    lines = {norm: [(x, y, y - 1, y + 1) for x, y in enumerate(rng.uniform(0, 2, 9))] for norm in norms}
    curves({"a": lines, "b": lines}, path, x_label="x", y_label="y")
    before = imread(path)[..., :3]
    shrink(path)
    assert np.abs(imread(path)[..., :3] - before).max() < 0.1


def test_what_is_no_picture_stays(tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG of nothing")
    shrink(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == b"\x89PNG of nothing"
