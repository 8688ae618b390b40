"""Normalization of a stream by the moments of a sliding window."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike
from uanref.layers.base import count, number


class StreamingNorm:
    r"""Mean and variance of the last W samples of a stream, exact however long the stream is.

    .. math::
        y_t = \frac{x_t - m_t}{\sqrt{v_t + \epsilon}}, \quad
        m_t = \frac{1}{n} \sum_{i = t-n+1}^{t} x_i, \quad v_t = \frac{1}{n} \sum_{i = t-n+1}^{t} (x_i - m_t)^2,
        \quad n = \min(t + 1, W).

    A sum from which the oldest sample is subtracted at each step gathers rounding errors without end, and
    one huge sample that passed leaves a wrong sum behind. Here nothing is ever subtracted. The stream is
    cut into blocks of W samples. A window is the end of the last block and the beginning of the current one,

    .. math::
        \underbrace{x_{j+1} \ldots x_W}_{\text{older}} \; | \; \underbrace{x_{W+1} \ldots x_{W+j}}_{\text{newer}},

    so three things suffice: moments of the newer part, which grow by one sample at a time (Welford 1962); moments
    of *every* end of the last block, computed once when it is full, from its newest sample backwards; and the merge
    of two parts with n_a and n_b samples (Chan, Golub & LeVeque 1983), :math:`d = m_b - m_a`,

    .. math::
        m = m_b - d \frac{n_a}{n}, \qquad n v = n_a v_a + n_b v_b + d^2 \frac{n_a n_b}{n}.

    Each part is measured from a sample of its own that lies in every window using it (the newest of the
    older part, the oldest of the newer), so a large common offset of the stream costs no digits. Every result depends
    on the samples of its window alone: a NaN or an outlier leaves with the window, without a trace.

    Memory: 3 W numbers per feature. Time: constant per step on average; each W-th step does W steps' work.
    This way of sliding (two running aggregates, one forwards and one backwards) is the project's choice.

    Args:
        num_features: C, >= 1; features are independent of each other.
        window: W, >= 1.
        eps: added to the variance inside the root, > 0.
        dtype: dtype of samples and moments.

    Raises:
        ValueError: an option out of range.
        TypeError: an option of another type.
    """

    def __init__(self, num_features: int, window: int, eps: float = 1e-5, *, dtype: DTypeLike = "float64") -> None:
        self.num_features = count("num_features", num_features)
        self.window = count("window", window)
        self.eps = number("eps", eps, 0.0, open_low=True)
        self.dtype = backend.dtype_of(dtype)
        xp, shape = backend.module(backend.current()), (window, num_features)
        self.steps = 0
        self._block = xp.zeros(shape, dtype=self.dtype)  # the current block's samples
        self._filled = 0  # how many of them there are
        self._newer = _Moments(self._block[0])
        self._older_origin = self._block[0].copy()
        self._older_mean = xp.zeros(shape, dtype=self.dtype)  # row j: of the last block's samples j ... W-1
        self._older_scatter = xp.zeros(shape, dtype=self.dtype)

    @property
    def count(self) -> int:
        """How many samples the window holds: the steps so far, at most W."""
        return min(self.steps, self.window)

    @backend.quiet_underflow()
    def push(self, x: Array) -> None:
        """Move the window by one sample.

        Args:
            x: ``(C,)``.

        Raises:
            ValueError: another shape.
            TypeError: another dtype.
            BackendMismatch: ``x`` is on another backend than the window.
        """
        backend.namespace(x, self._block)
        if x.shape != (self.num_features,):
            raise ValueError(
                f"StreamingNorm expects a sample ({self.num_features},), got {backend.shape_text(x.shape)}: "
                "push one step at a time, or run(stream)"
            )
        if x.dtype != self.dtype:
            raise TypeError(f"StreamingNorm computes in {self.dtype}, got {x.dtype}: use x.astype('{self.dtype}')")
        if self._filled == self.window:
            self._turn()
        self._block[self._filled] = x
        if self._filled == 0:
            self._newer = _Moments(self._block[0].copy())
        self._newer.add(self._block[self._filled])
        self._filled += 1
        self.steps += 1

    @backend.quiet_underflow()
    def moments(self) -> tuple[Array, Array]:
        """Return mean and biased variance of the window, both ``(C,)``.

        Raises:
            RuntimeError: nothing was pushed yet.
        """
        if self.steps == 0:
            raise RuntimeError("StreamingNorm has no moments before the first sample: call push(x) first")
        b, n = self._newer, self.count
        mean, scatter = b.mean, b.scatter
        older = n - b.count
        if older > 0:
            start = self.window - older
            # Differences of neighbouring samples and of deviations, never of the means themselves.
            d = (b.origin - self._older_origin) + (b.mean - self._older_mean[start])  # m_b - m_a
            mean = b.mean - d * (older / n)
            scatter = self._older_scatter[start] + b.scatter + d * d * (older * b.count / n)
        return b.origin + mean, scatter / n

    @backend.quiet_underflow()
    def normalize(self, x: Array) -> Array:
        """Return ``(x - mean) / sqrt(variance + eps)`` with the window's moments; ``x`` is ``(..., C)``."""
        xp = backend.namespace(x, self._block)
        mean, variance = self.moments()
        y: Array = (x - mean) / xp.sqrt(variance + self.eps)
        return y

    def run(self, stream: Array) -> Array:
        """Push each row of ``stream`` ``(T, C)`` and return each normalized by its own window, ``(T, C)``.

        Raises:
            ValueError: ``stream`` has another rank.
        """
        if stream.ndim != 2:
            raise ValueError(f"StreamingNorm.run expects (T, C), got {backend.shape_text(stream.shape)}")
        y: Array = backend.namespace(stream, self._block).empty(stream.shape, dtype=self.dtype)
        for t in range(stream.shape[0]):
            self.push(stream[t])
            y[t] = self.normalize(stream[t])
        return y

    def _turn(self) -> None:
        """Make the full block the last one: moments of all its ends, from the newest sample backwards."""
        self._older_origin = self._block[self.window - 1].copy()
        moments = _Moments(self._older_origin)
        for j in reversed(range(self.window)):
            moments.add(self._block[j])
            self._older_mean[j], self._older_scatter[j] = moments.mean, moments.scatter
        self._filled = 0


class _Moments:
    """Welford's recursion: moments of a growing set of samples, measured from ``origin``.

    Attributes:
        count: n.
        mean: of the samples minus ``origin``, (C,).
        scatter: n times the biased variance, (C,).
    """

    def __init__(self, origin: Array) -> None:
        self.origin, self.count = origin, 0
        self.mean: Array = backend.namespace(origin).zeros_like(origin)
        self.scatter: Array = self.mean

    def add(self, x: Array) -> None:
        deviation = x - self.origin
        self.count += 1
        before = deviation - self.mean
        self.mean = self.mean + before / self.count
        self.scatter = self.scatter + before * (deviation - self.mean)
