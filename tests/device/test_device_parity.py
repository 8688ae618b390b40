"""The same host inputs on the host and on every accelerator: same dtypes, same values, nothing read back on the way.

A device adds in another order than the host, and its exponentials differ in the last digit; nothing else may.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from support.devices import Device

from uanref import backend, gradcheck, models, optimizers
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.layers.base import Parameter
from uanref.layers.linear import Linear
from uanref.losses import SoftmaxCrossEntropy
from uanref.neighbours.streaming import StreamingNorm
from uanref.training.trainer import Trainer
from uanref.verify.catalogue import Case, cases

# Of a tensor's largest entry.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5}
DTYPES = ["float64", "float32"]

# The catalogue of `uanref check`.
CASES = cases()
every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@contextlib.contextmanager
def left_alone(device: Device) -> Iterator[None]:
    """Assert that inside this block nothing is read from the device and nothing waits for it, where that is counted."""
    if not device.counts:
        yield
        return
    with device.counting() as counts:
        yield
        assert (counts.to_host, counts.synchronizations) == (0, 0)


def run(case: Case, dtype: str, where: str, device: Device) -> dict[str, np.ndarray]:
    """Return what the layer computes on backend ``where``, as host arrays: y, dx, every gradient and the state."""
    layer = case.make().to(dtype).to(where)
    x = np.random.default_rng(3).standard_normal(case.shape).astype(dtype)
    x_there = backend.to_device(x.copy(), where)
    with left_alone(device):
        y = layer.forward(x_there)
    dy = np.random.default_rng(4).standard_normal(tuple(y.shape)).astype(dtype)
    dy_there = backend.to_device(dy.copy(), where)
    with left_alone(device):
        dx = layer.backward(dy_there)
    gradients = {f"{name}.grad": parameter.grad for name, parameter in layer.parameters().items()}
    for name, array in {"y": y, "dx": dx, **gradients}.items():
        assert backend.name_of(array) == where, name
        assert array.dtype == dtype, name
    np.testing.assert_array_equal(backend.to_host(x_there), x, "forward or backward changed its input")
    np.testing.assert_array_equal(backend.to_host(dy_there), dy, "backward changed dy")
    found = {name: backend.to_host(array) for name, array in {"y": y, "dx": dx, **gradients}.items()}
    return found | layer.state_dict()


def errors(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], floor: float = 1e-8
) -> Iterator[tuple[str, float]]:
    """Yield each tensor's largest difference in units of its largest entry, or of ``floor`` if all are smaller."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        difference = np.abs(found[name].astype("float64") - array).max()
        yield name, float(difference / max(np.abs(array).max(), floor))


def assert_same(
    found: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
    dtype: str,
    exact: dict[str, np.ndarray] | None = None,
    floor: float = 1e-8,
    *,
    as_one: bool = False,
) -> None:
    """Compare what an accelerator ``found`` with what the host gave in the same dtype.

    Where float32 cannot hold 1e-5, an accelerator may err as the host errs: up to four times the host's own distance
    from ``exact``, the host's result in float64. With ``as_one`` the tensors count as one long vector, of which the
    host's worst error tells: a single number, such as the loss, may be close by luck.
    """
    own = {} if exact is None else dict(errors(expected, exact, floor))
    own = dict.fromkeys(own, max(own.values())) if as_one and own else own
    for name, error in errors(found, expected, floor):
        assert found[name].dtype == expected[name].dtype, name
        allowed = max(TOLERANCES[dtype], 4.0 * own.get(name, 0.0))
        assert error <= allowed, f"{name} differs by {error:.2e} of its largest entry, where {allowed:.2e} is allowed"


# --- layers, norms, losses, neighbours ------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@every_case
def test_layers_equal_the_host(case: Case, dtype: str, accelerator: Device) -> None:
    expected = run(case, dtype, "numpy", accelerator)
    exact = run(case, "float64", "numpy", accelerator) if dtype == "float32" else None
    for plain in (False, True):
        with backend.plain(plain):
            # The floor is for gradients that vanish but for rounding: of two samples per channel, BatchNorm's dx.
            assert_same(run(case, dtype, "cupy", accelerator), expected, dtype, exact, floor=0.1)


SMOKE = ("Linear", "BatchNorm rank 3 train", "MSE")


@pytest.mark.smoke
def test_a_few_layers_equal_the_host(accelerator: Device) -> None:
    chosen = [case for case in CASES if case.name in SMOKE]
    assert len(chosen) == len(SMOKE)
    for case in chosen:
        expected = run(case, "float64", "numpy", accelerator)
        assert_same(run(case, "float64", "cupy", accelerator), expected, "float64")


