// The small functions between a network's weights and a mixture, (K, C) or (K, P), P = C or 1: one launch each, a thread
// for each entry, or for each channel where the components meet in a softmax.

__device__ inline long long thread_index() { return (long long)blockIdx.x * THREADS + threadIdx.x; }

// log(1 + e^s): the larger summand is taken out, so that nothing overflows.
__device__ inline scalar softplus_of(scalar s) { return (s > 0 ? s : 0) + log1p(exp(s > 0 ? -s : s)); }

// dy sigmoid(s), sigmoid(s) = exp(s - softplus(s)).
__device__ inline scalar softplus_back(scalar dy, scalar s) { return dy * exp(s - softplus_of(s)); }

extern "C" __global__ void softplus(const scalar* s, scalar* y, long long size) {
  long long i = thread_index();
  if (i < size) y[i] = softplus_of(s[i]);
}

extern "C" __global__ void softplus_backward(const scalar* dy, const scalar* s, scalar* ds, long long size) {
  long long i = thread_index();
  if (i < size) ds[i] = softplus_back(dy[i], s[i]);
}

// Column p of log softmax over the K rows: log lambda_k = a_k - max - log sum_j exp(a_j - max). If one prior is shared,
// every column is that of the only logits.
__device__ inline void log_softmax(const scalar* logits, scalar* log_prior, long long p, long long components,
                                   long long columns, bool shared) {
  long long from = shared ? 0 : p, step = shared ? 1 : columns;
  scalar top = logits[from], sum = 0;
  for (long long k = 1; k < components; ++k) {
    scalar a = logits[k * step + from];
    if (a > top) top = a;
  }
  for (long long k = 0; k < components; ++k) sum += exp(logits[k * step + from] - top);
  for (long long k = 0; k < components; ++k) log_prior[k * columns + p] = logits[k * step + from] - top - log(sum);
}

// Column p of da_k = dlog lambda_k - lambda_k sum_j dlog lambda_j.
__device__ inline void log_softmax_backward(const scalar* dlog_prior, const scalar* log_prior, scalar* dlogits,
                                            long long p, long long components, long long columns) {
  scalar sum = 0;
  for (long long k = 0; k < components; ++k) sum += dlog_prior[k * columns + p];
  for (long long k = 0; k < components; ++k) {
    long long i = k * columns + p;
    dlogits[i] = dlog_prior[i] - exp(log_prior[i]) * sum;
  }
}

// The same for a prior that all columns share: first the sum over them, then the softmax. By all threads of a block.
__device__ inline void shared_log_softmax_backward(const scalar* dlog_prior, const scalar* log_prior, scalar* dlogits,
                                                   long long components, long long columns) {
  scalar sum = 0;
  for (long long k = 0; k < components; ++k) {
    scalar own = 0;
    for (long long p = threadIdx.x; p < columns; p += THREADS) own += dlog_prior[k * columns + p];
    scalar total = block_sum(own);
    if (threadIdx.x == 0) dlogits[k] = total;
    sum += total;
  }
  if (threadIdx.x == 0)
    for (long long k = 0; k < components; ++k) dlogits[k] -= exp(log_prior[k * columns]) * sum;
}

// log lambda = log softmax(a), sigma^2 = softplus(s) and sigma^2 + eps, a thread for each channel. The prior has as many
// columns as the posterior; its logits one alone if it is shared.
extern "C" __global__ void constrained(const scalar* logits, const scalar* raw_variance, scalar* log_prior,
                                       scalar* variance, scalar* with_eps, double eps, long long components,
                                       long long channels, long long columns, long long shared) {
  long long c = thread_index();
  if (c >= channels) return;
  if (c < columns) log_softmax(logits, log_prior, c, components, columns, shared);
  for (long long k = 0; k < components; ++k) {
    long long i = k * channels + c;
    variance[i] = softplus_of(raw_variance[i]);
    with_eps[i] = variance[i] + (scalar)eps;
  }
}

