// How a kernel is run: block after block; within a block thread after thread, or, where threads wait for each other,
// each thread as a fiber that is entered again when what it waits for has happened.
//
// Waiting follows the programming guide to the letter, because what it leaves undefined hangs or corrupts on a device:
//
// - __syncthreads() is for all threads of the block. A thread that has left the kernel, or waits in another line, while
//   others wait is a fault (devices since Volta forgive the first; the guide does not promise it).
// - A function of a warp waits for the lanes that its mask names and that have not left the kernel. All of them must
//   call the same function with the same mask, and each must name itself.
#pragma once
#include "cupysim/fibers.h"

namespace cupysim {

// What the caller tells, and what it is told. The same structure is in launching.py.
struct Launch {
  unsigned grid[3], block[3];
  unsigned shared_bytes;  // of dynamic shared memory
  int reversed;           // threads within a block, and blocks, in reverse order
  int fibers;             // threads may wait for each other
  void** arguments;
  char* stacks;  // one for each thread of a block
  size_t stack_bytes;
  char fault[512];  // why the kernel was stopped; empty if it was not
};

// What memory holds before anything was written to it: as bytes, halves, floats and doubles a conspicuous number.
constexpr unsigned char poison = 0xCC;

constexpr unsigned max_threads = 1024, lanes = 32, max_dynamic_shared = 227 * 1024;
alignas(16) static char dynamic_shared[max_dynamic_shared];

enum class State { ready, at_barrier, at_warp, finished };
enum class WarpFunction { sync, shuffle, ballot, any, all };

struct Thread {
  Fiber fiber;
  uint3 index;
  unsigned number;  // within the block
  State state;
  int line;  // of the __syncthreads() that it waits at
  // The function of the warp that it waits in: what it gives, from which lane it takes, and what it gets.
  WarpFunction function;
  unsigned mask;
  uint64_t given, received;
  int source;

