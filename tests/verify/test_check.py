"""``uanref check``: the catalogue is complete, every case passes, and a broken layer shows."""

from __future__ import annotations

import importlib
import inspect
import io
import pkgutil

import numpy as np
import pytest
from rich.console import Console

import uanref.layers
import uanref.neighbours
import uanref.norms
from uanref import backend, gradcheck, losses
from uanref.layers.activation import Tanh
from uanref.layers.base import Layer
from uanref.verify import catalogue, check, versions

CASES = {case.name: case for case in catalogue.cases()}


class WrongTanh(Tanh):
    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy) * (1 + 1e-5)


class BreakingTanh(Tanh):
    def forward(self, x: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("planted")


class RealTanh(Tanh):
    def forward(self, x: np.ndarray) -> np.ndarray:
        return super().forward(x.real)


class FastWrongTanh(Tanh):
    """Wrong where faster versions may serve."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return super().backward(dy) * (1.0 if backend.is_plain() else 1 + 1e-5)


def printed(rows: list[check.CheckRow]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(check.table(rows))
    text = console.file.getvalue()
    return text.splitlines()


# --- the catalogue --------------------------------------------------------------------------------


def test_every_layer_norm_and_loss_is_in_the_catalogue() -> None:
    written = set()
    for package in (uanref.layers, uanref.norms, uanref.neighbours):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            members = vars(importlib.import_module(module.name)).values()
            written |= {m for m in members if inspect.isclass(m) and issubclass(m, Layer) and m is not Layer}
    written |= {m for m in vars(losses).values() if inspect.isclass(m) and issubclass(m, losses.Loss)} - {losses.Loss}

    checked: set[type] = set()
    for case in CASES.values():
        for _, layer in case.make().modules():
            checked |= {type(layer)} | ({type(layer.loss)} if isinstance(layer, gradcheck.LossLayer) else set())
    public = {layer for layer in written if not layer.__name__.startswith("_")}
    assert public - checked == set()


def test_names_are_unique_and_inputs_fit() -> None:
    assert len(CASES) == len(catalogue.cases())
    for case in CASES.values():
        layer = case.make()
        y = layer.forward(np.random.default_rng(0).standard_normal(case.shape))
        assert y.dtype == np.float64, case.name


def test_making_a_case_twice_gives_the_same_layer() -> None:
    for case in CASES.values():
        one, two = case.make().state_dict(), case.make().state_dict()
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[name], two[name]) for name in one), case.name


def test_no_parameter_sits_at_a_start_that_hides_a_mistake() -> None:
    for case in CASES.values():
        for name, parameter in case.make().parameters().items():
            assert not np.isin(parameter.value, (0.0, 1.0)).any(), (case.name, name)


def test_class_map_and_weights_of_the_neighbours_are_checked() -> None:
    (alcn,) = check.run(only="AdaptiveLocalContrastNorm")
    assert alcn.tensors == 2  # the image and the filters' weights
    clade = CASES["ClassAdaptiveNorm train"].make().to("float32")
    assert clade.buffers()["class_map"].dtype.kind == "i"
    assert set(np.unique(clade.buffers()["class_map"])) == {0, 1, 2}


# --- running it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_case_passes(name: str) -> None:
    (row,) = [row for row in check.run(seed=1, only=name) if row.name == name]
    assert row.ok, row.details
    assert row.worst <= gradcheck.TOLERANCE
    assert row.tensors == 1 + len(CASES[name].make().parameters())
    assert row.kinks == 0


def test_cases_that_are_not_analytic_say_so() -> None:
    # A maximum takes no complex step; everything else in the catalogue does.
    kinked = {name.split()[0] for name, case in CASES.items() if not case.analytic}
    assert kinked == {"MaxPool2d", "ReLU", "LeakyReLU", "Sequential"}


def test_only_selects_by_name() -> None:
    assert {row.name for row in check.run(only="gelu")} == {"GELU"}
    assert len(check.run(only="BatchNorm")) == sum("BatchNorm" in name for name in CASES)
    with pytest.raises(ValueError, match=r"no case has 'Swish' in its name: try one of .*BatchNorm.*ReLU"):
        check.run(only="Swish")


@pytest.mark.parametrize("layer", [WrongTanh, BreakingTanh, RealTanh])
def test_a_broken_layer_fails_alone(layer: type[Tanh], monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [check.Case("Good", Tanh, (3, 4), True), check.Case("Broken", layer, (3, 4), True)]
    monkeypatch.setattr(check, "cases", lambda: cases)
    good, broken = check.run()
    assert (good.status, broken.status) == ("ok", "FAIL")
    assert not broken.ok
    assert "Broken" in broken.details
    assert {WrongTanh: "analytic", BreakingTanh: "planted", RealTanh: "ImaginaryPartLost"}[layer] in broken.details
    assert any("1 failed" in line for line in printed([good, broken]))


def test_a_version_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "cases", lambda: [check.Case("Broken", FastWrongTanh, (3, 4), True)])
    (row,) = check.run()
    assert not row.ok
    assert row.details.startswith("Broken, fast: ")
    assert "Broken, definition" not in row.details
    assert [found.ok for found in check.run(versions=["definition"])] == [True]
    assert [found.ok for found in check.run(versions=["fast"])] == [False]


def test_each_version_has_its_number() -> None:
    (conv,) = check.run(only="Conv2d 3x3")
    assert all(error is not None and 0 < error <= gradcheck.TOLERANCE for error in conv.errors.values())
    assert list(conv.errors) == list(versions.VERSIONS)
    assert check.run(only="Tanh")[0].errors["fast"] is None  # there is no faster one
    (alone,) = check.run(only="Conv2d 3x3", versions=["fast"])
    assert alone.errors == {"fast": conv.errors["fast"]}
    with backend.plain():
        (plain,) = check.run(only="Conv2d 3x3")
        (asked,) = check.run(only="Conv2d 3x3", versions=["fast"])
    assert plain.errors == {"definition": conv.errors["definition"]}
    assert asked.errors == alone.errors


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown version 'slow': expected one or both of definition,fast"):
        check.run(versions=["fast", "slow"])
    with pytest.raises(ValueError, match="no version was named"):
        check.run(versions=[])
    assert versions.wanted(["fast", "definition", "fast"]) == ("fast", "definition")


def test_kinks_are_counted() -> None:
    class Zero(Layer):
        """|x - x0| at x = x0, where only the first entry sits."""

        def forward(self, x: np.ndarray) -> np.ndarray:
            first = np.random.default_rng(0).standard_normal((3, 4))[0, 0]
            sign = np.where(x > first, 1.0, -1.0)
            self._keep(x, sign)
            return (x - first) * sign

        def backward(self, dy: np.ndarray) -> np.ndarray:
            (sign,) = self._take(dy)
            return dy * sign

    row = check._outcome(check.Case("Zero", Zero, (3, 4), False), 0, ("definition",))
    assert row.ok, row.details
    assert row.kinks > 0


def test_the_table_as_markdown() -> None:
    rows = [check.CheckRow("Linear | x", {"definition": 1.2345e-10, "fast": None}, 6, 0, True, "")]
    console = Console(file=io.StringIO(), width=200)
    console.print(check.table(rows, plain=True))
    lines = [line.strip() for line in console.file.getvalue().splitlines() if line.strip()]
    assert lines[0] == "| layer      | definition error | fast error | tensors | kinks | status |"
    assert set(lines[1]) == set("|-")
    assert [cell.strip() for cell in lines[2].split("|")[-6:-1]] == ["1.2e-10", "-", "6", "0", "ok"]
    assert lines[3] == "1 checked, all passed"


def test_the_table_fits_80_columns() -> None:
    errors = dict.fromkeys(versions.VERSIONS, 1.2345e-10)
    rows = [check.CheckRow(name, errors, 6, 0, True, "") for name in CASES] + [
        check.CheckRow("Broken", dict.fromkeys(versions.VERSIONS, float("nan")), 0, 0, False, "")
    ]
    lines = printed(rows)
    assert max(map(len, lines)) <= 80
    assert all(any(name in line for line in lines) for name in CASES), "a name was broken over two lines"
    head = " ".join(lines[:2])
    assert all(word in head for word in ("layer", "definition", "fast", "error", "tensors", "kinks", "status"))
    assert f"{len(rows)} checked, 1 failed" in lines[-1]