@every_case
def test_layers_move_there_and_back(case: Case, accelerator: Device) -> None:
    layer = case.make()
    before = layer.state_dict()
    after = layer.to("cupy").to("numpy").state_dict()
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stream_equals_the_host(dtype: str, accelerator: Device) -> None:
    stream = np.random.default_rng(0).standard_normal((9, 3)).astype(dtype)
    expected = StreamingNorm(3, 4, dtype=dtype).run(stream)
    with backend.using("cupy"):
        norm = StreamingNorm(3, 4, dtype=dtype)
    stream_there = backend.to_device(stream, "cupy")
    with left_alone(accelerator):
        y = norm.run(stream_there)
    assert_same({"y": backend.to_host(y)}, {"y": expected}, dtype)


def test_a_gradient_check_runs_there(accelerator: Device) -> None:
    layer = Linear(3, 2, dtype="float64").to("cupy")
    x = backend.to_device(np.random.default_rng(0).standard_normal((4, 3)), "cupy")
    report = gradcheck.check(layer, x, complex_step=True)
    assert report.ok, report


def test_mixed_arrays_are_refused_by_name(accelerator: Device) -> None:
    with pytest.raises(backend.BackendMismatch, match=r"numpy .* cupy"):
        Linear(3, 2).forward(backend.to_device(np.ones((4, 3), dtype="float32"), "cupy"))


# --- optimizers -----------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": lambda p: optimizers.SGD(p, lr=0.1),
    "SGD nesterov, decay": lambda p: optimizers.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optimizers.Adam(p, lr=0.01),
    "Adam, decay": lambda p: optimizers.Adam(p, lr=0.01, weight_decay=0.1),
    "AdamW": lambda p: optimizers.AdamW(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_move_alike(name: str, dtype: str, accelerator: Device) -> None:
    def train(where: str) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(2)
        parameters = {
            key: Parameter(backend.to_device(draw.standard_normal(shape).astype(dtype), where))
            for key, shape in {"weight": (3, 4), "bias": (5,)}.items()
        }
        optimizer = OPTIMIZERS[name](parameters)
        for _ in range(5):
            for parameter in parameters.values():
                parameter.grad = backend.to_device(draw.standard_normal(parameter.shape).astype(dtype), where)
            with nothing_crosses(accelerator):
                optimizers.clip_grad_norm(parameters, 1.0)
                optimizer.lr = optimizer.lr * 0.9  # as a schedule does
                optimizer.step()
        return {key: backend.to_host(p.value) for key, p in parameters.items()} | optimizer.state_dict()

    expected = train("numpy")
    for plain in (False, True):
        with backend.plain(plain):
            assert_same(train("cupy"), expected, dtype)


@contextlib.contextmanager
def nothing_crosses(device: Device) -> Iterator[None]:
    """Assert that inside this block no copy goes either way and nothing waits, where that is counted."""
    if not device.counts:
        yield
        return
    with device.counting() as counts:
        yield
        assert (counts.to_device, counts.to_host, counts.synchronizations) == (0, 0, 0)


# --- models ---------------------------------------------------------------------------------------

ONE_PIXEL = {("mlp", "in"), ("shallow", "in")}  # the shallow CNN's last map of 8 x 8 images
NETWORKS = [(body, norm) for body in models.MODELS for norm in models.NORMS if (body, norm) not in ONE_PIXEL]


def images(samples: int, seed: int) -> Dataset:
    draw = np.random.default_rng(seed)
    return Dataset("noise", draw.standard_normal((samples, 1, 8, 8)).astype("float32"), draw.integers(0, 3, samples), 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("body", "norm"), NETWORKS)
def test_a_training_step_equals_the_hosts(body: str, norm: str, dtype: str, accelerator: Device) -> None:
    """Not Adam's: it divides a gradient by its own size, so that one of rounding errors alone becomes a full step.

    Enough samples that no mixture has a component of a single one: its output, 0 but for rounding, meets ReLU's kink.
    """
    splits = Splits("noise", 3, (1, 8, 8), images(48, 0), images(4, 1), images(4, 2))

    def step(where: str, dtype: str) -> dict[str, np.ndarray]:
        with backend.using(where):
            size = {"width": 0.125} if body.startswith("shallow") else {}
            model = models.build(body, norm, image_shape=(1, 8, 8), num_classes=3, dtype=dtype, **size)
            optimizer = optimizers.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
            trainer = Trainer(model, SoftmaxCrossEntropy(), optimizer, splits, batch_size=48, progress="none")
            trainer.fit(1)
        gradients = {f"{name}.grad": backend.to_host(p.grad) for name, p in model.parameters().items()}
        epoch = trainer.history.epochs[0]
        measured = {key: np.array(getattr(epoch, key)) for key in ("train_loss", "train_accuracy", "validation_loss")}
        return model.state_dict() | gradients | measured

    expected = step("numpy", dtype)
    with backend.plain():  # the host's other way: in float64 the two tell how far rounding goes
        exact = step("numpy", "float64")
    for plain in (False, True):
        with backend.plain(plain):
            # Gradients are one long vector here: what is small in it has the rounding errors of what is large.
            assert_same(step("cupy", dtype), expected, dtype, exact, floor=0.1, as_one=True)
