// What stands in front of every module of CUDA C that fgrad generates: the types of elements in
// memory, the scalar operations of core/scalar.py as fg_<name>, conversions, and reductions.
// Compiles without any other header; special instructions occur in functions of this file and of
// tensor.cuh alone, each with its meaning in C++ for other compilers.
//
// Operations are exact where NumPy is: integers wrap, divide by 0 without a trap and shift by more
// than their width; minima and maxima give NaN where either is. Nothing is contracted to a fused
// multiply-add (option -fmad=false), so sums and products round as on the CPU.
#define FG __device__ __forceinline__

// Types

struct __align__(2) fg_float16 {
  static const bool is_bfloat16 = false;
  unsigned short bits;
};
struct __align__(2) fg_bfloat16 {
  static const bool is_bfloat16 = true;
  unsigned short bits;
};

// What one instruction moves: N elements next to each other, N·sizeof(T) a power of two up to 16.
template <class T, int N> struct __align__(sizeof(T) * N) fg_vec { T at[N]; };

template <class T> struct fg_type { static const bool is_float = false, is_bool = false; };
template <> struct fg_type<float> { static const bool is_float = true, is_bool = false; };
template <> struct fg_type<double> { static const bool is_float = true, is_bool = false; };
template <> struct fg_type<bool> { static const bool is_float = false, is_bool = true; };

template <int SIZE> struct fg_unsigned_of;
template <> struct fg_unsigned_of<1> { typedef unsigned char type; };
template <> struct fg_unsigned_of<2> { typedef unsigned short type; };
template <> struct fg_unsigned_of<4> { typedef unsigned int type; };
template <> struct fg_unsigned_of<8> { typedef unsigned long long type; };
// The unsigned type of the same size, and the one that arithmetic on it wraps in.
template <class T> using fg_unsigned = typename fg_unsigned_of<sizeof(T)>::type;
template <class T> using fg_wide = typename fg_unsigned_of<(sizeof(T) < 4 ? 4 : sizeof(T))>::type;
template <class T> FG constexpr bool fg_is_signed() { return T(-1) < T(0); }
template <class T> FG constexpr T fg_lowest() {
  return fg_is_signed<T>() ? T(fg_unsigned<T>(1) << (8 * sizeof(T) - 1)) : T(0);
}
template <class T> FG constexpr T fg_highest() { return T(~fg_lowest<T>()); }
FG float fg_infinity(float) { return __int_as_float(0x7F800000); }
FG double fg_infinity(double) { return __longlong_as_double(0x7FF0000000000000); }
FG float fg_nan(float) { return __int_as_float(0x7FC00000); }
FG double fg_nan(double) { return __longlong_as_double(0x7FF8000000000000); }

// Bits as another type of the same size; a bool is true if any bit is set.
template <class To, class From> FG To fg_bitcast(From x) {
  static_assert(sizeof(To) == sizeof(From), "a bitcast between types of one size");
  if constexpr (fg_type<To>::is_bool) {
    return x != From(0);
  } else {
    union { From from; To to; } both;
    both.from = x;
    return both.to;
  }
}

// A number whose bits are the low bytes of a word.
template <class T> FG T fg_number(long long word) {
  if constexpr (fg_type<T>::is_bool) return word != 0;
  else return fg_bitcast<T>(fg_unsigned<T>(word));
}

// float16 and bfloat16, from and to float: rounded to nearest, ties to even

FG float fg_widen(float x) { return x; }
FG float fg_widen(fg_bfloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }
FG float fg_widen(fg_float16 x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#else
  unsigned sign = (x.bits & 0x8000u) << 16, size = (x.bits & 0x7FFFu) << 13;
  if (size >= 0x7C00u << 13) return __uint_as_float(sign | size | 0x7F800000u);
  // The exponents start 112 apart; a subnormal is a fraction added to 2^-14.
  float value = size < 0x400u << 13
      ? __uint_as_float(size + 0x38800000u) - __uint_as_float(0x38800000u)
      : __uint_as_float(size + 0x38000000u);
  return __uint_as_float(__float_as_uint(value) | sign);
#endif
}

