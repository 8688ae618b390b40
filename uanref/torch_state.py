"""States that move between PyTorch and this package, by dotted name; PyTorch itself is never imported.

A state holds numbers, not options: make both networks with the same sizes, ``eps``, stride and so on. Layers of a
:class:`~uanref.layers.base.Sequential` have the names that ``torch.nn.Sequential`` gives, ``"0.weight"``. A norm's
``weight`` and ``bias`` are ``gamma`` and ``beta`` here. In both ``running_var`` is the unbiased one and ``momentum``
weighs the new value; ``num_batches_tracked`` (for ``momentum=None``) is PyTorch's alone. ``InstanceNorm`` keeps no
running statistics here; ``LayerNorm`` has a gamma per channel, as PyTorch's ``GroupNorm(1, C)``. UAN keeps its names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer
from uanref.layers.state import fitted
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.layer import LayerNorm

Model = TypeVar("Model", bound=Layer)


def from_torch(state_dict: Mapping[str, Any], model: Model, rename: Mapping[str, str] | None = None) -> Model:
    """Load the state of a PyTorch module into ``model`` and return it; nothing changes if anything is wrong.

    Args:
        state_dict: ``module.state_dict()``: tensors or arrays, float32 or float64, by dotted name.
        model: a layer or network of the same sizes. Keeps its dtype, backend, mode and options.
        rename: the layer here for a layer there, ``{"features.conv1": "0"}``: the first part of dotted names, or one
            whole name; the longest that fits counts. ``""`` stands for the network itself: ``{"module": ""}``.

    Raises:
        KeyError: names are missing or unexpected.
        TypeError: no state, or an entry that is no dense array of float32 or float64.
        ValueError: another shape; NaN, infinity or a number beyond the model's dtype; a variance below 0; a ``rename``
            that fits no name or gives two entries the same one.
    """
    names = _names(model)
    if not isinstance(state_dict, Mapping):
        kind = type(state_dict).__name__
        raise TypeError(f"from_torch takes a state, a dict of tensors, got {kind}: pass module.state_dict()")
    for key, value in state_dict.items():
        if not isinstance(key, str) or isinstance(value, Mapping):
            what = f"{type(value).__name__} under {key!r}"
            raise TypeError(f"a state has an array under each dotted name, got a {what}: pass module.state_dict()")
    keys = _renamed(state_dict, {} if rename is None else rename, {ours: name for name, ours in names.items()})
    keys = {n: key for n, key in keys.items() if n in names or n.rpartition(".")[2] != "num_batches_tracked"}
    _refuse_difference(model, names, keys)

    own, layers, loaded = model.state_dict(), dict(model.modules()), {}
    for name, ours in names.items():
        key, old = keys[name], own[ours]
        new = _array(key, state_dict[key])
        kinds = {"b": ("bool",), "c": ("float32", "float64", "complex128")}.get(old.dtype.kind, ("float32", "float64"))
        if new.dtype.name not in kinds:
            raise TypeError(f"{key} holds {new.dtype}, expected {' or '.join(kinds)}: convert it to {kinds[0]}")
        if isinstance(layers[ours.rpartition(".")[0]], LayerNorm) and new.ndim > 1:
            raise ValueError(f"{key} has shape {new.shape}, LayerNorm here (C,): torch's GroupNorm(1, C) is this layer")
        loaded[ours] = fitted(key, new, old)
    model.load_state_dict(loaded)
    return model


def to_torch(model: Layer) -> dict[str, Array]:
    """Return copies of the model's state as NumPy arrays under PyTorch's names, layer by layer.

    For ``module.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(model).items()})``, which
    is strict about names and does without ``num_batches_tracked``.

    Raises:
        TypeError: ``model`` is no layer.
    """
    names, state = _names(model), model.state_dict()
    return {name: state[ours] for name, ours in names.items()}


def _names(model: Layer) -> dict[str, str]:
    """Return our names by PyTorch's, in the order of the layers."""
    if not isinstance(model, Layer):
        raise TypeError(f"model must be a layer or network of uanref, got {type(model).__name__}")
    state, names = model.state_dict(), {}
    for path, layer in model.modules():
        is_norm = isinstance(layer, BatchNorm | GroupNorm)  # LayerNorm and InstanceNorm are made of GroupNorm
        theirs = {"gamma": "weight", "beta": "bias"} if is_norm else {}
        for ours in state:
            prefix, dot, name = ours.rpartition(".")
            if prefix == path:
                names[prefix + dot + theirs.get(name, name)] = ours
    return names


