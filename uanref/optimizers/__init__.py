"""How parameters move along their gradients, one rule per file."""

from uanref.optimizers.adam import Adam, AdamW
from uanref.optimizers.base import Optimizer
from uanref.optimizers.clipping import clip_grad_norm
from uanref.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm"]
