// One step of stochastic gradient descent for one parameter, one thread per element:
//
//     g <- g + penalty theta,    velocity <- momentum velocity + g,
//     theta' = theta - lr velocity,    or with Nesterov's look ahead    theta - lr (g + momentum velocity).
//
// Without momentum there is no velocity (null) and theta' = theta - lr g.

extern "C" __global__ void __launch_bounds__(THREADS)
sgd(const scalar* value, const scalar* grad, scalar* velocity, scalar* moved, long long size, double lr,
    double momentum, long long nesterov, double penalty) {
  unsigned i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= size) return;
  scalar theta = value[i], g = grad[i];
  if (penalty > 0) g += (scalar)penalty * theta;
  if (velocity) {
    scalar speed = velocity[i] * (scalar)momentum + g;
    velocity[i] = speed;
    g = nesterov ? g + (scalar)momentum * speed : speed;
  }
  moved[i] = theta - (scalar)lr * g;
}
