"""Optimizers: how parameters move along their gradients. The update rules are PyTorch's.

One training step::

    optimizer.lr = schedule(step)
    model.backward(criterion.backward())   # fills parameter.grad
    clip_grad_norm(model.parameters(), 1.0)
    optimizer.step()                       # moves parameter.value

A step assigns a new ``parameter.value`` and changes no array that was there: a forward pass that is
still pending keeps the values that it was computed with. Gradients are only read. Nothing is read
from a device, so a step never waits for one; there a parameter's step is one kernel.

In the equations ``theta`` is a parameter, ``g`` its gradient, ``t = 1, 2, ...`` the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uanref import backend, kernels
from uanref.backend import Array
from uanref.blocking import sum_all
from uanref.kernels import adam, sgd
from uanref.layers.base import Parameter, number


class Optimizer:
    """Base of all optimizers: a subclass names its slots and writes ``_update``.

    Args:
        parameters: by dotted name, as ``model.parameters()`` returns them. A parameter under
            several names (a shared layer) is moved once.
        lr: learning rate, > 0.
        slots: names of what lives from step to step, one array per parameter, such as the momentum.

    Attributes:
        parameters: the parameters that it moves, by name.
        steps: how many steps were done.

    Raises:
        ValueError: no parameters, or a hyper-parameter out of range.
        TypeError: something that is no Parameter.
    """

    def __init__(self, parameters: Mapping[str, Parameter], lr: float, slots: tuple[str, ...]) -> None:
        self.parameters = _distinct(parameters, type(self).__name__)
        self.lr = number("lr", lr, 0.0, open_low=True)
        self.steps = 0
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

    def step(self) -> None:
        """Move every parameter once.

        Raises:
            RuntimeError: a parameter has no gradient yet; nothing was moved.
            BackendMismatch: a parameter and its gradient lie on different backends; nothing was moved.
            ValueError: a gradient has another shape than its parameter; nothing was moved.
        """
        gradients: dict[str, Array] = {}
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                raise RuntimeError(
                    f"parameter {name!r} has no gradient: call backward before {type(self).__name__}.step"
                )
            backend.namespace(parameter.value, parameter.grad)
            if parameter.grad.shape != parameter.value.shape:
                raise ValueError(
                    f"parameter {name!r} of shape {backend.shape_text(parameter.value.shape)} has a gradient of shape "
                    f"{backend.shape_text(parameter.grad.shape)}: they must be equal"
                )
            gradients[name] = parameter.grad

        self.steps += 1
        for name, grad in gradients.items():
            parameter = self.parameters[name]
            slots = (self._follow(slot, name, parameter.value) for slot in self._slots)
            parameter.value = self._update(parameter.value, grad, *slots)

    def _update(self, value: Array, grad: Array, *slots: Array) -> Array:
        """Return the new value; change the slots in place; only read ``value`` and ``grad``."""
        raise NotImplementedError(f"{type(self).__name__} does not define _update")

    def _follow(self, slot: str, name: str, value: Array) -> Array:
        """Return a slot's array, moved along if the model changed its backend or dtype."""
        found = self._slots[slot][name]
        if backend.name_of(found) != backend.name_of(value) or found.dtype != value.dtype:
            found = self._slots[slot][name] = _copy_like(found, value)
        return found

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
            ValueError: a wrong shape, a step count or a learning rate out of range.
        """
        own = {f"{slot}.{name}": array for slot, arrays in self._slots.items() for name, array in arrays.items()}
        expected = {"step", "lr"} | own.keys()
        missing, unexpected = sorted(expected - state.keys()), sorted(state.keys() - expected)
        if missing or unexpected:
            raise KeyError(
                f"state does not fit this {type(self).__name__}: "
                f"missing {missing or 'none'}, unexpected {unexpected or 'none'}"
            )
        for name in expected:
            shape = own[name].shape if name in own else ()
            if state[name].shape != shape:
                raise ValueError(
                    f"{name} has shape {backend.shape_text(state[name].shape)} in the state, "
                    f"expected {backend.shape_text(shape)}"
                )
        if state["step"].dtype.kind not in "iu" or int(state["step"]) < 0:
            raise ValueError(f"step in the state must be a whole number >= 0, got {state['step']}")
        lr = number("lr in the state", state["lr"], 0.0)
        slots = {
            slot: {name: _copy_like(state[f"{slot}.{name}"], old) for name, old in arrays.items()}
            for slot, arrays in self._slots.items()
        }
        self.steps, self.lr, self._slots = int(state["step"]), lr, slots


class SGD(Optimizer):
    r"""Stochastic gradient descent with momentum (Polyak 1964; Nesterov as Sutskever et al. 2013, PyTorch's form).

    .. math::
        g &\leftarrow g + w \theta \\
        v &\leftarrow \mu v + g, \quad v_0 = 0 \\
        \theta &\leftarrow \theta - \mathrm{lr} \cdot
            \begin{cases} v & \text{momentum} \\ g + \mu v & \text{Nesterov} \end{cases}

    Args:
        parameters: by dotted name.
        lr: learning rate, > 0.
        momentum: mu, in [0, 1).
        nesterov: look one momentum step ahead; needs momentum > 0.
        weight_decay: w, >= 0, the weight of an L2 penalty ``w/2 theta^2``.

    Raises:
        ValueError: no parameters, or a hyper-parameter out of range.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        lr: float = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = _below_one("momentum", momentum)
        self.nesterov = bool(nesterov)
        self.weight_decay = number("weight_decay", weight_decay, 0.0)
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov=True needs a momentum > 0, got momentum=0.0")
        super().__init__(parameters, lr, ("momentum",) if self.momentum > 0.0 else ())

    def _update(self, value: Array, grad: Array, *slots: Array) -> Array:
        if _fused(value, grad, *slots):
            return sgd.step(
                value,
                grad,
                slots[0] if slots else None,
                lr=self.lr,
                momentum=self.momentum,
                nesterov=self.nesterov,
                penalty=self.weight_decay,
            )
        if self.weight_decay > 0.0:
            grad = grad + self.weight_decay * value
        if slots:
            (velocity,) = slots
            velocity *= self.momentum
            velocity += grad
            grad = grad + self.momentum * velocity if self.nesterov else velocity
        moved: Array = value - self.lr * grad
        return moved


class Adam(Optimizer):
    r"""Adam (Kingma & Ba 2015, algorithm 1), with the decay as an L2 penalty.

    .. math::
        g &\leftarrow g + w \theta \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2,
            \quad m_0 = v_0 = 0 \\
        \theta &\leftarrow \theta - \mathrm{lr} \,
            \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Args:
        parameters: by dotted name.
        lr: learning rate, > 0.
        betas: decay rates of the two moments, each in [0, 1).
        eps: > 0, keeps the quotient finite.
        weight_decay: w, >= 0.

    Raises:
        ValueError: no parameters, or a hyper-parameter out of range.
        TypeError: betas that are no pair of numbers.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise TypeError(f"betas must be a pair of numbers, got {betas!r}") from None
        self.betas = (_below_one("betas[0]", beta1), _below_one("betas[1]", beta2))
        self.eps = number("eps", eps, 0.0, open_low=True)
        self.weight_decay = number("weight_decay", weight_decay, 0.0)
        super().__init__(parameters, lr, ("first_moment", "second_moment"))

    def _update(self, value: Array, grad: Array, *slots: Array) -> Array:
        return self._move(value, grad, *slots, penalty=self.weight_decay, shrink=1.0)

    def _move(self, value: Array, grad: Array, m: Array, v: Array, *, penalty: float, shrink: float) -> Array:
        """Return ``shrink theta`` moved along the moments, which take in ``g + penalty theta``."""
        xp = backend.namespace(value, grad)
        beta1, beta2 = self.betas
        rate = self.lr / (1.0 - beta1**self.steps)
        correction = (1.0 - beta2**self.steps) ** -0.5
        if _fused(value, grad, m, v):
            return adam.step(
                value,
                grad,
                m,
                v,
                betas=self.betas,
                eps=self.eps,
                rate=rate,
                correction=correction,
                penalty=penalty,
                shrink=shrink,
            )
        if penalty > 0.0:
            grad = grad + penalty * value
        if shrink != 1.0:
            value = value * shrink
        # 1. Running averages of the gradient and of its square.
        m *= beta1
        m += (1.0 - beta1) * grad
        v *= beta2
        v += (1.0 - beta2) * (grad * grad)
        # 2. Both started at 0: dividing by 1 - beta^t makes them averages again.
        denominator = xp.sqrt(v)
        denominator *= correction
        denominator += self.eps
        # 3. Step.
        change = m / denominator
        change *= rate
        moved: Array = value - change
        return moved


class AdamW(Adam):
    r"""Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, in PyTorch's form).

    The decay does not pass through the moments: :math:`\theta \leftarrow (1 - \mathrm{lr} \, w) \theta`,
    then Adam's step with the plain gradient.

    Args:
        parameters: by dotted name.
        lr: learning rate, > 0.
        betas: decay rates of the two moments, each in [0, 1).
        eps: > 0.
        weight_decay: w, >= 0.

    Raises:
        ValueError: no parameters, or a hyper-parameter out of range.
        TypeError: betas that are no pair of numbers.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _update(self, value: Array, grad: Array, *slots: Array) -> Array:
        return self._move(value, grad, *slots, penalty=0.0, shrink=1.0 - self.lr * self.weight_decay)


def clip_grad_norm(parameters: Mapping[str, Parameter], max_norm: float) -> Array:
    r"""Scale all gradients together so that their joint norm is at most ``max_norm`` (Pascanu et al. 2013).

    .. math::
        \|g\| = \sqrt{\textstyle\sum_i g_i^2}, \qquad
        g \leftarrow g \min\bigl(1, \mathrm{max\_norm} / (\|g\| + 10^{-6})\bigr)

    Squares are summed in float64, where those of float32 cannot overflow (float64 gradients above 1e154 can:
    the norm is then infinite and every gradient becomes 0). Every ``parameter.grad``
    is assigned a new array. A gradient that is not finite makes the norm so: NaN reaches every
    gradient, an infinity turns into NaN where it stands, and the trainer's guard sees it.

    Args:
        parameters: by dotted name.
        max_norm: > 0.

    Returns:
        The norm before clipping, 0-d float64, on the gradients' backend.

    Raises:
        ValueError: no parameters, or max_norm out of range.
        RuntimeError: a parameter has no gradient; nothing was changed.
    """
    max_norm = number("max_norm", max_norm, 0.0, open_low=True)
    found = _distinct(parameters, "clip_grad_norm")
    for name, parameter in found.items():
        if parameter.grad is None:
            raise RuntimeError(f"parameter {name!r} has no gradient: call backward before clip_grad_norm")
    xp = backend.namespace(*(p.grad for p in found.values()))

    squares: Any = 0.0
    for parameter in found.values():
        squares = squares + sum_all(xp.square(parameter.grad, dtype="float64"))
    norm: Array = xp.sqrt(squares)
    scale = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for parameter in found.values():
        if parameter.grad is not None:
            parameter.grad = parameter.grad * scale.astype(parameter.grad.dtype)
    return norm


def _distinct(parameters: Mapping[str, Parameter], caller: str) -> dict[str, Parameter]:
    """Return the parameters by name, each once."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"{caller} takes model.parameters(), a dict, got {type(parameters).__name__}")
    found: dict[int, tuple[str, Parameter]] = {}
    for name, parameter in parameters.items():
        if not isinstance(parameter, Parameter):
            raise TypeError(f"{caller} takes model.parameters(), got {type(parameter).__name__} under {name!r}")
        found.setdefault(id(parameter), (name, parameter))
    if not found:
        raise ValueError(f"{caller} got no parameters: pass model.parameters() of a model that has some")
    return dict(found.values())


def _fused(value: Array, grad: Array, *slots: Array) -> bool:
    """Tell whether a kernel can do the step: it takes one dtype, and walks through slots in the order of memory."""
    return (
        kernels.serves(value, grad, *slots)
        and grad.dtype == value.dtype
        and all(slot.flags.c_contiguous for slot in slots)
    )


def _below_one(name: str, value: float) -> float:
    found = number(name, value, 0.0)
    if found >= 1.0:
        raise ValueError(f"{name} must be >= 0 and < 1, got {found}")
    return found


def _copy_like(new: Array, old: Array) -> Array:
    """Copy ``new`` to the backend and dtype of ``old``."""
    copied: Array = backend.to_device(new, backend.name_of(old)).astype(old.dtype, copy=True)
    return copied
