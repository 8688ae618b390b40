"""Mini-batches: the samples of a set in some order, cut into pieces, on the default backend."""

from __future__ import annotations

from collections.abc import Iterator

from uanref import backend
from uanref.backend import Array, Generator
from uanref.data.augment import Augmentation
from uanref.data.sets import Dataset
from uanref.layers.base import count


class Batches:
    """Iterate over ``dataset`` once per ``for`` loop, as ``(images, labels)`` on the default backend.

    On a device the set moves there once, with the first loop, and stays as long as this object: after that an epoch
    copies one array of indices, from which the batches are gathered there. The device must have room for the whole
    set. Augmentation works on the host, so with ``augment`` every batch of images is copied (labels are not).

    Every sample comes exactly once an epoch. Batches hold ``batch_size`` samples, the last one
    what is left; a last batch of a single sample joins the one before it, because batch statistics
    need two (with ``batch_size=1``, where every batch is single, nothing is joined).

    Args:
        dataset: what to iterate over.
        batch_size: >= 1; norms with batch statistics need >= 2 unless images are larger than a pixel.
        rng: host generator of order and augmentation, ``default_rng(0)`` if None. Each epoch draws on,
            so two epochs differ and two runs from the same generator state are the same.
        shuffle: whether to draw a new order at the start of each epoch; otherwise the set's own order.
        augment: called as ``augment(images, rng)`` on each batch before it moves to the backend.

    Attributes:
        rng: the generator; its state is all that a checkpoint between epochs has to keep.

    Raises:
        ValueError: ``batch_size`` below 1.
        TypeError: ``batch_size`` is no integer, ``rng`` no generator or ``dataset`` no Dataset.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        rng: Generator | None = None,
        shuffle: bool = False,
        augment: Augmentation | None = None,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise TypeError(f"Batches takes a Dataset, got {type(dataset).__name__}")
        self.dataset = dataset
        self.batch_size = count("batch_size", batch_size)
        self.rng = backend.as_generator(rng)
        self.shuffle = shuffle
        self.augment = augment
        self._moved: tuple[str, Array | None, Array] | None = None  # where to, images, labels

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._starts())

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Yield images ``(n, C, H, W)`` or vectors ``(n, D)``, float32, and labels ``(n,)`` int64, batch by batch."""
        images, labels = self._resident()
        samples, starts = len(self.dataset), self._starts()
        order = self.rng.permutation(samples) if self.shuffle else None
        # Moved once an epoch: a batch's indices are a view of it.
        moved_order = None if order is None else backend.to_device(order)
        for start, stop in zip(starts, [*starts[1:], samples], strict=True):
            # A slice is a view: an epoch in the set's own order copies nothing that is float32 already.
            piece = slice(start, stop)
            chosen = piece if moved_order is None else moved_order[piece]
            if images is not None:
                x: Array = images[chosen]
            else:
                x = self.dataset.batch(piece if order is None else order[piece])
                x = backend.to_device(x if self.augment is None else self.augment(x, self.rng))
            yield x, labels[chosen]

    def _resident(self) -> tuple[Array | None, Array]:
        """Return images and labels on the default backend; no images where batches of them are made on the host."""
        name = backend.current()
        if self._moved is None or self._moved[0] != name:
            on_host = name == "numpy" or self.augment is not None
            images = None if on_host else backend.to_device(self.dataset.images, name)
            self._moved = name, images, backend.to_device(self.dataset.labels, name)
        return self._moved[1:]

    def _starts(self) -> list[int]:
        samples = len(self.dataset)
        starts = list(range(0, samples, self.batch_size))
        if self.batch_size > 1 and len(starts) > 1 and samples - starts[-1] == 1:
            starts.pop()
        return starts
