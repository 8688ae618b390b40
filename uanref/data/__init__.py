"""Data sets: two that come with the package, IDX files from a folder, one's own arrays, splits, batches, augmentation.

``load("digits")`` gives standardized training, validation and test sets; ``Batches`` walks through one.
Everything here works on host arrays; only :class:`Batches` moves what it yields to the default backend.
Origins and licences of the embedded sets are in ``ATTRIBUTION.md`` beside this file.
"""

from __future__ import annotations

from uanref.data import augment
from uanref.data.arrays import from_arrays
from uanref.data.batches import Batches
from uanref.data.files import DataError, read_idx, read_idx_folder
from uanref.data.sets import Dataset, digits, fashion_small
from uanref.data.splits import Splits, Standardizer, load, stratified_split

__all__ = [
    "Batches",
    "DataError",
    "Dataset",
    "Splits",
    "Standardizer",
    "augment",
    "digits",
    "fashion_small",
    "from_arrays",
    "load",
    "read_idx",
    "read_idx_folder",
    "stratified_split",
]
