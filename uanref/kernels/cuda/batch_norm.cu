// Batch normalization over the M = N S samples of each channel of x (N, C, S), and its backward pass.
//
//     mu = sum x / M,  v = sum (x - mu)^2 / M,  i = 1 / sqrt(v + eps),  y = gamma (x - mu) i + beta
//     dbeta = sum dy,  dgamma = sum dy (x - mu) i,  dx = gamma i (dy - dbeta / M - (x - mu) i dgamma / M)
//
// A channel is cut into P parts of CHUNK samples. Block (p, c) of the grid (P, C) works on part p of channel c, block c
// of the grid (C) merges the parts of channel c. What is per channel has shape (C), what is per part (C, P). Where
// P = 1 a block has its whole channel, and there is nothing to merge.

__device__ inline scalar inverse_root(scalar var, double eps) { return (scalar)1 / sqrt(var + (scalar)eps); }

// --- forward --------------------------------------------------------------------------------------

// Where the batch's moments of a channel go, and the running moments moved towards them.
struct Statistics {
  double samples, largest, momentum;
  const scalar *running_mean, *running_var;
  scalar *mean, *var, *moved_mean, *moved_var;

  // Of channel c: mu, and the scatter sum (x - mu)^2. One thread does it.
  __device__ void store(unsigned c, double mu, double scatter) const {
    double v = scatter / samples;
    v = v < 0 ? 0 : v > largest ? largest : v;  // not below 0 by rounding, not beyond what scalar holds; NaN stays
    mean[c] = mu;
    var[c] = v;
    moved_mean[c] = (1 - momentum) * running_mean[c] + momentum * mu;
    moved_var[c] = (1 - momentum) * running_var[c] + momentum * samples / (samples - 1) * v;
  }
};

// The moments of each part: its mean, and its scatter = sum (x - mean)^2. Where the part is the channel they are the
// batch's.
extern "C" __global__ void batch_norm_moments(const scalar* x, long long samples, long long channels, long long spatial,
                                              double* part_mean, double* part_scatter, double largest, double momentum,
                                              const scalar* running_mean, const scalar* running_var, scalar* mean,
                                              scalar* var, scalar* moved_mean, scalar* moved_var) {
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
  const double rest = block_sum(left), squared = block_sum(squares);
  if (threadIdx.x > 0) return;
  const double mu = centre + rest, scatter = squared - count * rest * rest;
  if (gridDim.x == 1) {
    const Statistics to = {(double)samples, largest, momentum, running_mean, running_var, mean, var, moved_mean,
                           moved_var};
    to.store(blockIdx.y, mu, scatter);
  } else {
    size_t part = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    part_mean[part] = mu;
    part_scatter[part] = scatter;
  }
}

// The batch's moments from those of several parts (Chan, Golub & LeVeque 1983).
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

  // M v = sum_p (scatter_p + M_p (mu_p - mu)^2)
  double scatter = 0;
  for (unsigned p = threadIdx.x; p < parts; p += THREADS) {
    double apart = part_mean[p] - mu;
    scatter += part_scatter[p] + part_samples(p, samples) * apart * apart;
  }
  scatter = block_sum(scatter);
  if (threadIdx.x > 0) return;
  const Statistics to = {(double)samples, largest, momentum, running_mean, running_var, mean, var, moved_mean,
                         moved_var};
  to.store(c, mu, scatter);
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

// What a sample of a channel is multiplied with on its way back; gamma may be null, for 1.
struct Channel {
  scalar mu, inverse_std, scale;

  __device__ Channel(unsigned c, const scalar* mean, const scalar* var, double eps, const scalar* gamma)
      : mu(mean[c]), inverse_std(inverse_root(var[c], eps)), scale(gamma ? gamma[c] * inverse_std : inverse_std) {}

  // The block's sums of dy and of dy x_hat, with x_hat = (x - mu) i. Every thread gets them.
  __device__ void sums(const scalar (&dy)[EACH], const scalar (&x)[EACH], double& of_dy, double& of_dy_x_hat) const {
    scalar mine = 0, mine_x_hat = 0;
#pragma unroll
    for (int k = 0; k < EACH; ++k) {  // where there is no sample any more, dy is 0
      mine += dy[k];
      mine_x_hat += dy[k] * ((x[k] - mu) * inverse_std);
    }
    of_dy = block_sum(mine);
    of_dy_x_hat = block_sum(mine_x_hat);
  }

