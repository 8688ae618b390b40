"""The layer that UAN's authors released, as it computes: a study object."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike, Generator
from uanref.layers.base import Layer, count, number
from uanref.layers.sums import sum_samples
from uanref.norms.mixture_constraints import softplus, softplus_backward
from uanref.norms.mixture_weights import column
from uanref.norms.standardize import as_rows
from uanref.norms.uan_public_terms import (
    batch_terms,
    batch_terms_backward,
    gated_posterior,
    gated_posterior_backward,
    mixture_terms,
    mixture_terms_backward,
)


class UANPublic(Layer):
    r"""What the UAN authors' public TensorFlow layers compute: a study object that does not normalize.

    The paper describes :class:`uanref.norms.uan.UAN`; the code released with it computes something else.
    This class reproduces that computation step by step, so that a reader can compare the two and
    measure what each step does. It says nothing about the paper's method; to train a network use UAN.
    ``generation=1`` is the layer released with UAN, ``generation=2`` the one of two later releases for TensorFlow
    (cluster-based and context normalization, 2024); they differ in eval mode alone.

    With :math:`q_k = \mathrm{softplus}(\text{variance}_k) + \epsilon`, N samples, S spatial elements (S = 1
    at rank 2) and every channel by itself:

    .. math::
        p_k &= e^{-(x - \mu_k)^2 / 2 q_k} & \text{(1)} \\
        \tau_k &= p_k \Big/ \Bigl(\sum_j p_j + \epsilon\Bigr) & \text{(2)} \\
        h_k &= \tau_k \Big/ \Bigl(\sum_{n,s} \tau_k + \epsilon\Bigr) & \text{(3)} \\
        E_k &= \frac1S \sum_s h_k x & \text{(4)} \\
        V_k &= \frac1S \sum_s h_k (h_k x)^2 & \text{(5)} \\
        y_k &= \frac{\tau_k}{\sqrt{1 + \epsilon}} \, \frac{x - E_k}{\sqrt{V_k + \epsilon}}, \quad
        y = \sum_k y_k & \text{(6)}

    Where each step departs from the definition:

    1. The density lacks its factor :math:`1/\sqrt{q_k}` and its prior. (The released code takes the prior's
       softmax over an axis of length 1: every lambda is 1, and ``prior`` changes nothing.)
    2. eps in the denominator closes a gate: where every p_k is much smaller than eps, all tau_k are 0. At the start
       that is where abs(x) > 4.
    3. h_k is normalized over the batch already.
    4. A *mean* of normalized weights, per sample: E_k is about 1/(N S) of the weighted mean. At rank 2 the mean
       runs over one element: no reduction.
    5. Not the variance of x - E_k; mostly far below eps, which then is all that the root sees.
    6. So at rank > 2, or at rank 2 in a large batch, y is about :math:`x\,\epsilon^{-1/2} \sum_k \tau_k`: 31.6 x times
       a gate for the default eps. The scale of y follows that of x. Every lambda being 1, it is divided by
       sqrt(1 + eps).
    7. In train mode, after y, with ``momentum`` weighing the **old** value (all other norms here weigh the new):
       ``mean`` and ``variance`` move to the mean and the variance of the output term y_k over (n, s), the variance
       into the raw tensor that softplus is yet to be applied to; ``prior`` moves to the mean of tau_k. The
       optimizer moves the same tensors.

    In generation 1, y is the same function in both modes and depends on the other samples of the batch, through step 3,
    in both. (At rank 2 in training the released code reads means that the same call has moved already; that accident is
    not reproduced.) One sample is accepted. Very large x is outside the gate, y = 0.

    In generation 2 steps 3 to 6 are those of training alone. In eval mode the mixture's own moments take their place,
    and no sample sees another:

    .. math::
        y_k = \frac{\tau_k}{\sqrt{1 + \epsilon}} \, \frac{x - \mu_k}{\sqrt{q_k}}, \quad
        y = \sum_k y_k \qquad \text{(6')}

    So at rank > 2 the layer multiplies by about 31.6 in training and divides by about a component's deviation in eval
    mode. Source: recorded results of the released layers, which both generations are tested against.

    Backward follows the steps from the end; ``prior`` has the gradient 0.

    Args:
        num_features: C, >= 1.
        num_components: K, >= 1.
        eps: used in steps 1, 2, 3 and 6, > 0.
        momentum: weight of the *old* value in step 7, in [0, 1].
        generation: 1, or 2 with (6') in eval mode.
        dtype: dtype of the parameters.
        rng: generator for the start, ``default_rng(0)`` if None.

    Attributes:
        mean: (K, C), starts at U(-1, 1).
        variance: raw, softplus makes it positive, (K, C), starts at U(0.001, 0.01).
        prior: (K, 1), starts at U(0.01, 0.99) divided by the sum. All three ranges are the released layers'.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        num_features: int,
        num_components: int,
        eps: float = 1e-3,
        momentum: float = 0.9,
        *,
        generation: int = 1,
        dtype: DTypeLike = "float32",
        rng: Generator | None = None,
    ) -> None:
        super().__init__(dtype)
        self.num_features = channels = count("num_features", num_features)
        self.num_components = components = count("num_components", num_components)
        self.eps = number("eps", eps, 0.0, open_low=True)
        self.momentum = number("momentum", momentum, 0.0, 1.0)
        self.generation = count("generation", generation)
        if self.generation > 2:
            raise ValueError(f"generation must be 1 or 2, got {generation}")
        rng = backend.as_generator(rng)
        self.mean = self._new(rng.uniform(-1.0, 1.0, (components, channels)))
        self.variance = self._new(rng.uniform(0.001, 0.01, (components, channels)))
        drawn = rng.uniform(0.01, 0.99, (components, 1))
        self.prior = self._new(drawn / drawn.sum())

    def forward(self, x: Array) -> Array:
        """Return y of step 6; in train mode move ``mean``, ``variance`` and ``prior`` (step 7).

        Args:
            x: ``(N, C, ...)``, rank >= 2.

        Returns:
            Same shape.

        Raises:
            ValueError: wrong rank or channels.
            TypeError: another dtype than the parameters'.
        """
        self._check_channels(x, self.num_features)
        rows, raw_variance, eps = as_rows(x), self.variance.value, self.eps  # (N, C, S)
        q = column(softplus(raw_variance) + eps)  # (K, 1, C, 1)
        distance, tau = gated_posterior(rows, column(self.mean.value), q, eps)  # (K, N, C, S)
        if self.training or self.generation == 1:
            terms, batch = batch_terms(rows, tau, eps)
        else:
            terms, batch = mixture_terms(distance, tau, q, eps), None
        y: Array = terms.sum(axis=0).reshape(x.shape)
        self._keep(y, rows, raw_variance, q, distance, tau, batch)
        if self.training:
            self._move(terms, tau)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for ``dy`` of the output's shape; fills the three parameters' ``grad``, the prior's with 0."""
        rows, raw_variance, q, distance, tau, batch = self._take(dy)
        g = dy.reshape(rows.shape)  # (N, C, S)
        dmean_terms: Array | float = 0.0  # by the batch, the mixture stands in tau alone
        dq_terms: Array | float = 0.0
        if batch is None:
            dx_terms, dtau, dmean_terms, dq_terms = mixture_terms_backward(g, distance, tau, q, self.eps)
        else:
            dx_terms, dtau = batch_terms_backward(g, rows, tau, batch, self.eps)
        dx, dmean, dq = gated_posterior_backward(dtau, distance, tau, q)
        self.mean.receive(dmean + dmean_terms)  # (K, C)
        self.variance.receive(softplus_backward(dq + dq_terms, raw_variance))  # (K, C)
        # The prior enters nothing but its own running average.
        xp = backend.namespace(dy, rows)
        self.prior.receive(xp.zeros((self.num_components, 1), dtype=dy.dtype))  # (K, 1)
        return (dx + dx_terms).reshape(dy.shape)

    def _move(self, terms: Array, tau: Array) -> None:
        """Step 7, from the terms y_k and from tau, ``(K, N, C, S)`` each; overwrites ``terms``."""
        samples = terms.shape[1] * terms.shape[3]
        rounded = sum_samples(terms) / samples  # (K, C)
        terms -= column(rounded)
        left = sum_samples(terms) / samples  # what rounding left of the mean, as in standardize.moments
        terms -= column(left)
        target_mean, target_variance = rounded + left, sum_samples(terms * terms) / samples  # (K, C)
        target_prior = (sum_samples(tau) / samples).mean(axis=1, keepdims=True)  # (K, 1)
        old, new = self.momentum, 1.0 - self.momentum
        self.mean.value = old * self.mean.value + new * target_mean
        self.variance.value = old * self.variance.value + new * target_variance
        self.prior.value = old * self.prior.value + new * target_prior
