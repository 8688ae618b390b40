// What UAN and Mixture Normalization do with a channel's mixture of K components: batch moments, y, and the gradients.
//
//   l_k(x) = log lambda_k - 1/2 log s_k - (x - mu_k)^2 / (2 s_k),  tau = softmax_k(l),  w_k = tau_k / sqrt(lambda_k)
//   y = gamma rho sum_k w_k (x - m_k) i_k + beta,                  i_k = 1 / sqrt(v_k + eps), 0 for a dead component
//
// The posterior is each activation's own (P = C). Whoever needs w computes it from x, with one exponential per
// component: nothing with an entry per component and sample is ever stored. x, y, dy and dx are (N, C, S); a parameter
// array is (K, C), component k of channel c at k C + c. Block (p, c) has the samples of part p of channel c; what it
// sums goes to partial[quantity, c, p], and a second kernel adds up the parts. Where a channel has one part, its block
// does what the second kernel would do: the same to the bit, in one launch.
//
// Arithmetic per sample is in scalar: double is slow on consumer cards. A thread has at most CHUNK / THREADS samples,
// a warp adds up its threads' sums as a tree; from there on everything is in double.

constexpr int K = COMPONENTS;
constexpr int WARPS = THREADS / 32;

// log(tiny^(3/4)), where the logarithm of what w divides by stops, and largest^(2/5), where the posterior stops
// looking: mixture_weights.py says why.
constexpr scalar FLOOR = sizeof(scalar) == 4 ? -65.50240856291482 : -531.2973138991981;
constexpr scalar BOUND = sizeof(scalar) == 4 ? 0x1.261117f60df7ap+51 : 0x1.8406003b2aec8p+409;

__device__ inline scalar bounded(scalar x) {
  return x > BOUND ? BOUND : x < -BOUND ? -BOUND : x;  // NaN stays NaN
}

// 1/2 log lambda, the logarithm of what w divides by.
__device__ inline scalar half_log(scalar log_prior) {
  scalar half = (scalar)0.5 * log_prior;
  return half < FLOOR ? FLOOR : half;  // NaN stays NaN
}

// A channel's mixture, in shared memory.
struct Mixture {
  scalar mean[K], scale[K], precision[K];  // mu, sqrt(1 / (2 s)), 1 / s
  scalar root_prior[K], offset[K];         // sqrt(lambda), and l - 1/2 log lambda at x = mu

  // Thread k prepares component k. The caller synchronizes.
  __device__ void load(const scalar* log_prior, const scalar* mean_, const scalar* variance, unsigned channels) {
    if (threadIdx.x >= K) return;
    unsigned k = threadIdx.x, i = k * channels + blockIdx.y;
    mean[k] = mean_[i];
    scale[k] = sqrt((scalar)0.5 / variance[i]);
    precision[k] = (scalar)1 / variance[i];
    root_prior[k] = exp(half_log(log_prior[i]));
    offset[k] = log_prior[i] - half_log(log_prior[i]) - (scalar)0.5 * log(variance[i]);
  }

  // w_k(x) = e_k / sum_j sqrt(lambda_j) e_j with e_k = exp(l_k - 1/2 log lambda_k - max_j ...).
  __device__ void weights(scalar x, scalar (&w)[K]) const {
    scalar top, total = 0;
    x = bounded(x);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      scalar apart = (x - mean[k]) * scale[k];
      w[k] = offset[k] - apart * apart;
      top = k == 0 || w[k] > top ? w[k] : top;
    }
#pragma unroll
    for (int k = 0; k < K; ++k) {
      w[k] = exp(w[k] - top);
      total += w[k] * root_prior[k];
    }
    scalar inverse = (scalar)1 / total;  // total is not below the least root_prior: the largest w is 1
#pragma unroll
    for (int k = 0; k < K; ++k) w[k] *= inverse;
  }
};

