"""What a layer's file needs, in one import: the parts stand in files of their own."""

from uanref.layers.checks import choice, count, number, pair
from uanref.layers.initialization import glorot_uniform, he_normal
from uanref.layers.layer import Layer
from uanref.layers.parameter import Parameter, tied
from uanref.layers.sequential import Sequential, refuse_shared

__all__ = [
    "Layer",
    "Parameter",
    "Sequential",
    "choice",
    "count",
    "glorot_uniform",
    "he_normal",
    "number",
    "pair",
    "refuse_shared",
    "tied",
]
