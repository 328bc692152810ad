"""Tiles of matrices in shared memory, and their products by warps, in CUDA C.

Numbers of 16 bits are multiplied by tensor cores, floats and doubles one by one in the same
arrangement, so that a kernel is written once for all of them.
"""

HEADER = r"""
#ifndef FGRAD_TILES
#define FGRAD_TILES
template <class T> struct fgl_wider { typedef T type; };
template <> struct fgl_wider<fg_float16> { typedef float type; };
template <> struct fgl_wider<fg_bfloat16> { typedef float type; };

// acc += a·b by a warp, for 16 rows of `a` and 8 columns of `b`, whose rows are 16 bytes or more
// apart. Terms lie next to each other, unless `b` is DOWN: then its columns do. A lane holds the
// columns 2t and 2t + 1 of row g, then of row g + 8, as `fg_mma` says.
template <int TERMS, bool DOWN = false, class T, class A> FG void fgl_multiply(
    A (&acc)[4], const T* a, int lead_a, const T* b, int lead_b)
{
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    if constexpr (fgl_kind<T>::is_half) {
        const int m = lane / 8, r = lane % 8;
#pragma unroll
        for (int k = 0; k < TERMS; k += 32) {
            const bool two = k + 16 < TERMS;  // steps of 16 terms
            unsigned rows[4], columns[4];
            const int term = k + 8 * (two ? m : m % 2);
            fg_load_matrices<DOWN>(
                columns, DOWN ? b + (term + r) * lead_b : b + r * lead_b + term);
#pragma unroll
            for (int step = 0; step < (two ? 2 : 1); ++step) {
                fg_load_matrices(
                    rows, a + (r + m % 2 * 8) * lead_a + k + 16 * step + m / 2 * 8);
                const unsigned pair[2] = {columns[2 * step], columns[2 * step + 1]};
                fg_mma<T>(acc, rows, pair);
            }
        }
    } else {
        // Summed apart, so that the chain of roundings is that of tiles and that within one.
        A part[4] = {0, 0, 0, 0};
        for (int k = 0; k < TERMS; ++k)
            for (int i = 0; i < 4; ++i) {
                const int column = 2 * t + i % 2;
                part[i] = fgl_fma(a[(g + i / 2 * 8) * lead_a + k],
                                  DOWN ? b[k * lead_b + column] : b[column * lead_b + k], part[i]);
            }
        for (int i = 0; i < 4; ++i) acc[i] += part[i];
    }
}

// Begin to bring rows to shared memory; zeros stand for rows and columns that there are not. The
// block takes part; `fgl_brought` must follow, and a barrier. WIDE: eight numbers at a time.
template <int ROWS, int COLUMNS, bool WIDE, class T> FG void fgl_bring(
    T* to, int lead, const T* from, long long down, long long across, long long rows, int columns)
{
    if constexpr (WIDE) {
        for (int i = threadIdx.x; i < ROWS * (COLUMNS / 8); i += blockDim.x) {
            const int row = i / (COLUMNS / 8), column = i % (COLUMNS / 8) * 8;
            const bool there = row < rows && column < columns;
            fg_copy<16>(to + row * lead + column, there ? from + row * down + column : from, there);
        }
    } else {
        for (int i = threadIdx.x; i < ROWS * COLUMNS; i += blockDim.x) {
            const int row = i / COLUMNS, column = i % COLUMNS;
            const bool there = row < rows && column < columns;
            to[row * lead + column] = there ? from[row * down + column * across] : T();
        }
    }
}
FG void fgl_brought()
{
    fg_copy_commit();
    fg_copy_wait<0>();
}
#endif
"""
