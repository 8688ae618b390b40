"""Ours against the installed PyTorch, over drawn shapes and options.

Convolution and pooling have the same test beside their others, in ``tests/layers``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import oracle_cases, oracle_ours, oracle_torch
from support.arrays import channel_shapes
from support.requirements import require_torch

from uanref.norms.batch import BatchNorm

FEW = settings(max_examples=max(10, settings.default.max_examples // 2))
SEEDS = st.integers(0, 10**6)
EPS = st.sampled_from([1e-5, 1e-3, 0.1])


@pytest.fixture(autouse=True)
def _torch() -> None:
    require_torch()


def agree(kind: str, options: dict[str, Any], inputs: dict[str, np.ndarray], tolerance: float = 1e-10) -> None:
    theirs = oracle_torch.run(kind, options, inputs)
    oracle_ours.assert_agree(oracle_ours.run(kind, options, inputs), theirs, tolerance, floor=1.0)


@FEW
@given(channel_shapes(), SEEDS, EPS, st.sampled_from([0.0, 0.1, 0.9, 1.0]), st.booleans(), st.booleans())
def test_batch_norm(shape, seed, eps, momentum, training, affine):
    options = {"eps": eps, "momentum": momentum, "training": training}
    agree("BatchNorm", options, oracle_cases.norm_inputs("BatchNorm", shape, seed, affine=affine))


@FEW
@given(channel_shapes(), SEEDS, EPS, st.booleans(), st.sampled_from(["group_norm", "layer_norm"]))
def test_layer_norm(shape, seed, eps, affine, form):
    inputs = oracle_cases.norm_inputs("LayerNorm", shape, seed, affine=affine)
    agree("LayerNorm", {"eps": eps, "form": form}, inputs)


@FEW
@given(channel_shapes(max_channels=3), st.integers(1, 3), SEEDS, EPS, st.booleans())
def test_group_norm(shape, groups, seed, eps, affine):
    channels = shape[1] * groups
    inputs = oracle_cases.norm_inputs("GroupNorm", (shape[0], channels, *shape[2:]), seed, affine=affine)
    agree("GroupNorm", {"eps": eps, "num_groups": groups}, inputs)


@FEW
@given(channel_shapes().filter(lambda s: np.prod(s[2:]) > 1), SEEDS, EPS, st.booleans())
def test_instance_norm(shape, seed, eps, affine):
    agree("InstanceNorm", {"eps": eps}, oracle_cases.norm_inputs("InstanceNorm", shape, seed, affine=affine))


@FEW
@given(channel_shapes(), st.integers(1, 5), SEEDS)
def test_batch_norm_over_several_batches_then_eval(shape, batches, seed):
    import torch

    rng = np.random.default_rng(seed)
    ours = BatchNorm(shape[1], momentum=0.3, dtype="float64")
    mean, var = torch.zeros(shape[1]).double(), torch.ones(shape[1]).double()
    for _ in range(batches):
        x = rng.uniform(-3, 3) + rng.uniform(0.1, 3) * rng.standard_normal(shape)
        ours.forward(x)
        torch.nn.functional.batch_norm(torch.tensor(x), mean, var, training=True, momentum=0.3)
    np.testing.assert_allclose(ours.running_mean, mean.numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(ours.running_var, var.numpy(), rtol=1e-11)
    expected = torch.nn.functional.batch_norm(torch.tensor(x), mean, var, training=False)
    np.testing.assert_allclose(ours.eval().forward(x), expected.numpy(), rtol=1e-10, atol=1e-11)


@FEW
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple), SEEDS, st.sampled_from([0.1, 1.0, 30.0]))
def test_gelu(shape, seed, scale):
    agree("GELU", {}, oracle_cases.plain_inputs(shape, shape, seed, scale))


@FEW
@given(
    st.integers(1, 8),
    st.integers(1, 6),
    SEEDS,
    st.booleans(),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([0.1, 3.0, 300.0]),
)
def test_cross_entropy(samples, classes, seed, soft, smoothing, scale):
    inputs = oracle_cases.loss_inputs(samples, classes, seed, soft=soft, scale=scale)
    agree("SoftmaxCrossEntropy", {"label_smoothing": smoothing}, inputs)


RATES = st.floats(1e-4, 1.0)
DECAYS = st.sampled_from([0.0, 0.01, 0.5])
SHAPES = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=3).map(
    lambda shapes: {f"p{i}": shape for i, shape in enumerate(shapes)}
)


@FEW
@given(SHAPES, st.integers(1, 8), SEEDS, RATES, DECAYS, st.sampled_from([0.0, 0.5, 0.9]), st.booleans())
def test_sgd(shapes, steps, seed, lr, weight_decay, momentum, nesterov):
    options = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov and momentum > 0}
    agree("SGD", options, oracle_cases.optimizer_inputs(shapes, steps, seed))


@FEW
@given(
    SHAPES,
    st.integers(1, 8),
    SEEDS,
    RATES,
    DECAYS,
    st.sampled_from([(0.9, 0.999), (0.0, 0.5), (0.5, 0.0)]),
    st.sampled_from([1e-8, 1e-2]),
    st.sampled_from([1e-6, 1.0, 1e6]),
    st.sampled_from(["Adam", "AdamW"]),
)
def test_adam_and_adamw(shapes, steps, seed, lr, weight_decay, betas, eps, scale, kind):
    options = {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps}
    agree(kind, options, oracle_cases.optimizer_inputs(shapes, steps, seed, scale))
