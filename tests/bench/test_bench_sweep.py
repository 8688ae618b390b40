"""The sweep over sizes: which sizes, what counts as a cliff, table and picture. Never how fast."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from rich.console import Console

from uanref import plots
from uanref.bench import sweep, sweep_picture, sweep_report, timing
from uanref.bench.sweep import Point


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "BASE", {"N": 2, "H": 4, "W": 4, "C": 2, "K": 2, "O": 3})
    monkeypatch.setattr(sweep, "AXES", {axis: sizes[:2] for axis, sizes in sweep.AXES.items()})
    monkeypatch.setattr(sweep, "LEAST_SECONDS", 0.0)


def test_sizes_double_and_hold_the_edges() -> None:
    assert set(sweep.AXES) == {"N", "HxW", "C", "K", "O"}
    assert sweep.AXES["N"][0] == sweep.AXES["C"][0] == (1,)
    assert sweep.AXES["HxW"][0] == (7, 7)
    assert sweep.AXES["C"][-1] == (1000,)
    for axis, sizes in sweep.AXES.items():
        areas = [a * (b[0] if b else 1) for a, *b in sizes]
        if axis == "C":
            assert areas.pop() == 1000
        assert all(second == 2 * first for first, second in itertools.pairwise(areas)), axis
    assert sweep.axes("uan") == ["N", "HxW", "C", "K"]
    assert sweep.axes("conv") == ["N", "HxW", "C", "O"]
    assert sweep.axes("bn") == sweep.axes("pool") == ["N", "HxW", "C"]


def test_a_tiny_sweep(small: None) -> None:
    points = list(sweep.run(repeats=1, threads=1))
    assert [(p.layer, p.axis) for p in points[::2]] == [(each, a) for each in sweep.LAYERS for a in sweep.axes(each)]
    found = {(p.layer, p.axis, p.size): p for p in points}
    assert found["conv", "O", "2"].elements == 2 * 2 * 4 * 4 * 2
    assert found["conv", "N", "1"].elements == 1 * 2 * 4 * 4 * 3
    assert found["uan", "K", "1"].elements == 2 * 2 * 4 * 4
    assert found["uan", "C", "2"].elements == 2 * 2 * 4 * 4 * 2
    assert found["pool", "HxW", "7 x 14"].shape == (2, 2, 7, 14)
    for point in points:
        assert point.ns == pytest.approx(1e6 * point.ms / point.elements)
        assert point.ns > 0
    assert not any(point.cliff for point in points[::2])  # the first of a line has none before it


def test_a_cliff_is_a_jump_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 6.0, 2.4, 4.0])  # 6 looks like one and is none
    monkeypatch.setattr(sweep, "_seconds", lambda what, repeats: next(times))
    points = list(sweep.line("pool", "N", [(1,), (1,), (1,)], 1, 1))
    assert [point.ms for point in points] == pytest.approx([1e3, 2.4e3, 4e3])
    assert not any(point.cliff for point in points)
    assert timing.ROUNDS == 3
    times = iter([1.0, 6.0, 5.5, 5.1, 1.0])
    points = list(sweep.line("pool", "N", [(1,), (1,), (1,)], 1, 1))
    assert [point.ms for point in points] == pytest.approx([1e3, 5.1e3, 1e3])
    assert [point.cliff for point in points] == [False, True, False]


def test_repeats_must_be_positive() -> None:
    with pytest.raises(ValueError, match="repeats must be >= 1"):
        sweep.run(repeats=0)
    with pytest.raises(ValueError, match="threads must be >= 1"):
        sweep.run(threads=0)


POINTS = [
    Point("uan", axis, str(n), (n, 4, 2, 2), 48 * n, 0.1, ns, cliff)
    for axis in ("N", "K")
    for n, ns, cliff in ((1, 20.0, False), (2, 60.5, True), (4, 12.0, False))
] + [Point("pool", "N", "1", (1, 4, 2, 2), 16, 0.1, 5.0, False)]


def test_the_report() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(sweep_report.report(POINTS))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["N", "1:", "20.0", "2:", "60.5", "cliff", "4:", "12.0"] for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "grows more than 2.5 times from one size to the next: uan at N = 2, uan at K = 2." in text
    assert sweep_report.verdict(POINTS[-1:]).startswith("No cliff")


def test_the_picture(tmp_path: Path) -> None:
    sweep_picture.draw(POINTS, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    lines = {
        "uan": {"N": [(1.0, 20.0, False), (2.0, 60.0, True)], "K": [(1.0, 3.0, False)]},
        "pool": {"N": [(4.0, 5.0, False)]},
    }
    figure = plots.sweep(lines, "costs $5")
    left, right = figure.axes
    assert [axis.get_title() for axis in (left, right)] == ["uan", "pool"]
    assert left.get_xscale() == left.get_yscale() == "log"
    assert [list(line.get_ydata()) for line in left.lines] == [[20.0, 60.0], [60.0], [3.0]]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["N", "K", "cliff"]
