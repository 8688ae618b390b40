// What the kernels share: which samples a thread visits, and sums over a block in a fixed order.
// REAL (float or double), THREADS (of a block) and CHUNK (samples of a block) are macros of the compilation.
//
// Where scalar is float, what is done once per sample is done in float, and double is left to the steps that a block
// does once: small cards have 32 times fewer units for it.

typedef REAL scalar;

// How many samples a thread visits, at most.
constexpr int EACH = CHUNK / THREADS;

// How many of a channel's samples belong to its part p: CHUNK, fewer in the last part.
__device__ inline unsigned part_samples(unsigned p, long long samples) {
  long long left = samples - (long long)p * CHUNK;
  return left < CHUNK ? (unsigned)left : CHUNK;
}

// The samples of one channel that one thread visits. x is (N, C, S), C-contiguous, of less than 2^31 elements; sample m
// of channel c is element s = m % S of image n = m / S. Block (p, c) has the samples p CHUNK ... (p + 1) CHUNK - 1 of
// channel c, as far as there are that many.
//
//     for (Samples at(samples, channels, spatial); at.more(); at.next()) ... x[at.index()] ...
struct Samples {
  unsigned m, end;                   // the sample, and where the block's samples end
  unsigned s, position;              // which element of its image, and of x
  unsigned step_s, step_position;    // a step of THREADS samples: no division inside the loop
  unsigned spatial, other_channels;  // how many elements an image has of this channel, and of the others

  __device__ Samples(long long samples, long long channels, long long spatial_) : spatial((unsigned)spatial_) {
    unsigned begin = blockIdx.x * CHUNK, image = (unsigned)channels * spatial;
    m = begin + threadIdx.x;
    end = begin + part_samples(blockIdx.x, samples);
    s = m % spatial;
    position = m / spatial * image + blockIdx.y * spatial + s;
    step_s = THREADS % spatial;
    step_position = THREADS / spatial * image + step_s;
    other_channels = image - spatial;
  }
  __device__ bool more() const { return m < end; }
  __device__ size_t index() const { return position; }
  __device__ int visits() const { return m < end ? (end - m + THREADS - 1) / THREADS : 0; }  // still to come
  __device__ void next() {
    m += THREADS;
    s += step_s;
    position += step_position;
    if (s >= spatial) {  // on to the next image
      s -= spatial;
      position += other_channels;
    }
  }
};

// Read the samples that a thread visits into registers: all of the reads are under way before the first is needed.
// Entries from at.visits() on are 0.
__device__ inline void load(const scalar* x, Samples at, scalar (&held)[EACH]) {
#pragma unroll
  for (int k = 0; k < EACH; ++k, at.next()) held[k] = at.more() ? x[at.index()] : (scalar)0;
}

// The sum over the block's threads, in a fixed order: within a warp in the precision of the values, over the warps in
// double. Every thread gets it.
template <typename T>
__device__ inline double block_sum(T value) {
  __shared__ double of_warp[THREADS / 32];
  for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_down_sync(0xffffffffu, value, offset);
  __syncthreads();  // whoever still reads the last call's result
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int warp = 1; warp < THREADS / 32; ++warp) of_warp[0] += of_warp[warp];
  __syncthreads();
  return of_warp[0];
}
