"""A state that is loaded, from wherever, brings no variance below 0, whose square root would be NaN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import uanref
from uanref import UAN, BatchNorm, Layer, MixtureNorm, ModeNorm, SoftmaxCrossEntropy, npz
from uanref.experiments import single
from uanref.neighbours.clade import ClassAdaptiveNorm
from uanref.training import checkpoint

LAYERS: dict[str, tuple[Callable[[], Layer], tuple[str, ...]]] = {
    "BatchNorm": (lambda: BatchNorm(3), ("running_var",)),
    "UAN": (lambda: UAN(3), ("running_var",)),
    "UAN, from data": (lambda: UAN(3, start="data", update="em"), ("running_var",)),
    "ModeNorm": (lambda: ModeNorm(3), ("running_var",)),
    "MixtureNorm": (lambda: MixtureNorm(3), ("prior", "variance", "running_var", "seed_draws")),
    "ClassAdaptiveNorm": (lambda: ClassAdaptiveNorm(3, 2), ("normalization.running_var",)),
    "in a network": (lambda: uanref.Sequential(uanref.Linear(3, 3), BatchNorm(3)), ("1.running_var",)),
}
CASES = [(make, name) for make, names in LAYERS.values() for name in names]


@pytest.mark.parametrize(("make", "name"), CASES)
@pytest.mark.parametrize("value", [-1e-30, -3.0])
@pytest.mark.parametrize("strict", [True, False])
def test_a_state_with_a_number_below_0_changes_nothing(make, name, value, strict):
    layer = make()
    before = layer.state_dict()
    state = {key: array + 1 if array.dtype.kind == "f" else array for key, array in before.items()}
    state[name].flat[-1] = value
    with pytest.raises(ValueError, match=rf"^{name} in the state holds numbers below 0: [\w ]+$"):
        layer.load_state_dict(state, strict)
    for key, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize(("make", "name"), CASES)
def test_0_is_a_variance(make, name):
    layer = make()
    layer.load_state_dict(layer.state_dict() | {name: 0 * layer.state_dict()[name] * -1.0})
    assert not layer.state_dict()[name].any()


def test_means_and_parameters_may_be_negative():
    for make, _ in LAYERS.values():
        layer = make()
        state, kept = layer.state_dict(), [name for _, names in LAYERS.values() for name in names]
        layer.load_state_dict({key: -array if array.dtype.kind == "f" and key not in kept else array
                               for key, array in state.items()})  # fmt: skip


def test_every_norm_says_which_of_its_buffers_are_variances():
    """By the names that they have throughout the package."""
    found = {}
    for kind in vars(uanref).values():
        if isinstance(kind, type) and issubclass(kind, Layer) and kind is not Layer:
            try:
                layer = kind(2)
            except (TypeError, ValueError):
                continue
            wanted = {"running_var", "variance", "prior"} & set(layer.buffer_names)
            assert wanted <= set(layer.not_negative), kind
            found[kind.__name__] = wanted
    assert {name for name, wanted in found.items() if wanted} >= {"BatchNorm", "UAN", "MixtureNorm", "ModeNorm"}


def test_from_torch():
    state = {"weight": np.ones(3), "bias": np.ones(3), "running_mean": np.ones(3), "running_var": -np.ones(3)}
    with pytest.raises(ValueError, match=r"^running_var in the state holds numbers below 0"):
        uanref.from_torch({name: array.astype("float32") for name, array in state.items()}, BatchNorm(3))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "net.npz"
    given = {"model": "mlp", "norm": "bn", "optimizer": "adam"}
    single.train(given, epochs=1, save=path, progress="none")
    return path


@pytest.mark.parametrize("part", ["running_var", "second_moment"])
def test_a_checkpoint(part, saved, tmp_path):
    """The optimizer's average of squares, too."""
    arrays = npz.read(saved)
    name = next(name for name in arrays if part in name)
    npz.write(tmp_path / "net.npz", arrays | {name: -1.0 - arrays[name]})
    loads: list[Callable[[], object]] = [lambda: checkpoint.resume(tmp_path / "net.npz")]
    if part == "running_var":
        loads.append(lambda: checkpoint.load_model(tmp_path / "net.npz"))
    for load in loads:
        with pytest.raises(checkpoint.CheckpointError, match=rf"net.npz is no usable checkpoint: .*{part}.* below 0"):
            load()


def test_what_was_trained_is_loaded(saved):
    model = checkpoint.load_model(saved)
    assert SoftmaxCrossEntropy().forward(model.forward(np.zeros((2, 1, 8, 8), "float32")), np.zeros(2, int)) > 0
