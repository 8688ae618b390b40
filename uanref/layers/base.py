"""What every layer shares: parameters, pending forward passes, modes, state; and ``Sequential``.

The contract, in four lines::

    y  = layer.forward(x)      # keeps what backward needs, on a stack
    dx = layer.backward(dy)    # dL/dx; fills parameter.grad = dL/dparameter; frees what it used
    layer.parameters()         # {"weight": Parameter, ...}, dotted names below a Sequential
    layer.train(), layer.eval()

``L`` is any scalar loss, ``dy`` its gradient with respect to ``y``; ``d``-names are gradients. Backward reads
x, y and the parameters' values as they were in forward: assign new arrays, do not write into those.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from typing import Any, Self

from uanref import backend
from uanref.backend import Array, DType, DTypeLike, Generator


class Parameter:
    """A trained array and its gradient.

    Attributes:
        value: the array; may be assigned, layers read it at each call.
        grad: dL/dvalue, same shape, filled by ``backward``; None before the first one.
        trainable: False for state that moves by another rule than the gradient (UAN's
            ``update="em"``): such a parameter is a buffer, absent from ``parameters()``.
    """

    def __init__(self, value: Array, *, trainable: bool = True) -> None:
        self.value = value
        self.grad: Array | None = None
        self.trainable = trainable

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        shape: tuple[int, ...] = self.value.shape
        return shape

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(self.value.size)

    def receive(self, grad: Array) -> None:
        """Take the gradient of one backward pass: assigned, or added inside ``backend.accumulating()``.

        Raises:
            ValueError: the gradient's shape is not the value's.
        """
        if grad.shape != self.value.shape:
            raise ValueError(f"a gradient of shape {grad.shape} for a parameter of shape {self.value.shape}")
        self.grad = self.grad + grad if backend.is_accumulating() and self.grad is not None else grad

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.value.dtype})"


class Layer:
    """Base of all layers. A subclass writes ``forward`` and ``backward`` and calls four helpers here.

    ``_check_input`` refuses a wrong dtype or an empty array, ``_keep`` pushes what backward
    needs, ``_take`` pops it, ``_new`` makes a parameter. Attributes that are Parameters or
    Layers are found by name; attributes listed in ``buffer_names`` are saved as state.

    Attributes:
        training: True in train mode, where a layer starts.
        dtype: dtype of the parameters, None for a layer without any.
    """

    buffer_names: tuple[str, ...] = ()

    def __init__(self, dtype: DTypeLike | None = None) -> None:
        self.training = True
        self.dtype: DType | None = None if dtype is None else backend.dtype_of(dtype)
        self.rng: Generator | None = None  # set by a layer whose forward draws (Dropout)
        self._pending: list[tuple[Any, tuple[int, ...], DType, str]] = []

    # --- what a subclass writes -----------------------------------------------------------------

    def forward(self, x: Array) -> Array:
        """Compute the output for ``x`` and keep what :meth:`backward` needs."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for dL/dy of the latest pending forward and fill the parameters' ``grad``."""
        raise NotImplementedError(f"{type(self).__name__} does not define backward")

    def __call__(self, x: Array) -> Array:
        """Same as :meth:`forward`."""
        return self.forward(x)

    # --- helpers for subclasses -----------------------------------------------------------------

    def _new(self, value: Any, *, trainable: bool = True) -> Parameter:
        """Make a parameter of the layer's dtype on the default backend from a host array."""
        namespace = backend.module(backend.current())
        return Parameter(namespace.asarray(value, dtype=self.dtype), trainable=trainable)

    def _check_input(self, x: Array) -> None:
        """Refuse what no layer can take: another dtype than the parameters', integers, nothing at all."""
        name = type(self).__name__
        backend.name_of(x)
        if self.dtype is not None and x.dtype != self.dtype:
            raise TypeError(
                f"{name} holds {self.dtype} parameters but got an input of {x.dtype}: "
                f"convert the input with x.astype('{self.dtype}') or the layer with layer.to('{x.dtype}')"
            )
        if not backend.is_float(x):
            raise TypeError(f"{name} computes in floating point but got {x.dtype}: use x.astype('float32')")
        if x.size == 0:
            raise ValueError(f"{name} got an empty batch of shape {backend.shape_text(x.shape)}: give >= 1 sample")

    def _check_channels(self, x: Array, channels: int) -> None:
        """Check a norm's input ``(N, C, ...)``: rank >= 2 and C = ``channels``, besides :meth:`_check_input`."""
        self._check_input(x)
        if x.ndim < 2 or x.shape[1] != channels:
            raise ValueError(
                f"{type(self).__name__} expects (N, {channels}, ...), got {backend.shape_text(x.shape)}: "
                "channels are on axis 1"
            )

    def _check_samples(self, samples: int) -> None:
        """Refuse one sample per channel where statistics of the batch are needed."""
        if samples < 2:
            raise ValueError(
                f"{type(self).__name__} in train mode needs >= 2 samples per channel, got 1: "
                "use a larger batch or call eval()"
            )

    def _keep(self, y: Array, *cache: Any) -> None:
        """Push what backward needs (nothing inside ``backend.inference()``)."""
        if not backend.is_inference():
            self._pending.append((cache, y.shape, y.dtype, backend.name_of(y)))

    def _take(self, dy: Array) -> Any:
        """Pop what the latest pending forward kept, after checking that ``dy`` belongs to it."""
        name = type(self).__name__
        if not self._pending:
            raise RuntimeError(f"{name}.backward without a pending forward: call forward(x) first, once per backward")
        cache, shape, dtype, where = self._pending[-1]
        if backend.name_of(dy) != where:
            raise backend.BackendMismatch(
                f"{name}.backward got a gradient on {backend.name_of(dy)} for an output on {where}: "
                "move it with backend.to_device or backend.to_host"
            )
        if dy.dtype != dtype:
            raise TypeError(
                f"{name}.backward got a gradient of {dy.dtype} for an output of {dtype}: use dy.astype('{dtype}')"
            )
        if dy.shape != shape:
            raise ValueError(
                f"{name}.backward got a gradient of shape {backend.shape_text(dy.shape)} for an output of shape "
                f"{backend.shape_text(shape)}: they must be equal"
            )
        self._pending.pop()
        return cache

    # --- the tree of layers ---------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers directly inside this one, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value

    def modules(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all below it, with dotted names (this one's is ``prefix``)."""
        yield prefix, self
        for name, child in self.children():
            yield from child.modules(f"{prefix}.{name}" if prefix else name)

    def parameters(self) -> dict[str, Parameter]:
        """Return the trained parameters by dotted name."""
        return {name: p for name, p in self._all_parameters() if p.trainable}

    def buffers(self) -> dict[str, Any]:
        """Return the state that no gradient trains (running moments, EM's mixture) by dotted name."""
        found: dict[str, Any] = {name: p.value for name, p in self._all_parameters() if not p.trainable}
        for path, layer in self.modules():
            for name in layer.buffer_names:
                found[f"{path}.{name}" if path else name] = getattr(layer, name)
        return found

    def generators(self) -> dict[str, Generator]:
        """Return the random generators that forward passes draw from (Dropout), by dotted name."""
        return {path: layer.rng for path, layer in self.modules() if layer.rng is not None}

    def _all_parameters(self) -> Iterator[tuple[str, Parameter]]:
        for path, layer in self.modules():
            for name, value in vars(layer).items():
                if isinstance(value, Parameter):
                    yield (f"{path}.{name}" if path else name), value

    # --- modes, movement, state -----------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch this layer and all below it to train mode (or to eval mode with ``mode=False``)."""
        for _, layer in self.modules():
            layer.training = mode
        return self

    def eval(self) -> Self:
        """Switch this layer and all below it to eval mode.

        Eval mode has a backward pass too, so forward still keeps what it needs: run evaluation loops inside
        ``backend.inference()``.
        """
        return self.train(False)

    def clear(self) -> None:
        """Forget every pending forward pass, here and below (after an interrupted step)."""
        for _, layer in self.modules():
            layer._pending.clear()

    def to(self, target: DTypeLike) -> Self:
        """Move to backend ``"numpy"`` or ``"cupy"``, or convert to a dtype. Gradients move along.

        Raises:
            TypeError: neither a backend nor a floating dtype.
            BackendUnavailable: that backend cannot run here.
        """
        if isinstance(target, str) and target in backend.BACKENDS:
            destination = target

            def move(array: Array) -> Array:
                return backend.to_device(array, destination)
        else:
            dtype = backend.dtype_of(target)

            def move(array: Array) -> Array:
                return array.astype(dtype, copy=False) if backend.is_float(array) else array

            for _, layer in self.modules():
                layer.dtype = None if layer.dtype is None else dtype
        for _, parameter in self._all_parameters():
            parameter.value = move(parameter.value)
            parameter.grad = None if parameter.grad is None else move(parameter.grad)
        for _, layer in self.modules():
            for name in layer.buffer_names:
                value = getattr(layer, name)
                setattr(layer, name, value if isinstance(value, bool) else move(value))
        self.clear()
        return self

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers as host arrays, by dotted name."""
        state: dict[str, Any] = {name: p.value for name, p in self.parameters().items()} | self.buffers()
        host = backend.module("numpy")
        return {
            name: host.asarray(value) if isinstance(value, bool) else backend.to_host(value).copy()
            for name, value in state.items()
        }

    def load_state_dict(self, state: Mapping[str, Array], strict: bool = True) -> None:
        """Set parameters and buffers from :meth:`state_dict`'s format; nothing changes if anything is wrong.

        Args:
            state: arrays by dotted name; floats are converted to the layer's dtype and backend.
            strict: refuse missing and unexpected names; otherwise load what fits by name.

        Raises:
            KeyError: a name is missing or unexpected (strict only).
            ValueError: an array has another shape than the one that it replaces.
            TypeError: an entry is no array of numbers.
        """
        own: dict[str, Any] = {name: p.value for name, p in self._all_parameters()} | self.buffers()
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if strict and (missing or unexpected):
            raise KeyError(
                f"state does not fit this model: missing {missing or 'none'}, unexpected {unexpected or 'none'}"
            )
        for name in sorted(own.keys() & state.keys()):
            backend.name_of(state[name])
            kind = state[name].dtype.kind
            if kind not in "fbiuc" or (kind == "c" and (isinstance(own[name], bool) or own[name].dtype.kind != "c")):
                raise TypeError(f"{name} in the state holds {state[name].dtype}, expected numbers")
            expected = () if isinstance(own[name], bool) else own[name].shape
            if state[name].shape != expected:
                raise ValueError(f"{name} has shape {state[name].shape} in the state, expected {expected}")

        loaded: dict[str, Any] = {}
        for name in sorted(own.keys() & state.keys()):
            loaded[name] = bool(state[name]) if isinstance(own[name], bool) else _like(state[name], own[name])
        parameters, layers = dict(self._all_parameters()), dict(self.modules())
        for name, value in loaded.items():
            if name in parameters:
                parameters[name].value = value
            else:
                path, _, attribute = name.rpartition(".")
                setattr(layers[path], attribute, value)


class Sequential(Layer):
    """Layers one after the other: ``y = f_n(... f_2(f_1(x)))``.

    Backward is the chain rule read from the end: dL/dx = f_1'(f_2'(... f_n'(dL/dy))), where
    each ``backward`` multiplies by its layer's Jacobian, transposed. Children are named by
    position: ``"0.weight"``.

    Raises:
        TypeError: an argument is no Layer.
        ValueError: a layer with parameters occurs twice.
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential takes layers, got {type(layer).__name__}: pass Sequential(a, b, ...)")
        refuse_shared("Sequential", *layers)
        self.layers = list(layers)

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers with their positions as names."""
        for i, layer in enumerate(self.layers):
            yield str(i), layer

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def forward(self, x: Array) -> Array:
        """Apply the layers in order; shapes are theirs."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: Array) -> Array:
        """Apply the layers' backward passes in reverse order."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


def refuse_shared(name: str, *layers: Layer) -> None:
    """Raise ValueError if a layer with parameters stands in two places of ``layers``.

    Gradients are assigned, so the second backward pass would silently overwrite the first one's. Pass the layer
    once and call it twice inside ``backend.accumulating()`` to share weights.
    """
    seen: set[int] = set()
    for layer in layers:
        for _, inner in layer.modules():
            owns = any(isinstance(value, Parameter) for value in vars(inner).values())
            if owns and id(inner) in seen:
                raise ValueError(
                    f"{name} got the same {type(inner).__name__} in two places: its second backward pass would "
                    "overwrite the first one's gradient; make two layers"
                )
            seen.add(id(inner))


def he_normal(rng: Generator, shape: tuple[int, ...], fan_in: int) -> Array:
    """Draw weights from N(0, 2 / fan_in), which keeps the variance through ReLU (He et al. 2015, eq. 10).

    Returns a float64 host array of ``shape``; the layer converts it.
    """
    drawn: Array = rng.standard_normal(shape) * math.sqrt(2.0 / fan_in)
    return drawn


def glorot_uniform(rng: Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Array:
    """Draw weights from U(-b, b), b = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).

    Returns a float64 host array of ``shape``; the layer converts it.
    """
    bound = math.sqrt(6.0 / (fan_in + fan_out))
    drawn: Array = rng.uniform(-bound, bound, shape)
    return drawn


def count(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` as an int >= ``least``, or raise naming the argument.

    Raises:
        TypeError: not an integer.
        ValueError: too small.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {number}")
    return number


def pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Return ``value`` as (down, across): a pair of integers >= ``least``, or one integer for both.

    Raises:
        TypeError: not an integer or a pair of integers.
        ValueError: too small.
    """
    if not isinstance(value, tuple | list):
        return count(name, value, least), count(name, value, least)
    if len(value) != 2:
        raise TypeError(f"{name} must be an integer or a pair of integers, got {value!r}")
    return count(name, value[0], least), count(name, value[1], least)


def number(name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """Return ``value`` as a finite float in [low, high] (or (low, high] with ``open_low``), or raise.

    Raises:
        TypeError: not a number.
        ValueError: NaN, infinite or out of range.
    """
    try:
        if isinstance(value, str | bool):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(found) or found < low or found > high or (open_low and found == low):
        span = f"{'> ' if open_low else '>= '}{low:g}" + (f" and <= {high:g}" if math.isfinite(high) else "")
        raise ValueError(f"{name} must be finite and {span}, got {found}")
    return found


def choice(name: str, value: str, options: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``options``, or raise ValueError naming them."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def _like(new: Array, old: Array) -> Array:
    """Copy ``new`` to the backend and (for floats) the dtype of ``old``."""
    moved = backend.to_device(new, backend.name_of(old))
    copied: Array = moved.astype(old.dtype, copy=True)
    return copied
