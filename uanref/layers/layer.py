"""What every layer shares: parameters, pending forward passes, modes, state.

The contract, in four lines::

    y  = layer.forward(x)      # keeps what backward needs, on a stack
    dx = layer.backward(dy)    # dL/dx; fills parameter.grad = dL/dparameter; frees what it used
    layer.parameters()         # {"weight": Parameter, ...}, dotted names below a Sequential
    layer.train(), layer.eval()

``L`` is any scalar loss, ``dy`` its gradient with respect to ``y``; ``d``-names are gradients. Backward reads
x, y and the parameters' values as they were in forward: assign new arrays, do not write into those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

from uanref import backend
from uanref.backend import Array, DType, DTypeLike, Generator
from uanref.layers import passes, summary
from uanref.layers import state as state_of
from uanref.layers.parameter import Parameter, tied
from uanref.layers.tree import held


class Layer:
    """Base of all layers. A subclass writes ``forward`` and ``backward`` and calls four helpers here.

    ``_check_input`` refuses a wrong dtype or an empty array, ``_keep`` pushes what backward
    needs, ``_take`` pops it, ``_new`` makes a parameter. Attributes that are Parameters or
    Layers, or lists, tuples or dicts of them, are found by name (``blocks.0.weight``); attributes listed in
    ``buffer_names`` are saved as state; of those, the ones in ``not_negative`` (variances, weights of a mixture) are
    not loaded with a number below 0. ``print(layer)`` shows what is in it.

    A layer serves one thread at a time: from a forward pass in train mode to its backward pass it is that thread's, and
    another thread's training pass raises RuntimeError. A pending pass is its thread's: a backward pass takes its own
    thread's latest, also where another thread has passes pending from eval mode. Any number of threads may predict,
    each inside ``backend.inference()``.

    Attributes:
        training: True in train mode, where a layer starts.
        dtype: dtype of the parameters, None for a layer without any.
    """

    buffer_names: tuple[str, ...] = ()
    not_negative: tuple[str, ...] = ()

    def __init__(self, dtype: DTypeLike | None = None) -> None:
        self.training = True
        self.dtype: DType | None = None if dtype is None else backend.dtype_of(dtype)
        self.rng: Generator | None = None  # set by a layer whose forward draws (Dropout)
        self._pending: list[Any] = []  # of passes.Pending

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        passes.surround(cls, "forward", "backward")

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
        """Refuse what no layer can take: subclasses of arrays, dtypes that it does not compute in, nothing at all."""
        name = type(self).__name__
        backend.name_of(x)
        if self.dtype is not None and x.dtype != self.dtype:
            other = f" or the layer with layer.to('{x.dtype}')" if backend.is_float(x) else ""
            raise TypeError(
                f"{name} holds {self.dtype} parameters but got an input of {x.dtype}: "
                f"convert the input with x.astype('{self.dtype}'){other}"
            )
        backend.check_float(f"{name} computes in floating point but", x)
        if x.size == 0:
            raise ValueError(f"{name} got an empty batch of shape {backend.shape_text(x.shape)}: give >= 1 sample")
        kind = type(x)
        for value in vars(self).values():  # before any state moves
            if isinstance(value, Parameter) and type(value.value) is not kind:
                backend.namespace(x, value.value)
        for buffer in self.buffer_names:
            state = getattr(self, buffer)
            if type(state) is not kind and hasattr(state, "dtype"):
                backend.namespace(x, state)

    def _check_channels(self, x: Array, channels: int, *beside: Array | None) -> None:
        """Check a norm's input ``(N, C, ...)``: rank >= 2 and C = ``channels``, besides :meth:`_check_input`.

        Arrays given ``beside`` x must lie on its backend.
        """
        self._check_input(x)
        backend.namespace(x, *beside)
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
            if self.training:
                passes.refuse_others(type(self).__name__, self._pending, "forward")
            passes.pend(self._pending, cache, y.shape, y.dtype, backend.name_of(y))
            passes.count_pending(type(self).__name__, len(self._pending))

    def _take(self, dy: Array) -> Any:
        """Pop what this thread's latest pending forward kept, after checking that ``dy`` belongs to it."""
        name = type(self).__name__
        if not self._pending:
            raise RuntimeError(f"{name}.backward without a pending forward: call forward(x) first, once per backward")
        waiting = passes.latest(name, self._pending)
        cache, shape, dtype, where, *_ = waiting
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
        passes.remove(self._pending, waiting)
        return cache

    # --- the tree of layers ---------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers directly inside this one, with their names; those in lists, tuples and dicts too."""
        return held(self, Layer)

    def modules(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield this layer and all below it, with dotted names (this one's is ``prefix``)."""
        yield prefix, self
        for name, child in self.children():
            yield from child.modules(f"{prefix}.{name}" if prefix else name)

    def parameters(self) -> dict[str, Parameter]:
        """Return the trained parameters by dotted name.

        Raises:
            ValueError: one Parameter has two names, as :class:`Sequential` refuses it (here: tied after construction,
                or by a layer of your own).
        """
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
        names: dict[int, str] = {}
        for path, layer in self.modules():
            for attribute, value in held(layer, Parameter):
                name = f"{path}.{attribute}" if path else attribute
                if id(value) in names:
                    raise ValueError(tied(type(self).__name__, names[id(value)], name))
                names[id(value)] = name
                yield name, value

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
            ValueError: a number would become infinite in that dtype; nothing was converted.
            BackendUnavailable: that backend cannot run here.
        """
        state_of.move(self, target)
        return self

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers as host arrays, by dotted name."""
        found: dict[str, Any] = {name: p.value for name, p in self.parameters().items()} | self.buffers()
        host = backend.module("numpy")
        return {
            name: host.asarray(value) if isinstance(value, bool) else backend.to_host(value).copy()
            for name, value in found.items()
        }

    def load_state_dict(self, state: Mapping[str, Array], strict: bool = True) -> None:
        """Set parameters and buffers from :meth:`state_dict`'s format; nothing changes if anything is wrong.

        Args:
            state: arrays by dotted name; floats are converted to the layer's dtype and backend.
            strict: refuse missing and unexpected names; otherwise load what fits by name.

        Raises:
            KeyError: a name is missing or unexpected (strict only).
            ValueError: an array has another shape than the one that it replaces, or holds NaN, infinity, a number
                that the layer's dtype cannot hold, or one below 0 where a variance is.
            TypeError: an entry is no array of numbers.
        """
        state_of.load(self, state, strict)

    # --- to look at -----------------------------------------------------------------------------

    def watch(self) -> AbstractContextManager[passes.Watch]:
        """Record outputs and their gradients, here and below, in the passes inside a ``with`` block.

        ::

            with model.watch() as seen:
                loss.forward(model.forward(x), labels)
                model.backward(loss.backward())
            seen.activations["0"], seen.gradients["0"]  # of Sequential's first layer: y and dL/dy

        No layer is changed, and what is recorded outlasts the block, see :class:`~uanref.layers.passes.Watch`. Seen are
        the passes of the thread, and the layers, that are there when the block begins.
        """
        return passes.watch(self)

    def __repr__(self) -> str:
        return summary.one_line(self)

    def __str__(self) -> str:
        return summary.tree(self)
