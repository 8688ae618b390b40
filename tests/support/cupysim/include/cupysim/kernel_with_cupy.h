// kernel.h with the headers that open every source which CuPy itself generates.
#pragma once
#include "cupysim/kernel.h"
#include <cupy/complex.cuh>
#include <cupy/carray.cuh>
#include <cupy/atomics.cuh>
#include <cupy/math_constants.h>
