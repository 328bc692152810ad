// CUDA C on a CPU: what generated kernels use of the language, the built-in variables, barriers,
// warp operations and atomics. Included in front of a module, which then compiles with g++.
//
// Blocks run one after another. The threads of a block are fibers of one thread of the system: one
// fiber runs thread after thread, and another takes over only where a thread has to wait, so a
// kernel without barriers is a loop. What is undefined on a device is an error here where that is
// cheap to tell: barriers that not all threads reach, warp operations whose lanes do not all take
// part, writes beyond dynamic shared memory, indices beyond an array, misaligned accesses. Shared
// memory starts as bytes 0xFF (NaN).
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static __attribute__((section("shim_shared")))
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

extern char __start_shim_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_shim_shared[] __attribute__((weak, visibility("hidden")));

namespace shim {

const int LANES = 32, MOST_THREADS = 1024, MOST_SHARED = 227 << 10, FENCE = 4096;
const size_t STACK = 256 << 10;  // of a fiber

// The stacks of all modules of a process, which run one at a time.
struct Stacks {
  const void* owner;  // the module whose fibers have left something on them
  char* memory;
};

struct Fiber {
  jmp_buf at;         // where it goes on
  ucontext_t first;   // where it starts
  bool fresh;         // whether it has not started
  unsigned thread;    // which one it runs
};

struct Lane {         // what a thread has brought to a warp operation
  bool waits;
  const char* what;
  int line;
  unsigned mask, source;
  uint64_t value, result;
};

static Stacks* stacks;
static Fiber fibers[MOST_THREADS];
static Fiber *ready[MOST_THREADS], *idle[MOST_THREADS], *current;
static unsigned first_ready, ready_count, idle_count, fiber_count;
static jmp_buf home;                        // the launch
static Lane lanes[MOST_THREADS];
static Fiber* fiber_of[MOST_THREADS];
static uint3 positions[MOST_THREADS];       // of threads in the block
static bool returned[MOST_THREADS];
static unsigned count, begun, finished;     // threads of the block
static bool descending;                     // start the last thread first
static unsigned arrived, votes;             // at the barrier of the block
static int barrier_line;
static unsigned barrier_votes;
static Fiber* at_barrier[MOST_THREADS];
static char message[512];
static const char* kernel_name;
static void (*body)(void*, void**);
static void* function;
static void** parameters;
static unsigned dynamic_bytes;
static char dynamic_memory[MOST_SHARED + FENCE] __attribute__((aligned(1024)));

// Errors

static __attribute__((noreturn)) void fail(const char* format, ...) {
  int at = snprintf(message, sizeof message, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u): ",
                    kernel_name, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y,
                    threadIdx.z);
  va_list args;
  va_start(args, format);
  vsnprintf(message + at, sizeof message - at, format, args);
  va_end(args);
  _longjmp(home, 2);
}

// Fibers

static void place(unsigned thread) { threadIdx = positions[thread]; }

static __attribute__((noinline)) void resume(Fiber* next) {
  current = next;
  if (next->fresh) {
    next->fresh = false;
    setcontext(&next->first);
  }
  place(next->thread);
  _longjmp(next->at, 1);
}

static void run_threads();

// A fiber that has nothing to do, made where there is none.
static Fiber* spare() {
  if (idle_count) return idle[--idle_count];
  Fiber* fiber = &fibers[fiber_count];
  getcontext(&fiber->first);
  fiber->first.uc_stack.ss_sp = stacks->memory + fiber_count++ * STACK;
  fiber->first.uc_stack.ss_size = STACK;
  fiber->first.uc_link = nullptr;
  makecontext(&fiber->first, run_threads, 0);
  fiber->fresh = true;
  return fiber;
}

// Hand over to another fiber; a launch without one has ended or hangs.
static void hand_over() {
  if (ready_count) {
    Fiber* next = ready[first_ready];
    first_ready = (first_ready + 1) % MOST_THREADS, ready_count--;
    resume(next);
  }
  if (begun < count) resume(spare());
  _longjmp(home, 1);
}

static __attribute__((noinline)) void wait() {
  if (_setjmp(current->at) == 0) hand_over();
}

static void wake(Fiber* fiber) {
  ready[(first_ready + ready_count++) % MOST_THREADS] = fiber;
}

