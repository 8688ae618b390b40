"""Softmax cross-entropy's kernels: many classes and rows, extremes, three launches, any order of threads."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from support.arrays import draw_array
from support.definitions import exactly
from support.layouts import on_device

from uanref import backend, gradcheck
from uanref.kernels.cuda import losses as kernel
from uanref.losses import SoftmaxCrossEntropy, cross_entropy, cross_entropy_backward

TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


@pytest.fixture(autouse=True)
def _a_device_with_kernels(accelerator) -> None:
    if accelerator.kind == "strict":
        pytest.skip("the strict double runs no kernels")


def draw_targets(samples: int, classes: int, seed: int, kind: str) -> np.ndarray:
    """Labels of an integer dtype, or for a float dtype soft targets that do not sum to 1."""
    rng = np.random.default_rng(seed)
    if kind.startswith("float"):
        return rng.uniform(0, 2.0 / classes, (samples, classes)).astype(kind)
    return rng.integers(0, min(classes, 128), samples).astype(kind)


def run(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> list[np.ndarray]:
    """Loss, log p and gradient from the kernels, as host arrays."""
    moved = on_device(targets)
    loss, log_p = kernel.cross_entropy(on_device(logits), moved, smoothing)
    return [backend.to_host(a) for a in (loss, log_p, kernel.cross_entropy_backward(log_p, moved, smoothing))]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("soft", [False, True])
def test_ten_thousand_classes(soft: bool, dtype: str) -> None:
    logits = draw_array((3, 10_000), 1, dtype=dtype)
    targets = draw_targets(3, 10_000, 2, dtype if soft else "int64")
    for found, expected in zip(run(logits, targets, 0.1), host(logits, targets, 0.1), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2 * TOLERANCES[dtype], atol=TOLERANCES[dtype] * 1e-4)


def host(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> list[np.ndarray]:
    """What :func:`run` returns, from the definition in double precision."""
    loss, log_p = exactly(cross_entropy, logits, targets, smoothing)
    return [loss, log_p, *exactly(cross_entropy_backward, log_p, targets, smoothing)]


@pytest.mark.parametrize("classes", [40, 260])
def test_every_class_in_turn_stands_out(classes: int) -> None:
    logits, labels = 1e4 * np.eye(classes), np.arange(classes)[::-1]
    for found, expected in zip(run(logits, labels, 0.0), host(logits, labels, 0.0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("blocks", [1, 3, 300])
@pytest.mark.parametrize("classes", [2, 150])
def test_blocks_share_many_rows(blocks: int, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCKS", blocks)
    logits, targets = draw_array((310, classes), 1), draw_targets(310, classes, 2, "int64")
    for found, expected in zip(run(logits, targets, 0.0), host(logits, targets, 0.0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("classes", [10, 200])
@pytest.mark.parametrize("soft", [False, True])
def test_two_launches_forward_and_one_backward(soft: bool, classes: int, accelerator) -> None:
    if accelerator.kind != "emulated":
        pytest.skip("only the emulator counts launches")
    logits = backend.to_device(draw_array((7, classes), 1, dtype="float32"), "cupy")
    targets = backend.to_device(draw_targets(7, classes, 2, "float32" if soft else "int64"), "cupy")
    criterion = SoftmaxCrossEntropy(0.1)
    with accelerator.counting() as counts:
        loss = criterion.forward(logits, targets)
        criterion.backward()
    assert [launch.name for launch in counts.launches] == [
        "cross_entropy_rows", "cross_entropy_mean", "cross_entropy_gradient",
    ]  # fmt: skip
    assert [launch.grid[0] for launch in counts.launches] == [7, 1, 7]
    assert (counts.to_host, counts.to_device, counts.synchronizations) == (0, 0, 0)
    assert backend.name_of(loss) == "cupy"
    assert loss.shape == ()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("classes", [5, 130])
def test_the_loss_by_kernels_is_the_loss_as_defined(soft: bool, classes: int) -> None:
    logits, targets = draw_array((4, classes), 1), draw_targets(4, classes, 2, "float64" if soft else "int64")
    expected_criterion = SoftmaxCrossEntropy(0.2)
    expected = expected_criterion(logits, targets), expected_criterion.backward()
    moved = on_device(logits), on_device(targets)
    for plain in (False, True):
        criterion = SoftmaxCrossEntropy(0.2)
        with backend.plain(plain):
            found = criterion(*moved), criterion.backward()
        for ours, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(backend.to_host(ours), value, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(backend.to_host(moved[0]), logits)
    np.testing.assert_array_equal(backend.to_host(moved[1]), targets)


@pytest.mark.parametrize("soft", [False, True])
def test_the_gradient_is_the_derivative_on_the_device(soft: bool) -> None:
    logits, targets = draw_array((4, 7), 1), draw_targets(4, 7, 2, "float64" if soft else "int64")
    report = gradcheck.check_loss(
        SoftmaxCrossEntropy(0.1), backend.to_device(logits, "cupy"), backend.to_device(targets, "cupy")
    )
    assert report.ok, str(report)


def test_a_backward_pass_may_go_another_way_than_its_forward_pass() -> None:
    logits, targets = (backend.to_device(draw_array((4, 3), seed), "cupy") for seed in (1, 2))
    criterion, gradients = SoftmaxCrossEntropy(0.3), []
    for plain in (False, True):
        with backend.plain(plain):
            criterion.forward(logits, targets)
        with backend.plain(not plain):
            gradients.append(backend.to_host(criterion.backward()))
    np.testing.assert_allclose(*gradients, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("classes", [3, 40, 400])
def test_the_order_of_threads_changes_no_bit(classes: int, accelerator) -> None:
    reversed_threads = contextlib.nullcontext
    if accelerator.kind == "emulated":
        from support.cupysim import threads_reversed as reversed_threads
    logits, targets = draw_array((9, classes), 1, dtype="float32"), draw_targets(9, classes, 2, "float32")
    first = run(logits, targets, 0.1)
    with reversed_threads():
        second = run(logits, targets, 0.1)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("where", [0, 1, 150])
def test_a_number_that_is_none_reaches_the_loss(where: int) -> None:
    logits = draw_array((3, 200), 1)
    logits[1, where] = np.nan
    loss, log_p, d_logits = run(logits, np.array([0, 1, 2]), 0.0)
    assert np.isnan(loss)
    assert np.isnan(log_p[1]).all()
    assert np.isnan(d_logits[1]).all()
    assert np.isfinite(d_logits[[0, 2]]).all()


def test_a_label_out_of_range_touches_no_memory_and_has_no_class() -> None:
    logits = draw_array((3, 5), 1)
    loss, _, d_logits = run(logits, np.array([1, -1, 2**40]), 0.0)
    only, _, expected = run(logits[:1], np.array([1]), 0.0)
    np.testing.assert_allclose(loss * 3, only, rtol=1e-12)
    np.testing.assert_allclose(d_logits[0] * 3, expected[0], rtol=1e-12)
    assert not d_logits[1:].any()


def test_a_smoothing_that_is_no_python_float() -> None:
    """A kernel takes it as a double, whatever a user assigns: an int's bits would be another number."""
    logits = draw_array((6, 5), 0)
    labels = draw_targets(6, 5, 1, "int64")
    expected = run(logits, labels, 1.0)
    for found, value in zip(run(logits, labels, 1), expected, strict=True):  # smoothed all the way
        np.testing.assert_array_equal(found, value)