// Sums of several values over the block, in a fixed order; total is in shared memory, every thread may read it.
template <int COUNT>
__device__ inline void block_sums(const scalar (&value)[COUNT], double* total) {
  static_assert(COUNT <= THREADS, "a thread for each sum");
  __shared__ scalar of_warp[COUNT][WARPS];
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    scalar sum = value[i];
    for (int offset = 16; offset > 0; offset >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (threadIdx.x % 32 == 0) of_warp[i][threadIdx.x / 32] = sum;
  }
  __syncthreads();
  if (threadIdx.x < COUNT) {
    double sum = 0;
    for (int warp = 0; warp < WARPS; ++warp) sum += of_warp[threadIdx.x][warp];
    total[threadIdx.x] = sum;
  }
  __syncthreads();
}

// The same, written to partial[0 ... COUNT - 1, c, p].
template <int COUNT>
__device__ inline void store_sums(const scalar (&value)[COUNT], double* partial, unsigned channels) {
  __shared__ double total[COUNT];
  block_sums(value, total);
  unsigned i = threadIdx.x;
  if (i < COUNT) partial[((size_t)i * channels + blockIdx.y) * gridDim.x + blockIdx.x] = total[i];
}

// The sum over all parts of quantity q of channel c. Every thread gets it.
__device__ inline double sum_parts(const double* partial, unsigned q, unsigned c, unsigned channels, unsigned parts) {
  const double* of_part = partial + ((size_t)q * channels + c) * parts;
  double sum = 0;
  for (unsigned p = threadIdx.x; p < parts; p += THREADS) sum += of_part[p];
  return block_sum(sum);
}

// --- the batch's moments: W_k = sum w, m_k = sum w x / W, v_k = sum w (x - m_k)^2 / W ------------------------------

// Where they go, (K, C) each, and what bounds them.
struct Moments {
  scalar *mean, *variance, *inverse_std, *total, *alive;
  double tiny, largest, eps;

  // 1 / W. What weighs less than the smallest normal number has no moments: its reciprocal need not be finite.
  __device__ double inverse(double weight) const { return weight < tiny ? 0 : 1 / weight; }

  // W, m and v of component i, 1 / sqrt(v + eps), and whether it lives.
  __device__ void store(unsigned i, double weight, double centre, double scatter, scalar log_prior) const {
    // A variance is not below 0 by rounding, and not beyond the largest number.
    scalar found = scatter < 0 ? 0 : scatter > largest ? largest : scatter;
    // A component is dead whose posteriors, S_k = sqrt(lambda_k) W_k, sum to less than the smallest normal number.
    scalar lives = exp(half_log(log_prior)) * (scalar)weight >= (scalar)tiny ? 1 : 0;
    mean[i] = centre;
    variance[i] = found;
    inverse_std[i] = lives / sqrt(found + (scalar)eps + ((scalar)1 - lives));  // v and eps may be 0 where it is dead
    total[i] = weight;
    alive[i] = lives;
  }
};

