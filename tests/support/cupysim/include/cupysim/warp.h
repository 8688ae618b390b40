// Functions of a warp: shuffles and votes among the 32 lanes of a group of threads.
#pragma once
#include "cupysim/block.h"

namespace cupysim {
// Give `value` to the other lanes in `mask`, wait for them, and return what this lane gets.
inline uint64_t exchange(WarpFunction function, unsigned mask, uint64_t value, int source) {
  Thread& self = *running;
  if (!(mask >> self.lane() & 1u)) {
    stop("thread %u calls a function of its warp with the mask %08x, which leaves itself out", self.number, mask);
    cupysim_wait();
  }
  self.function = function;
  self.mask = mask;
  self.given = value;
  self.source = source;
  self.enter(at_warp);
  cupysim_wait();
  return self.received;
}

template <class T>
inline T shuffle(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a shuffle moves 4 or 8 bytes");
  uint64_t given = 0;
  std::memcpy(&given, &value, sizeof value);
  given = exchange(WarpFunction::shuffle, mask, given, source);
  std::memcpy(&value, &given, sizeof value);
  return value;
}
}  // namespace cupysim

// A warp falls into segments of `width` lanes, a power of two; lanes count from their segment's first. A lane whose
// source is outside its segment gets its own value back.
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  int lane = cupysim::running->lane();
  return cupysim::shuffle(mask, value, (lane & -width) + (source & (width - 1)));
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = cupysim::running->lane(), source = lane - int(delta);
  return cupysim::shuffle(mask, value, source < (lane & -width) ? lane : source);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = cupysim::running->lane(), source = lane + int(delta);
  return cupysim::shuffle(mask, value, source >= (lane & -width) + width ? lane : source);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  int lane = cupysim::running->lane(), source = lane ^ lane_mask;
  return cupysim::shuffle(mask, value, source >= (lane & -width) + width ? lane : source);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return unsigned(cupysim::exchange(cupysim::WarpFunction::ballot, mask, predicate != 0, 0));
}
inline int __any_sync(unsigned mask, int predicate) {
  return int(cupysim::exchange(cupysim::WarpFunction::any, mask, predicate != 0, 0));
}
inline int __all_sync(unsigned mask, int predicate) {
  return int(cupysim::exchange(cupysim::WarpFunction::all, mask, predicate != 0, 0));
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  cupysim::exchange(cupysim::WarpFunction::sync, mask, 0, 0);
}
