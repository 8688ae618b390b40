// Batch normalization over the M = N S samples of each channel of x (N, C, S), and its backward pass.
//
//     mu = sum x / M,  v = sum (x - mu)^2 / M,  i = 1 / sqrt(v + eps),  y = gamma (x - mu) i + beta
//     dbeta = sum dy,  dgamma = sum dy (x - mu) i,  dx = gamma i (dy - dbeta / M - (x - mu) i dgamma / M)
//
// A channel is cut into P parts of CHUNK samples. Block (p, c) of the grid (P, C) works on part p of channel c, block c
// of the grid (C) merges the parts of channel c. What is per channel has shape (C), what is per part (C, P).

__device__ inline scalar inverse_root(scalar var, double eps) { return (scalar)1 / sqrt(var + (scalar)eps); }

// --- forward --------------------------------------------------------------------------------------

// The moments of each part: its mean, and its scatter = sum (x - mean)^2.
extern "C" __global__ void batch_norm_moments(const scalar* x, long long samples, long long channels, long long spatial,
                                              double* part_mean, double* part_scatter) {
  Samples at(samples, channels, spatial);
  const int mine = at.visits();
  scalar held[EACH];
  load(x, at, held);

  // 1. The mean, from the distances to one of the samples: a sum of x itself would be rounded coarsely where x is far
  //    from 0, and here a constant part has exactly its constant as mean. Each term is divided by their number before
  //    the sum, which could overflow.
  __shared__ scalar first;
  if (threadIdx.x == 0) first = held[0];
  __syncthreads();
  const unsigned count = part_samples(blockIdx.x, samples);
  const scalar share = (scalar)1 / count;
  scalar distance = 0;
#pragma unroll
  for (int k = 0; k < EACH; ++k)
    if (k < mine) distance += (held[k] - first) * share;
  const scalar centre = first + (scalar)block_sum(distance);

  // 2. The scatter around it. The mean of the centred samples tells by how much the first mean was rounded, and is
  //    taken out of both moments (the corrected two-pass algorithm).
  scalar left = 0, squares = 0;
#pragma unroll
  for (int k = 0; k < EACH; ++k) {
    if (k < mine) {
      scalar centred = held[k] - centre;
      left += centred * share;
      squares += centred * centred;
    }
  }
  const double rest = block_sum(left), scatter = block_sum(squares);
  if (threadIdx.x == 0) {
    size_t part = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    part_mean[part] = centre + rest;
    part_scatter[part] = scatter - count * rest * rest;
  }
}

// The batch's moments from those of the parts (Chan, Golub & LeVeque 1983), and the running moments moved towards them.
extern "C" __global__ void batch_norm_merge(const double* part_mean, const double* part_scatter, long long samples,
                                            long long parts, double largest, double momentum,
                                            const scalar* running_mean, const scalar* running_var, scalar* mean,
                                            scalar* var, scalar* moved_mean, scalar* moved_var) {
  const unsigned c = blockIdx.x;
  part_mean += c * parts;
  part_scatter += c * parts;

  // mu = sum_p M_p mu_p / M, from the distances to the first part's mean, so that equal means merge to themselves.
  double distances = 0;
  for (unsigned p = threadIdx.x; p < parts; p += THREADS)
    distances += part_samples(p, samples) * (part_mean[p] - part_mean[0]);
  const double mu = part_mean[0] + block_sum(distances) / samples;

  // v = sum_p (scatter_p + M_p (mu_p - mu)^2) / M
  double scatter = 0;
  for (unsigned p = threadIdx.x; p < parts; p += THREADS) {
    double apart = part_mean[p] - mu;
    scatter += part_scatter[p] + part_samples(p, samples) * apart * apart;
  }
  double v = block_sum(scatter) / samples;
  v = v < 0 ? 0 : v > largest ? largest : v;  // not below 0 by rounding, not beyond what scalar holds; NaN stays

  if (threadIdx.x == 0) {
    mean[c] = mu;
    var[c] = v;
    moved_mean[c] = (1 - momentum) * running_mean[c] + momentum * mu;
    moved_var[c] = (1 - momentum) * running_var[c] + momentum * samples / (samples - 1) * v;
  }
}