  // dx = gamma i (dy - dbeta / M - (x - mu) i dgamma / M) where the moments are the batch's.
  __device__ void store_dx(Samples at, const scalar (&dy)[EACH], const scalar (&x)[EACH], scalar dbeta, scalar dgamma,
                           long long samples, scalar* dx) const {
    const scalar through_mean = dbeta / samples, through_var = dgamma * inverse_std / samples;
#pragma unroll
    for (int k = 0; k < EACH; ++k, at.next())
      if (at.more()) dx[at.index()] = scale * (dy[k] - through_mean - (x[k] - mu) * through_var);
  }

  // dx = gamma i dy where the moments are constants.
  __device__ void store_scaled(Samples at, const scalar (&dy)[EACH], scalar* dx) const {
#pragma unroll
    for (int k = 0; k < EACH; ++k, at.next())
      if (at.more()) dx[at.index()] = scale * dy[k];
  }
};

// dbeta, dgamma and dx of channels that a block has whole: dy and x stay in its registers, and are read once.
extern "C" __global__ void batch_norm_backward(const scalar* dy, const scalar* x, long long samples, long long channels,
                                               long long spatial, const scalar* mean, const scalar* var, double eps,
                                               const scalar* gamma, scalar* dbeta, scalar* dgamma, scalar* dx,
                                               long long from_batch) {
  Samples at(samples, channels, spatial);
  scalar held_dy[EACH], held_x[EACH];
  load(dy, at, held_dy);
  load(x, at, held_x);

  const unsigned c = blockIdx.y;
  const Channel channel(c, mean, var, eps, gamma);
  double of_dy, of_dy_x_hat;
  channel.sums(held_dy, held_x, of_dy, of_dy_x_hat);
  if (threadIdx.x == 0) {
    dbeta[c] = of_dy;
    dgamma[c] = of_dy_x_hat;
  }
  if (from_batch)
    channel.store_dx(at, held_dy, held_x, of_dy, of_dy_x_hat, samples, dx);
  else
    channel.store_scaled(at, held_dy, dx);
}

// Each of several parts' sums of dy and of dy x_hat.
extern "C" __global__ void batch_norm_sums(const scalar* dy, const scalar* x, long long samples, long long channels,
                                           long long spatial, const scalar* mean, const scalar* var, double eps,
                                           double* part_dbeta, double* part_dgamma) {
  Samples at(samples, channels, spatial);
  scalar held_dy[EACH], held_x[EACH];
  load(dy, at, held_dy);
  load(x, at, held_x);

  const unsigned c = blockIdx.y;
  double of_dy, of_dy_x_hat;
  Channel(c, mean, var, eps, nullptr).sums(held_dy, held_x, of_dy, of_dy_x_hat);
  if (threadIdx.x == 0) {
    size_t part = (size_t)c * gridDim.x + blockIdx.x;
    part_dbeta[part] = of_dy;
    part_dgamma[part] = of_dy_x_hat;
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

// dx where the moments are the batch's.
extern "C" __global__ void batch_norm_dx(const scalar* dy, const scalar* x, long long samples, long long channels,
                                         long long spatial, const scalar* mean, const scalar* var, double eps,
                                         const scalar* gamma, const scalar* dbeta, const scalar* dgamma, scalar* dx) {
  Samples at(samples, channels, spatial);
  scalar held_dy[EACH], held_x[EACH];
  load(dy, at, held_dy);
  load(x, at, held_x);

  const unsigned c = blockIdx.y;
  Channel(c, mean, var, eps, gamma).store_dx(at, held_dy, held_x, dbeta[c], dgamma[c], samples, dx);
}

// dx where the moments are constants.
extern "C" __global__ void batch_norm_scale(const scalar* dy, long long samples, long long channels, long long spatial,
                                            const scalar* mean, const scalar* var, double eps, const scalar* gamma,
                                            scalar* dx) {
  Samples at(samples, channels, spatial);
  scalar held[EACH];
  load(dy, at, held);
  Channel(blockIdx.y, mean, var, eps, gamma).store_scaled(at, held, dx);
}
