// What CUDA C has beyond C++: vector types, and the functions that generated kernels call. The
// elementary functions are those of the C library.
#pragma once
#include "machine.h"

// Vector types

#define SHIM_VECTOR(type, name, align2, align4)                                                   \
  struct __attribute__((aligned(align2))) name##2 { type x, y; };                                 \
  struct name##3 { type x, y, z; };                                                               \
  struct __attribute__((aligned(align4))) name##4 { type x, y, z, w; };                           \
  static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                         \
  static inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }              \
  static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
SHIM_VECTOR(signed char, char, 2, 4)
SHIM_VECTOR(unsigned char, uchar, 2, 4)
SHIM_VECTOR(short, short, 4, 8)
SHIM_VECTOR(unsigned short, ushort, 4, 8)
SHIM_VECTOR(int, int, 8, 16)
SHIM_VECTOR(long long, longlong, 16, 16)
SHIM_VECTOR(unsigned long long, ulonglong, 16, 16)
SHIM_VECTOR(float, float, 8, 16)
SHIM_VECTOR(double, double, 16, 16)
#undef SHIM_VECTOR
struct __attribute__((aligned(8))) uint2 { unsigned x, y; };
struct __attribute__((aligned(16))) uint4 { unsigned x, y, z, w; };
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

// Mathematical functions: of double by their name, of float with an f, or overloaded