// The gradients of the mixture back to a, mu and s, a thread for each channel. Null are dmoments_mean and
// dmoments_variance unless moments are learned, and alive unless a batch decides who lives. The gradient of a shared prior
// is the first block's.
extern "C" __global__ void constrained_backward(const scalar* dlog_prior, const scalar* log_prior, const scalar* alive,
                                                const scalar* dmean, const scalar* dvariance,
                                                const scalar* dmoments_mean, const scalar* dmoments_variance,
                                                const scalar* raw_variance, scalar* dlogits, scalar* dmu,
                                                scalar* draw_variance, long long components, long long channels,
                                                long long columns, long long shared) {
  if (shared && blockIdx.x == 0) shared_log_softmax_backward(dlog_prior, log_prior, dlogits, components, columns);
  long long c = thread_index();
  if (c >= channels) return;
  if (!shared && c < columns) log_softmax_backward(dlog_prior, log_prior, dlogits, c, components, columns);
  for (long long k = 0; k < components; ++k) {
    long long i = k * channels + c;
    bool lives = !alive || alive[columns == channels ? i : k] > 0;
    scalar of_mean = dmoments_mean ? dmean[i] + dmoments_mean[i] : dmean[i];
    scalar of_variance = dmoments_variance ? dvariance[i] + dmoments_variance[i] : dvariance[i];
    dmu[i] = lives ? of_mean : (scalar)0;
    draw_variance[i] = lives ? softplus_back(of_variance, raw_variance[i]) : (scalar)0;
  }
}

// 1 / sqrt(v + eps).
extern "C" __global__ void inverse_std(const scalar* variance, scalar* result, double eps, long long size) {
  long long i = thread_index();
  if (i < size) result[i] = (scalar)1 / sqrt(variance[i] + (scalar)eps);
}

// (1 - momentum) old + momentum found.
__device__ inline scalar moved(scalar old, scalar found, double momentum) {
  return (scalar)(1 - momentum) * old + (scalar)momentum * found;
}

// Both running moments where alive; elsewhere the old ones, to the bit. alive is (K, P), P = columns or 1.
extern "C" __global__ void moved_moments(const scalar* mean, const scalar* variance, const scalar* found_mean,
                                         const scalar* found_variance, const scalar* alive, scalar* new_mean,
                                         scalar* new_variance, double momentum, long long columns,
                                         long long alive_columns, long long size) {
  long long i = thread_index();
  if (i >= size) return;
  bool lives = (alive_columns == columns ? alive[i] : alive[i / columns]) > 0;
  new_mean[i] = lives ? moved(mean[i], found_mean[i], momentum) : mean[i];
  new_variance[i] = lives ? moved(variance[i], found_variance[i], momentum) : variance[i];
}

// s with softplus(s) = max(v, floor): v + log(1 - e^-v), for log(e^v - 1) overflows.
__device__ inline scalar inverse_softplus_of(scalar v, scalar floor) {
  scalar bounded = v < floor ? floor : v;  // NaN stays NaN
  return bounded + log(-expm1(-bounded));
}

extern "C" __global__ void inverse_softplus(const scalar* v, scalar* s, double floor, long long size) {
  long long i = thread_index();
  if (i < size) s[i] = inverse_softplus_of(v[i], floor);
}

// S_k = sqrt(lambda_k) W_k, the sum of the posteriors; 1/2 log lambda not below bound.
__device__ inline scalar share_of(scalar log_prior, scalar total, scalar bound) {
  scalar half = (scalar)0.5 * log_prior;
  return exp(half < bound ? bound : half) * total;  // NaN stays NaN
}

// Column p's sum over the components of those.
__device__ inline scalar all_shares(const scalar* log_prior, const scalar* total, long long p, long long components,
                                    long long columns, scalar bound) {
  scalar all = 0;
  for (long long k = 0; k < components; ++k) all += share_of(log_prior[k * columns + p], total[k * columns + p], bound);
  return all;
}

