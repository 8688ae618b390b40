"""What is said of the mixtures inside a network, on mixtures whose right answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

import uanref as un
from uanref import backend, models
from uanref.experiments import components
from uanref.experiments.mixture_measures import MEASURES, bent, measure, of_layer
from uanref.norms.mixture_constraints import inverse_softplus


def mixture(means, variances, **options):
    """A UAN whose components have these means and variances (eps included) in every one of 2 channels."""
    layer = un.UAN(2, len(means), dtype="float64", **options)
    layer.mean.value = np.tile(np.array(means, float)[:, None], (1, 2))
    layer.raw_variance.value = inverse_softplus(np.tile(np.array(variances, float)[:, None], (1, 2)) - layer.eps, 0.0)
    return layer


def test_distance_and_ratio_are_means_over_pairs_and_channels():
    layer = mixture([0.0, 2.0, -1.0], [1.0, 1.0, 4.0])
    found = of_layer(layer, np.random.default_rng(0).standard_normal((50, 2, 1)))
    distances = 2.0, 1.0 / math.sqrt(2.5), 3.0 / math.sqrt(2.5)
    assert found["distance"] == pytest.approx(np.mean(distances), rel=1e-9)
    assert found["ratio"] == pytest.approx((1.0 * 4.0 * 4.0) ** (1 / 3), rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"posterior": "joint"}, {"prior": "shared"}, {"update": "em"}])
def test_components_apart_share_no_sample(options):
    layer = mixture([-10.0, 10.0, 1000.0], [1.0, 1.0, 1.0], **options)
    x = np.repeat([[-10.0], [10.0]], 20, axis=0)[:, :, None] * np.ones((1, 2, 1))
    found = of_layer(layer, x)
    assert found["live"] == 2.0
    assert found["entropy"] == pytest.approx(0.0, abs=1e-9)


def test_identical_components_share_every_sample_and_are_a_multiple_of_bn():
    layer = mixture([0.3] * 4, [1.0] * 4)
    x = np.random.default_rng(1).standard_normal((60, 2, 3))
    found = of_layer(layer, x)
    assert found["entropy"] == pytest.approx(1.0, rel=1e-9)
    assert found["distance"] == 0.0
    assert found["ratio"] == pytest.approx(1.0)
    assert found["live"] == 4.0
    assert bent(x, layer.forward(x)) == pytest.approx(0.0, abs=1e-12)


def test_bent_is_what_a_line_leaves_and_leaves_out_constant_channels():
    x = np.random.default_rng(2).standard_normal((200, 3, 1))
    noise = np.random.default_rng(3).standard_normal((200, 3, 1))
    y = np.concatenate([3.0 * x[:, :1] - 1.0, noise[:, 1:2], np.ones((200, 1, 1))], axis=1)
    slope, place = np.polyfit(x[:, 1, 0], y[:, 1, 0], 1)
    left = np.var(y[:, 1, 0] - slope * x[:, 1, 0] - place) / np.var(y[:, 1, 0])
    assert bent(x, y) == pytest.approx((0.0 + left) / 2, rel=1e-9)
    assert bent(x, np.ones_like(x)) is None


def test_one_component_has_no_pair():
    found = of_layer(mixture([0.0], [1.0]), np.random.default_rng(0).standard_normal((9, 2, 1)))
    assert found == {"live": 1.0, "entropy": None, "distance": None, "ratio": None}


@pytest.mark.parametrize("options", [{}, {"update": "em"}, {"start": "data"}])
def test_a_network_is_measured_in_its_training_function_and_left_as_it_is(options):
    model = models.build("mlp", "uan", image_shape=(1, 4, 4), num_classes=3, norm_options=options)
    x = np.random.default_rng(0).standard_normal((40, 1, 4, 4)).astype("float32")
    model.eval()
    before = {name: np.copy(value) for name, value in model.state_dict().items()}
    found = measure(model, x)
    assert all(np.array_equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(layer.training for _, layer in model.modules())
    assert list(found) == list(MEASURES)
    assert all(len(numbers) == 2 for numbers in found.values())
    assert measure(model, x) == found

    # The second norm sees what the first gives in train mode, with the batch's moments, not with running ones.
    model.train()
    layers, seen = list(model.layers), x
    for layer in layers[:5]:
        seen = layer.forward(seen)
    y = layers[5].forward(seen) if options != {"update": "em"} else None
    if y is not None:
        assert found["bent"][1] == pytest.approx(bent(seen[:, :, None], y[:, :, None]), rel=1e-3)


def test_what_is_not_finite_is_none():
    model = models.build("mlp", "uan", image_shape=(1, 4, 4), num_classes=3)
    x = np.full((8, 1, 4, 4), np.nan, "float32")
    found = measure(model, x)
    assert found["entropy"] == [None, None]
    assert found["bent"] == [None, None]


@pytest.mark.parametrize("options", [{"prior": "shared"}, {"start": "data", "update": "em"}])
def test_a_device_measures_the_same(device, options):
    built = {"image_shape": (1, 4, 4), "num_classes": 3, "dtype": "float64", "norm_options": options}
    x = np.random.default_rng(0).standard_normal((40, 1, 4, 4))
    here = measure(models.build("mlp", "uan", **built), x)
    with backend.using(device.backend):
        model = models.build("mlp", "uan", **built)
        components.narrow(model, 0)
        narrow = measure(model, backend.to_device(x))
        there = measure(models.build("mlp", "uan", **built), backend.to_device(x))
    for name in MEASURES:
        assert there[name] == pytest.approx(here[name], rel=1e-6)
    assert min(narrow["distance"]) > 20 or options["start"] == "data"
