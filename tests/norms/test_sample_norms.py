"""Layer, group and instance normalization: one definition over three choices of axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, channel_shapes, close, draw_array, shake
from support.mutants import both, outcome

from uanref import backend, gradcheck
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm

SEEDS = st.integers(0, 2**32 - 1)
CHAIN, VERSIONS = ["norms.standardize", "norms.group"], ["kernels.cpu.group"]
(STANDARDIZE, GROUP), (CPU_GROUP,) = CHAIN, VERSIONS


@st.composite
def grouped(draw):
    """A shape and a number of groups that divides its channels."""
    shape = draw(channel_shapes(min_samples=1, max_channels=6))
    return shape, draw(st.sampled_from([g for g in range(1, shape[1] + 1) if shape[1] % g == 0]))


@given(grouped(), SEEDS, st.booleans(), st.sampled_from(LAYOUTS), st.booleans())
def test_gradients(drawn, seed, affine, layout, training):
    shape, groups = drawn
    layer = shake(GroupNorm(groups, shape[1], eps=0.05, affine=affine, dtype="float64"), seed).train(training)
    gradcheck.assert_ok(layer, draw_array(shape, seed, layout=layout), seed=seed, complex_step=True)


@given(channel_shapes(min_samples=1), SEEDS, st.booleans())
def test_gradients_of_layer_and_instance_norm(shape, seed, affine):
    layers = [LayerNorm(shape[1], eps=0.05, affine=affine, dtype="float64")]
    if int(np.prod(shape[2:], dtype=int)) > 1:
        layers.append(InstanceNorm(shape[1], eps=0.05, affine=affine, dtype="float64"))
    for layer in layers:
        gradcheck.assert_ok(shake(layer, seed), draw_array(shape, seed), seed=seed, complex_step=True)


@given(grouped(), SEEDS, st.sampled_from(["float32", "float64"]))
def test_output_is_the_definition(drawn, seed, dtype):
    shape, groups = drawn
    x = draw_array(shape, seed, dtype=dtype)
    before = x.copy()
    layer = shake(GroupNorm(groups, shape[1], dtype=dtype), seed)
    y = layer.forward(x)
    wide = x.astype("float64").reshape(shape[0], groups, -1)
    x_hat = (wide - wide.mean(2, keepdims=True)) / np.sqrt(wide.var(2, keepdims=True) + layer.eps)
    column = (1, -1) + (1,) * (len(shape) - 2)
    gamma, beta = layer.gamma.value.reshape(column), layer.beta.value.reshape(column)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(x, before)
    assert close(y, gamma * x_hat.reshape(shape) + beta, 5e-4 if dtype == "float32" else 1e-11)


@given(channel_shapes(min_samples=1), SEEDS)
def test_the_family_is_one(shape, seed):
    """One group is layer normalization; C groups are instance normalization; its samples, taken as batches, are BN."""
    x, dy = draw_array(shape, seed), draw_array(shape, seed + 1)
    pairs = [(GroupNorm(1, shape[1], dtype="float64"), LayerNorm(shape[1], dtype="float64"))]
    spatial = int(np.prod(shape[2:], dtype=int))
    if spatial > 1:
        pairs.append((GroupNorm(shape[1], shape[1], dtype="float64"), InstanceNorm(shape[1], dtype="float64")))
    for group, other in pairs:
        np.testing.assert_array_equal(group.forward(x), other.forward(x))
        np.testing.assert_array_equal(group.backward(dy), other.backward(dy))
    if spatial > 1:
        instance, batch = InstanceNorm(shape[1], dtype="float64"), BatchNorm(shape[1], dtype="float64")
        alone = np.concatenate([batch.forward(x[i : i + 1]) for i in range(shape[0])])
        assert close(instance.forward(x), alone, 1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_samples_do_not_see_each_other(groups):
    x, dy = draw_array((6, 4, 3), 0), draw_array((6, 4, 3), 1)
    layer = shake(GroupNorm(groups, 4, dtype="float64"), 0)
    y, dx = layer.forward(x), layer.backward(dy)
    alone = [(layer.forward(x[i : i + 1]), layer.backward(dy[i : i + 1])) for i in range(6)]
    np.testing.assert_allclose(y, np.concatenate([a[0] for a in alone]), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(dx, np.concatenate([a[1] for a in alone]), rtol=1e-12, atol=1e-14)


@pytest.mark.versions("threads and blocks")
def test_threads_and_blocks_change_no_bit():
    from uanref.kernels.cpu import blocks

    x, dy = (draw_array((200, 8, 16, 16), seed, dtype="float32") for seed in (0, 1))
    assert len(blocks.sample_blocks(x, 4 * x[0].size)) > 1
    results = []
    for count in (1, 2):
        layer = GroupNorm(2, 8)
        with backend.limit_threads(count):
            results.append([layer.forward(x), layer.backward(dy), layer.gamma.grad, layer.beta.grad])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


# (module, what stands there, what a slip would write), the same mistakes for the definition and for the version.
MISTAKES = {
    "mean term dropped": (STANDARDIZE, "dx_hat - through_mean - through", "dx_hat - through"),
    "mean term's sign": (STANDARDIZE, "dx_hat - through_mean", "dx_hat + through_mean"),
    "variance term dropped": (STANDARDIZE, " - through_variance)", ")"),
    "variance term's sign": (STANDARDIZE, " - through_variance)", " + through_variance)"),
    "mean's divisor": (STANDARDIZE, "through_mean = dx_hat.mean(", "through_mean = dx_hat.sum("),
    "variance's divisor": (STANDARDIZE, "(dx_hat * x_hat).mean(", "(dx_hat * x_hat).sum("),
    "inverse_std dropped": (STANDARDIZE, "- through_variance) / (variance + eps) ** 0.5", "- through_variance)"),
    "x_hat not scaled": (GROUP, "x_hat = standardize(x.reshape(cells), mean, var, eps)", "x_hat = x.reshape(cells) - mean"),  # noqa: E501
    "gamma after, not before": (STANDARDIZE, "return dy if gamma is None else gamma[:, None] * dy, dgamma", "return dy, dgamma"),  # noqa: E501
    "dgamma without x_hat": (STANDARDIZE, "dgamma = (dy * x_hat).sum", "dgamma = dy.sum"),
    "dgamma and dbeta swapped": (GROUP, "return dx.reshape(x.shape), dgamma, dbeta", "return dx.reshape(x.shape), dbeta, dgamma"),  # noqa: E501
    "groups ignored": (GROUP, "axes=(2,))\n    return dx", "axes=(1, 2))\n    return dx"),
}  # fmt: skip

CPU_MISTAKES = {
    "mean term dropped": (CPU_GROUP, "        g_l -= through_mean\n", ""),
    "mean term's sign": (CPU_GROUP, "g_l -= through_mean\n", "g_l += through_mean\n"),
    "variance term dropped": (CPU_GROUP, "        g_l -= x_hat_l\n", ""),
    "variance term's sign": (CPU_GROUP, "g_l -= x_hat_l\n", "g_l += x_hat_l\n"),
    "mean's divisor": (CPU_GROUP, "through_mean = sum_rows(g_l)[..., None] / length", "through_mean = sum_rows(g_l)[..., None]"),  # noqa: E501
    "variance's divisor": (CPU_GROUP, "sum_rows(product_l)[..., None] / length", "sum_rows(product_l)[..., None]"),
    "inverse_std dropped": (CPU_GROUP, "        g_l *= inverse_std[block]\n", ""),
    "x_hat not scaled": (CPU_GROUP, "        x_hat_l *= inverse_std[block]\n", ""),
    "gamma after, not before": (CPU_GROUP, "xp.multiply(dy_b, gamma_, out=g)", "g[...] = dy_b"),
    "dgamma without x_hat": (CPU_GROUP, "xp.multiply(dy_b, x_hat, out=product)", "product[...] = dy_b"),
    "dgamma and dbeta swapped": (CPU_GROUP, "return dgamma, dbeta\n", "return dbeta, dgamma\n"),
    "groups ignored": (CPU_GROUP, "grouped = (-1, groups,", "grouped = (-1, groups and 1,"),
}  # fmt: skip


def passes(cls):
    return gradcheck.check(shake(cls(2, 4, eps=0.05, dtype="float64"), 1), draw_array((3, 4, 2), 2)).ok


PLANTED = "plants in definitions, with versions off, and in versions, with them on"


@pytest.mark.versions(PLANTED)
@pytest.mark.parametrize("module", [STANDARDIZE, CPU_GROUP])
def test_without_a_mistake_all_is_green(module):
    assert outcome(passes, "GroupNorm", CHAIN, VERSIONS, (module, "", ""))
    assert set(MISTAKES) == set(CPU_MISTAKES)


@pytest.mark.versions(PLANTED)
@pytest.mark.parametrize(("text", "name"), both(MISTAKES, CPU_MISTAKES))
def test_a_planted_mistake_is_caught(text, name):
    table = MISTAKES if text == "definition" else CPU_MISTAKES
    try:
        caught = not outcome(passes, "GroupNorm", CHAIN, VERSIONS, table[name])
    except ValueError:
        assert (text, name) == ("version", "groups ignored"), "no fair mistake"  # that one no longer fits its shapes
        caught = True
    assert caught, f"survived: {name}"


@pytest.mark.parametrize(
    ("layer", "x", "error", "words"),
    [
        (LayerNorm(3), np.zeros((2, 4), "f4"), ValueError, r"LayerNorm expects \(N, 3, ...\), got \(2, 4\)"),
        (GroupNorm(1, 3), np.zeros(3, "f4"), ValueError, r"GroupNorm expects \(N, 3, ...\), got \(3,\)"),
        (GroupNorm(1, 3), np.zeros((2, 3)), TypeError, "float32 parameters but got an input of float64"),
        (InstanceNorm(3), np.zeros((2, 3), "f4"), ValueError, "more than one spatial element per channel"),
        (InstanceNorm(3), np.zeros((2, 3, 1, 1), "f4"), ValueError, "more than one spatial element per channel"),
        (LayerNorm(3), np.zeros((0, 3), "f4"), ValueError, "empty batch"),
    ],
)
def test_bad_input(layer, x, error, words):
    with pytest.raises(error, match=words):
        layer.forward(x)


def test_bad_options():
    with pytest.raises(ValueError, match="num_groups must divide num_channels, got 2 groups for 3 channels"):
        GroupNorm(2, 3)
    with pytest.raises(ValueError, match="eps must be finite"):
        LayerNorm(3, eps=-1.0)
    with pytest.raises(ValueError, match="num_features must be >= 1"):
        InstanceNorm(0)


@pytest.mark.parametrize("make", [lambda: LayerNorm(3), lambda: GroupNorm(3, 3), lambda: InstanceNorm(3)])
def test_state_dict_round_trip(make):
    layer, other = shake(make(), 0), make()
    other.load_state_dict(layer.state_dict())
    x = draw_array((4, 3, 5), 0, dtype="float32")
    np.testing.assert_array_equal(layer.forward(x), other.eval().forward(x))