static void run_threads() {
  for (;;) {
    while (begun < count) {
      unsigned thread = descending ? count - 1 - begun : begun;
      begun++;
      current->thread = thread;
      place(thread);
      body(function, parameters);
      returned[current->thread] = true;
      finished++;
    }
    idle[idle_count++] = current;
    wait();
  }
}

// Barriers of the block

static unsigned barrier(int line, bool vote) {
  if (finished) fail("waits at the barrier of line %d, and %u of %u threads have returned", line,
                     finished, count);
  if (arrived && barrier_line != line)
    fail("waits at the barrier of line %d, and %u threads at that of line %d", line, arrived,
         barrier_line);
  barrier_line = line;
  votes += vote;
  at_barrier[arrived++] = current;
  if (arrived == count) {
    for (unsigned i = 0; i + 1 < count; i++) wake(at_barrier[i]);
    barrier_votes = votes;
    arrived = votes = 0;
  } else {
    wait();
  }
  return barrier_votes;
}

// Operations of a warp

static unsigned lane_of() { return current->thread % LANES; }

// Bring a value; what all lanes of the mask have brought is dealt out when the last one comes.
template <class Deal> static uint64_t meet(const char* what, int line, unsigned mask, uint64_t value,
                                           unsigned source, Deal deal) {
  unsigned thread = current->thread, lane = lane_of(), first = thread - lane;
  unsigned present = count - first < LANES ? (1u << (count - first)) - 1 : ~0u;
  if (!(mask >> lane & 1)) fail("%s of line %d: the mask 0x%x leaves out lane %u, which calls it",
                                what, line, mask, lane);
  mask &= present;
  lanes[thread] = {true, what, line, mask, source, value, 0};
  fiber_of[thread] = current;
  for (unsigned i = 0; i < LANES; i++) {
    if (!(mask >> i & 1)) continue;
    Lane& other = lanes[first + i];
    if (returned[first + i])
      fail("%s of line %d: lane %u has returned", what, line, i);
    if (!other.waits) {
      wait();
      return lanes[thread].result;
    }
    if (other.mask != mask || other.line != line || other.what != what)
      fail("%s of line %d with mask 0x%x: lane %u waits at the %s of line %d with mask 0x%x", what,
           line, mask, i, other.what, other.line, other.mask);
  }
  for (unsigned i = 0; i < LANES; i++) {
    if (!(mask >> i & 1)) continue;
    lanes[first + i].waits = false;
    lanes[first + i].result = deal(lanes + first, mask, i);
    if (i != lane) wake(fiber_of[first + i]);
  }
  return lanes[thread].result;
}

static uint64_t shuffle(const char* what, int line, unsigned mask, uint64_t value, int source) {
  return meet(what, line, mask, value, source, [](Lane* warp, unsigned all, unsigned lane) {
    unsigned from = warp[lane].source;  // of a lane that takes no part, the value is undefined
    return all >> from & 1 ? warp[from].value : 0xA5A5A5A5A5A5A5A5u;
  });
}

static unsigned ballot(const char* what, int line, unsigned mask, bool vote) {
  return meet(what, line, mask, vote, 0, [](Lane* warp, unsigned all, unsigned) {
    uint64_t bits = 0;
    for (unsigned i = 0; i < LANES; i++)
      if (all >> i & 1) bits |= warp[i].value << i;
    return bits;
  });
}

// The lanes that have not returned.
static unsigned active() {
  unsigned thread = current->thread, first = thread - lane_of(), mask = 0;
  for (unsigned i = 0; i < LANES && first + i < count; i++)
    if (!returned[first + i]) mask |= 1u << i;
  return mask;
}

static void meet_warp(int line, unsigned mask) {
  meet("__syncwarp", line, mask, 0, 0, [](Lane*, unsigned, unsigned) -> uint64_t { return 0; });
}

static int section(int width) { return lane_of() & ~(width - 1); }

static int up(int delta, int width) {
  int lane = lane_of();
  return lane - delta < section(width) ? lane : lane - delta;
}

static int down(int delta, int width) {
  int lane = lane_of();
  return lane + delta >= section(width) + width ? lane : lane + delta;
}

static int across(int bits, int width) {
  int lane = lane_of(), other = lane ^ bits;
  return other >= section(width) + width ? lane : other;
}

static int indexed(int source, int width) { return section(width) + (source & (width - 1)); }

// Launches

