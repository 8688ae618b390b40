"""The layer that UAN's authors released, as it computes: a study object."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike, Generator
from uanref.layers.base import Layer, count, number
from uanref.layers.sums import sum_rows, sum_samples
from uanref.norms.mixture_constraints import softplus, softplus_backward
from uanref.norms.mixture_weights import column
from uanref.norms.standardize import as_rows


class UANPublic(Layer):
    r"""What the UAN authors' public TensorFlow layer computes: a study object that does not normalize.

    The paper describes :class:`uanref.norms.uan.UAN`; the code released with it computes something else.
    This class reproduces that computation step by step, so that a reader can compare the two and
    measure what each step does. It says nothing about the paper's method; to train a network use UAN.

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

    y is the same function in both modes and depends on the other samples of the batch, through step 3, in both. (At
    rank 2 in training the released code reads means that the same call has moved already; that
    accident is not reproduced.) One sample is accepted. Very large x is outside the gate, y = 0.

    Backward follows the steps from the end; ``prior`` has the gradient 0.

    Args:
        num_features: C, >= 1.
        num_components: K, >= 1.
        eps: used in steps 1, 2, 3 and 6, > 0.
        momentum: weight of the *old* value in step 7, in [0, 1].
        dtype: dtype of the parameters.
        rng: generator for the start, ``default_rng(0)`` if None.

    Attributes:
        mean: (K, C), starts at U(-1, 1).
        variance: raw, softplus makes it positive, (K, C), starts at U(0.001, 0.01).
        prior: (K, 1), starts at U(0, 1) divided by the sum. The ranges of mean and variance are those of UAN's
            paper start; recorded starts of the released layer lie in them, and their priors sum to 1. How the
            priors are drawn there is not known: this is the project's choice.

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
        dtype: DTypeLike = "float32",
        rng: Generator | None = None,
    ) -> None:
        super().__init__(dtype)
        self.num_features = channels = count("num_features", num_features)
        self.num_components = components = count("num_components", num_components)
        self.eps = number("eps", eps, 0.0, open_low=True)
        self.momentum = number("momentum", momentum, 0.0, 1.0)
        rng = backend.as_generator(rng)
        self.mean = self._new(rng.uniform(-1.0, 1.0, (components, channels)))
        self.variance = self._new(rng.uniform(0.001, 0.01, (components, channels)))
        drawn = rng.uniform(0.0, 1.0, (components, 1))
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
        raw_variance = self.variance.value
        xp = backend.namespace(x, self.mean.value)
        rows, eps = as_rows(x), self.eps  # (N, C, S)
        spatial = rows.shape[2]
        q = column(softplus(raw_variance) + eps)  # (K, 1, C, 1)
        distance = rows - column(self.mean.value)  # (K, N, C, S)
        # 1. to 3. e^-(1e8)^2 is 0 in every format; beyond, the square itself might overflow.
        scaled = xp.minimum(xp.maximum(distance * xp.sqrt(0.5 / q), -1e8), 1e8)
        p = xp.exp(-scaled * scaled)
        p_sum = p.sum(axis=0) + eps  # (N, C, S)
        tau = p / p_sum
        tau_sum = column(sum_samples(tau) + eps)  # (K, 1, C, 1)
        h = tau / tau_sum
        # 4. and 5.
        h_x = h * rows
        v = rows - sum_rows(h_x)[..., None] / spatial  # x - E_k, (K, N, C, S)
        inverse_std = 1.0 / xp.sqrt(sum_rows(h * h_x * h_x)[..., None] / spatial + eps)  # (K, N, C, 1)
        # 6.
        terms = tau * v * inverse_std * (1.0 + eps) ** -0.5
        y: Array = terms.sum(axis=0).reshape(x.shape)
        self._keep(y, rows, raw_variance, q, distance, tau, tau_sum, h, v, inverse_std)
        # 7.
        if self.training:
            samples = rows.shape[0] * spatial
            rounded = sum_samples(terms) / samples  # (K, C)
            terms -= column(rounded)
            left = sum_samples(terms) / samples  # what rounding left of the mean, as in standardize.moments
            terms -= column(left)
            target_mean, target_variance = rounded + left, sum_samples(terms * terms) / samples  # (K, C)
            target_prior = (sum_samples(tau) / samples).mean(axis=1, keepdims=True)  # (K, 1)
            old, new = self.momentum, 1.0 - self.momentum
            self.mean.value = old * self.mean.value + new * target_mean
            self.variance.value = old * raw_variance + new * target_variance
            self.prior.value = old * self.prior.value + new * target_prior
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for ``dy`` of the output's shape; fills the three parameters' ``grad``, the prior's with 0."""
        rows, raw_variance, q, distance, tau, tau_sum, h, v, inverse_std = self._take(dy)
        xp = backend.namespace(dy, rows)
        spatial = rows.shape[2]
        # 6. Each term is tau_k v_k i_k, times a constant; i = (V + eps)^(-1/2).
        g = dy.reshape(rows.shape) * (1.0 + self.eps) ** -0.5  # (N, C, S)
        dtau = g * v * inverse_std  # (K, N, C, S)
        dv = g * tau * inverse_std
        dV = -0.5 * inverse_std**3 * sum_rows(g * tau * v)[..., None]  # (K, N, C, 1)
        # 4. and 5. x directly in v = x - E; E = mean_s(h x); V = mean_s(h^3 x^2).
        dx: Array = dv.sum(axis=0)
        dE = -sum_rows(dv)[..., None]  # (K, N, C, 1)
        h_x = h * rows
        dh = (dE * rows + 3.0 * dV * h_x * h_x) / spatial
        dx += ((dE * h + 2.0 * dV * h * h * h_x) / spatial).sum(axis=0)
        # 3. Every tau_k stands in the sum that divides it.
        through_sum = sum_samples(dh * h)  # (K, C)
        dtau += (dh - column(through_sum)) / tau_sum
        # 2. and 1. Softmax with eps in the sum: with l_k = log p_k, dl_k = tau_k (dtau_k - sum_j tau_j dtau_j).
        dl = tau * (dtau - (tau * dtau).sum(axis=0))
        u = distance / q  # (K, N, C, S)
        dl_u = dl * u
        dx -= dl_u.sum(axis=0)
        self.mean.receive(sum_samples(dl_u))  # (K, C)
        dl_u *= u
        self.variance.receive(softplus_backward(0.5 * sum_samples(dl_u), raw_variance))  # (K, C)
        # The prior enters nothing but its own running average.
        self.prior.receive(xp.zeros((self.num_components, 1), dtype=dy.dtype))  # (K, 1)
        return dx.reshape(dy.shape)