template <class T> FG T fg_narrow(float x);
template <> FG fg_bfloat16 fg_narrow<fg_bfloat16>(float x) {
  fg_bfloat16 y;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
  unsigned bits = __float_as_uint(x);
  bits = x != x ? bits | 0x400000u : bits + 0x7FFFu + (bits >> 16 & 1);
  y.bits = (unsigned short)(bits >> 16);
#endif
  return y;
}
template <> FG fg_float16 fg_narrow<fg_float16>(float x) {
  fg_float16 y;
#ifdef __CUDA_ARCH__
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
  unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7FFFFFFFu;
  if (size > 0x7F800000u)
    size = 0x7E00u | (size >> 13 & 0x3FFu);
  else if (size >= 0x47800000u)  // from 2^16 on
    size = 0x7C00u;
  else if (size < 0x38800000u)  // below 2^-14: the last place of 1/2 is that of subnormals
    size = __float_as_uint(__uint_as_float(size) + 0.5f) - 0x3F000000u;
  else
    size = (size - 0x38000000u + 0xFFFu + (size >> 13 & 1)) >> 13;
  y.bits = (unsigned short)(sign | size);
#endif
  return y;
}
FG float fg_round_bfloat16(float x) { return fg_widen(fg_narrow<fg_bfloat16>(x)); }
FG float fg_round_float16(float x) { return fg_widen(fg_narrow<fg_float16>(x)); }

// Conversion: float to integer truncates, clamps, and makes NaN 0

template <class To, class From> FG To fg_convert(From x) {
  if constexpr (fg_type<To>::is_bool) {
    return x != From(0);
  } else if constexpr (fg_type<From>::is_float && !fg_type<To>::is_float) {
    // Both are powers of two, or 0: exact.
    const From above = From(fg_highest<To>() / 2 + 1) * From(2), below = From(fg_lowest<To>());
    if (!(x < above)) return x != x ? To(0) : fg_highest<To>();
    return x > below ? To(x) : fg_lowest<To>();
  } else {
    return To(x);
  }
}

// Arithmetic

template <class T> FG T fg_add(T x, T y) {
  if constexpr (fg_type<T>::is_float) return x + y;
  else if constexpr (fg_type<T>::is_bool) return x | y;
  else return T(fg_wide<T>(x) + fg_wide<T>(y));
}
template <class T> FG T fg_sub(T x, T y) {
  if constexpr (fg_type<T>::is_float) return x - y;
  else return T(fg_wide<T>(x) - fg_wide<T>(y));
}
template <class T> FG T fg_mul(T x, T y) {
  if constexpr (fg_type<T>::is_float) return x * y;
  else if constexpr (fg_type<T>::is_bool) return x & y;
  else return T(fg_wide<T>(x) * fg_wide<T>(y));
}
template <class T> FG T fg_neg(T x) {
  if constexpr (fg_type<T>::is_float) return -x;
  else return T(fg_wide<T>(0) - fg_wide<T>(x));
}
// Towards zero; by 0 it gives -1, and the lowest number by -1 itself.
template <class T> FG T fg_div(T x, T y) {
  if constexpr (fg_type<T>::is_float) return x / y;
  else if (y == T(0)) return T(-1);
  else if (fg_is_signed<T>() && y == T(-1)) return fg_neg(x);
  else return T(x / y);
}
FG float fg_rem(float x, float y) { return fmodf(x, y); }
FG double fg_rem(double x, double y) { return fmod(x, y); }
template <class T> FG T fg_rem(T x, T y) {
  if (y == T(0)) return x;
  if (fg_is_signed<T>() && y == T(-1)) return T(0);
  return T(x % y);
}
FG float fg_abs(float x) { return fabsf(x); }
FG double fg_abs(double x) { return fabs(x); }
template <class T> FG T fg_abs(T x) { return x < T(0) ? fg_neg(x) : x; }
template <class T> FG T fg_sign(T x) {
  if constexpr (fg_type<T>::is_float) return x > T(0) ? T(1) : x < T(0) ? T(-1) : x + T(0);
  else return x < T(0) ? T(-1) : T(x != T(0));
}
template <class T> FG T fg_min(T x, T y) {
  if constexpr (fg_type<T>::is_float) return x != x ? x : x < y ? x : y;
  else return y < x ? y : x;
}
template <class T> FG T fg_max(T x, T y) {
  if constexpr (fg_type<T>::is_float) return x != x ? x : x > y ? x : y;
  else return x < y ? y : x;
}
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <> FG float fg_min(float x, float y) {
  float z;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
  return z;
}
template <> FG float fg_max(float x, float y) {
  float z;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
  return z;
}
#endif

// Elementary functions of floats: those of CUDA

