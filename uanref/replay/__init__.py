"""A training watched again: recordings of a run become one page with a time slider, opened by a double click.

Recordings are read, never made here: ``uanref compare`` and ``uanref train`` make them
(:mod:`uanref.training.recording`).
"""

from uanref.replay.build import page
from uanref.replay.choice import choose

__all__ = ["choose", "page"]