static void hang() {
  unsigned thread = 0;
  while (thread < count && !lanes[thread].waits) thread++;
  if (arrived) current = at_barrier[0], place(current->thread);
  if (thread == count)
    fail("waits at the barrier of line %d, which %u of %u threads reach", barrier_line, arrived,
         count);
  if (arrived)
    fail("waits at the barrier of line %d; thread %u at the %s of line %d", barrier_line, thread,
         lanes[thread].what, lanes[thread].line);
  place(thread);
  fail("waits at the %s of line %d, which not all lanes of its mask reach", lanes[thread].what,
       lanes[thread].line);
}

static void run_block() {
  if (__start_shim_shared) memset(__start_shim_shared, 0xFF, __stop_shim_shared - __start_shim_shared);
  memset(dynamic_memory, 0xFF, dynamic_bytes + FENCE);
  memset(returned, 0, count);
  for (unsigned i = 0; i < count; i++) lanes[i].waits = false;
  begun = finished = arrived = votes = first_ready = ready_count = 0;
  if (_setjmp(home) == 0) resume(spare());
  if (*message) return;
  if (finished < count) {
    if (_setjmp(home) == 0) hang();
    return;
  }
  for (unsigned i = 0; i < FENCE; i++)
    if (dynamic_memory[dynamic_bytes + i] != (char)0xFF) {
      if (_setjmp(home) == 0) fail("the block writes to byte %u of %u bytes of dynamic shared memory",
                                   dynamic_bytes + i, dynamic_bytes);
      return;
    }
}

struct Entry {
  const char* name;
  void* function;
  void (*call)(void*, void**);
  const unsigned* sizes;  // of the parameters, then ~0
};

template <int... I> struct Indices {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { typedef Indices<I...> Type; };

template <class... P> struct Signature {
  static constexpr unsigned sizes[] = {sizeof(P)..., ~0u};
  template <int... I> static void unpacked(void* f, void** p, Indices<I...>) {
    ((void (*)(P...))f)(*(P*)p[I]...);
  }
  static void call(void* f, void** p) { unpacked(f, p, typename Count<sizeof...(P)>::Type()); }
};

template <class... P> constexpr Entry entry(const char* name, void (*kernel)(P...)) {
  return {name, (void*)kernel, Signature<P...>::call, Signature<P...>::sizes};
}

static const char* launch(const Entry& entry, const unsigned* grid, const unsigned* block,
                          unsigned shared, void** params, const unsigned* sizes, bool last_first,
                          Stacks* given) {
  stacks = given;
  kernel_name = entry.name, function = entry.function, body = entry.call, parameters = params;
  gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
  blockIdx = threadIdx = {0, 0, 0};
  *message = 0;
  uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
  unsigned n = 0;
  while (sizes && entry.sizes[n] == sizes[n] && sizes[n] != ~0u) n++;
  if (_setjmp(home) == 0) {
    if (sizes && entry.sizes[n] != sizes[n])
      fail("parameter %u takes %d bytes, given %d (-1: none)", n, (int)entry.sizes[n], (int)sizes[n]);
    if (threads == 0 || threads > MOST_THREADS || block[2] > 64)
      fail("a block of (%u, %u, %u) threads", block[0], block[1], block[2]);
    if (!grid[0] || !grid[1] || !grid[2] || grid[0] >> 31 || grid[1] >> 16 || grid[2] >> 16)
      fail("a grid of (%u, %u, %u) blocks", grid[0], grid[1], grid[2]);
    if (shared > MOST_SHARED) fail("%u bytes of dynamic shared memory", shared);
  }
  if (*message) return message;
  count = threads, dynamic_bytes = shared, descending = last_first;
  for (unsigned i = 0; i < count; i++)
    positions[i] = {i % block[0], i / block[0] % block[1], i / (block[0] * block[1])};
  if (stacks->owner != fibers) {
    fiber_count = idle_count = 0;
    stacks->owner = fibers;
  }
  for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
      for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++) {
        run_block();
        if (*message) {
          fiber_count = idle_count = 0;  // they stand anywhere
          return message;
        }
      }
  return nullptr;
}

struct Place { const char* file; unsigned line, column; };

}  // namespace shim

// What the compiler calls where an index is beyond an array or an address is not aligned.
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_out_of_bounds_abort(
    shim::Place* at, long index) {
  shim::fail("line %u: index %ld is beyond the array", at->line, index);
}
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1_abort(
    shim::Place* at, void*) {
  shim::fail("line %u: the address is not aligned", at->line);
}