#define FG_UNARY(name, function)                                                                  \
  FG float fg_##name(float x) { return function##f(x); }                                          \
  FG double fg_##name(double x) { return function(x); }
#define FG_BINARY(name, function)                                                                 \
  FG float fg_##name(float x, float y) { return function##f(x, y); }                              \
  FG double fg_##name(double x, double y) { return function(x, y); }
FG_UNARY(floor, floor) FG_UNARY(ceil, ceil) FG_UNARY(rint, rint) FG_UNARY(trunc, trunc)
FG_UNARY(sqrt, sqrt) FG_UNARY(cbrt, cbrt) FG_UNARY(exp, exp) FG_UNARY(exp2, exp2)
FG_UNARY(expm1, expm1) FG_UNARY(log, log) FG_UNARY(log1p, log1p) FG_UNARY(sin, sin)
FG_UNARY(cos, cos) FG_UNARY(tan, tan) FG_UNARY(asin, asin) FG_UNARY(acos, acos)
FG_UNARY(atan, atan) FG_UNARY(sinh, sinh) FG_UNARY(cosh, cosh) FG_UNARY(tanh, tanh)
FG_UNARY(asinh, asinh) FG_UNARY(acosh, acosh) FG_UNARY(atanh, atanh) FG_UNARY(erf, erf)
FG_UNARY(erfc, erfc)
FG_BINARY(pow, pow) FG_BINARY(atan2, atan2) FG_BINARY(hypot, hypot) FG_BINARY(copysign, copysign)
#undef FG_UNARY
#undef FG_BINARY

// One step of the bits, which order floats of one sign by magnitude.
template <class T> FG T fg_nextafter(T x, T y) {
  typedef fg_unsigned<T> Bits;
  if (x != x || y != y) return x + y;
  if (x == y) return y;
  if (x == T(0)) return fg_copysign(fg_bitcast<T>(Bits(1)), y);
  Bits bits = fg_bitcast<Bits>(x);
  return fg_bitcast<T>(Bits((x < y) == (x > T(0)) ? bits + 1 : bits - 1));
}

// Comparisons

template <class T> FG bool fg_eq(T x, T y) { return x == y; }
template <class T> FG bool fg_ne(T x, T y) { return x != y; }
template <class T> FG bool fg_lt(T x, T y) { return x < y; }
template <class T> FG bool fg_le(T x, T y) { return x <= y; }
template <class T> FG bool fg_gt(T x, T y) { return x > y; }
template <class T> FG bool fg_ge(T x, T y) { return x >= y; }
template <class T> FG bool fg_isnan(T x) { return x != x; }
template <class T> FG bool fg_isfinite(T x) {
  if constexpr (fg_type<T>::is_float) return fg_abs(x) < fg_infinity(x);
  else return true;
}
template <class T> FG T fg_select(bool which, T x, T y) { return which ? x : y; }

// Bits

template <class T> FG T fg_and(T x, T y) { return T(x & y); }
template <class T> FG T fg_or(T x, T y) { return T(x | y); }
template <class T> FG T fg_xor(T x, T y) { return T(x ^ y); }
template <class T> FG T fg_not(T x) {
  if constexpr (fg_type<T>::is_bool) return !x;
  else return T(~x);
}
template <class T> FG bool fg_within(T count) {
  return fg_unsigned<T>(count) < fg_unsigned<T>(8 * sizeof(T));
}
template <class T> FG T fg_shl(T x, T y) {
  return fg_within(y) ? T(fg_wide<T>(x) << y) : T(0);
}
template <class T> FG T fg_shr(T x, T y) {
  return fg_within(y) ? T(fg_unsigned<T>(x) >> y) : T(0);
}
template <class T> FG T fg_sar(T x, T y) {
  return fg_within(y) ? T(x >> y) : x < T(0) ? T(-1) : T(0);
}
template <class T> FG T fg_popcount(T x) {
  if constexpr (sizeof(T) == 8) return T(__popcll(fg_unsigned<T>(x)));
  else return T(__popc(fg_unsigned<T>(x)));
}
template <class T> FG T fg_clz(T x) {
  if constexpr (sizeof(T) == 8) return T(__clzll((long long)x));
  else return T(__clz((int)fg_unsigned<T>(x)) - (32 - 8 * (int)sizeof(T)));
}

// Reductions: the order depends on the shape alone

