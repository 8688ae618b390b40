// The language: CUDA's keywords, index variables and vector types, said in C++17.
#pragma once
// The standard library comes first: it uses names (__noinline__) that become macros below.
#include <algorithm>
#include <cassert>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#define __CUDA_ARCH__ 900

// A kernel is a function; a block's threads take turns on one processor, and blocks follow each other. Hence one copy
// of a shared variable is enough, and it lives where a static local variable lives.
#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(bytes) __attribute__((aligned(bytes)))

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

// Vector types with CUDA's alignment: two elements together, four elements together (at most 16 bytes).
#define CUPYSIM_VECTORS(scalar, name)                                                                  \
  struct __align__(2 * sizeof(scalar)) name##2 {                                                       \
    scalar x, y;                                                                                       \
  };                                                                                                   \
  struct name##4 {                                                                                     \
    alignas(4 * sizeof(scalar) < 16 ? 4 * sizeof(scalar) : 16) scalar x;                               \
    scalar y, z, w;                                                                                    \
  };                                                                                                   \
  inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }                                 \
  inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }
CUPYSIM_VECTORS(char, char)
CUPYSIM_VECTORS(unsigned char, uchar)
CUPYSIM_VECTORS(short, short)
CUPYSIM_VECTORS(unsigned short, ushort)
CUPYSIM_VECTORS(int, int)
CUPYSIM_VECTORS(unsigned, uint)
CUPYSIM_VECTORS(long long, longlong)
CUPYSIM_VECTORS(unsigned long long, ulonglong)
CUPYSIM_VECTORS(float, float)
CUPYSIM_VECTORS(double, double)
#undef CUPYSIM_VECTORS
struct int3 {
  int x, y, z;
};
struct float3 {
  float x, y, z;
};
struct double3 {
  double x, y, z;
};
inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline double3 make_double3(double x, double y, double z) { return {x, y, z}; }