// Total weight, mean and scatter sum w (x - mean)^2 of a part: partial[k, K + k, 2 K + k]; where the part is the
// channel, the batch's moments. Reads x once.
extern "C" __global__ void mixture_moments(const scalar* x, const scalar* log_prior, const scalar* mean,
                                           const scalar* variance, double* partial, scalar* found_mean,
                                           scalar* found_variance, scalar* inverse_std, scalar* total_weight,
                                           scalar* alive, double tiny, double largest, double eps, long long samples,
                                           long long channels, long long spatial) {
  __shared__ Mixture mixture;
  __shared__ double total[2 * K];
  __shared__ scalar centre[K];
  mixture.load(log_prior, mean, variance, channels);
  __syncthreads();

  // 1. Each thread's samples, one after the other (West 1979: Welford's update with weights). A mean far from 0 would
  //    be rounded at every step: it is kept as high + low.
  scalar weight[K], high[K], low[K], scatter[K];
#pragma unroll
  for (int k = 0; k < K; ++k) weight[k] = high[k] = low[k] = scatter[k] = 0;
  for (Samples at(samples, channels, spatial); at.more(); at.next()) {
    scalar sample = x[at.index()], w[K];
    mixture.weights(sample, w);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      weight[k] += w[k];
      scalar share = w[k] / (weight[k] == 0 ? 1 : weight[k]);
      scalar before = (sample - high[k]) - low[k];
      scalar step = low[k] + share * before;
      scalar moved = high[k] + step;
      low[k] = step - (moved - high[k]);
      high[k] = moved;
      if (share == 1) {  // what came before weighs nothing, however far away it is
        high[k] = sample;
        low[k] = 0;
      }
      scalar after = (sample - high[k]) - low[k];
      scatter[k] += w[k] * after * before;
    }
  }

  // 2. The block's means, as well as scalar holds them.
  scalar sums[2 * K];
#pragma unroll
  for (int k = 0; k < K; ++k) {
    sums[k] = weight[k];
    sums[K + k] = weight[k] * high[k];
  }
  block_sums(sums, total);
  unsigned i = threadIdx.x;
  double all = i < K ? total[i] : 0;
  if (i < K) centre[i] = all == 0 ? 0 : total[K + i] / all;
  __syncthreads();

  // 3. The scatter around them, never a difference of squares (Chan, Golub & LeVeque 1983). What is left of the first
  //    moment corrects both.
#pragma unroll
  for (int k = 0; k < K; ++k) {
    scalar apart = (high[k] - centre[k]) + low[k];
    sums[k] = weight[k] * apart;
    sums[K + k] = scatter[k] + weight[k] * apart * apart;
  }
  block_sums(sums, total);
  if (i >= K) return;
  double left = all == 0 ? 0 : total[i] / all;
  double middle = centre[i] + left, around = total[K + i] - left * total[i];
  size_t plane = (size_t)K * channels * gridDim.x;
  size_t here = ((size_t)i * channels + blockIdx.y) * gridDim.x + blockIdx.x;
  if (gridDim.x == 1) {
    const Moments to = {found_mean, found_variance, inverse_std, total_weight, alive, tiny, largest, eps};
    double inverse = to.inverse(all);
    to.store(here, all, middle * (inverse > 0), around * inverse, log_prior[here]);
  } else {
    partial[here] = all;
    partial[plane + here] = middle;
    partial[2 * plane + here] = around;
  }
}

// Block (k, c) merges several parts.
extern "C" __global__ void mixture_moments_merge(const double* partial, const scalar* log_prior, scalar* mean,
                                                 scalar* variance, scalar* inverse_std, scalar* total, scalar* alive,
                                                 double tiny, double largest, double eps, long long channels,
                                                 long long parts) {
  const Moments to = {mean, variance, inverse_std, total, alive, tiny, largest, eps};
  unsigned k = blockIdx.x, c = blockIdx.y, i = k * (unsigned)channels + c;
  const double *weight_of = partial + (size_t)i * parts, *mean_of = weight_of + (size_t)K * channels * parts,
               *scatter_of = mean_of + (size_t)K * channels * parts;
  // Distances from the first part's mean: far from 0 the means themselves would leave few digits.
  double weight = 0, distances = 0, scatter = 0;
  for (unsigned p = threadIdx.x; p < parts; p += THREADS) {
    weight += weight_of[p];
    distances += weight_of[p] * (mean_of[p] - mean_of[0]);
  }
  weight = block_sum(weight);
  double inverse = to.inverse(weight);
  double centre = mean_of[0] * (inverse > 0) + block_sum(distances) * inverse;
  for (unsigned p = threadIdx.x; p < parts; p += THREADS) {
    double apart = mean_of[p] - centre;
    scatter += scatter_of[p] + weight_of[p] * apart * apart;
  }
  scatter = block_sum(scatter) * inverse;
  if (threadIdx.x == 0) to.store(i, weight, centre, scatter, log_prior[i]);
}

