"""Numerical gradients: is a hand-derived backward pass the derivative of its forward pass?

A layer is a function ``y = f(x, parameters)``. For a random upstream gradient ``dy`` its backward
pass claims the gradient ``g`` of the scalar ``<dy, f>`` with respect to the input and to every
parameter. :func:`check` holds three numbers against that claim, for each tensor by itself:

1. **Directions.** ``<g, u>`` against ``d/dt <dy, f(v + t u)>`` at t = 0 by fourth-order central
   differences, for a few directions u with random entries in [-1, 1].
2. **The full Jacobian**, where it is small: every entry of ``g``, and every entry of
   ``J[j, i] = dy_j / dv_i`` (one backward pass per output) against differences along each axis.
3. **The complex step**, on request: ``Im <dy, f(v + i h u)> / h`` with h = 1e-30, which subtracts
   nothing and is exact to rounding. It needs analytic code: no comparison, no absolute value,
   no maximum, no real buffer on the way from the perturbed tensor to y. Which layers of this
   package are analytic is stated case by case in ``uanref.experiments.check.cases``.

The upstream gradient is standard normal, never ones: a normalized output sums to a constant, so
ones would make every gradient of a normalization layer 0 and hide any mistake in it.

**Acceptance.** With a the analytic and n the numerical value,

.. math:: |a - n| <= 10^{-7} max(|a|, |n|, 10^{-2} ||dy|| ||y|| / sqrt(size)).

``size`` is the number of entries of the whole tensor that is perturbed (x, or one parameter), for
directions and for single entries alike; ``dy`` is the upstream gradient in use, which for row j of
the Jacobian is the j-th unit vector. The last term is one hundredth of the length that ``g`` would
have if x and y had unit scale. It is there because some gradients are exactly 0 (the input of a
normalization over two samples) and cannot be met in relative terms.

**Steps.** The differences take h = 1e-3 first and, where that disagrees, 1e-4 and 1e-5; the value
nearest to the analytic one is reported, with its step. This cannot excuse a wrong gradient: near
a smooth point all three agree with each other to much less than any mistake worth the name. The
steps are absolute: check a layer where its input has about unit scale, or pass ``steps``.

**Kinks.** Where the slopes to the left and to the right differ (ReLU at 0, a tie in max pooling) there is no
derivative to compare with. The slopes of each output bound what ``<dy, .>`` may claim,

.. math:: sum_j min(dy_j l_j, dy_j r_j) <= a <= sum_j max(dy_j l_j, dy_j r_j).

A value inside is reported with the status ``kink`` and both bounds, a value outside is a failure. The kinked
entries are found by bisection, at most 256 trials per direction, and the direction is then taken again
without them, at most twice, so that a mistake elsewhere still shows.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.exceptions import ComplexWarning

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer, Parameter

Status = Literal["ok", "FAIL", "kink"]

TOLERANCE = 1e-7
FLOOR = 1e-2
STEPS = (1e-3, 1e-4, 1e-5)
COMPLEX_STEP = 1e-30
JACOBIAN_ENTRIES = 1024  # "auto" takes the full Jacobian up to here
KINK_TRIALS = 256
RETAKES = 2


class ImaginaryPartLost(ArithmeticError):
    """A complex step met code that dropped the imaginary part (a real buffer, ``abs``, a cast to float)."""


# --- the three ways to differentiate --------------------------------------------------------------


def direction(shape: Sequence[int], seed: int | Sequence[int]) -> Array:
    """Return a direction of ``shape`` with entries uniform in [-1, 1], a host array; the same for the same seed."""
    drawn: Array = np.random.default_rng(seed).uniform(-1.0, 1.0, tuple(shape))
    return drawn


def central_difference(function: Callable[[Array], Any], x: Array, along: Array, step: float = STEPS[0]) -> Any:
    """Return d/dt function(x + t along) at t = 0 by the fourth-order central difference.

    .. math:: f'(0) = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / (12 h) + O(h^4)

    Args:
        function: takes an array of x's shape, returns a number or an array.
        x: the point, any shape.
        along: the direction, same shape.
        step: h > 0.
    """
    near = function(x + step * along) - function(x - step * along)
    far = function(x + 2 * step * along) - function(x - 2 * step * along)
    return (8 * near - far) / (12 * step)


def complex_step(function: Callable[[Array], Any], x: Array, along: Array, step: float = COMPLEX_STEP) -> Any:
    """Return d/dt function(x + t along) at t = 0 as ``Im function(x + i step along) / step``.

    Exact to rounding for analytic functions (Squire & Trapp 1998): nothing is subtracted, so the
    step may be far below rounding.

    Args:
        function: analytic; takes a complex128 array of x's shape, returns a number or an array.
        x: the real point, any shape.
        along: the real direction, same shape.
        step: h > 0.

    Raises:
        ImaginaryPartLost: the function discarded an imaginary part (NumPy's ComplexWarning) or returned a real number.
    """
    with _no_loss():
        value = function(x + (1j * step) * along)
    if getattr(value, "dtype", np.dtype(type(value))).kind != "c":
        raise ImaginaryPartLost("the complex step got a real result back: some buffer on the way is real")
    return value.imag / step


@contextlib.contextmanager
def _no_loss() -> Iterator[None]:
    """Turn NumPy's warning about a discarded imaginary part into :class:`ImaginaryPartLost`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ComplexWarning)
        try:
            yield
        except ComplexWarning as warning:
            raise ImaginaryPartLost(f"the complex step lost its imaginary part: {warning}") from warning
        except TypeError as error:
            # ufuncs with a real `out` refuse the cast instead of warning; real-only functions refuse the input.
            if "complex" not in str(error) or isinstance(error, backend.BackendMismatch):
                raise
            raise ImaginaryPartLost(f"the complex step met code for real numbers only: {error}") from error


# --- the report -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """One analytic value beside its numerical one: a direction, the worst entry of a Jacobian, or a kinked entry.

    Attributes:
        tensor: ``"x"`` or the parameter's dotted name.
        method: ``"direction"``, ``"gradient"`` (single entries), ``"jacobian"``, ``"complex step"`` or ``"kink"``.
        seed: seed of the direction, for :func:`direction`; None where an axis was taken.
        index: the entry (Jacobian: output indices, then the tensor's), None for a direction.
        analytic: value from the backward pass, ``<g, u>`` or one entry.
        numerical: value from differences or the complex step.
        error: ``|analytic - numerical|``.
        bound: what the error may be.
        step: h of the numerical value.
        status: ``"ok"``, ``"FAIL"`` or ``"kink"``.
        slopes: at a kink, the bounds that the one-sided slopes give.
        entries: how many numbers were compared (more than one for a Jacobian: the worst is shown).
        along: the first entries of the direction.
        note: what else there is to say.
    """

    tensor: str
    method: str
    analytic: float
    numerical: float
    error: float
    bound: float
    step: float
    status: Status
    seed: tuple[int, ...] | None = None
    index: tuple[int, ...] | None = None
    slopes: tuple[float, float] | None = None
    entries: int = 1
    along: tuple[float, ...] = ()
    note: str = ""

    @property
    def relative(self) -> float:
        """The error in units of the larger value or the floor: at most 1e-7 is accepted."""
        if self.error == 0:
            return 0.0
        return self.error / self.bound * TOLERANCE if self.bound > 0 else math.inf

    def __str__(self) -> str:
        if self.seed is not None:
            where = f"direction seed {list(self.seed)} u = ({', '.join(f'{v:+.3f}' for v in self.along)}, ...)"
        elif self.index is not None:
            where = f"entry {self.index}" + (f", worst of {self.entries}" if self.entries > 1 else "")
        else:
            where = f"{self.entries} entries"
        text = (
            f"{self.status:4} {self.tensor}, {self.method}, {where}: analytic {self.analytic:.12e}, "
            f"numerical {self.numerical:.12e} (h = {self.step:g}), error {self.error:.3e}, bound {self.bound:.3e}"
        )
        if self.slopes is not None:
            text += f", one-sided slopes give {self.slopes[0]:.6e} to {self.slopes[1]:.6e}"
        return text + (f"; {self.note}" if self.note else "")


@dataclass
class Report:
    """All comparisons of one check; ``print(report)`` shows what is needed to repeat it.

    Attributes:
        subject: the layer's class and mode.
        shape: shape of x.
        seed: seed of the upstream gradient and, with numbers appended, of every direction.
        rows: the comparisons, tensor by tensor.
        retakes: directions that were taken again without their kinked entries.
    """

    subject: str
    shape: tuple[int, ...]
    seed: int
    rows: list[Comparison] = field(default_factory=list)
    retakes: int = 0

    @property
    def ok(self) -> bool:
        """True if nothing failed; kinks are not failures, see :attr:`kinks`."""
        return not self.failures

    @property
    def failures(self) -> list[Comparison]:
        """The comparisons outside the bound."""
        return [row for row in self.rows if row.status == "FAIL"]

    @property
    def kinks(self) -> list[Comparison]:
        """The non-smooth entries: nothing could be compared there."""
        return [row for row in self.rows if row.status == "kink"]

    @property
    def worst(self) -> Comparison | None:
        """The comparison with the largest error in units of its bound, kinks left out; None if there is none."""
        compared = [row for row in self.rows if row.status != "kink"]
        return max(compared, key=lambda row: math.inf if math.isnan(row.relative) else row.relative, default=None)

    @property
    def tensors(self) -> list[str]:
        """Names of the checked tensors: ``"x"`` and the parameters."""
        return list(dict.fromkeys(row.tensor for row in self.rows))

    def __str__(self) -> str:
        verdict = "passed" if self.ok else f"FAILED in {len(self.failures)} of {len(self.rows)} comparisons"
        head = (
            f"gradient check of {self.subject} {verdict}: x {backend.shape_text(self.shape)}, seed {self.seed}, "
            f"{len(self.tensors)} tensors, {len(self.kinks)} kinks, {self.retakes} directions retaken"
        )
        order = {"FAIL": 0, "kink": 1, "ok": 2}
        rows = sorted(self.rows, key=lambda row: order[row.status])
        return "\n".join([head, *(f"  {row}" for row in rows)])


# --- what a user calls ----------------------------------------------------------------------------


def check(
    layer: Layer,
    x: Array,
    *,
    seed: int = 0,
    directions: int = 3,
    jacobian: bool | Literal["auto"] = "auto",
    complex_step: bool = False,
    steps: Sequence[float] = STEPS,
) -> Report:
    """Compare a layer's backward pass with numerical derivatives of its forward pass, in the mode it is in.

    Args:
        layer: in float64; left as it was found (parameters, gradients, buffers, generators, mode,
            pending passes). In train mode one forward pass first settles data-dependent starts; from then on the
            state is put back before every evaluation, so that EM, running averages and dropout are one function.
        x: the input, float64, any shape the layer takes; never changed.
        seed: of the upstream gradient and the directions.
        directions: random directions per tensor, >= 0.
        jacobian: whether to compare every entry; ``"auto"`` does so for tensors with
            ``size * y.size <= 1024``.
        complex_step: whether to take the complex step too, on a copy converted to complex128. The default is
            not to: only the caller knows that the layer's code is analytic.
        steps: the steps h of the differences, falling by about 10, tried in this order; two at least, to tell kinks.

    Returns:
        A :class:`Report`; ``report.ok`` tells, ``print(report)`` explains.

    Raises:
        TypeError: the layer or x is not in float64.
        RuntimeError: the forward pass gives different outputs from the same state.
        ImaginaryPartLost: the complex step was asked for and the code dropped the imaginary part.
    """
    _require_float64(layer, x)
    mode = "train" if layer.training else "eval"
    report = Report(f"{type(layer).__name__} ({mode} mode)", tuple(x.shape), seed)
    with _borrowed(layer):
        probe = _Probe(layer, x, seed, tuple(steps))
        for number, name in enumerate(probe.gradients):
            for k in range(directions):
                report.rows += probe.along_direction(name, (seed, number, k), report)
        _check_entries(probe, jacobian, report)
        if complex_step:
            _check_complex(probe, directions, report)
    return report


def assert_ok(layer: Layer, x: Array, **options: Any) -> None:
    """Run :func:`check` with the same arguments and raise AssertionError with the whole report if it fails."""
    report = check(layer, x, **options)
    if not report.ok:
        raise AssertionError(str(report))


def check_loss(loss: Any, prediction: Array, target: Any, **options: Any) -> Report:
    """Compare a loss's gradient with respect to its prediction with numerical derivatives.

    Args:
        loss: has ``forward(prediction, target)``, which returns a scalar, and ``backward()``, which returns its
            gradient with respect to the prediction.
        prediction: float64, any shape the loss takes.
        target: held fixed.
        options: as for :func:`check`.

    Returns:
        A :class:`Report` whose only tensor is ``"x"``, the prediction.
    """
    report = check(LossLayer(copy.deepcopy(loss), target), prediction, **options)
    report.subject = type(loss).__name__
    return report


class LossLayer(Layer):
    """A loss as a layer with one output: ``y = (loss,)``, ``dx = dy dloss/dprediction``. The target is a buffer.

    Args:
        loss: has ``forward(prediction, target)``, which returns a scalar, and ``backward()``.
        target: what ``forward`` takes as its second argument; moves with ``to``.
    """

    def __init__(self, loss: Any, target: Array) -> None:
        super().__init__()
        self.buffer_names = ("target",)
        self.loss, self.target = loss, target

    def forward(self, x: Array) -> Array:
        """Return the loss of prediction ``x``, shape (1,)."""
        self.loss.clear()  # passes that were never followed by a backward
        y: Array = self.loss.forward(x, self.target).reshape(1)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` (1,) times the loss's gradient, of the prediction's shape."""
        dx: Array = self.loss.backward() * dy
        return dx


# --- the layer as a function of its tensors ---------------------------------------------------------


class _Probe:
    """A layer at one point, with a fixed upstream gradient: evaluates it anywhere nearby, from the same state.

    Attributes:
        point: the tensors by name, ``"x"`` first.
        gradients: what the backward pass claims, by the same names.
        problems: what is wrong with a claimed gradient before any number is looked at.
    """

    def __init__(self, layer: Layer, x: Array, seed: int, steps: tuple[float, ...]) -> None:
        self.layer, self.seed, self.steps = layer, seed, steps
        self.xp = backend.namespace(x)
        if any(module.training for _, module in layer.modules()):
            layer.forward(x.copy())  # settles data-dependent starts
        self.state = _State(layer)
        self.point: dict[str, Array] = {"x": x.copy()}
        self.point |= {name: p.value.copy() for name, p in layer.parameters().items()}
        self.y = self.evaluate("x", x.copy()).copy()
        self.dy = self._draw_upstream(seed)
        self._require_function()
        self.gradients, self.problems = self.pull_back(self.dy)
        self.scale = self.norm(self.dy) * self.norm(self.y)
        self.kinked: dict[str, list[Array]] = {name: [] for name in self.point}

    def evaluate(self, name: str, value: Array) -> Array:
        """Return y with one tensor replaced by ``value`` and all others at the point."""
        self._place(name, value)
        return self.layer.forward(value if name == "x" else self.point["x"].copy())

    def pull_back(self, dy: Array) -> tuple[dict[str, Array], dict[str, str]]:
        """Return the claimed gradients of ``<dy, y>`` by tensor, and what is wrong with their form."""
        self.state.restore()
        self.layer.forward(self.point["x"].copy())
        parameters = self.layer.parameters()
        for parameter in parameters.values():
            parameter.grad = None
        found: dict[str, Array | None] = {"x": self.layer.backward(dy.copy())}
        found |= {name: parameter.grad for name, parameter in parameters.items()}
        gradients, problems = {}, {}
        for name, grad in found.items():
            value = self.point[name]
            if grad is None:
                problems[name] = "backward left no gradient"
            elif grad.shape != value.shape or grad.dtype != value.dtype:
                problems[name] = (
                    f"backward gave a gradient {grad.shape} of {grad.dtype} for a tensor {value.shape} of {value.dtype}"
                )
            gradients[name] = self.xp.full_like(value, math.nan) if name in problems or grad is None else grad.copy()
        return gradients, problems

    def along(self, name: str, along: Array) -> Callable[[float], Array]:
        """Return ``h -> (n, low, high)`` for the derivative of ``<dy, y>`` along a direction, a host array (3, 1)."""
        along = backend.to_device(along, backend.name_of(self.y))

        def measure(h: float) -> Array:
            central, left, right = self._slopes(lambda t: self.evaluate(name, self.point[name] + t * along), h)
            return backend.to_host(self._weighted(central, left, right)).reshape(3, 1)

        return measure

    def column(self, name: str, entry: int) -> Callable[[float], Array]:
        """Return ``h -> (n, low, high)`` of ``<dy, y>`` and of every y_j along one axis, host (3, 1 + y.size)."""

        def moved(t: float) -> Array:
            value = self.point[name].copy()
            value.reshape(-1)[entry] += t
            return self.evaluate(name, value)

        def measure(h: float) -> Array:
            central, left, right = self._slopes(moved, h)
            each = [central, self.xp.minimum(left, right), self.xp.maximum(left, right)]
            joined = [self._weighted(central, left, right).reshape(3, 1), self.xp.stack(each).reshape(3, -1)]
            return backend.to_host(self.xp.concatenate(joined, axis=1))

        return measure

    def _slopes(self, output: Callable[[float], Array], h: float) -> tuple[Array, Array, Array]:
        """Return the central difference (4th order) and the slopes left and right (2nd order), each of y's shape."""
        ahead, behind, far_ahead, far_behind = (output(t) - self.y for t in (h, -h, 2 * h, -2 * h))
        central = (8 * (ahead - behind) - (far_ahead - far_behind)) / (12 * h)
        return central, (far_behind - 4 * behind) / (2 * h), (4 * ahead - far_ahead) / (2 * h)

    def _weighted(self, central: Array, left: Array, right: Array) -> Array:
        """Return ``<dy, central>`` and the bounds that the one-sided slopes give, on the device, (3,)."""
        left, right = self.dy * left, self.dy * right
        low, high = self.xp.minimum(left, right), self.xp.maximum(left, right)
        weighted: Array = self.xp.stack([(self.dy * central).sum(), low.sum(), high.sum()])
        return weighted

    def claim(self, name: str, along: Array) -> Array:
        """Return ``<g, along>`` for tensor ``name``, a host array of shape (1,)."""
        along = backend.to_device(along, backend.name_of(self.y))
        return backend.to_host((self.gradients[name] * along).sum()).reshape(1)

    def floor(self, name: str) -> float:
        """Return the acceptance rule's third term for the random dy."""
        return FLOOR * self.scale / math.sqrt(self.point[name].size)

    def along_direction(self, name: str, seed: tuple[int, ...], report: Report) -> list[Comparison]:
        """Compare along the direction of ``seed``; where kinks disturb it, report them and go again without them."""
        shape = self.point[name].shape
        along = direction(shape, seed)
        for entries in self.kinked[name]:  # met by an earlier direction and reported there
            along.reshape(-1)[entries] = 0.0
        rows: list[Comparison] = []
        for attempt in range(RETAKES + 1):
            result = self._compare(name, along)
            kinked = [] if result.status[0] == "ok" else self._kinked_entries(name, along)
            if not kinked or attempt == RETAKES:
                rows.append(self._row(name, "direction", result, seed=seed, along=along))
                break
            rows += [self._kink_row(name, along, entries) for entries in kinked]
            self.kinked[name] += kinked
            for entries in kinked:
                along.reshape(-1)[entries] = 0.0
            report.retakes += 1
            if not along.any():  # every entry sits on a kink: nothing is left to compare
                break
        return rows

    # --- helpers ----------------------------------------------------------------------------------

    def _compare(self, name: str, along: Array) -> _Result:
        noise = 100 * backend.machine_eps("float64") * self.scale
        return _compare(self.along(name, along), self.claim(name, along), self.floor(name), noise, self.steps)

    def _kinked_entries(self, name: str, along: Array) -> list[Array]:
        """Return the smallest groups of entries (nearly always single ones) along which the slope jumps."""
        if not self._jumps(name, along):
            return []
        found: list[Array] = []
        groups, trials = [np.flatnonzero(along)], 0  # each group is known to hold a kink
        while groups and trials < KINK_TRIALS:
            group = groups.pop()
            halves = [half for half in np.array_split(group, 2) if 0 < half.size < group.size]
            trials += len(halves)
            kinked = [half for half in halves if self._jumps(name, _only(along, half))]
            if kinked:
                groups += kinked
            else:
                found.append(group)
        return found + groups

    def _jumps(self, name: str, along: Array) -> bool:
        return bool(self._compare(name, along).kinked[0])

    def _kink_row(self, name: str, along: Array, entries: Array) -> Comparison:
        result = self._compare(name, _only(along, entries))
        if entries.size > 1:
            return self._row(name, "kink", result, entries=entries.size, note="several entries meet at kinks")
        index = tuple(int(i) for i in np.unravel_index(int(entries[0]), along.shape))
        return self._row(name, "kink", result, index=index)

    def _row(self, name: str, method: str, result: _Result, **more: Any) -> Comparison:
        if "along" in more:
            more["along"] = _first(more["along"])
        more.setdefault("note", self.problems.get(name, ""))
        return result.row(0, name, method, **more)

    def _place(self, name: str, value: Array) -> None:
        self.state.restore()
        if name != "x":
            self.layer.parameters()[name].value = value

    def _draw_upstream(self, seed: int) -> Array:
        drawn: Array = np.random.default_rng(seed).standard_normal(size=tuple(self.y.shape))
        return backend.to_device(drawn, backend.name_of(self.y))

    def norm(self, array: Array) -> float:
        """Return the Euclidean norm of all entries."""
        return math.sqrt(float(backend.to_host((array * array).sum())))

    def _require_function(self) -> None:
        again = self.evaluate("x", self.point["x"].copy())
        gap = self.norm(again - self.y)
        if gap > 1e-12 * self.norm(self.y):
            raise RuntimeError(
                f"{type(self.layer).__name__} gives different outputs from the same state (they differ by {gap:.3g}): "
                "list what its forward changes in buffer_names, and its generator in rng"
            )


# --- the layer's state ------------------------------------------------------------------------------


class _State:
    """Copies of all that a forward pass may change, put back by :meth:`restore`."""

    def __init__(self, layer: Layer) -> None:
        self._modules = [module for _, module in layer.modules()]
        self._values = [(p, p.value.copy()) for p in _parameters(layer)]
        self._buffers = [
            (module, name, _copied(getattr(module, name))) for module in self._modules for name in module.buffer_names
        ]
        self._generators = [(g, copy.deepcopy(g.bit_generator.state)) for g in layer.generators().values()]

    def restore(self) -> None:
        """Put everything back and forget pending passes. Copies go in, so that in-place updates cannot reach ours."""
        for parameter, value in self._values:
            parameter.value = value.copy()
        for module, name, value in self._buffers:
            setattr(module, name, _copied(value))
        for generator, state in self._generators:
            generator.bit_generator.state = copy.deepcopy(state)
        for module in self._modules:
            module._pending = []


@contextlib.contextmanager
def _borrowed(layer: Layer) -> Iterator[None]:
    """Work on copies of a layer's arrays inside this block; afterwards it is as it was, down to the same objects."""
    modules = [module for _, module in layer.modules()]
    parameters = [(p, p.value, p.grad) for p in _parameters(layer)]
    buffers = [(module, name, getattr(module, name)) for module in modules for name in module.buffer_names]
    generators = [(g, copy.deepcopy(g.bit_generator.state)) for g in layer.generators().values()]
    pending = [(module, module._pending) for module in modules]
    _State(layer).restore()  # from here on the layer holds copies
    try:
        yield
    finally:
        for parameter, value, grad in parameters:
            parameter.value, parameter.grad = value, grad
        for module, name, value in buffers:
            setattr(module, name, value)
        for generator, state in generators:
            generator.bit_generator.state = state
        for module, passes in pending:
            module._pending = passes


def _copied(buffer: Any) -> Any:
    return buffer if isinstance(buffer, bool) else buffer.copy()


def _parameters(layer: Layer) -> list[Parameter]:
    return [parameter for _, parameter in layer._all_parameters()]


def _require_float64(layer: Layer, x: Array) -> None:
    backend.name_of(x)
    if x.dtype != np.float64:
        raise TypeError(f"a gradient check needs float64, got x of {x.dtype}: use x.astype('float64')")
    for path, module in layer.modules():
        if module.dtype is not None and module.dtype != np.float64:
            raise TypeError(
                f"a gradient check needs float64, but {path or type(layer).__name__} holds {module.dtype}: "
                "use layer.to('float64')"
            )


# --- comparing ----------------------------------------------------------------------------------------


@dataclass
class _Result:
    """Comparisons of a vector of values along one line; all arrays have its length."""

    analytic: Array
    numerical: Array
    error: Array
    bound: Array
    step: Array
    low: Array  # what the one-sided slopes bound
    high: Array
    kinked: Array  # the slope jumps here
    status: list[Status]

    def row(self, i: int, name: str, method: str, **more: Any) -> Comparison:
        """Return entry ``i`` as a row of the report."""
        if self.kinked[i]:
            more["slopes"] = (float(self.low[i]), float(self.high[i]))
            if self.status[i] == "FAIL":
                more["note"] = more.get("note") or "outside the slopes of a kink; if several kinks meet here, move x"
        return Comparison(
            name,
            method,
            analytic=float(self.analytic[i]),
            numerical=float(self.numerical[i]),
            error=float(self.error[i]),
            bound=float(self.bound[i]),
            step=float(self.step[i]),
            status=self.status[i],
            **more,
        )


def _compare(
    measure: Callable[[float], Array],
    analytic: Array,
    floor: float | Array,
    noise: float | Array,
    steps: tuple[float, ...],
) -> _Result:
    """Compare ``analytic`` (n,) with ``measure(h)`` (3, n), the numerical values and their bounds, for each step h."""
    numerical, step = np.full(analytic.shape, math.nan), np.full(analytic.shape, steps[0])
    error, bound = np.full(analytic.shape, math.inf), np.zeros(analytic.shape)
    low = high = margin = numerical
    jumps: list[Array] = []
    for h in steps:
        central, low, high = measure(h)
        jumps.append(high - low)
        # 1. Keep the value nearest to the analytic one.
        nearer = abs(analytic - central) < error
        numerical, step = np.where(nearer, central, numerical), np.where(nearer, h, step)
        error = np.where(nearer, abs(analytic - central), error)
        bound = TOLERANCE * np.maximum(np.maximum(abs(analytic), abs(numerical)), floor)
        margin = 10 * bound + noise / h
        if (error <= bound).all():
            break
    error = np.where(np.isnan(analytic), math.nan, error)
    accepted = error <= bound
    # 2. A kink: the one-sided slopes differ by more than rounding, and the jump does not vanish with h as it does
    #    where the function is smooth (there it falls with h^2, by 100 for a decade).
    lasting = jumps[-1] > 0.03 * jumps[-2] if len(jumps) > 1 else np.full(analytic.shape, False)
    kinked = ~accepted & (jumps[-1] > 10 * margin) & lasting
    inside = (analytic >= low - margin) & (analytic <= high + margin)
    status: list[Status] = [
        "ok" if good else "kink" if kink and within else "FAIL"
        for good, kink, within in zip(accepted, kinked, inside, strict=True)
    ]
    return _Result(analytic, numerical, error, bound, step, low, high, kinked, status)


def _only(along: Array, entries: Array) -> Array:
    """Return ``along`` with all but the flat ``entries`` set to 0."""
    kept = np.zeros_like(along)
    kept.reshape(-1)[entries] = along.reshape(-1)[entries]
    return kept


def _check_entries(probe: _Probe, jacobian: bool | Literal["auto"], report: Report) -> None:
    """Compare every entry of the gradients and of the Jacobians of tensors that are small enough."""
    outputs = int(probe.y.size)
    names = [
        name
        for name, value in probe.point.items()
        if jacobian is True or (jacobian == "auto" and value.size * outputs <= JACOBIAN_ENTRIES)
    ]
    if not names:
        return
    # 1. One backward pass per output gives one row of every analytic Jacobian.
    rows: dict[str, list[Array]] = {name: [] for name in names}
    for j in range(outputs):
        unit = probe.xp.zeros_like(probe.y)
        unit.reshape(-1)[j] = 1.0
        gradients, _ = probe.pull_back(unit)
        for name in names:
            rows[name].append(backend.to_host(gradients[name]).reshape(-1))
    # 2. One axis at a time gives one column of the numerical one, and the entry of the gradient for the random dy.
    norm_y = probe.norm(probe.y)
    for name in names:
        size = int(probe.point[name].size)
        analytic = np.vstack([backend.to_host(probe.gradients[name]).reshape(1, -1), np.stack(rows[name])])
        scale = np.array([probe.scale] + [norm_y] * outputs)
        floor, noise = FLOOR * scale / math.sqrt(size), 100 * backend.machine_eps("float64") * scale
        results = [
            _compare(probe.column(name, i), analytic[:, i], floor, noise, probe.steps)  # (1 + y.size,)
            for i in range(size)
        ]
        shapes = tuple(probe.point[name].shape), tuple(probe.y.shape)
        report.rows.append(_worst_entry(name, "gradient", results, [0], shapes, probe.problems))
        report.rows.append(_worst_entry(name, "jacobian", results, range(1, outputs + 1), shapes, probe.problems))


def _worst_entry(
    name: str,
    method: str,
    results: list[_Result],
    outputs: Sequence[int],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    problems: dict[str, str],
) -> Comparison:
    """Return the worst of the compared entries: a failure before a kink before an accepted one."""
    rank = {"ok": 0, "kink": 1, "FAIL": 2}

    def badness(place: tuple[int, int]) -> tuple[int, float]:
        result, j = results[place[0]], place[1]
        ratio = float(result.error[j] / result.bound[j]) if result.bound[j] > 0 else 0.0
        return rank[result.status[j]], math.inf if math.isnan(ratio) else ratio

    places = [(i, j) for i in range(len(results)) for j in outputs]
    i, j = max(places, key=badness)
    index = tuple(int(n) for n in np.unravel_index(i, shapes[0]))
    if method == "jacobian":
        index = tuple(int(n) for n in np.unravel_index(j - 1, shapes[1])) + index
    kinks = sum(results[i].status[j] == "kink" for i, j in places)
    note = problems.get(name, "") or (f"{kinks} of {len(places)} entries at kinks" if kinks else "")
    return results[i].row(j, name, method, index=index, entries=len(places), note=note)


def _check_complex(probe: _Probe, directions: int, report: Report) -> None:
    """Take the complex step on a complex128 copy of the layer, along the same directions."""
    probe.state.restore()
    twin = copy.deepcopy(probe.layer).to("complex128")
    state = _State(twin)
    for number, name in enumerate(probe.gradients):
        for k in range(directions):
            seed = (report.seed, number, k)
            along = direction(probe.point[name].shape, seed)

            def function(value: Array, name: str = name) -> Array:
                state.restore()
                if name != "x":
                    twin.parameters()[name].value = value
                y = twin.forward(value if name == "x" else probe.point["x"].astype("complex128"))
                total: Array = (probe.dy * y).sum()
                return total

            moved = backend.to_device(along, backend.name_of(probe.y))
            derivative = complex_step(function, probe.point[name], moved)
            numerical = backend.to_host(derivative).reshape(1)
            analytic = probe.claim(name, along)
            bound = TOLERANCE * np.maximum(np.maximum(abs(analytic), abs(numerical)), probe.floor(name))
            if float(numerical[0]) == 0.0 and abs(analytic[0]) > bound[0]:
                raise ImaginaryPartLost(
                    f"the complex step of {report.subject} along {name} came back exactly real although backward "
                    f"claims {analytic[0]:.6g}: some buffer on the way is real"
                )
            error = abs(analytic - numerical)
            report.rows.append(
                Comparison(
                    name,
                    "complex step",
                    analytic=float(analytic[0]),
                    numerical=float(numerical[0]),
                    error=float(error[0]),
                    bound=float(bound[0]),
                    step=COMPLEX_STEP,
                    status="ok" if error[0] <= bound[0] else "FAIL",
                    seed=seed,
                    along=_first(along),
                    note=probe.problems.get(name, ""),
                )
            )


def _first(along: Array) -> tuple[float, ...]:
    """Return the first four entries of a direction, for the report."""
    return tuple(float(v) for v in along.reshape(-1)[:4])
