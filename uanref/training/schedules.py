"""Learning-rate schedules: functions of the step number alone.

``optimizer.lr = schedule(step)`` before each step, counted from 0. No state: a resumed run
asks for the same numbers.
"""

from __future__ import annotations

import math

from uanref.layers.base import count, number


class Schedule:
    """Base of all schedules: a learning rate per step."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of step ``step``, counted from 0.

        Raises:
            TypeError: not an integer.
            ValueError: a negative step.
        """
        return self._at(count("step", step, least=0))

    def _at(self, step: int) -> float:
        raise NotImplementedError(f"{type(self).__name__} does not define _at")


class Constant(Schedule):
    """The same rate at every step.

    Args:
        lr: > 0.

    Raises:
        ValueError: lr out of range.
    """

    def __init__(self, lr: float) -> None:
        self.lr = number("lr", lr, 0.0, open_low=True)

    def _at(self, step: int) -> float:
        return self.lr


class StepDecay(Schedule):
    r"""Falls by a factor every ``step_size`` steps, :math:`\mathrm{lr} \cdot f^{\lfloor \mathrm{step} / s \rfloor}`.

    Args:
        lr: rate at step 0, > 0.
        step_size: s, >= 1.
        factor: f, in (0, 1].

    Raises:
        ValueError: a number out of range.
        TypeError: a step_size that is no integer.
    """

    def __init__(self, lr: float, step_size: int, factor: float = 0.1) -> None:
        self.lr = number("lr", lr, 0.0, open_low=True)
        self.step_size = count("step_size", step_size)
        self.factor = number("factor", factor, 0.0, 1.0, open_low=True)

    def _at(self, step: int) -> float:
        return self.lr * self.factor ** (step // self.step_size)


class Cosine(Schedule):
    r"""Half a cosine from ``lr`` to ``final_lr``, after a linear warm-up.

    With W warm-up steps, T steps in all and :math:`u = (\mathrm{step} - W) / (T - W)`,

    .. math::
        \mathrm{lr} \cdot \frac{\mathrm{step} + 1}{W} \quad (\mathrm{step} < W), \qquad
        \mathrm{final} + \frac{\mathrm{lr} - \mathrm{final}}{2} (1 + \cos \pi u) \quad (W \le \mathrm{step} < T),

    and ``final_lr`` from step T on. The cosine is Loshchilov & Hutter 2017, eq. 5, without
    restarts; the warm-up is Goyal et al. 2017, section 2.2; it starts at lr / W, not at 0, so
    that no step is lost: this project's choice.

    Args:
        lr: highest rate, > 0.
        total_steps: T, >= 1.
        warmup_steps: W, >= 0 and < T.
        final_lr: in [0, lr].

    Raises:
        ValueError: a number out of range.
        TypeError: a number of steps that is no integer.
    """

    def __init__(self, lr: float, total_steps: int, warmup_steps: int = 0, final_lr: float = 0.0) -> None:
        self.lr = number("lr", lr, 0.0, open_low=True)
        self.total_steps = count("total_steps", total_steps)
        self.warmup_steps = count("warmup_steps", warmup_steps, least=0)
        self.final_lr = number("final_lr", final_lr, 0.0, self.lr)
        if self.warmup_steps >= self.total_steps:
            raise ValueError(
                f"warmup_steps must be < total_steps, got {self.warmup_steps} of {self.total_steps}: "
                "shorten the warm-up or train longer"
            )

    def _at(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if step >= self.total_steps:
            return self.final_lr
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return self.final_lr + 0.5 * (self.lr - self.final_lr) * (1.0 + math.cos(math.pi * progress))