// --- y -------------------------------------------------------------------------------------------------------------

// y = sum_k w_k (x - m_k) scale_k + beta with scale_k = gamma rho i_k. Reads x once, writes y once. gamma and beta may
// be null, for 1 and 0.
extern "C" __global__ void mixture_transform(const scalar* x, const scalar* log_prior, const scalar* mean,
                                             const scalar* variance, const scalar* moments_mean,
                                             const scalar* inverse_std, const scalar* gamma, const scalar* beta,
                                             scalar* y, double rho, long long samples, long long channels,
                                             long long spatial) {
  __shared__ Mixture mixture;
  __shared__ scalar m[K], scale[K];
  mixture.load(log_prior, mean, variance, channels);
  if (threadIdx.x < K) {
    unsigned i = threadIdx.x * (unsigned)channels + blockIdx.y;
    m[threadIdx.x] = moments_mean[i];
    scale[threadIdx.x] = inverse_std[i] * ((scalar)rho * (gamma ? gamma[blockIdx.y] : (scalar)1));
  }
  __syncthreads();
  scalar shift = beta ? beta[blockIdx.y] : 0;

  for (Samples at(samples, channels, spatial); at.more(); at.next()) {
    scalar sample = x[at.index()], w[K], sum = 0;
    mixture.weights(sample, w);
#pragma unroll
    for (int k = 0; k < K; ++k) sum += (sample - m[k]) * scale[k] * w[k];
    y[at.index()] = sum + shift;
  }
}

// --- the gradients -------------------------------------------------------------------------------------------------

// What the components normalize with, and their gradients per unit of weight; in shared memory.
struct Normalization {
  scalar mean[K], inverse_std[K];    // m, i
  scalar variance[K], dm[K], dv[K];  // v, dL/dm_k / W_k, dL/dv_k / W_k: with the batch's moments only

  // Thread k prepares component k, i = k C + c. The caller synchronizes.
  __device__ void load(unsigned i, const scalar* mean_, const scalar* inverse_std_) {
    if (threadIdx.x >= K) return;
    mean[threadIdx.x] = mean_[i];
    inverse_std[threadIdx.x] = inverse_std_[i];
  }
  __device__ void load_gradients(unsigned i, const scalar* variance_, const scalar* total, const scalar* alive,
                                 scalar dm_, scalar dv_) {
    scalar share = alive[i] / (total[i] + ((scalar)1 - alive[i]));  // 1 / W_k, 0 for a dead component
    variance[threadIdx.x] = variance_[i];
    dm[threadIdx.x] = dm_ * share;
    dv[threadIdx.x] = dv_ * share;
  }
};

// 1. What the moments receive: A_k = sum dy w_k, B_k = sum dy w_k xhat^k, and sum dy. 2 K + 1 sums.
constexpr int A = 0, B = K, DY = 2 * K, MOMENT_SUMS = 2 * K + 1;

__device__ inline void add_moment_sums(scalar x, scalar dy, const scalar (&w)[K], const Normalization& by,
                                       scalar (&sums)[MOMENT_SUMS]) {
#pragma unroll
  for (int k = 0; k < K; ++k) {
    scalar dy_w = w[k] * dy;
    sums[A + k] += dy_w;
    sums[B + k] += dy_w * ((x - by.mean[k]) * by.inverse_std[k]);
  }
  sums[DY] += dy;
}

// Over the samples of the block.
__device__ inline void sum_moments(Samples at, const scalar* dy, const scalar* x, const Mixture& mixture,
                                   const Normalization& by, scalar (&sums)[MOMENT_SUMS]) {
  for (; at.more(); at.next()) {
    scalar sample = x[at.index()], w[K];
    mixture.weights(sample, w);
    add_moment_sums(sample, dy[at.index()], w, by, sums);
  }
}

