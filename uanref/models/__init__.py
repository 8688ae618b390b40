"""The networks of the experiments: one body each, with any of the norms in it.

:mod:`uanref.models.norms` knows the norms by name, :mod:`uanref.models.networks` builds the bodies around them.
"""

from __future__ import annotations

from uanref.models.networks import MODELS, Model, build
from uanref.models.norms import NORMS, check_norm, find_norm, find_norms, label, make_norm

__all__ = ["MODELS", "NORMS", "Model", "build", "check_norm", "find_norm", "find_norms", "label", "make_norm"]