// lambda_k <- max((1 - eta) lambda_k + eta share, 1e-6), yet to be normalized.
__device__ inline scalar moved_prior(scalar log_prior, scalar share, double momentum) {
  scalar prior = (scalar)(1 - momentum) * exp(log_prior) + (scalar)momentum * share;
  return prior < (scalar)1e-6 ? (scalar)1e-6 : prior;  // NaN stays NaN
}

// The new prior of column p, by one thread.
__device__ inline void em_step_of_prior(const scalar* log_prior, const scalar* total, scalar* new_log_prior,
                                        long long p, long long components, long long columns, double momentum,
                                        scalar bound) {
  scalar all = all_shares(log_prior, total, p, components, columns, bound), sum = 0;
  // Twice the same loop: first for the sum of the floored priors, then for their logarithms.
  for (int writing = 0; writing < 2; ++writing) {
    for (long long k = 0; k < components; ++k) {
      long long i = k * columns + p;
      scalar prior = moved_prior(log_prior[i], share_of(log_prior[i], total[i], bound) / all, momentum);
      if (!writing) sum += prior;
      if (writing) new_log_prior[i] = log(prior / sum);
    }
  }
}

// The new prior that all columns share, by all threads of a block: it moves towards the mean of their shares.
__device__ inline void em_step_of_shared_prior(const scalar* log_prior, const scalar* total, scalar* new_log_prior,
                                               long long components, long long columns, double momentum,
                                               scalar bound) {
  scalar sum = 0;
  for (long long k = 0; k < components; ++k) {
    scalar own = 0;
    for (long long p = threadIdx.x; p < columns; p += THREADS) {
      scalar all = all_shares(log_prior, total, p, components, columns, bound);
      own += share_of(log_prior[k * columns + p], total[k * columns + p], bound) / all;
    }
    scalar prior = moved_prior(log_prior[k * columns], block_sum(own) / columns, momentum);
    if (threadIdx.x == 0) new_log_prior[k] = prior;
    sum += prior;
  }
  if (threadIdx.x == 0)
    for (long long k = 0; k < components; ++k) new_log_prior[k] = log(new_log_prior[k] / sum);
}

// One online EM step with eta = momentum, a thread for each channel:
//   lambda_k <- max((1 - eta) lambda_k + eta S_k / sum_j S_j, 1e-6), normalized again,
//   mu_k <- (1 - eta) mu_k + eta m_k where component k is alive, and the variance alike; where raw_variance is not null,
//   the weight behind the variance takes its place.
// The prior and alive are (K, P), P = channels or 1. If one prior is shared, the first block writes it, (K, 1).
extern "C" __global__ void em_step(const scalar* log_prior, const scalar* total, const scalar* alive,
                                   const scalar* mean, const scalar* variance, const scalar* moments_mean,
                                   const scalar* moments_variance, const scalar* raw_variance, scalar* new_log_prior,
                                   scalar* new_mean, scalar* new_variance, double momentum, double bound, double floor,
                                   long long components, long long channels, long long columns, long long shared) {
  if (shared && blockIdx.x == 0)
    em_step_of_shared_prior(log_prior, total, new_log_prior, components, columns, momentum, bound);
  long long c = thread_index();
  if (c >= channels) return;
  if (!shared && c < columns)
    em_step_of_prior(log_prior, total, new_log_prior, c, components, columns, momentum, bound);
  long long p = columns == channels ? c : 0;
  for (long long k = 0; k < components; ++k) {
    long long i = k * channels + c;
    bool lives = alive[k * columns + p] > 0;
    scalar found = lives ? moved(variance[i], moments_variance[i], momentum) : variance[i];
    new_mean[i] = lives ? moved(mean[i], moments_mean[i], momentum) : mean[i];
    new_variance[i] = !raw_variance ? found : lives ? inverse_softplus_of(found, floor) : raw_variance[i];
  }
}
