"""Ours against the committed golden vectors of PyTorch. PyTorch itself is needed by the last test alone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support import oracle_ours
from support.requirements import require_torch

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = ("torch_norms", "torch_layers", "torch_training")


def load(file: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what the file says about itself, and its arrays."""
    with np.load(GOLDEN / f"{file}.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(str(arrays.pop("about"))), arrays


LOADED = {file: load(file) for file in FILES}
CASES = [(file, name) for file, (about, _) in LOADED.items() for name in about["cases"]]


def part(file: str, case: str, side: str) -> dict[str, np.ndarray]:
    """Return a case's inputs (side "in") or outputs ("out")."""
    prefix = f"{case}/{side}/"
    return {name.removeprefix(prefix): a for name, a in LOADED[file][1].items() if name.startswith(prefix)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("file", "case"), CASES)
def test_ours_is_pytorchs(file: str, case: str, dtype: str) -> None:
    what = LOADED[file][0]["cases"][case]
    ours = oracle_ours.run(what["kind"], what["options"], part(file, case, "in"), dtype)
    assert all(a.dtype == dtype for a in ours.values())
    oracle_ours.assert_agree(ours, part(file, case, "out"), 1e-12 if dtype == "float64" else 2e-5)


def test_the_files_hold_every_kind() -> None:
    """A comparison over an empty or shrunken table would pass too."""
    kinds = {what["kind"] for about, _ in LOADED.values() for what in about["cases"].values()}
    assert kinds == {*oracle_ours.NORMS, *oracle_ours.PLAIN, *oracle_ours.OPTIMIZERS, "Conv2d", "SoftmaxCrossEntropy"}
    assert len(CASES) >= 50
    for file, case in CASES:
        outputs = part(file, case, "out")
        assert len(outputs) >= 2
        assert all(np.abs(a).max() > 1e-3 for a in outputs.values()), f"{case}: nothing but zeros"


def test_the_files_are_small_and_tell_their_versions() -> None:
    assert sum((GOLDEN / f"{file}.npz").stat().st_size for file in FILES) < 300_000
    for about, _ in LOADED.values():
        assert about["versions"]["torch"].startswith("2.13")
        assert about["versions"]["numpy"]


@pytest.mark.parametrize("what", ["output", "gradient", "running moment", "step"])
def test_a_wrong_value_is_seen(what: str) -> None:
    """The comparison itself: one entry off by 1e-10 of its array's size fails it."""
    file, case, name = {
        "output": ("torch_layers", "gelu", "y"),
        "gradient": ("torch_norms", "gn-2-4d", "gamma.grad"),
        "running moment": ("torch_norms", "bn-train-4d", "running_var.after"),
        "step": ("torch_training", "AdamW-7", "bias.path"),
    }[what]
    table = LOADED[file][0]["cases"][case]
    ours = oracle_ours.run(table["kind"], table["options"], part(file, case, "in"))
    oracle_ours.assert_agree(ours, part(file, case, "out"), 1e-12)
    wrong = ours[name].copy()
    wrong.flat[0] += 1e-10 * np.abs(wrong).max()
    with pytest.raises(AssertionError, match=name):
        oracle_ours.assert_agree(ours | {name: wrong}, part(file, case, "out"), 1e-12)


def maker() -> ModuleType:
    """Load the script that wrote the files."""
    spec = importlib.util.spec_from_file_location("make_torch_golden", GOLDEN / "make_torch_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")  # PyTorch's own way to pad
@pytest.mark.parametrize("file", FILES)
def test_the_script_still_writes_these_files(file: str) -> None:
    """The same cases, and from the inputs in the file the same results, up to another release's order of summation.

    The script draws the inputs again too, but NumPy may change its streams: those are compared by shape alone.
    """
    require_torch()
    about, arrays = LOADED[file]
    script = maker()
    cases = list(script.FILES[file]())
    assert {name: {"kind": kind, "options": options} for name, kind, options, _ in cases} == about["cases"]
    again: dict[str, np.ndarray] = {}
    for name, kind, options, drawn in cases:
        inputs = part(file, name, "in")
        assert {key: a.shape for key, a in drawn.items()} == {key: a.shape for key, a in inputs.items()}
        again |= script.entries((name, kind, options, inputs))
    assert sorted(again) == sorted(arrays)
    for name, value in again.items():
        np.testing.assert_allclose(value, arrays[name], rtol=1e-12, atol=1e-13, err_msg=name)
