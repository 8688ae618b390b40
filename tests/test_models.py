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
ON_SMALL = [pair for pair in NETWORKS if pair != ("shallow", "in")]  # which needs images of 9 x 9
LEAST_OF_IN = {"cnn": 8, "shallow": 9, "shallow-one": 5}


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
    if norm == "in" and min(shape[1:]) < (least := LEAST_OF_IN[model]):
        sizes = f"{shape[1]} x {shape[2]}"
        with pytest.raises(
            ValueError, match=f"the {model} and images of at least {least} x {least}, got the .*{sizes}"
        ):
            build(model, norm, image_shape=shape, num_classes=4)
        return
    network = build(model, norm, image_shape=shape, num_classes=4, num_components=2, width=0.25)
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
    for norm in (norm for pair_model, norm in ON_SMALL if pair_model == model):
        for ours, theirs in zip(weights(norm, num_components=5), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(weights("bn", seed=1)[0], expected[0])


def test_the_seed_draws_the_mixtures_too():
    first, again, other = (small(norm="uan", seed=seed).layers[1].mean.value for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("model", "norm"), ON_SMALL)
def test_no_bias_before_a_norm(model, norm):
    layers = small(model, norm, width=0.25).layers
    for layer, following in itertools.pairwise(layers):
        if isinstance(layer, Conv2d | Linear):
            assert (layer.bias is None) == (not isinstance(following, ReLU))
    tested = [type(following) for layer, following in itertools.pairwise(layers) if isinstance(layer, Conv2d | Linear)]
    expected = ReLU if norm == "none" else type(make_norm(norm, 8))
    around = BatchNorm if model == "shallow-one" else expected
    assert tested == {"mlp": [expected] * 2, "cnn": [expected] * 3}.get(model, [around, expected, around, around])
    assert layers[-1].bias is not None


@pytest.mark.parametrize(("model", "norm"), ON_SMALL)
def test_config_rebuilds_the_network(model, norm):
    options = {"affine": False} if norm not in ("none", "uan-public") else None
    network = small(model, norm, num_components=2, seed=7, dtype="float64", width=0.3, norm_options=options)
    again = build(**json.loads(json.dumps(network.config)))
    assert again.config == network.config
    assert again.state_dict().keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert value.dtype == again.state_dict()[name].dtype
        np.testing.assert_array_equal(again.state_dict()[name], value)


def test_config_says_only_what_was_given():
    """Files of networks without these arguments stay as they were."""
    assert {"width", "norm_options"}.isdisjoint(small().config)
    assert {"width", "norm_options"}.isdisjoint(small(width=1, norm_options={}).config)
    config = small(norm="uan", width=0.5, norm_options={"start": "data"}).config
    assert (config["width"], config["norm_options"]) == (0.5, {"start": "data"})


@pytest.mark.parametrize(
    ("shape", "sides", "last"),
    [
        ((1, 28, 28), [28, 14, 7, 4], 1),
        ((3, 32, 32), [32, 16, 8, 4], 1),
        ((1, 8, 8), [8, 4, 2, 1], 1),
        ((1, 40, 64), [(40, 64), (20, 32), (10, 16), (5, 8)], 2 * 5),
        ((2, 5, 12), [(5, 12), (3, 6), (2, 3), (1, 2)], 1),
    ],
)
def test_the_shallow_cnn_is_the_papers(shape, sides, last):
    network = build("shallow", "uan", image_shape=shape, num_classes=10, width=0.125)
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    seen = {}
    for i, layer in enumerate(network.layers):
        x = layer.forward(x)
        if isinstance(layer, Conv2d):
            seen[i] = x.shape[1:]
    expected = [
        (c, *((side, side) if isinstance(side, int) else side)) for c, side in zip((8, 16, 16, 32), sides, strict=True)
    ]
    assert list(seen.values()) == expected
    assert network.layers[-1].weight.shape == (10, 32 * last)
    kinds = "Conv2d UAN ReLU MaxPool2d " * 3 + "Conv2d UAN ReLU AvgPool2d Flatten Linear"
    assert [type(layer).__name__ for layer in network.layers] == kinds.split()


def test_the_shallow_cnn_has_the_papers_channels():
    network = build("shallow-one", "uan", image_shape=(3, 32, 32), num_classes=10)
    weights = [layer.weight.shape for layer in network.layers if isinstance(layer, Conv2d | Linear)]
    assert weights == [(64, 3, 5, 5), (128, 64, 5, 5), (128, 128, 5, 5), (256, 128, 5, 5), (10, 256)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("width", "factor"), [(0.5, 0.5), (2, 2), (1e-6, 0)])
def test_width_multiplies_the_channels(model, width, factor):
    def channels(**options):
        return [layer.num_features for layer in small(model, "bn", **options).layers if isinstance(layer, BatchNorm)]

    assert channels(width=width) == [max(1, int(factor * one)) for one in channels()]


def test_norm_options_reach_the_norm_under_test_and_no_other():
    norms = [
        small("shallow", "uan", width=0.1, norm_options={"update": "em", "start": "data"}).layers[i]
        for i in (1, 5, 9, 13)
    ]
    assert {(norm.update, norm.start, norm.statistics) for norm in norms} == {("em", "data", "batch")}
    eps = [small("shallow-one", "bn", width=0.1, norm_options={"eps": 0.5}).layers[i].eps for i in (1, 5, 9, 13)]
    assert eps == [1e-5, 0.5, 1e-5, 1e-5]
    learned = small("mlp", "uan-learned", norm_options={"posterior": "joint"}).layers[2]
    assert (learned.statistics, learned.posterior) == ("learned", "joint")
    for name, options in {"gn": {"eps": 0.1}, "mn": {"em_steps": 5}, "mode": {"momentum": 0.5}}.items():
        layer = small("cnn", name, norm_options=options).layers[1]
        assert {key: getattr(layer, key) for key in options} == options


@pytest.mark.parametrize(
    ("norm", "options", "text"),
    [
        ("uan", {"k": 3}, "norm 'uan' has no option 'k': it takes posterior, prior, statistics, "),
        ("uan-learned", {"statistics": "batch"}, "norm 'uan-learned' has no option 'statistics': it takes posterior, "),
        ("bn", {"num_features": 3}, "norm 'bn' has no option 'num_features': it takes eps, momentum, affine$"),
        ("none", {"eps": 0.1}, "norm 'none' has no option 'eps': it takes none$"),
        ("uan", {"start": "random"}, "start must be one of"),
        (lambda num_features, rng: BatchNorm(num_features), {"eps": 0.1}, "takes no options, got 'eps': give them in"),
    ],
)
def test_an_unknown_option_is_one_sentence(norm, options, text):
    with pytest.raises(ValueError, match=text):
        small("cnn", norm, norm_options=options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"model": "rnn"}, ValueError, "model must be one of 'mlp', 'cnn', 'shallow', 'shallow-one', got 'rnn'"),
        ({"norm": "batch"}, ValueError, "norm must be one of 'none', 'bn', 'ln', "),
        ({"model": "mlp", "norm": "in"}, ValueError, "needs several: choose the cnn"),
        ({"norm": "bn", "num_components": 0}, ValueError, "num_components must be >= 1, got 0"),
        ({"num_classes": 1}, ValueError, "num_classes must be >= 2, got 1"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
        ({"image_shape": (1, 8)}, ValueError, r"image_shape must be \(channels, height, width\), got \(1, 8\)"),
        ({"image_shape": (1, 0, 8)}, ValueError, "image_shape must be >= 1, got 0"),
        ({"image_shape": (1, 3, 8)}, ValueError, "height and width must be >= 4, got 3 x 8"),
        (
            {"model": "shallow", "image_shape": (1, 4, 8)},
            ValueError,
            "three times: height and width must be >= 5, got 4 x",
        ),
        ({"model": "shallow", "norm": "in"}, ValueError, "choose the shallow and images of at least 9 x 9"),
        (
            {"model": "shallow-one", "image_shape": (9,)},
            ValueError,
            "shallow-one takes images, and the data are vectors",
        ),
        ({"width": 0.0}, ValueError, "width must be finite and > 0, got 0"),
        ({"width": "1"}, TypeError, "width must be a number, got '1'"),
        ({"dtype": "int32"}, TypeError, "float32 or float64"),
    ],
)
def test_bad_arguments_are_named(options, error, text):
    with pytest.raises(error, match=text):
        small(**options)


def test_an_unknown_norm_names_the_choices():
    with pytest.raises(ValueError, match=r"'uan-joint'.*, got 'layer'"):
        make_norm("layer", 4)
