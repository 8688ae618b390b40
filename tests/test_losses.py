"""Losses: their values, their gradients, what they refuse."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, draw_array
from support.requirements import require_cupy, require_torch

from uanref import backend, gradcheck
from uanref.losses import MSE, Loss, SoftmaxCrossEntropy


def soft_targets(samples: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), size=samples)


@given(
    samples=st.integers(1, 5),
    classes=st.integers(1, 5),
    soft=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 10**6),
    layout=st.sampled_from(LAYOUTS),
)
def test_cross_entropy_is_its_formula_and_backward_its_derivative(
    samples: int, classes: int, soft: bool, smoothing: float, seed: int, layout: str
) -> None:
    logits = 2.0 * draw_array((samples, classes), seed, layout=layout)
    labels = np.random.default_rng(seed).integers(0, classes, samples)
    targets = soft_targets(samples, classes, seed) if soft else labels
    before, targets_before = logits.copy(), targets.copy()

    t = targets if soft else np.eye(classes)[labels]
    t = (1 - smoothing) * t + smoothing / classes
    expected = -(t * scipy.special.log_softmax(logits, axis=1)).sum() / samples
    criterion = SoftmaxCrossEntropy(smoothing)
    assert float(criterion.forward(logits, targets)) == pytest.approx(float(expected), rel=1e-12, abs=1e-14)
    report = gradcheck.check_loss(criterion, logits, targets, seed=seed, directions=1)
    assert report.ok, str(report)
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_array_equal(targets, targets_before)


def test_targets_need_not_sum_to_one_for_a_right_gradient() -> None:
    targets = np.random.default_rng(1).uniform(0, 3, (4, 3))
    report = gradcheck.check_loss(SoftmaxCrossEntropy(0.2), draw_array((4, 3), 1), targets)
    assert report.ok, str(report)


@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_by_complex_step(soft: bool) -> None:
    logits = draw_array((4, 3), 1)
    targets = soft_targets(4, 3, 2).astype("complex128") if soft else np.array([2, 0, 1, 1])
    criterion = SoftmaxCrossEntropy(0.1)
    criterion.forward(logits, targets.real if soft else targets)
    gradient = criterion.backward()
    along = draw_array((4, 3), 3)
    slope = criterion.forward(logits + 1e-30j * along, targets).imag / 1e-30
    assert slope == pytest.approx((gradient * along).sum(), rel=1e-13)


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), seed=st.integers(0, 10**6))
def test_mse_is_its_formula_and_backward_its_derivative(shape: tuple[int, ...], seed: int) -> None:
    y, t = draw_array(shape, seed, layout="strided"), draw_array(shape, seed + 1, layout="F")
    before = y.copy()
    assert float(MSE().forward(y, t)) == pytest.approx(float(np.mean((y - t) ** 2)), rel=1e-13)
    report = gradcheck.check_loss(MSE(), y, t, seed=seed, directions=1)
    assert report.ok, str(report)
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept_and_the_loss_is_no_python_number(dtype: str) -> None:
    logits = draw_array((4, 3), 1, dtype=dtype)
    cases = [
        (SoftmaxCrossEntropy(0.1), np.array([0, 2, 1, 1])),
        (SoftmaxCrossEntropy(), soft_targets(4, 3, 1).astype(dtype)),
        (MSE(), draw_array((4, 3), 2, dtype=dtype)),
    ]
    for criterion, targets in cases:
        loss = criterion(logits, targets)
        gradient = criterion.backward()
        assert (loss.shape, loss.dtype) == ((), dtype)
        assert (gradient.shape, gradient.dtype) == ((4, 3), dtype)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64", "uint64"])
def test_any_integer_dtype_labels(kind: str) -> None:
    logits, labels = draw_array((3, 4), 1), np.array([3, 0, 2])
    expected = SoftmaxCrossEntropy().forward(logits, labels)
    assert SoftmaxCrossEntropy().forward(logits, labels.astype(kind)) == expected


def test_extreme_logits_neither_overflow_nor_warn() -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e30, 1e30, 0.0], [7e4, 7e4, 7e4]], dtype="float32")
    criterion = SoftmaxCrossEntropy(0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss, gradient = criterion.forward(logits, np.array([0, 1, 2])), criterion.backward()
    assert float(loss) == pytest.approx(np.log(3) / 3, rel=1e-6)
    expected = np.array([[0, 0, 0], [0, 0, 0], [1 / 3, 1 / 3, -2 / 3]]) / 3
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


INF = np.inf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("row", "target", "loss", "gradient"),
    [
        ([2.0, -INF, 1.0], 0, np.log1p(np.exp(-1.0)), None),
        ([2.0, -INF, 1.0], [0.25, 0.0, 0.75], np.log1p(np.exp(-1.0)) + 0.75, None),
        ([2.0, -INF, 1.0], 1, INF, None),
        ([2.0, -INF, 1.0], [0.5, 0.25, 0.25], INF, None),
        ([-INF, -INF, 5.0], 2, 0.0, [0.0, 0.0, 0.0]),
        # 3e38 in float32, 1.6e308 in float64: the differences are too large for the dtype
        ([0.9, -0.9, 0.0], 0, 0.0, [0.0, 0.0, 0.0]),
        ([0.9, -0.9, 0.0], [1.0, 0.0, 0.0], 0.0, [0.0, 0.0, 0.0]),
        ([0.9, -0.9, 0.0], 1, INF, [1.0, -1.0, 0.0]),
        ([-0.9, -0.9, -0.9], 1, np.log(3.0), [1 / 3, -2 / 3, 1 / 3]),
        ([0.9, 0.9, -0.9], [0.5, 0.5, 0.0], np.log(2.0), [0.0, 0.0, 0.0]),
    ],
)
def test_a_class_that_is_ruled_out_adds_nothing(
    row: list[float], target: int | list[float], loss: float, gradient: list[float] | None, dtype: str, device
) -> None:
    logits = np.array([row])
    if gradient is None:
        t = np.eye(3)[target] if isinstance(target, int) else np.array(target)
        gradient = scipy.special.softmax(row) - t
    else:
        logits[np.abs(logits) < 1] *= np.finfo(dtype).max
    targets = np.array([target]) if isinstance(target, int) else np.array([target], dtype=dtype)
    moved = [backend.to_device(a, device.backend) for a in (logits.astype(dtype), targets)]
    criterion = SoftmaxCrossEntropy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [backend.to_host(a) for a in (criterion.forward(*moved), criterion.backward())]
    np.testing.assert_allclose(found[0], loss, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(found[1], [gradient], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "row", [[-INF] * 3, [INF, 1.0, 2.0], [INF, INF, 0.0], [np.nan, 1.0, -INF], [1.0, np.nan, -INF]]
)
def test_a_row_without_a_softmax_is_nan_and_only_that_row(row: list[float], device) -> None:
    logits = np.array([row, [0.5, -1.0, 2.0]])
    for targets in (np.array([2, 0]), np.eye(3)[[2, 0]], np.array([[0.0] * 3, [1.0, 0.0, 0.0]])):
        moved = [backend.to_device(a, device.backend) for a in (logits, targets)]
        criterion = SoftmaxCrossEntropy()
        with np.errstate(all="ignore"):
            loss, gradient = (backend.to_host(a) for a in (criterion.forward(*moved), criterion.backward()))
        assert np.isnan(loss)
        assert np.isnan(gradient[0]).all()
        assert np.isfinite(gradient[1]).all()


def test_under_smoothing_every_class_counts(device) -> None:
    """A class that is ruled out has t > 0, and an infinite loss says so."""
    logits, labels = np.array([[2.0, -INF, 1.0]]), np.array([0])
    loss = SoftmaxCrossEntropy(0.1).forward(*(backend.to_device(a, device.backend) for a in (logits, labels)))
    assert backend.to_host(loss) == INF


@pytest.mark.parametrize("samples", [5, 20_000])
def test_float32_is_float64_rounded(samples: int, device) -> None:
    draw = np.random.default_rng(samples)
    logits, other = (draw.normal(0.0, 2.0, (samples, 4)).astype("float32") for _ in range(2))
    soft = draw.dirichlet(np.ones(4), samples).astype("float32")
    for criterion, targets in (
        (SoftmaxCrossEntropy(), draw.integers(0, 4, samples)),
        (SoftmaxCrossEntropy(0.1), soft),
        (MSE(), other),
    ):
        found = []
        for dtype in ("float32", "float64"):
            t = targets.astype(dtype) if targets.dtype.kind == "f" else targets
            loss = criterion(*(backend.to_device(a, device.backend) for a in (logits.astype(dtype), t)))
            found.append([backend.to_host(a) for a in (loss, criterion.backward())])
        for single, double in zip(*found, strict=True):
            assert single.dtype == "float32"
            np.testing.assert_allclose(single, double, rtol=2e-6, atol=1e-6 / samples)


def test_an_infinite_prediction_has_an_infinite_squared_error(device) -> None:
    y, t = np.array([[INF, 1.0], [-INF, 2.0]]), np.array([[0.5, -1.0], [1.0, 1.0]])
    criterion = MSE()
    loss = criterion(*(backend.to_device(a, device.backend) for a in (y, t)))
    assert backend.to_host(loss) == INF
    np.testing.assert_array_equal(backend.to_host(criterion.backward()), [[INF, 1.0], [-INF, 0.5]])


def test_a_shift_of_a_row_changes_nothing_and_gradients_of_a_row_sum_to_zero() -> None:
    logits, labels, shift = draw_array((5, 4), 1), np.array([0, 1, 2, 3, 0]), 50 * draw_array((5, 1), 2)
    criterion = SoftmaxCrossEntropy(0.1)
    loss, gradient = criterion(logits, labels), criterion.backward()
    shifted, shifted_gradient = criterion(logits + shift, labels), criterion.backward()
    assert float(shifted) == pytest.approx(float(loss), rel=1e-12)
    np.testing.assert_allclose(shifted_gradient, gradient, atol=1e-13)
    np.testing.assert_allclose(gradient.sum(axis=1), 0.0, atol=1e-16)


def test_one_hot_soft_targets_are_labels() -> None:
    logits, labels = draw_array((4, 3), 1), np.array([2, 0, 1, 1])
    one, two = SoftmaxCrossEntropy(0.1), SoftmaxCrossEntropy(0.1)
    assert one(logits, labels) == two(logits, np.eye(3)[labels])
    np.testing.assert_array_equal(one.backward(), two.backward())


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_as_pytorch(soft: bool, smoothing: float) -> None:
    torch = require_torch()
    logits = draw_array((6, 4), 1)
    targets = soft_targets(6, 4, 2) if soft else np.array([0, 3, 2, 1, 1, 0])
    theirs = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(theirs, torch.tensor(targets), label_smoothing=smoothing)
    loss.backward()
    ours = SoftmaxCrossEntropy(smoothing)
    assert float(ours(logits, targets)) == pytest.approx(loss.item(), rel=1e-13)
    np.testing.assert_allclose(ours.backward(), theirs.grad.numpy(), rtol=1e-12, atol=1e-16)


def test_pending_passes_are_a_stack_and_inference_keeps_nothing() -> None:
    y, t1, t2 = draw_array((2, 3), 1), draw_array((2, 3), 2), draw_array((2, 3), 3)
    for criterion in (MSE(), SoftmaxCrossEntropy()):
        expected = []
        for t in (t1, t2):
            criterion(y, t)
            expected.append(criterion.backward())
        criterion(y, t1)
        criterion(y, t2)
        np.testing.assert_array_equal(criterion.backward(), expected[1])
        np.testing.assert_array_equal(criterion.backward(), expected[0])
        loss = criterion(y, t1)
        criterion.clear()
        with backend.inference():
            assert criterion(y, t1) == loss
        with pytest.raises(RuntimeError, match=rf"{type(criterion).__name__}\.backward without a pending forward"):
            criterion.backward()


@pytest.mark.parametrize(("label", "named"), [(-1, "-1"), (3, "3"), (255, "255")])
def test_a_label_out_of_range_is_named_with_the_range(label: int, named: str) -> None:
    with pytest.raises(ValueError, match=rf"label {named} is out of range: logits with 3 classes take labels 0 to 2"):
        SoftmaxCrossEntropy().forward(draw_array((2, 3), 1), np.array([1, label]))


def test_wrong_input_is_refused_in_a_sentence() -> None:
    ce, mse, logits = SoftmaxCrossEntropy(), MSE(), draw_array((2, 3), 1)
    labels = np.array([0, 1])
    with pytest.raises(ValueError, match=r"expects logits \(N, C\) with N >= 1, got \(0, 3\)"):
        ce.forward(np.zeros((0, 3)), np.zeros(0, dtype=int))
    with pytest.raises(ValueError, match=r"expects logits \(N, C\) with N >= 1, got \(2, 3, 1\)"):
        ce.forward(np.zeros((2, 3, 1)), labels)
    with pytest.raises(TypeError, match="logits must be floating point, got int64"):
        ce.forward(np.zeros((2, 3), dtype=int), labels)
    with pytest.raises(ValueError, match=r"labels must be integers of shape \(2,\), got int64 of shape \(3,\)"):
        ce.forward(logits, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=r"got int64 of shape \(2, 3\): convert one-hot rows"):
        ce.forward(logits, np.eye(3, dtype="int64")[labels])
    with pytest.raises(TypeError, match=r"labels must be integers of shape \(2,\), got bool"):
        ce.forward(logits, np.array([True, False]))
    with pytest.raises(ValueError, match=r"targets of shape \(2,\) for logits of shape \(2, 3\).*or integer labels"):
        ce.forward(logits, np.array([0.0, 1.0]))
    with pytest.raises(TypeError, match=r"targets of float32 for logits of float64.*astype\('float64'\)"):
        ce.forward(logits, np.zeros((2, 3), dtype="float32"))
    with pytest.raises(ValueError, match=r"MSE got targets of shape \(3,\) for prediction of shape \(2, 3\)"):
        mse.forward(logits, np.zeros(3))
    with pytest.raises(TypeError, match="MSE got targets of float32 for prediction of float64"):
        mse.forward(logits, np.zeros((2, 3), dtype="float32"))
    with pytest.raises(ValueError, match=r"MSE got an empty batch of shape \(0, 3\)"):
        mse.forward(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(TypeError, match="prediction must be floating point"):
        mse.forward(labels, labels)
    for criterion in (ce, mse):
        assert not criterion._pending, "a refused forward left something behind"


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), MSE()])
def test_nothing_to_compare_with_is_said_in_a_sentence(loss: SoftmaxCrossEntropy | MSE) -> None:
    x = np.ones((2, 3), dtype="float32")
    with pytest.raises(TypeError, match="expected targets as a NumPy or CuPy array, got None"):
        loss.forward(x, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a NumPy or CuPy array, got NoneType"):
        loss.forward(None, x)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="without a pending forward"):
        loss.backward()


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_label_smoothing_outside_0_to_1_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing must be finite and >= 0 and <= 1"):
        SoftmaxCrossEntropy(value)


def test_the_base_defines_neither_pass() -> None:
    with pytest.raises(NotImplementedError, match="Loss does not define forward"):
        Loss().forward(np.ones(2), np.ones(2))
    with pytest.raises(NotImplementedError, match="Loss does not define backward"):
        Loss().backward()


@pytest.mark.parametrize("soft", [False, True])
def test_nothing_is_read_from_a_device(soft: bool) -> None:
    require_cupy()
    from support.strictcp import strict

    logits, other = draw_array((4, 3), 1, dtype="float32"), draw_array((4, 3), 2, dtype="float32")
    targets = soft_targets(4, 3, 2).astype("float32") if soft else np.array([2, 0, 1, 1])
    for criterion, target in ((SoftmaxCrossEntropy(0.1), targets), (MSE(), other)):
        expected = criterion(logits, target), criterion.backward()
        with strict() as device:
            on_device = backend.to_device(logits, "cupy"), backend.to_device(target, "cupy")
            with device.sealed():
                found = criterion(*on_device), criterion.backward()
            for ours, host in zip(found, expected, strict=True):
                assert backend.name_of(ours) == "cupy"
                np.testing.assert_allclose(backend.to_host(ours), host, rtol=1e-6, atol=1e-7)
            with pytest.raises(backend.BackendMismatch):
                criterion(on_device[0], target)
