"""Optimizers: how parameters move along their gradients. The update rules are PyTorch's.

One training step::

    optimizer.lr = schedule(step)
    model.backward(criterion.backward())   # fills parameter.grad
    clip_grad_norm(model.parameters(), 1.0)
    optimizer.step()                       # moves parameter.value

A step assigns a new ``parameter.value`` and changes no array that was there: a forward pass that is
still pending keeps the values that it was computed with. Gradients are only read. Nothing is read
from a device, so a step never waits for one; there a parameter's step is one kernel. All that can be
told of parameters and gradients without their values is checked before the first parameter moves.

In the equations ``theta`` is a parameter, ``g`` its gradient, ``t = 1, 2, ...`` the step.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from uanref import backend
from uanref.backend import Array, DType
from uanref.layers.base import Parameter, number, tied
from uanref.layers.state import converted, fitted

MOST_STEPS = 2**53
"""The largest step count that a state may hold: beyond it float64, in which averages are corrected, skips numbers."""


class Optimizer:
    """Base of all optimizers: a subclass names its slots and writes ``_update``.

    Args:
        parameters: by dotted name, as ``model.parameters()`` returns them.
        lr: learning rate, > 0.
        slots: names of what lives from step to step, one array per parameter, such as the momentum.

    Attributes:
        parameters: the parameters that it moves, by name.
        steps: how many steps were done.

    Raises:
        ValueError: no parameters, one of them under two names, or a hyper-parameter out of range, also when it
            gets there by rounding to a parameter's dtype.
        TypeError: something that is no Parameter.
    """

    _squares: tuple[str, ...] = ()  # slots that are never below 0

    def __init__(self, parameters: Mapping[str, Parameter], lr: float, slots: tuple[str, ...]) -> None:
        self.parameters = checked(parameters, type(self).__name__)
        self.lr = number("lr", lr, 0.0, open_low=True)
        self.steps = 0
        for dtype in self._dtypes():
            self._check_rounding(dtype)
        self._slots: dict[str, dict[str, Array]] = {
            slot: {name: backend.namespace(p.value).zeros_like(p.value) for name, p in self.parameters.items()}
            for slot in slots
        }

    @property
    def lr(self) -> float:
        """Learning rate; may be assigned between steps (a schedule may reach 0)."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = number("lr", value, 0.0)

    @backend.quiet_underflow()
    def step(self) -> None:
        """Move every parameter once.

        Raises:
            RuntimeError: a parameter has no gradient yet; nothing was moved.
            BackendMismatch: a parameter and its gradient lie on different backends; nothing was moved.
            ValueError: a gradient has another shape than its parameter, or a hyper-parameter or a slot cannot be held
                in the dtype that a parameter has now; nothing was moved.
            TypeError: a gradient is no array or has another dtype than its parameter; nothing was moved.
        """
        gradients = gradients_of(self.parameters, f"{type(self).__name__}.step")
        for dtype in self._dtypes():
            self._check_rounding(dtype)
        followed = {slot: self._follow(slot) for slot in self._slots}

        self._slots = followed
        self.steps += 1
        for name, grad in gradients.items():
            parameter = self.parameters[name]
            slots = [arrays[name] for arrays in self._slots.values()]
            parameter.value, *moved = self._update(parameter.value, grad, *slots)
            for arrays, slot in zip(self._slots.values(), moved, strict=True):
                arrays[name] = slot

    def _update(self, value: Array, grad: Array, *slots: Array) -> tuple[Array, ...]:
        """Return the new value and slots; only read ``value`` and ``grad``, slots may be written into."""
        raise NotImplementedError(f"{type(self).__name__} does not define _update")

    def _dtypes(self) -> set[DType]:
        return {parameter.value.dtype for parameter in self.parameters.values()}

    def _check_rounding(self, dtype: DType) -> None:
        """Refuse hyper-parameters that leave their range when they are rounded to ``dtype``, as a step rounds them."""
        as_rounded("lr", self.lr, dtype)

    def _follow(self, slot: str) -> dict[str, Array]:
        """Return a slot's arrays, moved along if the model changed its backend or dtype."""
        followed = {}
        for name, array in self._slots[slot].items():
            value = self.parameters[name].value
            if type(array) is not type(value) or array.dtype != value.dtype:
                moved = backend.to_device(array, backend.name_of(value))
                array = converted(f"{slot} of {name}", moved, value.dtype)
            followed[name] = array
        return followed

    def state_dict(self) -> dict[str, Array]:
        """Return what a continuation needs as host arrays: ``step``, ``lr`` and ``<slot>.<parameter>``; copies."""
        host = backend.module("numpy")
        state: dict[str, Array] = {"step": host.asarray(self.steps), "lr": host.asarray(self.lr)}
        for slot, arrays in self._slots.items():
            state |= {f"{slot}.{name}": backend.to_host(array).copy() for name, array in arrays.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over :meth:`state_dict`'s result; nothing changes if anything is wrong.

        Raises:
            KeyError: a name is missing or unexpected.
            ValueError: a wrong shape, a step count or a learning rate out of range; NaN, infinity, a number that the
                slot's dtype cannot hold, or a second moment below 0.
            TypeError: an entry is no array of numbers.
        """
        own = {f"{slot}.{name}" for slot, arrays in self._slots.items() for name in arrays}
        expected = {"step", "lr"} | own
        missing, unexpected = sorted(expected - state.keys()), sorted(state.keys() - expected)
        if missing or unexpected:
            raise KeyError(
                f"state does not fit this {type(self).__name__}: "
                f"missing {missing or 'none'}, unexpected {unexpected or 'none'}"
            )
        for name in ("step", "lr"):
            backend.name_of(state[name])
            if state[name].shape != ():
                raise ValueError(f"{name} has shape {backend.shape_text(state[name].shape)} in the state, expected ()")
        if state["step"].dtype.kind not in "iu" or int(state["step"]) < 0:
            raise ValueError(f"step in the state must be a whole number >= 0, got {state['step']}")
        if int(state["step"]) > MOST_STEPS:
            raise ValueError(f"step in the state must be at most {MOST_STEPS}, got {state['step']}")
        if state["lr"].dtype.kind not in "fiu":
            raise TypeError(f"lr in the state must be a number, got {state['lr'].dtype}")
        lr = number("lr in the state", state["lr"], 0.0)
        for dtype in self._dtypes():
            as_rounded("lr in the state", lr, dtype)
        slots: dict[str, dict[str, Array]] = {slot: {} for slot in self._slots}
        for slot, arrays in self._slots.items():
            for name, old in arrays.items():
                key = f"{slot}.{name}"
                slots[slot][name] = fitted(key, state[key], old)
                if slot in self._squares and bool((backend.to_host(state[key]) < 0).any()):
                    raise ValueError(f"{key} in the state holds numbers below 0: an average of squares has none")
        self.steps, self.lr, self._slots = int(state["step"]), lr, slots


def checked(parameters: Mapping[str, Parameter], caller: str) -> dict[str, Parameter]:
    """Return the parameters by name.

    Raises:
        TypeError: no dict of parameters.
        ValueError: there are none, or one has two names.
    """
    if not isinstance(parameters, Mapping):
        raise TypeError(f"{caller} takes model.parameters(), a dict, got {type(parameters).__name__}")
    names: dict[int, str] = {}
    for name, parameter in parameters.items():
        if not isinstance(parameter, Parameter):
            raise TypeError(f"{caller} takes model.parameters(), got {type(parameter).__name__} under {name!r}")
        if id(parameter) in names:
            raise ValueError(tied(caller, names[id(parameter)], name))
        names[id(parameter)] = name
    if not names:
        raise ValueError(f"{caller} got no parameters: pass model.parameters() of a model that has some")
    return dict(parameters)


def gradients_of(parameters: Mapping[str, Parameter], caller: str) -> dict[str, Array]:
    """Return the gradients by name, every one of them there and of its parameter's kind.

    Raises:
        RuntimeError: one is missing: no backward pass came before.
    """
    gradients: dict[str, Array] = {}
    for name, parameter in parameters.items():
        if parameter.grad is None:
            raise RuntimeError(f"parameter {name!r} has no gradient: call backward before {caller}")
        parameter._check_gradient(f"parameter {name!r}", parameter.grad)
        gradients[name] = parameter.grad
    return gradients


def share(name: str, value: float) -> float:
    """Return ``value`` as a number in [0, 1), or raise.

    Raises:
        TypeError: no number.
        ValueError: out of range.
    """
    found = number(name, value, 0.0)
    if found >= 1.0:
        raise ValueError(f"{name} must be >= 0 and < 1, got {found}")
    return found


def as_rounded(name: str, value: float, dtype: DType, *, below_one: bool = False) -> float:
    """Return a hyper-parameter as a step computes with it, rounded to the parameters' dtype, or raise.

    Raises:
        ValueError: rounded it is infinite, or 1 where it must be below.
    """
    return _rounded(name, float(value), dtype, below_one)


@functools.lru_cache(maxsize=64)  # every step asks again, because anyone may assign another number
@backend.quiet_underflow()
def _rounded(name: str, value: float, dtype: DType, below_one: bool) -> float:
    if value > backend.largest(dtype):
        raise ValueError(f"{name} must be finite, but {value} is beyond {dtype}: lower it")
    rounded = float(dtype.type(value).real)
    if below_one and rounded >= 1.0:
        raise ValueError(f"{name} must be < 1, but {dtype} rounds {value} to 1: lower it or compute in float64")
    return rounded