def _renamed(keys: Iterable[str], rename: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    """Return the state's keys by the names that they get; a whole name may become one of ours, which has ``theirs``."""
    if not isinstance(rename, Mapping) or not all(isinstance(each, str) for pair in rename.items() for each in pair):
        raise TypeError(f"rename must be a dict from names in the state to names in the model, got {rename!r}")
    prefixes = {old.rstrip("."): new.rstrip(".") for old, new in rename.items()}
    found: dict[str, str] = {}
    unused = set(prefixes)
    for key in keys:
        fitting = [prefix for prefix in prefixes if prefix in ("", key) or key.startswith(f"{prefix}.")]
        unused -= set(fitting)
        name = key
        if fitting:
            prefix = max(fitting, key=len)
            rest = key[len(prefix) :].removeprefix(".")
            name = ".".join(part for part in (prefixes[prefix], rest) if part)
            name = name if rest else theirs.get(name, name)
        if name in found:
            raise ValueError(f"{found[name]!r} and {key!r} of the state would both be {name!r}: mend rename")
        found[name] = key
    if unused:
        raise ValueError(f"rename {min(unused)!r} fits no name of the state, which has {_listed(found.values())}")
    return found


def _refuse_difference(model: Layer, names: Mapping[str, str], keys: Mapping[str, str]) -> None:
    """Raise KeyError if names are missing or unexpected, with the likeliest reason."""
    missing, unexpected = [n for n in names if n not in keys], [n for n in keys if n not in names]
    if not missing and not unexpected:
        return
    reason = "make both with the same layers, bias and affine, or use rename"
    differing = {name.rpartition(".")[::2] for name in (*missing, *unexpected)}  # layer and attribute
    if all(attribute in ("running_mean", "running_var") for _, attribute in differing):
        norms = [layer for path, layer in model.modules() if (path, "running_var") in differing]
        for norm in (norm for norm in norms if isinstance(norm, BatchNorm | GroupNorm)):
            reason = f"{type(norm).__name__} here is torch's with track_running_stats={isinstance(norm, BatchNorm)}"
    as_given = (keys[name] if keys[name] == name else f"{keys[name]} (here {name})" for name in unexpected)
    found = f"missing {_listed(missing)}, unexpected {_listed(as_given)}"
    raise KeyError(f"the state does not fit this model: {found}; {reason}")


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return (", ".join(map(repr, names[:6])) or "none") + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _array(key: str, value: Any) -> Array:
    """Return a tensor or array as a host array, or raise TypeError saying why it is none."""
    try:
        if hasattr(value, "detach"):
            return backend.to_host(value.detach().cpu().numpy())
        is_foreign = hasattr(value, "__array__") and not hasattr(value, "flags")  # NumPy's and CuPy's arrays have flags
        return backend.to_host(value.__array__() if is_foreign else value)
    except Exception as error:  # whatever a foreign class raises
        kind, reason = getattr(value, "dtype", type(value).__name__), str(error).partition("\n")[0].partition(". ")[0]
        advice = "give a dense tensor of float32 or float64, as tensor.float() or tensor.to_dense() does"
        raise TypeError(f"{key}, of {kind}, cannot become a NumPy array ({reason}): {advice}") from None
