// How a kernel is run: block after block; within a block thread after thread, or, where threads wait for each other,
// each thread as a fiber that is entered again when what it waits for has happened.
//
// Waiting follows the programming guide, because what it leaves undefined hangs or corrupts on a device:
//
// - __syncthreads() waits for all threads of the block that have not left the kernel (so devices do since Volta, and
//   CuPy's own scans rely on it). Threads that wait in different lines are a fault.
// - A function of a warp waits for the lanes that its mask names and that have not left the kernel. All of them must
//   call the same function with the same mask, and each must name itself; anything else is a fault.
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
extern "C" __attribute__((visibility("hidden"))) char cupysim_shared_begin[], cupysim_shared_end[];  // see shared.ld

enum State { ready, at_barrier, at_warp, finished };
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
  void enter(State next);
};

static Launch* launch;
static Thread threads[max_threads];
static unsigned thread_count;
static unsigned in_state[4];  // how many threads of the block are in each state
static Thread* running;
static Fiber scheduler;
static void (*run_kernel)();
static bool stopped;

inline void Thread::enter(State next) {
  --in_state[state];
  ++in_state[next];
  state = next;
}

// End the kernel with a fault.
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
  running->enter(finished);
  Fiber::jump(running->fiber, scheduler);
}

// The k-th thread to run, or the k-th block, of n.
inline uint64_t turn(uint64_t k, uint64_t n) { return launch->reversed ? n - 1 - k : k; }

inline uint3 unravel(uint64_t number, const unsigned* shape) {
  return {unsigned(number % shape[0]), unsigned(number / shape[0] % shape[1]), unsigned(number / shape[0] / shape[1])};
}

// Let every thread run until it waits or finishes.
inline void run_ready() {
  for (unsigned k = 0; k < thread_count && !stopped; ++k) {
    Thread& thread = threads[turn(k, thread_count)];
    if (thread.state != ready) continue;
    running = &thread;
    threadIdx = thread.index;
    Fiber::jump(scheduler, thread.fiber);
    if (thread.fiber.overflows() || (thread.state == finished && thread.fiber.overflowed()))
      stop("thread %u needs more than %zu bytes of stack", thread.number, launch->stack_bytes);
  }
}

// Complete the functions of warps for which all lanes have arrived. Returns whether there was one.
inline bool release_warps() {
  bool released = false;
  for (unsigned first = 0; first < thread_count && !stopped; first += lanes) {
    Thread* warp = threads + first;
    unsigned width = thread_count - first < lanes ? thread_count - first : lanes;
    for (unsigned lane = 0; lane < width; ++lane) {
      if (warp[lane].state != at_warp) continue;
      unsigned mask = warp[lane].mask, votes = 0, members = 0;
      bool complete = true;
      for (unsigned other = 0; other < width; ++other) {
        if (!(mask >> other & 1u) || warp[other].state == finished) continue;
        complete &= warp[other].state == at_warp && warp[other].mask == mask;
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
        member.enter(ready);
      }
      released = true;
    }
  }
  return released;
}

// All threads that are still there wait at the barrier: let them pass, if it is one and the same for all.
inline void release_barrier() {
  const Thread* first = nullptr;
  for (unsigned t = 0; t < thread_count; ++t) {
    Thread& thread = threads[t];
    if (thread.state != at_barrier) continue;
    if (!first) first = &thread;
    if (thread.line != first->line)
      return stop("threads %u and %u wait at different __syncthreads(), in lines %d and %d", first->number, t,
                  first->line, thread.line);
    thread.state = ready;
  }
  in_state[ready] = in_state[at_barrier];
  in_state[at_barrier] = 0;
}

// Nobody can go on: say why.
inline void stop_deadlock() {
  for (unsigned t = 0; t < thread_count; ++t)
    if (threads[t].state == at_warp)
      return stop("thread %u waits for lanes of its warp (mask %08x) that do not call the same function with this mask",
                  t, threads[t].mask);
}

// What stays the same for all blocks of a launch.
inline void prepare_threads() {
  for (unsigned t = 0; t < thread_count; ++t) {
    threads[t].index = unravel(t, launch->block);
    threads[t].number = t;
    threads[t].fiber.own(launch->stacks + t * launch->stack_bytes, launch->stack_bytes);
  }
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
    threads[t].state = ready;
    threads[t].fiber.start(thread_main);
  }
  in_state[ready] = thread_count;
  in_state[at_barrier] = in_state[at_warp] = in_state[finished] = 0;
  while (!stopped) {
    run_ready();
    if (stopped || in_state[finished] == thread_count) return;
    if (!in_state[at_warp]) release_barrier();
    else if (!release_warps() && !stopped) stop_deadlock();
  }
}

// A block finds nothing in its shared memory: neither zeros nor what the block before it left there.
inline void forget_shared() {
  std::memset(dynamic_shared, poison, launch->shared_bytes);
#if defined(__SANITIZE_ADDRESS__)  // which has its own marks between variables
  size_t used = (launch->shared_bytes + 7) / 8 * 8;
  __asan_poison_memory_region(dynamic_shared + used, sizeof dynamic_shared - used);
#else
  std::memset(cupysim_shared_begin, poison, cupysim_shared_end - cupysim_shared_begin);
#endif
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
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(dynamic_shared, sizeof dynamic_shared);
#endif
    if (launch->fibers) prepare_threads();
    uint64_t blocks = uint64_t(gridDim.x) * gridDim.y * gridDim.z;
    for (uint64_t k = 0; k < blocks && !stopped; ++k) {
      blockIdx = unravel(turn(k, blocks), launch->grid);
      forget_shared();
      run_block();
    }
  }
};

}  // namespace cupysim

// Wait until all threads of the block are here.
inline void __syncthreads(int line = __builtin_LINE()) {
  cupysim::running->enter(cupysim::at_barrier);
  cupysim::running->line = line;
  cupysim::cupysim_wait();
}
