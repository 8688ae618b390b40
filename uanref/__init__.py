"""uanref: normalization in neural networks, from scratch, with hand-derived backward passes."""

from uanref import backend
from uanref.layers.base import Layer, Parameter, Sequential
from uanref.layers.linear import Linear

__version__ = "0.1.0"

__all__ = ["Layer", "Linear", "Parameter", "Sequential", "backend"]