#define SHIM_UNARY(name)                                                                          \
  extern "C" double name(double) noexcept;                                                        \
  extern "C" float name##f(float) noexcept;                                                       \
  static inline float name(float x) { return name##f(x); }
#define SHIM_BINARY(name)                                                                         \
  extern "C" double name(double, double) noexcept;                                                \
  extern "C" float name##f(float, float) noexcept;                                                \
  static inline float name(float x, float y) { return name##f(x, y); }
SHIM_UNARY(sqrt) SHIM_UNARY(cbrt) SHIM_UNARY(exp) SHIM_UNARY(exp2) SHIM_UNARY(expm1)
SHIM_UNARY(log) SHIM_UNARY(log2) SHIM_UNARY(log10) SHIM_UNARY(log1p) SHIM_UNARY(sin)
SHIM_UNARY(cos) SHIM_UNARY(tan) SHIM_UNARY(asin) SHIM_UNARY(acos) SHIM_UNARY(atan)
SHIM_UNARY(sinh) SHIM_UNARY(cosh) SHIM_UNARY(tanh) SHIM_UNARY(asinh) SHIM_UNARY(acosh)
SHIM_UNARY(atanh) SHIM_UNARY(erf) SHIM_UNARY(erfc) SHIM_UNARY(tgamma) SHIM_UNARY(floor)
SHIM_UNARY(ceil) SHIM_UNARY(rint) SHIM_UNARY(trunc) SHIM_UNARY(round) SHIM_UNARY(fabs)
SHIM_UNARY(logb)
SHIM_BINARY(pow) SHIM_BINARY(atan2) SHIM_BINARY(hypot) SHIM_BINARY(fmod) SHIM_BINARY(copysign)
SHIM_BINARY(nextafter) SHIM_BINARY(fmin) SHIM_BINARY(fmax)
#undef SHIM_UNARY
#undef SHIM_BINARY
extern "C" double fma(double, double, double) noexcept;
extern "C" float fmaf(float, float, float) noexcept;
static inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
extern "C" double ldexp(double, int) noexcept;
extern "C" float ldexpf(float, int) noexcept;
static inline float ldexp(float x, int n) { return ldexpf(x, n); }
extern "C" double frexp(double, int*) noexcept;
extern "C" float frexpf(float, int*) noexcept;
static inline float frexp(float x, int* n) { return frexpf(x, n); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline void sincosf(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
static inline void sincos(double x, double* s, double* c) { *s = sin(x), *c = cos(x); }
template <class T> static inline bool isnan(T x) { return __builtin_isnan(x); }
template <class T> static inline bool isinf(T x) { return __builtin_isinf(x); }
template <class T> static inline bool isfinite(T x) { return __builtin_isfinite(x); }
template <class T> static inline bool signbit(T x) { return __builtin_signbit(x); }
extern "C" int abs(int) noexcept(true);
static inline long long abs(long long x) { return x < 0 ? -x : x; }
static inline float abs(float x) { return fabsf(x); }
static inline double abs(double x) { return fabs(x); }
#define SHIM_EXTREMA(type)                                                                        \
  static inline type min(type x, type y) { return y < x ? y : x; }                                \
  static inline type max(type x, type y) { return x < y ? y : x; }
SHIM_EXTREMA(int) SHIM_EXTREMA(unsigned) SHIM_EXTREMA(long) SHIM_EXTREMA(unsigned long)
SHIM_EXTREMA(long long) SHIM_EXTREMA(unsigned long long)
#undef SHIM_EXTREMA
static inline float min(float x, float y) { return fminf(x, y); }
static inline float max(float x, float y) { return fmaxf(x, y); }
static inline double min(double x, double y) { return fmin(x, y); }
static inline double max(double x, double y) { return fmax(x, y); }

// Operations with a stated rounding: to nearest, as all are here

#define SHIM_ROUNDED(f, d, type)                                                                  \
  static inline type __##f##add_rn(type x, type y) { return x + y; }                              \
  static inline type __##f##sub_rn(type x, type y) { return x - y; }                              \
  static inline type __##f##mul_rn(type x, type y) { return x * y; }                              \
  static inline type __##d##div_rn(type x, type y) { return x / y; }                              \
  static inline type __##d##rcp_rn(type x) { return 1 / x; }                                      \
  static inline type __##d##sqrt_rn(type x) { return sqrt(x); }
SHIM_ROUNDED(f, f, float) SHIM_ROUNDED(d, d, double)
#undef SHIM_ROUNDED
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
static inline float __double2float_rn(double x) { return (float)x; }

// Bits

template <class To, class From> static inline To shim_cast(From x) {
  To y;
  static_assert(sizeof x == sizeof y, "bits of one size");
  __builtin_memcpy(&y, &x, sizeof y);
  return y;
}
static inline int __float_as_int(float x) { return shim_cast<int>(x); }
static inline unsigned __float_as_uint(float x) { return shim_cast<unsigned>(x); }
static inline float __int_as_float(int x) { return shim_cast<float>(x); }
static inline float __uint_as_float(unsigned x) { return shim_cast<float>(x); }
static inline long long __double_as_longlong(double x) { return shim_cast<long long>(x); }
static inline double __longlong_as_double(long long x) { return shim_cast<double>(x); }
static inline int __double2hiint(double x) { return (int)(__double_as_longlong(x) >> 32); }
static inline int __double2loint(double x) { return (int)__double_as_longlong(x); }
static inline double __hiloint2double(int hi, int lo) {
  return __longlong_as_double((long long)((unsigned long long)(unsigned)hi << 32 | (unsigned)lo));
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
  return y;
}
static inline int __mulhi(int x, int y) { return (int)((long long)x * y >> 32); }
static inline unsigned __umulhi(unsigned x, unsigned y) {
  return (unsigned)((unsigned long long)x * y >> 32);
}
static inline long long __mul64hi(long long x, long long y) {
  return (long long)((__int128)x * y >> 64);
}
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return (unsigned long long)((unsigned __int128)x * y >> 64);
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n) {
  return (unsigned)(((unsigned long long)hi << 32 | lo) << (n & 31) >> 32);
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n) {
  return (unsigned)(((unsigned long long)hi << 32 | lo) >> (n & 31));
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  unsigned long long both = (unsigned long long)y << 32 | x;
  unsigned out = 0;
  for (int i = 0; i < 4; i++) {
    unsigned s = selector >> 4 * i & 15, byte = (unsigned)(both >> 8 * (s & 7)) & 0xFF;
    out |= (s & 8 ? (byte & 0x80 ? 0xFFu : 0u) : byte) << 8 * i;
  }
  return out;
}

// Memory: hints about caches say nothing here

#define SHIM_LOAD(name) template <class T> static inline T name(const T* p) { return *p; }
#define SHIM_STORE(name) template <class T> static inline void name(T* p, T x) { *p = x; }
SHIM_LOAD(__ldg) SHIM_LOAD(__ldcs) SHIM_LOAD(__ldcg) SHIM_LOAD(__ldca) SHIM_LOAD(__ldcv)
SHIM_LOAD(__ldlu)
SHIM_STORE(__stcs) SHIM_STORE(__stcg) SHIM_STORE(__stwb) SHIM_STORE(__stwt)
#undef SHIM_LOAD
#undef SHIM_STORE
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
static inline void __nanosleep(unsigned) {}
#define __trap() shim::fail("trap of line %d", __LINE__)

// Atomic operations: no thread is interrupted in one

#define SHIM_ATOMIC(name, type, result)                                                           \
  static inline type name(type* p, type x) { type old = *p; *p = result; return old; }
#define SHIM_ATOMICS(type)                                                                        \
  SHIM_ATOMIC(atomicExch, type, x)                                                                \
  SHIM_ATOMIC(atomicMin, type, x < old ? x : old)                                                 \
  SHIM_ATOMIC(atomicMax, type, x > old ? x : old)                                                 \
  SHIM_ATOMIC(atomicAnd, type, old & x)                                                           \
  SHIM_ATOMIC(atomicOr, type, old | x)                                                            \
  SHIM_ATOMIC(atomicXor, type, old ^ x)                                                           \
  static inline type atomicCAS(type* p, type compare, type x) {                                   \
    type old = *p;                                                                                \
    if (old == compare) *p = x;                                                                   \
    return old;                                                                                   \
  }
SHIM_ATOMICS(int) SHIM_ATOMICS(unsigned) SHIM_ATOMICS(long long) SHIM_ATOMICS(unsigned long long)
SHIM_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)x))
SHIM_ATOMIC(atomicAdd, unsigned, old + x)
SHIM_ATOMIC(atomicAdd, unsigned long long, old + x)
SHIM_ATOMIC(atomicAdd, float, old + x)
SHIM_ATOMIC(atomicAdd, double, old + x)
SHIM_ATOMIC(atomicSub, int, (int)((unsigned)old - (unsigned)x))
SHIM_ATOMIC(atomicSub, unsigned, old - x)
SHIM_ATOMIC(atomicInc, unsigned, old >= x ? 0 : old + 1)
SHIM_ATOMIC(atomicDec, unsigned, old == 0 || old > x ? x : old - 1)
#undef SHIM_ATOMICS
#undef SHIM_ATOMIC