#define FG_MONOID(name, start)                                                                    \
  struct fg_monoid_##name {                                                                       \
    template <class T> static FG T identity() { return start; }                                   \
    template <class T> static FG T combine(T x, T y) { return fg_##name(x, y); }                  \
  };
template <class T> FG T fg_greatest() {
  if constexpr (fg_type<T>::is_float) return fg_infinity(T(0));
  else if constexpr (fg_type<T>::is_bool) return true;
  else return fg_highest<T>();
}
template <class T> FG T fg_least() {
  if constexpr (fg_type<T>::is_float) return -fg_infinity(T(0));
  else if constexpr (fg_type<T>::is_bool) return false;
  else return fg_lowest<T>();
}
// log(exp x + exp y)
template <class T> FG T fg_logaddexp(T x, T y) {
  if (x == y) return x + fg_log(T(2));  // infinities of one sign too
  T most = fg_max(x, y);
  return most + fg_log1p(fg_exp(-fg_abs(x - y)));
}
FG_MONOID(add, T(0))
FG_MONOID(mul, T(1))
FG_MONOID(max, fg_least<T>())
FG_MONOID(min, fg_greatest<T>())
FG_MONOID(and, fg_not(T(0)))
FG_MONOID(or, T(0))
FG_MONOID(xor, T(0))
FG_MONOID(logaddexp, fg_least<T>())
#undef FG_MONOID

// What a thread has reduced so far. A sum of floats carries what its additions have lost, so its
// error does not grow with the number of terms.
template <class M, class T> struct fg_partial {
  T value = M::template identity<T>();
  FG void add(T x) { value = M::combine(value, x); }
  FG T result() const { return value; }
};
template <class T> struct fg_sum {
  T value = T(0), lost = T(0);
  FG void add(T x) {
    T total = value + x, part = total - value;
    lost += (value - (total - part)) + (x - part);
    value = total;
  }
  FG T result() const { return fg_isfinite(lost) ? value + lost : value; }
};
template <> struct fg_partial<fg_monoid_add, float> : fg_sum<float> {};
template <> struct fg_partial<fg_monoid_add, double> : fg_sum<double> {};

#define FG_SHUFFLE(name, operand)                                                                 \
  template <class T> FG T fg_##name(T x, operand by, unsigned mask = 0xFFFFFFFFu) {               \
    if constexpr (sizeof(T) < 4) return T(__##name##_sync(mask, int(x), by));                     \
    else return __##name##_sync(mask, x, by);                                                     \
  }
FG_SHUFFLE(shfl, int) FG_SHUFFLE(shfl_xor, int) FG_SHUFFLE(shfl_up, unsigned)
FG_SHUFFLE(shfl_down, unsigned)
#undef FG_SHUFFLE

// Of the values of WIDTH lanes next to each other, a power of two; every lane gets the result.
// All lanes of the warp take part.
template <class M, int WIDTH = 32, class T> FG T fg_warp_reduce(T x) {
#pragma unroll
  for (int step = WIDTH / 2; step; step /= 2) x = M::combine(x, fg_shfl_xor(x, step));
  return x;
}

// Of the values of a block of whole warps along x; every thread gets the result.
template <class M, class T> FG T fg_block_reduce(T x) {
  __shared__ T partial[32];
  unsigned lane = threadIdx.x % 32, warps = blockDim.x / 32;
  x = fg_warp_reduce<M>(x);
  if (warps == 1) return x;
  __syncthreads();  // nobody reads what the last call has left
  if (lane == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  return fg_warp_reduce<M>(lane < warps ? partial[lane] : M::template identity<T>());
}

// The reduction of the values of the lanes up to each.
template <class M, class T> FG T fg_warp_scan(T x) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    T before = fg_shfl_up(x, step);
    if (threadIdx.x % 32 >= step) x = M::combine(before, x);
  }
  return x;
}

// The same of a block of whole warps along x; `total` becomes the reduction of all its values.
template <class M, class T> FG T fg_block_scan(T x, T& total) {
  __shared__ T partial[32];
  unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = fg_warp_scan<M>(x);
  __syncthreads();
  if (lane == 31) partial[warp] = x;
  __syncthreads();
  T ends = fg_warp_scan<M>(lane < warps ? partial[lane] : M::template identity<T>());
  total = fg_shfl(ends, 31);
  T before = fg_shfl(ends, warp ? warp - 1 : 0);
  return warp ? M::combine(before, x) : x;
}