// y = gamma i (x - mu) + beta; gamma and beta may be null, for 1 and 0.
extern "C" __global__ void batch_norm_normalize(const scalar* x, long long samples, long long channels,
                                                long long spatial, const scalar* mean, const scalar* var, double eps,
                                                const scalar* gamma, const scalar* beta, scalar* y) {
  const unsigned c = blockIdx.y;
  const scalar mu = mean[c], inverse_std = inverse_root(var[c], eps);
  const scalar scale = gamma ? gamma[c] * inverse_std : inverse_std, shift = beta ? beta[c] : (scalar)0;

  Samples at(samples, channels, spatial);
  scalar held[EACH];
  load(x, at, held);
#pragma unroll
  for (int k = 0; k < EACH; ++k, at.next())
    if (at.more()) y[at.index()] = (held[k] - mu) * scale + shift;
}

// --- backward -------------------------------------------------------------------------------------

// Each part's sums of dy and of dy x_hat, with x_hat = (x - mu) i.
extern "C" __global__ void batch_norm_sums(const scalar* dy, const scalar* x, long long samples, long long channels,
                                           long long spatial, const scalar* mean, const scalar* var, double eps,
                                           double* part_dbeta, double* part_dgamma) {
  Samples at(samples, channels, spatial);
  scalar held_dy[EACH], held_x[EACH];
  load(dy, at, held_dy);
  load(x, at, held_x);

  const unsigned c = blockIdx.y;
  const scalar mu = mean[c], inverse_std = inverse_root(var[c], eps);
  scalar of_dy = 0, of_dy_x_hat = 0;
#pragma unroll
  for (int k = 0; k < EACH; ++k) {  // where there is no sample any more, dy is 0
    of_dy += held_dy[k];
    of_dy_x_hat += held_dy[k] * ((held_x[k] - mu) * inverse_std);
  }
  const double sum_dy = block_sum(of_dy), sum_dy_x_hat = block_sum(of_dy_x_hat);
  if (threadIdx.x == 0) {
    size_t part = (size_t)c * gridDim.x + blockIdx.x;
    part_dbeta[part] = sum_dy;
    part_dgamma[part] = sum_dy_x_hat;
  }
}

// dbeta and dgamma: the sums over the parts.
extern "C" __global__ void batch_norm_merge_sums(const double* part_dbeta, const double* part_dgamma, long long parts,
                                                 scalar* dbeta, scalar* dgamma) {
  const unsigned c = blockIdx.x;
  double of_dy = 0, of_dy_x_hat = 0;
  for (unsigned p = threadIdx.x; p < parts; p += THREADS) {
    of_dy += part_dbeta[c * parts + p];
    of_dy_x_hat += part_dgamma[c * parts + p];
  }
  const double sum_dy = block_sum(of_dy), sum_dy_x_hat = block_sum(of_dy_x_hat);
  if (threadIdx.x == 0) {
    dbeta[c] = sum_dy;
    dgamma[c] = sum_dy_x_hat;
  }
}

// dx = gamma i (dy - dbeta / M - (x - mu) i dgamma / M) where the moments are the batch's; gamma may be null, for 1.
extern "C" __global__ void batch_norm_dx(const scalar* dy, const scalar* x, long long samples, long long channels,
                                         long long spatial, const scalar* mean, const scalar* var, double eps,
                                         const scalar* gamma, const scalar* dbeta, const scalar* dgamma, scalar* dx) {
  const unsigned c = blockIdx.y;
  const scalar mu = mean[c], inverse_std = inverse_root(var[c], eps);
  const scalar scale = gamma ? gamma[c] * inverse_std : inverse_std;
  const scalar through_mean = dbeta[c] / samples, through_var = dgamma[c] * inverse_std / samples;

  Samples at(samples, channels, spatial);
  scalar held_dy[EACH], held_x[EACH];
  load(dy, at, held_dy);
  load(x, at, held_x);
#pragma unroll
  for (int k = 0; k < EACH; ++k, at.next())
    if (at.more()) dx[at.index()] = scale * (held_dy[k] - through_mean - (held_x[k] - mu) * through_var);
}

// dx = gamma i dy where the moments are constants.
extern "C" __global__ void batch_norm_scale(const scalar* dy, long long samples, long long channels, long long spatial,
                                            const scalar* var, double eps, const scalar* gamma, scalar* dx) {
  const unsigned c = blockIdx.y;
  const scalar inverse_std = inverse_root(var[c], eps), scale = gamma ? gamma[c] * inverse_std : inverse_std;

  Samples at(samples, channels, spatial);
  scalar held[EACH];
  load(dy, at, held);
#pragma unroll
  for (int k = 0; k < EACH; ++k, at.next())
    if (at.more()) dx[at.index()] = scale * held[k];
}
