"""Data: sets that come with the package or from files, one's own arrays; splits, batches, augmentation, shifts.

``load("digits")`` gives standardized training, validation and test sets; ``Batches`` walks through one.
Everything here works on host arrays; only :class:`Batches` moves what it yields to the default backend.
Origins and licences of the embedded sets are in ``ATTRIBUTION.md`` beside this file.
"""

from __future__ import annotations

from uanref.data import augment, shift
from uanref.data.arrays import from_arrays
from uanref.data.batches import Batches
from uanref.data.files import DataError, read_idx, read_idx_folder
from uanref.data.mnist import mnist_5k
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
    "mnist_5k",
    "read_idx",
    "read_idx_folder",
    "shift",
    "stratified_split",
]
