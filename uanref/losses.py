"""Losses: the scalar L at the end of the chain, and dL/dprediction at its beginning.

Both losses have the same two calls::

    loss = criterion.forward(prediction, targets)   # 0-d, on the prediction's backend
    dprediction = criterion.backward()              # where every layer's backward pass starts

The loss stays where it was computed: reading it (``float(loss)``) waits for a device, so the
caller decides when.
"""

from __future__ import annotations

from typing import Any

from uanref import backend, kernels
from uanref.backend import Array
from uanref.blocking import sum_all
from uanref.kernels import softmax_cross_entropy
from uanref.layers.base import number


class Loss:
    """Base of both losses: a stack of pending forward passes, as layers have it."""

    def __init__(self) -> None:
        self._pending: list[Any] = []

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
            self._pending.append(cache)

    def _take(self) -> Any:
        if not self._pending:
            raise RuntimeError(
                f"{type(self).__name__}.backward without a pending forward: "
                "call forward(prediction, targets) first, once per backward"
            )
        return self._pending.pop()


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

    On a device both passes are kernels, :mod:`uanref.kernels.softmax_cross_entropy`.

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
            TypeError: logits that are not floating, soft targets of another dtype.
            BackendMismatch: logits and targets lie on different backends.
        """
        xp = backend.namespace(logits, targets)
        _check_float("logits", logits)
        if logits.ndim != 2 or logits.size == 0:
            raise ValueError(
                f"SoftmaxCrossEntropy expects logits (N, C) with N >= 1, got {backend.shape_text(logits.shape)}"
            )
        self._check_targets(logits, targets)
        if kernels.serves(logits):
            on_device, log_p = softmax_cross_entropy.forward(logits, targets, self.label_smoothing)  # (), (N, C)
            self._keep(log_p, targets, True)
            return on_device

        t = self._distributions(logits, targets)  # (N, C)
        # 1. Shift by each row's maximum, which changes no probability, so that no exponential
        #    overflows. (.real: any real shift is right, also for complex-step differentiation.)
        shifted = logits - logits.real.max(axis=1, keepdims=True)  # (N, C)
        # 2. log p = z - log sum exp z.
        log_p = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))  # (N, C)
        # 3. Average the negative log-likelihood.
        loss: Array = sum_all(t * log_p) * (-1.0 / logits.shape[0])  # ()
        self._keep(log_p, t, False)
        return loss

    def backward(self) -> Array:
        """Return dL/dlogits, ``(N, C)``: ``(p sum_c t - t) / N``."""
        log_p, t, fused = self._take()
        if fused:  # t are the targets as they came
            return softmax_cross_entropy.backward(log_p, t, self.label_smoothing)  # (N, C)
        d_logits: Array = backend.namespace(log_p).exp(log_p)  # p (N, C)
        d_logits *= t.sum(axis=1, keepdims=True)
        d_logits -= t
        d_logits *= 1.0 / t.shape[0]
        return d_logits

    @staticmethod
    def _check_targets(logits: Array, targets: Array) -> None:
        if targets.dtype.kind in "iub":
            _check_labels(targets, *logits.shape)
        else:
            _check_same_shape("SoftmaxCrossEntropy", "logits", logits, targets)

    def _distributions(self, logits: Array, targets: Array) -> Array:
        """Return the targets as rows of probabilities, smoothed, ``(N, C)``."""
        classes = logits.shape[1]
        t = targets
        if targets.dtype.kind in "iu":
            t = (targets[:, None] == backend.namespace(logits).arange(classes)).astype(logits.dtype)
        if self.label_smoothing > 0.0:
            t = t * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        return t


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
            TypeError: not floating, or different dtypes.
            BackendMismatch: the two lie on different backends.
        """
        backend.namespace(prediction, target)
        _check_float("prediction", prediction)
        if prediction.size == 0:
            raise ValueError(f"MSE got an empty batch of shape {backend.shape_text(prediction.shape)}")
        _check_same_shape("MSE", "prediction", prediction, target)
        difference = prediction - target
        loss: Array = sum_all(difference * difference) * (1.0 / difference.size)  # ()
        self._keep(difference)
        return loss

    def backward(self) -> Array:
        """Return dL/dprediction, ``2 (prediction - target) / P``."""
        (difference,) = self._take()
        d_prediction: Array = difference
        d_prediction *= 2.0 / difference.size
        return d_prediction


def _check_float(name: str, array: Array) -> None:
    if not backend.is_float(array):
        raise TypeError(f"{name} must be floating point, got {array.dtype}: use {name}.astype('float32')")


def _check_same_shape(loss: str, name: str, prediction: Array, target: Array) -> None:
    if target.shape != prediction.shape:
        hint = ", or integer labels (N,)" if name == "logits" else ""
        raise ValueError(
            f"{loss} got targets of shape {backend.shape_text(target.shape)} for {name} of shape "
            f"{backend.shape_text(prediction.shape)}: give targets of the same shape{hint}"
        )
    if target.dtype != prediction.dtype:
        raise TypeError(
            f"{loss} got targets of {target.dtype} for {name} of {prediction.dtype}: "
            f"convert them with targets.astype('{prediction.dtype}')"
        )


def _check_labels(labels: Array, samples: int, classes: int) -> None:
    if labels.dtype.kind == "b" or labels.shape != (samples,):
        raise (TypeError if labels.dtype.kind == "b" else ValueError)(
            f"labels must be integers of shape ({samples},), got {labels.dtype} of shape "
            f"{backend.shape_text(labels.shape)}: convert one-hot rows to the logits' dtype to use them as soft targets"
        )
    if backend.name_of(labels) == "numpy":  # reading values from a device would make it wait
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"label {low if low < 0 else high} is out of range: logits with {classes} classes take "
                f"labels 0 to {classes - 1}"
            )
