// Softmax cross-entropy of logits z (N, C) with target distributions t (N, C), one block per row at a time:
//
//     log p_c = z_c - max z - log sum_j exp(z_j - max z),    L = -1/N sum_n sum_c t_c log p_c,
//     dz_c = (p_c sum_j t_j - t_c) / N.
//
// The threads of a block share a row; a block takes rows b, b + blocks, b + 2 blocks, ...

// The target distributions, never stored: soft targets or one-hot labels, smoothed to (1 - a) t + a / C.
struct Targets {
  const scalar* soft;       // (N, C), or null
  const long long* labels;  // (N,) where there are no soft targets
  unsigned classes;
  scalar keep, even;  // 1 - a and a / C

  __device__ Targets(const scalar* soft_, const long long* labels_, long long classes_, double smoothing)
      : soft(soft_), labels(labels_), classes((unsigned)classes_) {
    keep = (scalar)(1.0 - smoothing);
    even = (scalar)(smoothing / classes);
  }
  __device__ scalar at(unsigned row, unsigned c) const {
    scalar given = soft ? soft[(size_t)row * classes + c] : (scalar)(labels[row] == c);
    return given * keep + even;
  }
};

// The maximum over the block's threads. Every thread gets it.
__device__ inline scalar block_max(scalar value) {
  __shared__ scalar of_warp[THREADS / 32];
  for (int offset = 16; offset > 0; offset >>= 1) {
    scalar other = __shfl_down_sync(0xffffffffu, value, offset);
    if (other > value) value = other;
  }
  __syncthreads();  // whoever still reads the last call's result
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  scalar highest = of_warp[0];
  for (int warp = 1; warp < THREADS / 32; ++warp) highest = of_warp[warp] > highest ? of_warp[warp] : highest;
  return highest;
}

// Stage 1: log p of every row, and the sum of each block's losses.
extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy_rows(const scalar* logits, const scalar* soft, const long long* labels, double smoothing,
                   long long samples, long long classes, scalar* log_p, double* of_block) {
  Targets t(soft, labels, classes, smoothing);
  double loss = 0;
  for (unsigned row = blockIdx.x; row < samples; row += gridDim.x) {
    const scalar* z = logits + (size_t)row * classes;
    // 1. The row's maximum, so that no exponential overflows.
    scalar highest = z[0];
    for (unsigned c = threadIdx.x; c < classes; c += THREADS) highest = z[c] > highest ? z[c] : highest;
    highest = block_max(highest);
    // 2. log sum exp of the shifted row.
    double sum = 0;
    for (unsigned c = threadIdx.x; c < classes; c += THREADS) sum += exp(z[c] - highest);
    scalar log_sum = (scalar)log(block_sum(sum));
    // 3. log p, and this row's share of the loss.
    for (unsigned c = threadIdx.x; c < classes; c += THREADS) {
      scalar shifted = z[c] - highest - log_sum;
      log_p[(size_t)row * classes + c] = shifted;
      scalar target = t.at(row, c);
      if (target != 0 || !isinf(shifted)) loss -= target * shifted;  // 0 log 0 = 0
    }
  }
  loss = block_sum(loss);
  if (threadIdx.x == 0) of_block[blockIdx.x] = loss;
}

// Stage 2, one block: the mean over the samples.
extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy_mean(const double* of_block, long long blocks, long long samples, scalar* loss) {
  double sum = 0;
  for (unsigned b = threadIdx.x; b < blocks; b += THREADS) sum += of_block[b];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *loss = (scalar)(sum / samples);
}

// dz = (p sum t - t) / N.
extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy_gradient(const scalar* log_p, const scalar* soft, const long long* labels, double smoothing,
                       long long samples, long long classes, scalar* d_logits) {
  Targets t(soft, labels, classes, smoothing);
  scalar share = (scalar)(1.0 / samples);
  for (unsigned row = blockIdx.x; row < samples; row += gridDim.x) {
    double sum = 0;
    for (unsigned c = threadIdx.x; c < classes; c += THREADS) sum += t.at(row, c);
    scalar total = (scalar)block_sum(sum);
    for (unsigned c = threadIdx.x; c < classes; c += THREADS) {
      size_t i = (size_t)row * classes + c;
      d_logits[i] = (exp(log_p[i]) * total - t.at(row, c)) * share;
    }
  }
}