// dm_k = -gamma rho i_k A_k and dv_k = -1/2 gamma rho i_k^2 B_k; scale = gamma rho.
__device__ inline scalar dm_of(double scale, double inverse, double a) { return -scale * inverse * a; }
__device__ inline scalar dv_of(double scale, double inverse, double b) { return -0.5 * scale * inverse * inverse * b; }

// Reads x and dy once; writes partial[0 ... 2 K].
extern "C" __global__ void mixture_sums(const scalar* dy, const scalar* x, const scalar* log_prior, const scalar* mean,
                                        const scalar* variance, const scalar* moments_mean, const scalar* inverse_std,
                                        double* partial, long long samples, long long channels, long long spatial) {
  __shared__ Mixture mixture;
  __shared__ Normalization by;
  mixture.load(log_prior, mean, variance, channels);
  by.load(threadIdx.x * (unsigned)channels + blockIdx.y, moments_mean, inverse_std);
  __syncthreads();

  scalar sums[MOMENT_SUMS] = {};
  sum_moments(Samples(samples, channels, spatial), dy, x, mixture, by, sums);
  store_sums(sums, partial, channels);
}

// Block c merges the parts: dgamma = rho sum_k B_k, dbeta = sum dy, dm_k and dv_k.
extern "C" __global__ void mixture_sums_merge(const double* partial, const scalar* inverse_std, const scalar* gamma,
                                              scalar* dgamma, scalar* dbeta, scalar* dm, scalar* dv, double rho,
                                              long long channels, long long parts) {
  unsigned c = blockIdx.x;
  double scale = gamma ? rho * gamma[c] : rho, all_b = 0;
  for (int k = 0; k < K; ++k) {
    double a = sum_parts(partial, A + k, c, channels, parts), b = sum_parts(partial, B + k, c, channels, parts);
    all_b += b;
    unsigned i = k * (unsigned)channels + c;
    if (threadIdx.x == 0) dm[i] = dm_of(scale, inverse_std[i], a);
    if (threadIdx.x == 0) dv[i] = dv_of(scale, inverse_std[i], b);
  }
  double dy = sum_parts(partial, DY, c, channels, parts);
  if (threadIdx.x == 0) dgamma[c] = rho * all_b;
  if (threadIdx.x == 0) dbeta[c] = dy;
}

// What the mixture receives through the weights: sums of dl_k, dl_k u_k and dl_k u_k^2, where u_k = (x - mu_k) / s_k.
// 3 K sums.
constexpr int DL = 0, DL_U = K, DL_UU = 2 * K, WEIGHT_SUMS = 3 * K;