// Barriers and operations of a warp; the line is that of the caller

#define __syncthreads() ((void)shim::barrier(__LINE__, false))
#define __syncthreads_count(p) ((int)shim::barrier(__LINE__, (p) != 0))
#define __syncthreads_or(p) ((int)(shim::barrier(__LINE__, (p) != 0) != 0))
#define __syncthreads_and(p) ((int)(shim::barrier(__LINE__, (p) != 0) == shim::count))

static inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
  shim::meet_warp(line, mask);
}
static inline unsigned __ballot_sync(unsigned mask, int p, int line = __builtin_LINE()) {
  return shim::ballot("__ballot_sync", line, mask, p != 0);
}
static inline int __any_sync(unsigned mask, int p, int line = __builtin_LINE()) {
  return shim::ballot("__any_sync", line, mask, p != 0) != 0;
}
static inline int __all_sync(unsigned mask, int p, int line = __builtin_LINE()) {
  return shim::ballot("__all_sync", line, mask, p == 0) == 0;
}
static inline unsigned __activemask() { return shim::active(); }

#define SHIM_SHUFFLE(name, type, bits, argument, source)                                          \
  static inline type name(unsigned mask, type x, argument n, int width = 32,                      \
                          int line = __builtin_LINE()) {                                          \
    return shim_cast<type>((bits)shim::shuffle(#name, line, mask, shim_cast<bits>(x), source));   \
  }
#define SHIM_SHUFFLES(type, bits)                                                                 \
  SHIM_SHUFFLE(__shfl_sync, type, bits, int, shim::indexed(n, width))                             \
  SHIM_SHUFFLE(__shfl_up_sync, type, bits, unsigned, shim::up(n, width))                          \
  SHIM_SHUFFLE(__shfl_down_sync, type, bits, unsigned, shim::down(n, width))                      \
  SHIM_SHUFFLE(__shfl_xor_sync, type, bits, int, shim::across(n, width))
SHIM_SHUFFLES(int, unsigned) SHIM_SHUFFLES(unsigned, unsigned) SHIM_SHUFFLES(float, unsigned)
SHIM_SHUFFLES(long, unsigned long long) SHIM_SHUFFLES(unsigned long, unsigned long long)
SHIM_SHUFFLES(long long, unsigned long long) SHIM_SHUFFLES(double, unsigned long long)
SHIM_SHUFFLES(unsigned long long, unsigned long long)
#undef SHIM_SHUFFLES
#undef SHIM_SHUFFLE

#define SHIM_WARP_REDUCE(name, type, start, step)                                                 \
  static inline type name(unsigned mask, type x, int line = __builtin_LINE()) {                   \
    return (type)shim::meet(#name, line, mask, (unsigned)x, 0,                                    \
                            [](shim::Lane* warp, unsigned all, unsigned) -> uint64_t {            \
      type total = start;                                                                         \
      for (int i = 0; i < 32; i++) {                                                              \
        type one = (type)warp[i].value;                                                           \
        if (all >> i & 1) total = step;                                                           \
      }                                                                                           \
      return (unsigned)total;                                                                     \
    });                                                                                           \
  }
SHIM_WARP_REDUCE(__reduce_add_sync, unsigned, 0, total + one)
SHIM_WARP_REDUCE(__reduce_add_sync, int, 0, (int)((unsigned)total + (unsigned)one))
SHIM_WARP_REDUCE(__reduce_min_sync, unsigned, ~0u, min(total, one))
SHIM_WARP_REDUCE(__reduce_min_sync, int, 0x7FFFFFFF, min(total, one))
SHIM_WARP_REDUCE(__reduce_max_sync, unsigned, 0, max(total, one))
SHIM_WARP_REDUCE(__reduce_max_sync, int, -0x7FFFFFFF - 1, max(total, one))
SHIM_WARP_REDUCE(__reduce_and_sync, unsigned, ~0u, total & one)
SHIM_WARP_REDUCE(__reduce_or_sync, unsigned, 0, total | one)
SHIM_WARP_REDUCE(__reduce_xor_sync, unsigned, 0, total ^ one)
#undef SHIM_WARP_REDUCE
