"""What ``uanref check`` looks at: every layer, norm, neighbour and loss with its options.

A case says what is checked, at which size, and whether its code is analytic and therefore gets the complex step too,
which is always the definition's. Losses take part as layers with one output, layers of two inputs with the second one
fixed or as a parameter. The tests' stand-ins for CuPy and the mutation gates walk over the same list.
"""

from uanref.verify.catalogue.case import Case, prepared, spread
from uanref.verify.catalogue.layers import layer_cases
from uanref.verify.catalogue.losses import loss_cases
from uanref.verify.catalogue.neighbours import neighbour_cases
from uanref.verify.catalogue.norms import norm_cases

__all__ = ["Case", "cases", "prepared", "spread"]


def cases() -> list[Case]:
    """Return the catalogue: every layer and norm with its options, the neighbours that are layers, and the losses."""
    return [*layer_cases(), *norm_cases(), *neighbour_cases(), *loss_cases()]