// Over the samples of the block; writes their dx. FROM_BATCH: m and v are this batch's, and dm and dv known. Otherwise
// moments are constants, dx needs no sum over the batch, and this pass takes step 1 along.
__device__ inline void propagate(Samples at, const scalar* dy, const scalar* x, const Mixture& mixture,
                                 const Normalization& by, scalar scale, scalar* dx, scalar (&moment_sums)[MOMENT_SUMS],
                                 scalar (&sums)[WEIGHT_SUMS]) {
  for (; at.more(); at.next()) {
    scalar sample = x[at.index()], dy_here = dy[at.index()];
    // The components' constants are read again for each sample: kept in registers they would push the sums out.
    asm volatile("" ::: "memory");
    scalar near = bounded(sample), g = dy_here * scale, dsample = 0;
    scalar w[K], dlog_w[K], all_dlog_w = 0, all_tau = 0;  // 1 but for rounding
    mixture.weights(sample, w);
    if (!FROM_BATCH) add_moment_sums(sample, dy_here, w, by, moment_sums);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      // 2. Directly: dx = sum_k g w_k i_k, dlog w_k = g w_k xhat^k.
      scalar g_w_i = w[k] * g * by.inverse_std[k];
      dsample += g_w_i;
      dlog_w[k] = (sample - by.mean[k]) * g_w_i;
      // 3. Through the batch's moments, wbar_k = w_k / W_k:
      //    dx = sum_k wbar_k (dm_k + 2 dv_k (x - m_k)),
      //    dlog w_k = wbar_k (dm_k (x - m_k) + dv_k ((x - m_k)^2 - v_k)).
      if (FROM_BATCH) {
        scalar centred = near - by.mean[k], dv_centred = centred * by.dv[k], slope = dv_centred + by.dm[k];
        dsample += (dv_centred + slope) * w[k];
        dlog_w[k] += (slope * centred - by.dv[k] * by.variance[k]) * w[k];
      }
      all_dlog_w += dlog_w[k];
      all_tau += w[k] * mixture.root_prior[k];
    }
    // 4. Through the weights: dl_k = dlog w_k - tau_k sum_j dlog w_j, dx = -sum_k dl_k u_k.
#pragma unroll
    for (int k = 0; k < K; ++k) {
      // Divided by its sum tau is exactly 1 where one component is alone: far out u multiplies what is left of dl.
      scalar dl = dlog_w[k] - w[k] * mixture.root_prior[k] / all_tau * all_dlog_w;
      scalar u = (near - mixture.mean[k]) * mixture.precision[k], dl_u = dl * u;
      dsample -= dl_u;
      sums[DL + k] += dl;
      sums[DL_U + k] += dl_u;
      sums[DL_UU + k] += dl_u * u;
    }
    dx[at.index()] = dsample;
  }
}

// Where the gradients go that the mixture receives through the weights, (K, C) each.
struct MixtureGradients {
  scalar *log_prior, *mean, *variance;

  // dlog lambda_k = sum dl_k - 1/2 sum dlog w_k, dmu_k = sum dl_k u_k, ds_k = 1/2 (sum dl_k u_k^2 - sum dl_k / s_k).
  // Of sum dlog w_k the direct part is gamma rho B_k, and what comes through the batch's moments is 0: their weighted
  // deviations x - m_k and (x - m_k)^2 - v_k sum to 0. (The array code adds them up, and with samples beyond BOUND,
  // which it cuts off, does not find 0.)
  __device__ void store(unsigned i, double dlog_w, double dl, double dl_u, double dl_uu, scalar variance_) const {
    log_prior[i] = dl - 0.5 * dlog_w;
    mean[i] = dl_u;
    variance[i] = 0.5 * (dl_uu - dl / variance_);
  }
};

// All gradients of channels that a block has whole. Reads x and dy once, with the batch's moments twice; writes dx
// once.
extern "C" __global__ void mixture_backward(const scalar* dy, const scalar* x, const scalar* log_prior,
                                            const scalar* mean, const scalar* variance, const scalar* moments_mean,
                                            const scalar* moments_variance, const scalar* inverse_std,
                                            const scalar* total, const scalar* alive, const scalar* gamma, scalar* dx,
                                            scalar* dgamma, scalar* dbeta, scalar* dm, scalar* dv, scalar* dlog_prior,
                                            scalar* dmean, scalar* dvariance, double rho, long long samples,
                                            long long channels, long long spatial) {
  __shared__ Mixture mixture;
  __shared__ Normalization by;
  __shared__ double of_moments[MOMENT_SUMS], of_weights[WEIGHT_SUMS];
  const Samples at(samples, channels, spatial);
  unsigned k = threadIdx.x, c = blockIdx.y, i = k * (unsigned)channels + c;
  mixture.load(log_prior, mean, variance, channels);
  by.load(i, moments_mean, inverse_std);
  __syncthreads();
  double scale = gamma ? rho * gamma[c] : rho;

  scalar moment_sums[MOMENT_SUMS] = {}, sums[WEIGHT_SUMS] = {};
  if (FROM_BATCH) {
    sum_moments(at, dy, x, mixture, by, moment_sums);
    block_sums(moment_sums, of_moments);
    if (k < K)
      by.load_gradients(i, moments_variance, total, alive, dm_of(scale, inverse_std[i], of_moments[A + k]),
                        dv_of(scale, inverse_std[i], of_moments[B + k]));
    __syncthreads();
  }
  propagate(at, dy, x, mixture, by, gamma ? (scalar)rho * gamma[c] : (scalar)rho, dx, moment_sums, sums);
  if (!FROM_BATCH) block_sums(moment_sums, of_moments);
  block_sums(sums, of_weights);

  if (k < K) {
    dm[i] = dm_of(scale, inverse_std[i], of_moments[A + k]);
    dv[i] = dv_of(scale, inverse_std[i], of_moments[B + k]);
    const MixtureGradients to = {dlog_prior, dmean, dvariance};
    to.store(i, scale * of_moments[B + k], of_weights[DL + k], of_weights[DL_U + k], of_weights[DL_UU + k],
             variance[i]);
  }
  if (k > 0) return;
  double all_b = 0;
  for (int j = 0; j < K; ++j) all_b += of_moments[B + j];
  dgamma[c] = rho * all_b;
  dbeta[c] = of_moments[DY];
}