  unsigned lane() const { return number % lanes; }
};

static Launch* launch;
static Thread threads[max_threads];
static unsigned thread_count;
static Thread* running;
static Fiber scheduler;
static void (*run_kernel)();
static bool stopped;

__attribute__((format(printf, 1, 2))) inline void stop(const char* format, ...) {
  if (stopped) return;
  stopped = true;
  va_list values;
  va_start(values, format);
  int used = vsnprintf(launch->fault, sizeof launch->fault, format, values);
  va_end(values);
  if (used >= 0 && size_t(used) < sizeof launch->fault)
    snprintf(launch->fault + used, sizeof launch->fault - used, " (block %u, %u, %u)", blockIdx.x, blockIdx.y,
             blockIdx.z);
}

// Let the others run until this thread is ready again. Only sources whose threads wait contain this function: that is
// how the caller learns whether they need fibers.
extern "C" inline __attribute__((noinline)) void cupysim_wait() {
  Fiber::jump(running->fiber, scheduler);
  threadIdx = running->index;
}

inline void thread_main() {
  Fiber::arrive(scheduler);
  run_kernel();
  running->state = State::finished;
  Fiber::jump(running->fiber, scheduler);
}

// The k-th thread to run, or the k-th block, of n.
inline unsigned turn(unsigned k, unsigned n) { return launch->reversed ? n - 1 - k : k; }

inline uint3 unravel(unsigned number, const unsigned* shape) {
  return {number % shape[0], number / shape[0] % shape[1], number / shape[0] / shape[1]};
}

// Let every thread run until it waits or finishes.
inline void run_ready() {
  for (unsigned k = 0; k < thread_count && !stopped; ++k) {
    Thread& thread = threads[turn(k, thread_count)];
    if (thread.state != State::ready) continue;
    running = &thread;
    threadIdx = thread.index;
    Fiber::jump(scheduler, thread.fiber);
    if (thread.fiber.overflowed()) stop("thread %u needs more than %zu bytes of stack", thread.number,
                                        launch->stack_bytes);
  }
}

// Complete the functions of warps for which all lanes have arrived. Returns whether there was one.
inline bool release_warps() {
  bool released = false;
  for (unsigned first = 0; first < thread_count && !stopped; first += lanes) {
    Thread* warp = threads + first;
    unsigned width = thread_count - first < lanes ? thread_count - first : lanes;
    for (unsigned lane = 0; lane < width; ++lane) {
      if (warp[lane].state != State::at_warp) continue;
      unsigned mask = warp[lane].mask, votes = 0, members = 0;
      bool complete = true;
      for (unsigned other = 0; other < width; ++other) {
        if (!(mask >> other & 1u) || warp[other].state == State::finished) continue;
        complete &= warp[other].state == State::at_warp && warp[other].mask == mask;
        if (!complete) break;
        if (warp[other].function != warp[lane].function)
          return stop("lanes %u and %u of the warp of thread %u call different functions with the mask %08x", lane, other,
               first, mask), false;
        members |= 1u << other;
        votes |= unsigned(warp[other].given != 0) << other;
      }
      if (!complete) continue;
      for (unsigned other = 0; other < width; ++other) {
        if (!(members >> other & 1u)) continue;
        Thread& member = warp[other];
        switch (member.function) {
          case WarpFunction::sync: break;
          case WarpFunction::ballot: member.received = votes; break;
          case WarpFunction::any: member.received = votes != 0; break;
          case WarpFunction::all: member.received = votes == members; break;
          case WarpFunction::shuffle:  // a lane that does not take part has nothing to give
            if (members >> member.source & 1u) member.received = warp[member.source].given;
            else std::memset(&member.received, poison, sizeof member.received);
        }
        member.state = State::ready;
      }
      released = true;
    }
  }
  return released;
}

// Nobody is ready, no warp can go on: let all threads pass the barrier, or say why they cannot.
inline void release_barrier() {
  const Thread* waiting = nullptr;
  for (unsigned t = 0; t < thread_count && !waiting; ++t)
    if (threads[t].state == State::at_barrier) waiting = &threads[t];
  for (unsigned t = 0; t < thread_count; ++t) {
    const Thread& other = threads[t];
    if (other.state == State::at_warp)
      return stop("thread %u waits for lanes of its warp (mask %08x) that never call the same function with this mask",
                  other.number, other.mask);
    if (other.state == State::finished)
      return stop("thread %u has left the kernel while thread %u waits at __syncthreads() in line %d", other.number,
                  waiting->number, waiting->line);
    if (other.line != waiting->line)
      return stop("threads %u and %u wait at different __syncthreads(), in lines %d and %d", waiting->number,
                  other.number, waiting->line, other.line);
  }
  for (unsigned t = 0; t < thread_count; ++t) threads[t].state = State::ready;
}

inline bool all_finished() {
  for (unsigned t = 0; t < thread_count; ++t)
    if (threads[t].state != State::finished) return false;
  return true;
}

inline void run_block() {
  if (!launch->fibers) {
    for (unsigned k = 0; k < thread_count; ++k) {
      threadIdx = unravel(turn(k, thread_count), launch->block);
      run_kernel();
    }
    return;
  }
  for (unsigned t = 0; t < thread_count; ++t) {
    threads[t].index = unravel(t, launch->block);
    threads[t].number = t;
    threads[t].state = State::ready;
    threads[t].fiber.start(launch->stacks + t * launch->stack_bytes, launch->stack_bytes, thread_main);
  }
  while (!stopped) {
    run_ready();
    if (stopped || all_finished()) return;
    if (!release_warps() && !stopped) release_barrier();
  }
}

// The kernel's arguments, as cuLaunchKernel gets them: an array of their addresses.
template <class... Parameters, size_t... Position>
inline void call(void (*kernel)(Parameters...), std::index_sequence<Position...>) {
  kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<Parameters>>*>(launch->arguments[Position])...);
}

// Run `kernel` over the grid. A type of its own for each kernel, so that a plain function can find its way back to it.
template <auto kernel>
struct Grid;
template <class... Parameters, void (*kernel)(Parameters...)>
struct Grid<kernel> {
  static void run_thread() { call(kernel, std::index_sequence_for<Parameters...>()); }
  static void run(Launch* asked) {
    launch = asked;
    stopped = false;
    run_kernel = run_thread;
    gridDim = dim3(launch->grid[0], launch->grid[1], launch->grid[2]);
    blockDim = dim3(launch->block[0], launch->block[1], launch->block[2]);
    thread_count = blockDim.x * blockDim.y * blockDim.z;
    unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    for (unsigned k = 0; k < blocks && !stopped; ++k) {
      blockIdx = unravel(turn(k, blocks), launch->grid);
      std::memset(dynamic_shared, poison, launch->shared_bytes);
      run_block();
    }
  }
};

}  // namespace cupysim

// Wait until all threads of the block are here.
inline void __syncthreads(int line = __builtin_LINE()) {
  cupysim::running->state = cupysim::State::at_barrier;
  cupysim::running->line = line;
  cupysim::cupysim_wait();
}
