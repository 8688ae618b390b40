"""What a layer promises beside right gradients: each a small function that says what is wrong, or nothing."""

from __future__ import annotations

from collections.abc import Callable

from uanref.gradcheck.promises.calls import (
    inference,
    later_calls,
    one_backward_per_forward,
    pending_calls,
    results_are_kept,
)
from uanref.gradcheck.promises.memory import (
    any_order_of_memory,
    arguments_are_not_written_to,
    broadcast_upstream_gradients,
)
from uanref.gradcheck.promises.parameters import accumulation, assigned_parameters, pending_parameters
from uanref.gradcheck.promises.precision import single_precision
from uanref.gradcheck.subject import Subject

PROMISES: tuple[Callable[[Subject], str], ...] = (
    single_precision,
    any_order_of_memory,
    broadcast_upstream_gradients,
    arguments_are_not_written_to,
    later_calls,
    pending_calls,
    one_backward_per_forward,
    inference,
    results_are_kept,
    assigned_parameters,
    pending_parameters,
    accumulation,
)
"""In the order in which they are tried."""
