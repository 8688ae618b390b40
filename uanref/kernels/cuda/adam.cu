// One step of Adam or AdamW for one parameter, one thread per element:
//
//     g <- g + penalty theta,    m <- beta1 m + (1 - beta1) g,    v <- beta2 v + (1 - beta2) g^2,
//     theta' = shrink theta - rate m / (correction sqrt(v) + eps).
//
// Adam's decay is the penalty, AdamW's the shrinkage. rate = lr / (1 - beta1^t) and correction = (1 - beta2^t)^(-1/2)
// take out that both averages started at 0.

extern "C" __global__ void __launch_bounds__(THREADS)
adam(const scalar* value, const scalar* grad, scalar* m, scalar* v, scalar* moved, long long size, double beta1,
     double beta2, double eps, double rate, double correction, double penalty, double shrink) {
  unsigned i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= size) return;
  scalar theta = value[i], g = grad[i];
  if (penalty > 0) g += (scalar)penalty * theta;
  // 1. Running averages of the gradient and of its square.
  scalar first = m[i] * (scalar)beta1 + (scalar)(1.0 - beta1) * g;
  scalar second = v[i] * (scalar)beta2 + (scalar)(1.0 - beta2) * g * g;
  m[i] = first;
  v[i] = second;
  // 2. Step.
  scalar denominator = sqrt(second) * (scalar)correction + (scalar)eps;
  moved[i] = theta * (scalar)shrink - first / denominator * (scalar)rate;
}
