// Atomic operations for the types that CUDA has them for. Threads take turns, so plain code is atomic.
#pragma once
#include "cupysim/language.h"

#define CUPYSIM_ATOMIC(name, type, updated)   \
  inline type name(type* address, type value) { \
    type old = *address;                      \
    *address = updated;                       \
    return old;                               \
  }
#define CUPYSIM_ATOMIC_INTEGERS(name, updated) \
  CUPYSIM_ATOMIC(name, int, updated)           \
  CUPYSIM_ATOMIC(name, unsigned, updated)      \
  CUPYSIM_ATOMIC(name, unsigned long long, updated)

CUPYSIM_ATOMIC_INTEGERS(atomicAdd, old + value)
CUPYSIM_ATOMIC(atomicAdd, float, old + value)
CUPYSIM_ATOMIC(atomicAdd, double, old + value)
CUPYSIM_ATOMIC(atomicSub, int, old - value)
CUPYSIM_ATOMIC(atomicSub, unsigned, old - value)
CUPYSIM_ATOMIC_INTEGERS(atomicExch, value)
CUPYSIM_ATOMIC(atomicExch, float, value)
CUPYSIM_ATOMIC_INTEGERS(atomicMin, value < old ? value : old)
CUPYSIM_ATOMIC(atomicMin, long long, value < old ? value : old)
CUPYSIM_ATOMIC_INTEGERS(atomicMax, value > old ? value : old)
CUPYSIM_ATOMIC(atomicMax, long long, value > old ? value : old)
CUPYSIM_ATOMIC_INTEGERS(atomicAnd, old & value)
CUPYSIM_ATOMIC_INTEGERS(atomicOr, old | value)
CUPYSIM_ATOMIC_INTEGERS(atomicXor, old ^ value)
CUPYSIM_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
CUPYSIM_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
#undef CUPYSIM_ATOMIC_INTEGERS
#undef CUPYSIM_ATOMIC

#define CUPYSIM_COMPARE_AND_SWAP(type)                             \
  inline type atomicCAS(type* address, type expected, type value) { \
    type old = *address;                                           \
    if (old == expected) *address = value;                         \
    return old;                                                    \
  }
CUPYSIM_COMPARE_AND_SWAP(int)
CUPYSIM_COMPARE_AND_SWAP(unsigned)
CUPYSIM_COMPARE_AND_SWAP(unsigned short)
CUPYSIM_COMPARE_AND_SWAP(unsigned long long)
#undef CUPYSIM_COMPARE_AND_SWAP

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
