"""Losses: the scalar L at the end of the chain, and dL/dprediction at its beginning.

Both losses have the same two calls::

    loss = criterion.forward(prediction, targets)   # 0-d, on the prediction's backend
    dprediction = criterion.backward()              # where every layer's backward pass starts

The loss stays where it was computed: reading it (``float(loss)``) waits for a device, so the
caller decides when.
"""

from __future__ import annotations

import math
from typing import Any

from uanref import backend, loss_checks
from uanref.backend import Array
from uanref.kernels import accelerated
from uanref.layers import passes
from uanref.layers.base import number
from uanref.layers.sums import sum_all


@accelerated
def cross_entropy(logits: Array, targets: Array, label_smoothing: float) -> tuple[Array, Array]:
    """Return the mean loss, 0-d, and log p ``(N, C)``: see :class:`SoftmaxCrossEntropy`."""
    xp, t = backend.namespace(logits, targets), distributions(targets, logits, label_smoothing)  # (N, C)
    # 1. Shift by each row's maximum, which changes no probability, so that no exponential overflows. (.real: any real
    #    shift is right, also for complex-step differentiation.) By halves, whose difference cannot overflow either;
    #    what could not be doubled is -infinity.
    half = 0.5 * logits - 0.5 * logits.real.max(axis=1, keepdims=True)  # (N, C)
    shifted = 2.0 * xp.where(half < -0.5 * backend.largest(logits.dtype), -math.inf, half)
    # 2. log p = z - log sum exp z.
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))  # (N, C)
    # 3. Average the negative log-likelihood; 0 log 0 = 0.
    nothing = (t == 0) & (log_p == -math.inf)
    loss = sum_all(t * xp.where(nothing, 0.0, log_p)) * (-1.0 / len(logits))  # ()
    return loss, log_p


@accelerated
def cross_entropy_backward(log_p: Array, targets: Array, label_smoothing: float) -> Array:
    """Return dL/dlogits ``(N, C)``, ``(p sum_c t - t) / N``."""
    t = distributions(targets, log_p, label_smoothing)  # (N, C)
    d_logits: Array = (backend.namespace(log_p).exp(log_p) * t.sum(axis=1, keepdims=True) - t) / len(t)
    return d_logits


def distributions(targets: Array, logits: Array, label_smoothing: float) -> Array:
    """Return labels ``(N,)`` or soft targets ``(N, C)`` as rows of probabilities, smoothed, ``(N, C)``."""
    classes, t = logits.shape[1], targets
    if targets.dtype.kind in "iu":
        t = (targets[:, None] == backend.namespace(logits).arange(classes)).astype(logits.dtype)
    return t if label_smoothing == 0.0 else t * (1.0 - label_smoothing) + label_smoothing / classes


def squared_error(prediction: Array, target: Array) -> Array:
    """Return the mean of the squared differences over all entries, 0-d."""
    difference = prediction - target
    return sum_all(difference * difference) * (1.0 / difference.size)


def squared_error_backward(prediction: Array, target: Array) -> Array:
    """Return dL/dprediction, ``2 (prediction - target) / P``."""
    d_prediction: Array = (2.0 / prediction.size) * (prediction - target)
    return d_prediction


