"""Layers inside layers: found by name wherever they stand, and shown by ``print``."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest

import uanref
from uanref import SGD, UAN, BatchNorm, Conv2d, Flatten, Layer, Linear, Parameter, ReLU, Residual, Sequential, backend

X = np.random.default_rng(0).standard_normal((5, 3))


def linear() -> Linear:
    return Linear(3, 3, dtype="float64")


class Chain(Layer):
    """Custom: applies whatever layers it was given a container of, in order, and scales by parameters in a list."""

    def __init__(self, blocks: Any) -> None:
        super().__init__("float64")
        self.blocks = blocks
        self.scales = [self._new([2.0] * 3), self._new([3.0] * 3)]
        self.order = [layer for _, layer in self.children()]

    def children(self) -> Any:
        return (each for each in super().children() if not each[0].startswith("order"))

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.order:
            x = layer.forward(x)
        y = x * self.scales[0].value * self.scales[1].value
        self._keep(y, x, self.scales[0].value, self.scales[1].value)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        x, one, two = self._take(dy)
        self.scales[0].receive((dy * x * two).sum(axis=0))
        self.scales[1].receive((dy * x * one).sum(axis=0))
        dy = dy * one * two
        for layer in reversed(self.order):
            dy = layer.backward(dy)
        return dy


CONTAINERS = {
    "list": (lambda: [linear(), ReLU(), linear()], ["0", "2"]),
    "tuple": (lambda: (linear(), linear()), ["0", "1"]),
    "named tuple": (lambda: collections.namedtuple("Two", "a b")(linear(), linear()), ["0", "1"]),
    "dict": (lambda: {"left": linear(), "right": linear()}, ["left", "right"]),
    "ordered dict": (lambda: collections.OrderedDict(a=linear()), ["a"]),
    "nested": (lambda: {"a": [linear(), (linear(),)]}, ["a.0", "a.1.0"]),
    "integers as keys": (lambda: {3: linear()}, ["3"]),
    "with other things": (lambda: [None, "word", 3, linear(), np.ones(2)], ["3"]),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_layers_and_parameters_in_containers_are_found_trained_saved_and_checked(container: str) -> None:
    make, names = CONTAINERS[container]
    layer = Chain(make())
    expected = [f"blocks.{name}.{p}" for name in names for p in ("weight", "bias")]
    assert sorted(layer.parameters()) == sorted([*expected, "scales.0", "scales.1"])
    before = layer.state_dict()
    layer.backward(layer.forward(X))
    SGD(layer.parameters(), lr=0.1).step()
    after = layer.state_dict()
    assert all((after[name] != before[name]).any() for name in after)
    layer.load_state_dict(before)
    np.testing.assert_array_equal(layer.state_dict()[expected[0]], before[expected[0]])
    layer.eval()
    assert not any(each.training for _, each in layer.modules())
    assert uanref.gradcheck.check(layer.train(), X).ok
    assert layer.to("float32").parameters()[expected[0]].value.dtype == "float32"
    layer.clear()


def test_a_set_has_no_names() -> None:
    class Unordered(Layer):
        def __init__(self) -> None:
            super().__init__()
            self.parts = {linear(), linear()}
            self.numbers = {1, 2}

    with pytest.raises(TypeError, match=r"Unordered\.parts is a set.*keep layers and parameters in a list"):
        Unordered().parameters()


def test_a_parameter_in_two_places_of_a_list_is_refused() -> None:
    class Tied(Layer):
        def __init__(self) -> None:
            super().__init__("float64")
            one = self._new([1.0])
            self.both = [one, one]

    with pytest.raises(ValueError, match=r"both\.0 and both\.1"):
        Tied().parameters()
    with pytest.raises(ValueError, match="two places"):
        Sequential(Tied())


def test_pending_passes_are_no_place_for_parameters() -> None:
    class Keeps(Layer):
        def __init__(self) -> None:
            super().__init__("float64")
            self.scale = self._new([1.0])

        def forward(self, x: np.ndarray) -> np.ndarray:
            self._keep(x, self.scale, ReLU())
            return x

    layer = Keeps()
    layer.forward(X)
    assert list(layer.parameters()) == ["scale"]
    assert list(layer.children()) == []


def test_an_empty_sequential_is_the_identity() -> None:
    layer = Sequential()
    assert layer.forward(X) is X
    assert layer.backward(X) is X
    assert layer.parameters() == layer.state_dict() == {}
    assert str(layer).splitlines()[-1] == "total: 0 parameters"


def test_print_shows_layers_with_sizes_and_counts_and_the_total() -> None:
    body = Sequential(Conv2d(4, 4, 3, padding=1), UAN(4, num_components=2))
    model = Sequential(Conv2d(1, 4, (3, 1), bias=False), BatchNorm(4), ReLU(), Residual(body), Flatten(), Linear(96, 3))
    assert str(model).splitlines() == [
        "Sequential(6 layers)                   491",
        "  0: Conv2d(1, 4, (3, 1), bias=False)   12",
        "  1: BatchNorm(4)                        8",
        "  2: ReLU()                              0",
        "  3: Residual(1 layer)                 180",
        "    body: Sequential(2 layers)         180",
        "      0: Conv2d(4, 4, 3, padding=1)    148",
        "      1: UAN(4, num_components=2)       32",
        "  4: Flatten()                           0",
        "  5: Linear(96, 3)                     291",
        "total: 491 parameters, float32",
    ]
    assert sum(p.size for p in model.parameters().values()) == 491
    assert repr(model) == "Sequential(6 layers)"


def test_repr_never_shows_arrays_and_survives_what_is_odd() -> None:
    class Odd(Layer):
        def __init__(self, table: np.ndarray, scale: float = 1.0, *rest: int, **more: int) -> None:
            super().__init__()
            self.table, self.scale, self.long = table, scale, list(range(10_000))

    assert repr(Odd(np.ones(1000), 2.0)) == "Odd(scale=2.0)"
    shared = ReLU()
    for layer in (Chain([linear()]), Sequential(shared, shared), linear(), Parameter(np.ones(1000)), UAN(100)):
        assert len(repr(layer)) < 80
        assert "array" not in repr(layer) + str(layer)
    tied = Sequential(linear(), linear())
    tied[1].weight = tied[0].weight
    assert str(tied).splitlines()[-1] == "total: 15 parameters, float64"  # counted once; parameters() refuses it
    with backend.inference():
        assert "UAN(3, posterior='joint', update='em')" in str(UAN(3, posterior="joint", update="em"))
