// Matrices on tensor cores, and copies to shared memory that the threads do not wait for: special
// instructions, each with its meaning in C++.

// Copies from global to shared memory, both at multiples of BYTES: 4, 8 or 16. They belong to the
// group that `fg_copy_commit` closes, and have ended after an `fg_copy_wait` that leaves out fewer
// of the last groups; a barrier shows them to other threads. Zeros stand for what there is not.
template <int BYTES> FG void fg_copy(void* shared, const void* global, bool there = true) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "4, 8 or 16 bytes at a time");
#ifdef __CUDA_ARCH__
  const unsigned to = (unsigned)__cvta_generic_to_shared(shared);
  const int count = there ? BYTES : 0;
  if constexpr (BYTES == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(to), "l"(global), "r"(count) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 :: "r"(to), "l"(global), "n"(BYTES), "r"(count) : "memory");
#else
  typedef fg_vec<unsigned, BYTES / 4> Words;
  *(Words*)shared = there ? *(const Words*)global : Words{};
#endif
}
FG void fg_copy_commit() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int LEFT> FG void fg_copy_wait() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory");
#endif
}

// Four matrices of 8 × 8 numbers of 16 bits from shared memory: lane 8m + r gives the address of
// row r of matrix m, a multiple of 16. With g = lane / 4 and t = lane % 4 a lane gets the columns
// 2t and 2t + 1 of row g of each, two numbers in a word; TURNED: of column g, the rows 2t and 2t + 1.
template <bool TURNED = false> FG void fg_load_matrices(unsigned (&x)[4], const void* row) {
#ifdef __CUDA_ARCH__
  const unsigned from = (unsigned)__cvta_generic_to_shared(row);
  if constexpr (TURNED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(from) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(from) : "memory");
#else
  int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (int m = 0; m < 4; m++) {
    unsigned pair[2];
    for (int i = 0; i < 2; i++) {
      long long at = fg_shfl((long long)row, 8 * m + (TURNED ? 2 * t + i : g));
      pair[i] = ((const unsigned short*)at)[TURNED ? g : 2 * t + i];
    }
    x[m] = pair[0] | pair[1] << 16;
  }
#endif
}

// d += a·b by a warp: a of 16 × 16 and b of 16 × 8 numbers of 16 bits, sums in float. With
// g = lane / 4 and t = lane % 4 a lane holds, two neighbours along the sum in a word, of a the rows
// g and g + 8 from term 2t on, then the same from term 2t + 8 on; of b, column g from terms 2t and
// 2t + 8 on; of d, the columns 2t and 2t + 1 of row g, then of row g + 8.
template <class T> FG void fg_mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 2 && T::is_bfloat16)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (int half = 0; half < 2; half++)
    for (int pair = 0; pair < 4; pair++) {
      unsigned rows[2], columns[2];
      for (int i = 0; i < 2; i++) {
        rows[i] = fg_shfl(a[2 * half + i], 4 * g + pair);
        columns[i] = fg_shfl(b[half], 4 * (2 * t + i) + pair);
      }
      for (int term = 0; term < 2; term++)
        for (int i = 0; i < 4; i++) {
          T x, y;
          x.bits = (unsigned short)(rows[i / 2] >> 16 * term);
          y.bits = (unsigned short)(columns[i % 2] >> 16 * term);
          d[i] += fg_widen(x) * fg_widen(y);
        }
    }
#endif
}

// A float rounded to the 11 digits of tf32, ties away from zero.
FG float fg_round_tf32(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return __uint_as_float(y);
#else
  unsigned bits = __float_as_uint(x);
  return fg_isfinite(x) ? __uint_as_float((bits + 0x1000u) & ~0x1FFFu) : x;
#endif
}

// d += a·b by a warp, of numbers rounded to tf32: a of 16 × 8, b of 8 × 8. A lane holds of a the
// rows g and g + 8 at term t, then the same at term t + 4; of b, column g at terms t and t + 4; of d
// what it does above.
FG void fg_mma_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
#ifdef __CUDA_ARCH__
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#else
  int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (int half = 0; half < 2; half++)
    for (int term = 0; term < 4; term++)
      for (int i = 0; i < 4; i++) {
        float x = fg_shfl(a[2 * half + i / 2], 4 * g + term);
        d[i] += x * fg_shfl(b[half], 4 * (2 * t + i % 2) + term);
      }
#endif
}