class Loss:
    """Base of both losses: a stack of pending forward passes, as layers have it."""

    def __init__(self) -> None:
        self._pending: list[Any] = []  # of passes.Pending

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        passes.surround(cls, "forward", "backward")

    def forward(self, prediction: Array, targets: Array) -> Array:
        """Return the 0-d loss and keep what :meth:`backward` needs (nothing inside ``backend.inference()``)."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def backward(self) -> Array:
        """Return dL/dprediction of the latest pending forward."""
        raise NotImplementedError(f"{type(self).__name__} does not define backward")

    def __call__(self, prediction: Array, targets: Array) -> Array:
        """Same as :meth:`forward`."""
        return self.forward(prediction, targets)

    def clear(self) -> None:
        """Forget every pending forward pass (after an interrupted step)."""
        self._pending.clear()

    def _keep(self, *cache: Any) -> None:
        if not backend.is_inference():
            passes.refuse_others(type(self).__name__, self._pending, "forward")
            passes.pend(self._pending, cache)
            passes.count_pending(type(self).__name__, len(self._pending))

    def _take(self) -> Any:
        if not self._pending:
            raise RuntimeError(
                f"{type(self).__name__}.backward without a pending forward: "
                "call forward(prediction, targets) first, once per backward"
            )
        waiting = passes.latest(type(self).__name__, self._pending)
        passes.remove(self._pending, waiting)
        return waiting.cache


class SoftmaxCrossEntropy(Loss):
    r"""Cross-entropy of softmax probabilities, averaged over the batch.

    With logits :math:`z` (N, C) and target distributions :math:`t` (N, C), one-hot rows for labels,

    .. math::
        \log p_{nc} = z_{nc} - \log \sum_j e^{z_{nj}}, \qquad
        L = -\frac{1}{N} \sum_{n,c} t_{nc} \log p_{nc}.

    Since :math:`\partial \log p_{nc} / \partial z_{nj} = \delta_{cj} - p_{nj}`, the chain rule gives

    .. math::
        dz_{nj} = -\frac{1}{N} \sum_c t_{nc} (\delta_{cj} - p_{nj})
                = \frac{1}{N} \Bigl(p_{nj} \sum_c t_{nc} - t_{nj}\Bigr),

    which is :math:`(p - t)/N` for rows of t that sum to 1. Label smoothing (Szegedy et al. 2016,
    section 7) replaces t by :math:`(1 - a) t + a / C`.

    A logit of :math:`-\infty` rules its class out: p = 0, and with t = 0 it adds nothing, :math:`0 \log 0 = 0`; with
    t > 0, as under label smoothing, the loss is infinite. So it is where a difference of finite logits exceeds the
    dtype's range. A row of :math:`-\infty` alone, or with :math:`+\infty` or NaN in it, has no softmax: the loss and
    that row's gradient are NaN.

    Args:
        label_smoothing: a, in [0, 1].

    Raises:
        ValueError: a outside [0, 1].
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = number("label_smoothing", label_smoothing, 0.0, 1.0)

    def forward(self, logits: Array, targets: Array) -> Array:
        """Return the mean loss.

        Args:
            logits: ``(N, C)``, N >= 1.
            targets: integer labels ``(N,)`` in 0 ... C-1, or soft targets ``(N, C)`` of the logits'
                dtype, rows meant to sum to 1. Labels are tested for their range on the host only:
                on a device that would make it wait, and the loader has tested them before.

        Returns:
            0-d.

        Raises:
            ValueError: a wrong shape, an empty batch, a label out of range (host).
            TypeError: no arrays, logits that are not floating, soft targets of another dtype.
            BackendMismatch: logits and targets lie on different backends.
        """
        loss_checks.check_backends(logits, targets)
        loss_checks.check_float("logits", logits)
        if logits.ndim != 2 or logits.size == 0:
            raise ValueError(
                f"SoftmaxCrossEntropy expects logits (N, C) with N >= 1, got {backend.shape_text(logits.shape)}"
            )
        self._check_targets(logits, targets)
        loss, log_p = cross_entropy(logits, targets, self.label_smoothing)
        self._keep(log_p, targets)
        return loss

    def backward(self) -> Array:
        """Return dL/dlogits, ``(N, C)``: ``(p sum_c t - t) / N``."""
        log_p, targets = self._take()
        return cross_entropy_backward(log_p, targets, self.label_smoothing)

    @staticmethod
    def _check_targets(logits: Array, targets: Array) -> None:
        if targets.dtype.kind in "iub":
            loss_checks.check_labels(targets, *logits.shape)
        else:
            loss_checks.check_same_shape("SoftmaxCrossEntropy", "logits", logits, targets)


class MSE(Loss):
    r"""The mean squared error over all P entries.

    .. math::
        L = \frac{1}{P} \sum_i (y_i - t_i)^2, \qquad dy_i = \frac{2}{P} (y_i - t_i).
    """

    def forward(self, prediction: Array, target: Array) -> Array:
        """Return the mean squared difference.

        Args:
            prediction: any shape, not empty.
            target: the same shape and dtype (nothing is broadcast).

        Returns:
            0-d.

        Raises:
            ValueError: different shapes, or empty arrays.
            TypeError: no arrays, not floating, or different dtypes.
            BackendMismatch: the two lie on different backends.
        """
        loss_checks.check_backends(prediction, target)
        loss_checks.check_float("prediction", prediction)
        if prediction.size == 0:
            raise ValueError(f"MSE got an empty batch of shape {backend.shape_text(prediction.shape)}")
        loss_checks.check_same_shape("MSE", "prediction", prediction, target)
        self._keep(prediction, target)
        return squared_error(prediction, target)

    def backward(self) -> Array:
        """Return dL/dprediction, ``2 (prediction - target) / P``."""
        return squared_error_backward(*self._take())
