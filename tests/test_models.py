import itertools
import json

import numpy as np
import pytest

from uanref.layers.activation import ReLU
from uanref.layers.conv import Conv2d
from uanref.layers.linear import Linear
from uanref.losses import SoftmaxCrossEntropy
from uanref.models import MODELS, NORMS, build, make_norm
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN

NETWORKS = [pair for pair in itertools.product(MODELS, NORMS) if pair != ("mlp", "in")]


def small(model="cnn", norm="bn", **options):
    return build(model, norm, **{"image_shape": (1, 8, 8), "num_classes": 10, **options})


def test_the_norms_are_what_their_names_say():
    assert make_norm("none", 4) is None
    assert isinstance(make_norm("bn", 4), BatchNorm)
    told = {name: make_norm(name, 4, num_components=2) for name in ("uan", "uan-learned", "uan-joint")}
    assert all(isinstance(norm, UAN) and norm.mean.shape == (2, 4) for norm in told.values())
    assert {name: (norm.posterior, norm.statistics) for name, norm in told.items()} == {
        "uan": ("channel", "batch"),
        "uan-learned": ("channel", "learned"),
        "uan-joint": ("joint", "batch"),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm", [name for name in NORMS if name != "none"])
def test_norms_take_dtype(norm, dtype):
    layer = make_norm(norm, 3, dtype=dtype)
    assert {p.value.dtype for p in layer.parameters().values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 5, 7)])
@pytest.mark.parametrize(("model", "norm"), NETWORKS)
def test_forward_and_backward_fill_every_gradient(model, norm, shape):
    if norm == "in" and min(shape[1:]) < 8:
        with pytest.raises(ValueError, match="at least 8 x 8, got the cnn and 5 x 7"):
            build(model, norm, image_shape=shape, num_classes=4)
        return
    network = build(model, norm, image_shape=shape, num_classes=4, num_components=2)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, *shape)).astype(np.float32)
    loss = SoftmaxCrossEntropy()
    logits = network.forward(x)
    assert logits.shape == (3, 4)
    assert np.isfinite(loss.forward(logits, np.array([0, 1, 3])))
    assert network.backward(loss.backward()).shape == x.shape
    for name, parameter in network.parameters().items():
        assert np.isfinite(parameter.grad).all(), name
        # The released UAN layer's prior changes nothing: its gradient is 0 by definition.
        assert (np.abs(parameter.grad).max() > 0) == (not name.endswith(".prior")), name


@pytest.mark.parametrize("model", MODELS)
def test_weights_are_the_same_whatever_the_norm(model):
    def weights(norm, **options):
        network = small(model, norm, **options)
        return [layer.weight.value for layer in network.layers if isinstance(layer, Conv2d | Linear)]

    expected = weights("none")
    for norm in (norm for pair_model, norm in NETWORKS if pair_model == model):
        for ours, theirs in zip(weights(norm, num_components=5), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(weights("bn", seed=1)[0], expected[0])


def test_the_seed_draws_the_mixtures_too():
    first, again, other = (small(norm="uan", seed=seed).layers[1].mean.value for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("model", "norm"), NETWORKS)
def test_no_bias_before_a_norm(model, norm):
    layers = small(model, norm).layers
    for layer, following in itertools.pairwise(layers):
        if isinstance(layer, Conv2d | Linear):
            assert (layer.bias is None) == (norm != "none")
            assert type(following) is (ReLU if norm == "none" else type(make_norm(norm, 8)))
    assert layers[-1].bias is not None


@pytest.mark.parametrize(("model", "norm"), NETWORKS)
def test_config_rebuilds_the_network(model, norm):
    network = small(model, norm, num_components=2, seed=7, dtype="float64")
    again = build(**json.loads(json.dumps(network.config)))
    assert again.config == network.config
    assert again.state_dict().keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert value.dtype == again.state_dict()[name].dtype
        np.testing.assert_array_equal(again.state_dict()[name], value)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"model": "rnn"}, ValueError, "model must be one of 'mlp', 'cnn', got 'rnn'"),
        ({"norm": "batch"}, ValueError, "norm must be one of 'none', 'bn', 'ln', "),
        ({"model": "mlp", "norm": "in"}, ValueError, "needs several: choose the cnn"),
        ({"norm": "bn", "num_components": 0}, ValueError, "num_components must be >= 1, got 0"),
        ({"num_classes": 1}, ValueError, "num_classes must be >= 2, got 1"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
        ({"image_shape": (1, 8)}, ValueError, r"image_shape must be \(channels, height, width\), got \(1, 8\)"),
        ({"image_shape": (1, 0, 8)}, ValueError, "image_shape must be >= 1, got 0"),
        ({"image_shape": (1, 3, 8)}, ValueError, "height and width must be >= 4, got 3 x 8"),
        ({"dtype": "int32"}, TypeError, "float32 or float64"),
    ],
)
def test_bad_arguments_are_named(options, error, text):
    with pytest.raises(error, match=text):
        small(**options)


def test_an_unknown_norm_names_the_choices():
    with pytest.raises(ValueError, match=r"'uan-joint'.*, got 'layer'"):
        make_norm("layer", 4)