// Of each part: reads x and dy once, writes dx once, and partial[0 ... 3 K - 1]; with fixed moments the sums of step 1,
// too, partial[3 K ... 5 K].
extern "C" __global__ void mixture_propagate(const scalar* dy, const scalar* x, const scalar* log_prior,
                                             const scalar* mean, const scalar* variance, const scalar* moments_mean,
                                             const scalar* moments_variance, const scalar* inverse_std,
                                             const scalar* total, const scalar* alive, const scalar* dm,
                                             const scalar* dv, const scalar* gamma, scalar* dx, double* partial,
                                             double rho, long long samples, long long channels, long long spatial) {
  __shared__ Mixture mixture;
  __shared__ Normalization by;
  unsigned i = threadIdx.x * (unsigned)channels + blockIdx.y;
  mixture.load(log_prior, mean, variance, channels);
  by.load(i, moments_mean, inverse_std);
  if (FROM_BATCH && threadIdx.x < K) by.load_gradients(i, moments_variance, total, alive, dm[i], dv[i]);
  __syncthreads();
  scalar scale = gamma ? (scalar)rho * gamma[blockIdx.y] : (scalar)rho;

  scalar moment_sums[MOMENT_SUMS] = {}, sums[WEIGHT_SUMS] = {};
  propagate(Samples(samples, channels, spatial), dy, x, mixture, by, scale, dx, moment_sums, sums);
  store_sums(sums, partial, channels);
  if (!FROM_BATCH) store_sums(moment_sums, partial + (size_t)WEIGHT_SUMS * channels * gridDim.x, channels);
}

// Block (k, c) merges the parts.
extern "C" __global__ void mixture_propagate_merge(const double* partial, const double* moment_sums,
                                                   const scalar* variance, const scalar* gamma, scalar* dlog_prior,
                                                   scalar* dmean, scalar* dvariance, double rho, long long channels,
                                                   long long parts) {
  unsigned k = blockIdx.x, c = blockIdx.y, i = k * (unsigned)channels + c;
  double dlog_w = (gamma ? rho * gamma[c] : rho) * sum_parts(moment_sums, B + k, c, channels, parts);
  double dl = sum_parts(partial, DL + k, c, channels, parts);
  double dl_u = sum_parts(partial, DL_U + k, c, channels, parts);
  double dl_uu = sum_parts(partial, DL_UU + k, c, channels, parts);
  const MixtureGradients to = {dlog_prior, dmean, dvariance};
  if (threadIdx.x == 0) to.store(i, dlog_w, dl, dl_u, dl_uu, variance[i]);
}
