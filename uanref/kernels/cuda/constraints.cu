// The small functions between a network's weights and a mixture, (K, C) or (K, P): one launch each, a thread for each
// entry, or for each column where the components meet in a softmax.

__device__ inline long long thread_index() { return (long long)blockIdx.x * THREADS + threadIdx.x; }

// log(1 + e^s): the larger summand is taken out, so that nothing overflows.
__device__ inline scalar softplus_of(scalar s) { return (s > 0 ? s : 0) + log1p(exp(s > 0 ? -s : s)); }

extern "C" __global__ void softplus(const scalar* s, scalar* y, long long size) {
  long long i = thread_index();
  if (i < size) y[i] = softplus_of(s[i]);
}

// ds = dy sigmoid(s), sigmoid(s) = exp(s - softplus(s)).
extern "C" __global__ void softplus_backward(const scalar* dy, const scalar* s, scalar* ds, long long size) {
  long long i = thread_index();
  if (i < size) ds[i] = dy[i] * exp(s[i] - softplus_of(s[i]));
}

// log softmax over the K rows: log lambda_k = a_k - max - log sum_j exp(a_j - max).
extern "C" __global__ void log_softmax(const scalar* logits, scalar* log_prior, long long components,
                                       long long columns) {
  long long p = thread_index();
  if (p >= columns) return;
  scalar top = logits[p], sum = 0;
  for (long long k = 1; k < components; ++k) {
    scalar a = logits[k * columns + p];
    if (a > top) top = a;
  }
  for (long long k = 0; k < components; ++k) sum += exp(logits[k * columns + p] - top);
  for (long long k = 0; k < components; ++k) log_prior[k * columns + p] = logits[k * columns + p] - top - log(sum);
}

// da_k = dlog lambda_k - lambda_k sum_j dlog lambda_j.
extern "C" __global__ void log_softmax_backward(const scalar* dlog_prior, const scalar* log_prior, scalar* dlogits,
                                                long long components, long long columns) {
  long long p = thread_index();
  if (p >= columns) return;
  scalar sum = 0;
  for (long long k = 0; k < components; ++k) sum += dlog_prior[k * columns + p];
  for (long long k = 0; k < components; ++k) {
    long long i = k * columns + p;
    dlogits[i] = dlog_prior[i] - exp(log_prior[i]) * sum;
  }
}

// 1 / sqrt(v + eps).
extern "C" __global__ void inverse_std(const scalar* variance, scalar* result, double eps, long long size) {
  long long i = thread_index();
  if (i < size) result[i] = (scalar)1 / sqrt(variance[i] + (scalar)eps);
}

// sqrt(lambda) from its logarithm, not below e^bound.
extern "C" __global__ void root_prior(const scalar* log_prior, scalar* root, double bound, long long size) {
  long long i = thread_index();
  if (i >= size) return;
  scalar half = (scalar)0.5 * log_prior[i];
  root[i] = exp(half < (scalar)bound ? (scalar)bound : half);  // NaN stays NaN
}

// a where alive, else 0, whatever a is; alive is (K, P), P = columns or 1.
extern "C" __global__ void where_alive(const scalar* a, const scalar* alive, scalar* result, long long columns,
                                       long long alive_columns, long long size) {
  long long i = thread_index();
  if (i >= size) return;
  bool lives = (alive_columns == columns ? alive[i] : alive[i / columns]) > 0;
  result[i] = lives ? a[i] : (scalar)0;
}

// (1 - momentum) old + momentum found, where alive; elsewhere old, to the bit. alive is (K, P), P = columns or 1.
extern "C" __global__ void moved(const scalar* old, const scalar* found, const scalar* alive, scalar* result,
                                 double momentum, long long columns, long long alive_columns, long long size) {
  long long i = thread_index();
  if (i >= size) return;
  bool lives = (alive_columns == columns ? alive[i] : alive[i / columns]) > 0;
  scalar step = momentum, stay = 1 - momentum;
  result[i] = lives ? stay * old[i] + step * found[i] : old[i];
}

// s with softplus(s) = max(v, floor): v + log(1 - e^-v), for log(e^v - 1) overflows.
extern "C" __global__ void inverse_softplus(const scalar* v, scalar* s, double floor, long long size) {
  long long i = thread_index();
  if (i >= size) return;
  scalar bounded = v[i] < (scalar)floor ? (scalar)floor : v[i];  // NaN stays NaN
  s[i] = bounded + log(-expm1(-bounded));
}

// One online EM step with eta = momentum, a thread for each channel:
//   lambda_k <- max((1 - eta) lambda_k + eta S_k / sum_j S_j, 1e-6), normalized again,
//   mu_k <- (1 - eta) mu_k + eta m_k where component k is alive, and the variance alike.
// The prior and alive are (K, P), P = channels, or 1: then each thread finds the same prior, and the first writes it.
extern "C" __global__ void em_step(const scalar* log_prior, const scalar* share, const scalar* alive,
                                   const scalar* mean, const scalar* variance, const scalar* moments_mean,
                                   const scalar* moments_variance, scalar* new_log_prior, scalar* new_mean,
                                   scalar* new_variance, double momentum, long long components, long long channels,
                                   long long columns) {
  long long c = thread_index();
  if (c >= channels) return;
  long long p = columns == channels ? c : 0;
  scalar eta = momentum, stay = 1 - momentum, all = 0, sum = 0;
  for (long long k = 0; k < components; ++k) all += share[k * columns + p];
  // Twice the same loop: first for the sum of the floored priors, then for their logarithms.
  for (int writing = 0; writing < 2; ++writing) {
    for (long long k = 0; k < components; ++k) {
      long long i = k * columns + p;
      scalar prior = stay * exp(log_prior[i]) + eta * (share[i] / all);
      if (prior < (scalar)1e-6) prior = 1e-6;
      if (!writing) sum += prior;
      if (writing && c < columns) new_log_prior[i] = log(prior / sum);
    }
  }
  for (long long k = 0; k < components; ++k) {
    long long i = k * channels + c;
    bool lives = alive[k * columns + p] > 0;
    new_mean[i] = lives ? stay * mean[i] + eta * moments_mean[i] : mean[i];
    new_variance[i] = lives ? stay * variance[i] + eta * moments_variance[i] : variance[i];
  }
}
