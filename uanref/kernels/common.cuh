// What the kernels share: which samples a thread visits, and sums over a block in a fixed order.
// REAL (float or double), THREADS (of a block) and CHUNK (samples of a block) are macros of the compilation.

typedef REAL scalar;

// The samples of one channel that one thread visits. x is (N, C, S), C-contiguous; sample m of channel c is element
// s = m % S of image n = m / S. Block (p, c) has the samples p CHUNK ... (p + 1) CHUNK - 1 of channel c.
//
//     for (Samples at(samples, channels, spatial); at.more(); at.next()) ... x[at.index()] ...
struct Samples {
  unsigned m, end, n, s;
  unsigned step_n, step_s;  // a step of THREADS samples: no division inside the loop
  unsigned channels, spatial;

  __device__ Samples(long long samples, long long channels_, long long spatial_)
      : channels((unsigned)channels_), spatial((unsigned)spatial_) {
    unsigned begin = blockIdx.x * CHUNK, count = (unsigned)samples;
    m = begin + threadIdx.x;
    end = count - begin < CHUNK ? count : begin + CHUNK;
    n = m / spatial;
    s = m % spatial;
    step_n = THREADS / spatial;
    step_s = THREADS % spatial;
  }
  __device__ bool more() const { return m < end; }
  __device__ size_t index() const { return ((size_t)n * channels + blockIdx.y) * spatial + s; }
  __device__ void next() {
    m += THREADS;
    n += step_n;
    s += step_s;
    if (s >= spatial) {
      s -= spatial;
      n += 1;
    }
  }
};

// The sum over the block's threads, in a fixed order, in double precision. Every thread gets it.
__device__ inline double block_sum(double value) {
  __shared__ double of_warp[THREADS / 32];
  for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_down_sync(0xffffffffu, value, offset);
  __syncthreads();  // whoever still reads the last call's result
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  double total = 0;
  for (int warp = 0; warp < THREADS / 32; ++warp) total += of_warp[warp];
  return total;
}

// Weighted moments of some samples: total weight, mean, and scatter = sum of weight (x - mean)^2.
struct Moments {
  double weight, mean, scatter;
};

// The moments of the union of two sets (Chan, Golub & LeVeque 1983): never a difference of squares.
__device__ inline Moments merged(Moments a, Moments b) {
  double weight = a.weight + b.weight;
  if (weight == 0) return a;
  double apart = b.mean - a.mean, share = b.weight / weight;
  return {weight, a.mean + apart * share, a.scatter + b.scatter + apart * apart * a.weight * share};
}

// The moments over the block's threads, merged in a fixed order. Every thread gets them.
__device__ inline Moments block_merge(Moments mine) {
  __shared__ Moments of_warp[THREADS / 32];
  for (int offset = 16; offset > 0; offset >>= 1) {
    Moments other = {__shfl_down_sync(0xffffffffu, mine.weight, offset), __shfl_down_sync(0xffffffffu, mine.mean, offset),
                     __shfl_down_sync(0xffffffffu, mine.scatter, offset)};
    mine = merged(mine, other);
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  Moments total = of_warp[0];
  for (int warp = 1; warp < THREADS / 32; ++warp) total = merged(total, of_warp[warp]);
  return total;
}
