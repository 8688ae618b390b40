"""What a reader gives: sizes and files, and one clear sentence where they do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from uanref.derivations import find
from uanref.stepping.given import inputs_from, sizes_from


def test_sizes_are_read():
    assert sizes_from(["m=6", "k=2, c=1"], find("uan")) == {"m": 6, "k": 2, "c": 1}
    assert sizes_from([], find("uan")) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("m", "axis=length"),
        ("m=", "axis=length"),
        ("m=0", "axis=length"),
        ("m=-3", "axis=length"),
        ("m=2.5", "axis=length"),
        (f"m={'9' * 5000}", r"axis=length, such as m=6, got 'm=9{58}'$"),
        ("=3", "no axis ''"),
        ("z=3", r"no axis 'z' to size: it has m \(sample\), c \(channel\), k \(component\)"),
    ],
)
def test_a_bad_size_is_told(text, told):
    with pytest.raises(ValueError, match=told):
        sizes_from([text], find("uan"))


def test_positions_of_a_kernel_cannot_be_sized():
    with pytest.raises(ValueError, match="no axis 'p'"):
        sizes_from(["p=3"], find("conv"))


def test_an_example_has_the_sizes():
    inputs, upstream = inputs_from(find("uan"), None, {"m": 7, "k": 2}, seed=1)
    assert inputs["x"].shape == (7, 2)
    assert inputs["mean"].shape == (2, 2)
    assert upstream is None
    assert find("uan").trace(inputs).worst < 1e-6


def test_a_file_is_read(tmp_path):
    wanted = find("bn").example(seed=4, m=3)
    upstream = np.random.default_rng(0).standard_normal((3, 2))
    del wanted["eps"]
    np.savez(tmp_path / "mine.npz", **wanted, upstream=upstream)
    inputs, found = inputs_from(find("bn"), tmp_path / "mine.npz", {}, seed=0)
    assert inputs["eps"] == 1e-5, "a setting may be left out"
    assert all((inputs[name] == array).all() for name, array in wanted.items())
    assert (found == upstream).all()


def test_files_that_do_not_fit_are_told(tmp_path):
    file = tmp_path / "mine.npz"
    example = find("bn").example()
    np.savez(file, x=example["x"], gamma=example["gamma"], scale=example["beta"])
    with pytest.raises(ValueError, match=r"missing beta, unknown scale; the inputs are x \(m, c\)"):
        inputs_from(find("bn"), file, {}, seed=0)
    with pytest.raises(ValueError, match="leave out --size"):
        inputs_from(find("bn"), file, {"m": 3}, seed=0)
    with pytest.raises(FileNotFoundError):
        inputs_from(find("bn"), tmp_path / "nowhere.npz", {}, seed=0)
    file.write_text("no archive")
    with pytest.raises(ValueError, match=r"no \.npz file of plain arrays"):
        inputs_from(find("bn"), file, {}, seed=0)
    np.save(tmp_path / "one.npy", example["x"])
    with pytest.raises(ValueError, match="single array"):
        inputs_from(find("bn"), tmp_path / "one.npy", {}, seed=0)
    np.savez(file, x=np.array([object()]))
    with pytest.raises(ValueError, match=r"no \.npz file of plain arrays"):
        inputs_from(find("bn"), file, {}, seed=0)


def test_too_large_a_walk_is_told():
    with pytest.raises(ValueError, match=r"score|offset"):
        inputs_from(find("uan"), None, {"m": 500}, seed=0)


@pytest.mark.parametrize(
    ("name", "sizes", "told"),
    [
        ("bn", {"m": 2_000_000_000}, r"the value x would have shape \(2000000000, 2\), more than"),
        ("bn", {"m": 10**30}, r"the value x would have shape \(10{30}, 2\), more than"),
        (
            "conv",
            {"n": 1, "i": 1, "h": 30, "k": 30, "u": 15, "v": 15},
            r"columns would have shape \(1, 1, 15, 15, 16, 16",
        ),
    ],
)
def test_sizes_are_judged_before_anything_is_drawn(name, sizes, told):
    with pytest.raises(ValueError, match=told):
        inputs_from(find(name), None, sizes, 0)
