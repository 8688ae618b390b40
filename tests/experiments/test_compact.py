"""Compact files of cells: what is read is what was written, and a damaged file is a sentence."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uanref.experiments import compact
from uanref.experiments.compact import read_compact, write_compact
from uanref.experiments.experiment import Cell

MEASURED = {"seconds": 1.5, "host": "a", "versions": {"uanref": "1.0", "cupy": None}}


def cell(seed=0, result=None, **config):
    base = {"experiment": "convergence", "scale": "small", "backend": "numpy", "norm": "bn", "seed": seed}
    return Cell(base | config, {"accuracy": 0.5} if result is None else result, MEASURED | {"seconds": 1.0 + seed})


def same(read, written):
    """Equal bit for bit: 1, 1.0, true and -0.0 are four, and the order of keys counts only where JSON has it."""
    return [json.dumps(vars(one), sort_keys=True) for one in read] == [
        json.dumps(vars(one), sort_keys=True) for one in written
    ]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, -0.0, 1.0, 0.1 + 0.2])
    | st.text("ab#äé ", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(st.sampled_from([0.5, -0.0, 0.0, 1.0, 1 / 3]), max_size=9)
        | st.dictionaries(st.text("ab#ä", max_size=3).filter(lambda key: key != "#"), inner, max_size=4)
    ),
    max_leaves=25,
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES), min_size=1, max_size=5), st.data())
def test_what_is_read_is_what_was_written(tmp_path_factory, results, drawn):
    cells = [cell(seed, result, extra=drawn.draw(VALUES)) for seed, result in enumerate(results)]
    path = tmp_path_factory.mktemp("compact") / "x.json"
    write_compact(cells, path)
    first = path.read_bytes()
    assert same(read_compact(path), cells)
    write_compact(read_compact(path), path)
    assert path.read_bytes() == first


def test_keys_that_not_all_have_stay_with_their_cells(tmp_path):
    cells = [cell(0, width=1.0), cell(1, width=1), cell(2)]
    write_compact(cells, tmp_path / "x.json")
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["config"] == {"experiment": "convergence", "scale": "small", "backend": "numpy", "norm": "bn"}
    assert content["measured"] == {"host": "a", "versions": {"uanref": "1.0", "cupy": None}}
    assert [one["config"] for one in content["cells"]] == [
        {"seed": 0, "width": 1.0},
        {"seed": 1, "width": 1},
        {"seed": 2},
    ]
    assert same(read_compact(tmp_path / "x.json"), cells)


def test_lists_of_repeated_numbers_take_little_room(tmp_path):
    """Accuracies of 120 reports on 180 images, as convergence keeps them."""
    cells = [cell(seed, {"curve": [(seed * i % 180) / 180 for i in range(120)]}) for seed in range(300)]
    write_compact(cells, tmp_path / "x.json")
    plain = len(json.dumps([vars(one) for one in cells]))
    assert (tmp_path / "x.json").stat().st_size < plain / 3
    assert same(read_compact(tmp_path / "x.json"), cells)


@pytest.mark.parametrize("value", [math.nan, math.inf, [math.inf] * 8, [0.5, 0.5, 0.5, math.nan]])
def test_what_json_cannot_say_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_compact([cell(0, {"a": value})], tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


def test_cells_that_are_no_one_experiment_are_not_written(tmp_path):
    for cells, count in (([], 0), ([cell(), cell(scale="tiny")], 2), ([cell(), cell(experiment="cost")], 2)):
        with pytest.raises(ValueError, match=f"the cells are of {count} experiments and scales, expected one"):
            write_compact(cells, tmp_path / "x.json")
    with pytest.raises(ValueError, match="a result has the key '#'"):
        write_compact([cell(0, {"a": {"#": [1]}})], tmp_path / "x.json")
    assert not any(tmp_path.iterdir())


def test_too_many_cells_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "LARGEST", 1000)
    with pytest.raises(ValueError, match=r"20 cells of convergence take .* bytes, more than a compact file may have"):
        write_compact([cell(seed) for seed in range(20)], tmp_path / "x.json")


def edited(content, *keys, to):
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("keys", "to", "words"),
    [
        (["format"], "another", "expected one of"),
        (["cells"], {}, "expected a list"),
        (["cells", 0], 3, "expected an object"),
        (["cells", 0, "result"], [], "expected an object"),
        (["cells", 0, "more"], 1, "which this uanref does not know"),
        (["config"], None, "expected an object"),
        (["config", "experiment"], "cost", "a cell of another experiment or scale"),
        (["config", "scale"], 3, "a cell of another experiment or scale"),
        (["numbers", 0], "0.5", "expected a finite number"),
        (["numbers"], [], "places of numbers that are not there"),
        (["cells", 0, "result", "curve", "#"], [-1], "places of numbers that are not there"),
        (["cells", 0, "result", "curve", "#"], [True], "places of numbers that are not there"),
        (["cells", 0, "result", "curve", "#"], 0, "places of numbers that are not there"),
        (["cells", 0, "result", "curve", "x"], 0, "places of numbers that are not there"),
        (["measured", "versions"], {}, "lacks uanref in measured.versions"),
        (["cells", 0, "result", "curve"], deep(30), "deep"),
        (["config"], {str(i): i for i in range(300)}, "keys that all cells share"),
    ],
)
def test_an_edited_file_is_refused(tmp_path, keys, to, words):
    path = tmp_path / "x.json"
    write_compact([cell(seed, {"curve": [0.5] * 9}) for seed in range(3)], path)
    content = json.loads(path.read_text())
    edited(content, *keys, to=to)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        read_compact(path)


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", "{" * 5000, "[" * 400 + "]" * 400, '{"format": NaN}'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"^(is|holds|lacks)"):
        read_compact(tmp_path / "x.json")


def test_depth_that_json_still_reads_is_refused(tmp_path):
    path = tmp_path / "x.json"
    write_compact([cell(0, {"curve": "here"})], path)
    path.write_text(path.read_text().replace('"here"', "[" * 900 + "]" * 900))
    with pytest.raises(ValueError, match=r"deep|is no JSON"):
        read_compact(path)


def test_a_large_file_is_refused(tmp_path, monkeypatch):
    write_compact([cell()], tmp_path / "x.json")
    monkeypatch.setattr(compact, "LARGEST", 100)
    with pytest.raises(ValueError, match="has more than 100 bytes"):
        read_compact(tmp_path / "x.json")
    monkeypatch.undo()
    monkeypatch.setattr(compact, "MOST_CELLS", 0)
    with pytest.raises(ValueError, match="holds 1 cells, expected at most 0"):
        read_compact(tmp_path / "x.json")
