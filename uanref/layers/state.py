"""A layer's state as it moves: to another backend or dtype, and in from a file; converted, or refused with the reason.

Reading values makes a device wait. That is right here: states are loaded and layers converted between steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from uanref import backend
from uanref.backend import Array, DType, DTypeLike, shape_text

if TYPE_CHECKING:
    from uanref.layers.layer import Layer
    from uanref.layers.parameter import Parameter


def move(model: Layer, target: DTypeLike) -> None:
    """Move ``model`` to a backend or convert it to a dtype: see :meth:`uanref.layers.layer.Layer.to`."""
    destination = target if isinstance(target, str) and target in backend.BACKENDS else None
    dtype = backend.dtype_of(target) if destination is None else None

    def moved(name: str, array: Array) -> Array:
        if dtype is None:
            return backend.to_device(array, destination)
        return converted(name, array, dtype) if array.dtype.kind in "fc" else array

    # Everything is made before anything is changed.
    parameters: list[tuple[Parameter, Array, Array | None]] = []
    for name, p in model._all_parameters():
        grad = None if p.grad is None else moved(f"the gradient of {name}", p.grad)
        parameters.append((p, moved(name, p.value), grad))
    buffers: list[tuple[Layer, str, Any]] = []
    for path, layer in model.modules():
        for name in layer.buffer_names:
            value = getattr(layer, name)
            new = value if isinstance(value, bool) else moved(f"{path}.{name}" if path else name, value)
            buffers.append((layer, name, new))

    for p, value, grad in parameters:
        p.value, p.grad = value, grad
    for layer, name, value in buffers:
        setattr(layer, name, value)
    for _, layer in model.modules():
        layer.dtype = layer.dtype if layer.dtype is None or dtype is None else dtype
    model.clear()


def load(model: Layer, state: Mapping[str, Array], strict: bool) -> None:
    """Set parameters and buffers of ``model``: see :meth:`uanref.layers.layer.Layer.load_state_dict`.

    Raises:
        KeyError, ValueError, TypeError: as told there; nothing was changed.
    """
    own: dict[str, Any] = {name: p.value for name, p in model._all_parameters()} | model.buffers()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if strict and (missing or unexpected):
        raise KeyError(f"state does not fit this model: missing {missing or 'none'}, unexpected {unexpected or 'none'}")
    loaded = {name: fitted(name, state[name], own[name]) for name in sorted(own.keys() & state.keys())}
    parameters, layers = dict(model._all_parameters()), dict(model.modules())
    for name, value in loaded.items():
        path, _, attribute = name.rpartition(".")
        if name not in parameters and attribute in layers[path].not_negative and bool((value.real < 0).any()):
            raise ValueError(f"{name} in the state holds numbers below 0: no variance and no weight has any")
    for name, value in loaded.items():
        if name in parameters:
            parameters[name].value = value
        else:
            path, _, attribute = name.rpartition(".")
            setattr(layers[path], attribute, value)


def fitted(name: str, new: Array, old: Any) -> Any:
    """Return a copy of ``new`` with the backend and dtype of ``old``, the array or bool whose place it takes.

    Raises:
        TypeError: ``new`` is no array of numbers, complex where ``old`` is real, or yes and no where it holds numbers.
        ValueError: another shape; NaN or infinity; a value that the dtype of ``old`` cannot hold.
    """
    backend.name_of(new)
    is_flag = isinstance(old, bool)
    shape: tuple[int, ...] = () if is_flag else old.shape
    kind = "b" if is_flag else old.dtype.kind
    if new.dtype.kind not in "fbiuc" or (new.dtype.kind in "cb" and new.dtype.kind != kind):
        raise TypeError(f"{name} in the state holds {new.dtype}, expected numbers")
    if new.shape != shape:
        raise ValueError(f"{name} has shape {shape_text(new.shape)} in the state, expected {shape_text(shape)}")
    host, given = backend.module("numpy"), backend.to_host(new)
    if not host.isfinite(given).all():
        raise ValueError(f"{name} in the state holds NaN or infinity: load the state of a run that did not diverge")
    with backend.quiet():
        made = given.astype("bool" if is_flag else old.dtype, copy=True)
    if not (host.isfinite(made).all() if kind in "fc" else (made == given).all()):
        raise ValueError(f"{name} in the state holds numbers that {made.dtype} cannot hold: convert the layer first")
    return bool(made) if is_flag else backend.to_device(made, backend.name_of(old))


def converted(name: str, array: Array, dtype: DType) -> Array:
    """Return ``array``, floating, in ``dtype``; rounded, but never into another kind of number.

    Raises:
        ValueError: a finite number would become infinite, or lose an imaginary part that is not 0.
    """
    if array.dtype == dtype:
        return array
    xp = backend.namespace(array)
    if array.dtype.kind == "c" and dtype.kind != "c":
        if bool((array.imag != 0).any()):
            raise ValueError(f"{name} has imaginary parts, which {dtype} cannot hold")
        array = array.real
    with backend.quiet():
        made: Array = array.astype(dtype)
    if dtype.itemsize < array.dtype.itemsize and bool((xp.isfinite(array) & ~xp.isfinite(made)).any()):
        raise ValueError(f"{name} holds numbers beyond {dtype}, where they would become infinite")
    return made
