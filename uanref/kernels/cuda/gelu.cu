// The Gaussian error linear unit f(x) = x Phi(x) and f'(x) = Phi(x) + x phi(x), one thread per element, in double:
// with a = |x| the smaller side of Phi is phi(a) R(a), and Mills' ratio R is erfcx, to a factor. Beyond 40 f is x or 0 in
// double, too, and infinity times 0 would be NaN.

extern "C" __global__ void __launch_bounds__(THREADS)
gelu(const scalar* x, scalar* y, scalar* slope, long long size) {
  unsigned i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= size) return;
  double low = x[i] < -40 ? -40.0 : (double)x[i], near = low > 40 ? 40.0 : low;
  // 1. e^(-x^2/2), and what the rounding of the square took is put back.
  double square = near * near, lost = fma(near, near, -square);
  double bell = exp(-0.5 * square) * (1 - 0.5 * lost);
  // 2. Phi(-a) / e^(-a^2/2). The density comes last: Phi alone would leave the range of normal numbers before f does.
  double tail = 0.5 * erfcx(fabs(near) * 0.70710678118654752);
  y[i] = (scalar)(low > 0 ? low * (1 - tail * bell) : low * tail * bell);
  slope[i] = (scalar)((low > 0 ? 1 - tail * bell : tail * bell) + near * bell * 0.39894228040143268);
}
