// Fibers: functions with a stack of their own that hand the processor to each other. A CUDA thread that may wait for
// others is a fiber; it is left where it waits, and entered again when what it waits for has happened.
#pragma once
#include "cupysim/language.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__) && !defined(CUPYSIM_UCONTEXT)

// Save the registers that a call preserves on this stack, store the stack's position in *from, and continue on the
// stack at `to`, which was left in the same way.
extern "C" __attribute__((visibility("hidden"))) void cupysim_switch(void** from, void* to);
asm(R"(
.pushsection .text
.globl cupysim_switch
.hidden cupysim_switch
.type cupysim_switch, @function
cupysim_switch:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  ret
.size cupysim_switch, .-cupysim_switch
.popsection
)");

namespace cupysim {
struct Context {
  void* stack_pointer = nullptr;

  // Make the next switch to this context call `entry`, which never returns, on the given stack.
  void prepare(char* stack, size_t bytes, void (*entry)()) {
    uintptr_t* top = reinterpret_cast<uintptr_t*>(stack + bytes - 64);
    *--top = 0;                                    // where entry would return to; aligns the stack as a call does
    *--top = reinterpret_cast<uintptr_t>(entry);   // where the switch returns to
    for (int saved = 0; saved < 6; ++saved) *--top = 0;
    stack_pointer = top;
  }
  bool is_below(const char* address) const { return stack_pointer < address; }
  static void jump(Context& from, Context& to) { cupysim_switch(&from.stack_pointer, to.stack_pointer); }
};
}  // namespace cupysim

#else  // any other processor: slower by a system call for each switch
#include <ucontext.h>

namespace cupysim {
struct Context {
  ucontext_t state;

  void prepare(char* stack, size_t bytes, void (*entry)()) {
    getcontext(&state);
    state.uc_stack.ss_sp = stack;
    state.uc_stack.ss_size = bytes;
    state.uc_link = nullptr;
    makecontext(&state, entry, 0);
  }
  bool is_below(const char*) const { return false; }  // where it stands is not told
  static void jump(Context& from, Context& to) { swapcontext(&from.state, &to.state); }
};
}  // namespace cupysim
#endif

namespace cupysim {
// A stack, and where the function on it stands.
struct Fiber {
  Context context;
  char* stack = nullptr;
  size_t stack_bytes = 0;
  void* sanitizer_data = nullptr;

  // Whether the function stands beyond the end of its stack, or has been there: then the lowest word was overwritten.
  static constexpr uint64_t untouched = 0x5ca1ab1e0ddba11ull;
  uint64_t& lowest_word() const { return *reinterpret_cast<uint64_t*>(stack); }
  bool overflows() const { return context.is_below(stack); }
  bool overflowed() const { return lowest_word() != untouched; }

  // Use this memory as the stack.
  void own(char* stack_, size_t bytes) {
    stack = stack_;
    stack_bytes = bytes;
    forget();
    lowest_word() = untouched;
  }

  // Let the next jump to this fiber call `entry`, which never returns.
  void start(void (*entry)()) {
    forget();
    context.prepare(stack, stack_bytes, entry);
  }

  // Tell the sanitizer that no variables are left on the stack: the last function there did not return.
  void forget() {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack, stack_bytes);
#endif
  }

  // Leave `from` and continue `to`. The sanitizer is told which stack is the current one.
  static void jump(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from.sanitizer_data, to.stack, to.stack_bytes);
#endif
    Context::jump(from.context, to.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.sanitizer_data, nullptr, nullptr);
#endif
  }

  // To be called first by `entry`: completes the jump from `origin`, whose stack only the sanitizer knows.
  static void arrive(Fiber& origin) {
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &origin.stack_bytes);
    origin.stack = static_cast<char*>(const_cast<void*>(bottom));
#else
    (void)origin;
#endif
  }
};
}  // namespace cupysim
