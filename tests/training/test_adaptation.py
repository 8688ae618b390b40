"""Moments taken anew: those of the new data, layer by layer, and nothing else moves."""

from __future__ import annotations

import numpy as np
import pytest
from support.devices import Device

from uanref import backend, data, models
from uanref.data import Dataset
from uanref.layers.base import Sequential
from uanref.layers.dropout import Dropout
from uanref.layers.linear import Linear
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.training.adaptation import adapt


def target(count=60, shape=(5,), seed=0):
    rng = np.random.default_rng(seed)
    return Dataset("target", (2.0 + 3.0 * rng.standard_normal((count, *shape))).astype("f"), np.zeros(count, int), 2)


def network(*norms, seed=0):
    rng = np.random.default_rng(seed)
    layers = [layer for norm in norms for layer in (Linear(5, 5, rng=rng), norm)]
    model = Sequential(*layers).to("float64")
    for name, parameter in model.parameters().items():
        parameter.value = parameter.value + 0.1 * np.abs(rng.standard_normal(parameter.shape)) * ("gamma" in name)
    return model


def test_one_batch_gives_its_own_moments():
    model, x = network(BatchNorm(5), BatchNorm(5)), target()
    assert adapt(model, x) == 2
    y = x.images.astype("float64")
    for layer in model.layers:
        y = layer.train().forward(y)  # with the moments of the batch
        if isinstance(layer, BatchNorm):
            np.testing.assert_allclose(y.mean(axis=0), layer.beta.value, atol=1e-12)
    model.train()
    trained = model.forward(x.images.astype("float64"))
    adapt(model, x)
    tested = model.eval().forward(x.images.astype("float64"))
    # Running variances are unbiased, n / (n - 1), twice.
    assert np.abs(trained - tested).max() < 0.05
    assert np.abs(trained - tested).max() > 0


def test_the_order_and_the_size_of_batches_do_not_matter_for_the_mean():
    model, x = network(BatchNorm(5)), target(61)
    adapt(model, x, 20)
    inputs = model.layers[0].forward(x.images.astype("float64"))
    np.testing.assert_allclose(model.layers[1].running_mean, inputs.mean(axis=0), rtol=1e-10)
    size = 16  # 61 in at most 20: four batches
    parts = [inputs[i : i + size] for i in range(0, 61, size)]
    expected = sum(len(part) * part.var(axis=0, ddof=1) for part in parts) / 61
    np.testing.assert_allclose(model.layers[1].running_var, expected, rtol=1e-10)


@pytest.mark.parametrize("update", ["backprop", "em"])
def test_uans_running_moments_move_and_its_mixture_does_not(update):
    rng = np.random.default_rng(1)
    model = network(UAN(5, 2, update=update, rng=rng), BatchNorm(5))
    model.forward(target(seed=3).images.astype("float64"))
    before, x = model.state_dict(), target()
    assert adapt(model, x) == 2
    after = model.state_dict()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {f"{place}.{name}" for place in (1, 3) for name in ("running_mean", "running_var")}
    assert model.layers[1].update == update
    norm = model.layers[1]
    fresh = UAN(5, 2, momentum=1.0, dtype="float64")
    fresh.load_state_dict({name.removeprefix("1."): value for name, value in before.items() if name[:2] == "1."})
    fresh.forward(model.layers[0].forward(x.images.astype("float64")))
    np.testing.assert_allclose(norm.running_mean, fresh.running_mean, rtol=1e-12)
    np.testing.assert_allclose(norm.running_var, fresh.running_var, rtol=1e-12)


def test_modes_and_momentum_come_back_even_after_an_error():
    model = network(BatchNorm(5, momentum=0.3), UAN(5, 2, momentum=0.2))
    model.layers[1].train(False)
    modes = [layer.training for _, layer in model.modules()]
    with pytest.raises(ValueError, match="expects"):
        adapt(model, target(shape=(4,)))
    adapt(model, target())
    assert [layer.training for _, layer in model.modules()] == modes
    assert (model.layers[1].momentum, model.layers[3].momentum) == (0.3, 0.2)
    assert not any(layer._pending for _, layer in model.modules())


def test_dropout_stays_asleep():
    sleeping = Dropout(0.9, rng=np.random.default_rng(0))
    model = Sequential(sleeping, BatchNorm(5, dtype="float64"))
    x = target()
    adapt(model, x)
    np.testing.assert_allclose(model.layers[1].running_mean, x.images.mean(axis=0, dtype="float64"), rtol=1e-6)


@pytest.mark.parametrize("norm", ["none", "ln", "uan-learned", "mode"])
def test_without_such_layers_nothing_happens(norm):
    model = models.build("mlp", norm, image_shape=(5,), num_classes=2)
    before = model.state_dict()
    assert adapt(model, target()) == 0
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_shifted_input_is_met_again():
    """What AdaBN is for: a network's first norm takes out a change of scale and offset, exactly but for eps."""
    splits = data.load("digits", seed=0)
    model = models.build("mlp", "bn", image_shape=(1, 8, 8), num_classes=10)
    images = splits.test.images
    moved = Dataset("moved", 3.0 * images + 1.0, splits.test.labels, 10)
    adapt(model, splits.test)
    expected = model.eval().forward(images)
    adapt(model, moved)
    np.testing.assert_allclose(model.forward(moved.images), expected, atol=1e-3)


def test_a_mixture_that_waits_for_its_first_batch_goes_on_waiting():
    model = network(UAN(5, 2, start="data"))
    before = model.state_dict()
    assert adapt(model, target()) == 1
    after = model.state_dict()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"1.running_mean", "1.running_var"}
    norm = model.layers[1]
    assert (norm.start, norm.initialized) == ("data", False)
    norm.train().forward(target().images.astype("float64"))
    assert norm.initialized


@pytest.mark.parametrize("fails", [ValueError, KeyboardInterrupt])
def test_after_an_error_in_the_middle_all_moments_are_as_before(fails):
    class Broken(Dropout):
        def forward(self, x):
            raise fails

    model = Sequential(*network(BatchNorm(5), UAN(5, 2)).layers, Broken())
    before = model.state_dict()
    with pytest.raises(fails):
        adapt(model, target())
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="batch_size must be >= 2, got 1"):
        adapt(network(BatchNorm(5)), target(), 1)


def test_a_device_takes_the_same_moments(accelerator: Device):
    x = target()
    made = [network(BatchNorm(5), UAN(5, 2, rng=np.random.default_rng(2))) for _ in range(2)]
    adapt(made[0], x, 20)
    with backend.using("cupy"):
        assert adapt(made[1].to("cupy"), x, 20) == 2
    expected = made[0].state_dict()
    for name, value in made[1].state_dict().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-12)
