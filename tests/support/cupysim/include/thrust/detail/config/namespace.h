// What CuPy's complex numbers need of Thrust: the namespace that they live in.
#pragma once
#define THRUST_NAMESPACE_BEGIN namespace thrust {
#define THRUST_NAMESPACE_END }
#define THRUST_NAMESPACE_QUALIFIER thrust
