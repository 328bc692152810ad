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

// acc += a·b by a warp: 16 rows of `a` and 8 columns of `b`, both with terms next to each other.
// A lane holds the columns 2t and 2t + 1 of row g, then of row g + 8, as `fg_mma` says.
template <int TERMS, class T, class A> FG void fgl_multiply(
    A (&acc)[4], const T* a, int lead_a, const T* b, int lead_b)
{
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    if constexpr (fgl_kind<T>::is_half) {
#pragma unroll
        for (int k = 0; k < TERMS; k += 16) {
            const auto pair = [](const T* at) {
                return fg_bitcast<unsigned>(*(const fg_vec<T, 2>*)at);
            };
            const T *left = a + g * lead_a + k + 2 * t, *right = b + g * lead_b + k + 2 * t;
            const unsigned rows[4] = {pair(left), pair(left + 8 * lead_a), pair(left + 8),
                                      pair(left + 8 * lead_a + 8)};
            const unsigned columns[2] = {pair(right), pair(right + 8)};
            fg_mma<T>(acc, rows, columns);
        }
    } else {
        // Summed apart, so that the chain of roundings is that of tiles and that within one.
        A part[4] = {0, 0, 0, 0};
        for (int k = 0; k < TERMS; ++k)
            for (int i = 0; i < 4; ++i)
                part[i] = fgl_fma(a[(g + i / 2 * 8) * lead_a + k], b[(2 * t + i % 2) * lead_b + k],
                                  part[i]);
        for (int i = 0; i < 4; ++i) acc[i] += part[i];
    }
}

// Bring rows to shared memory; zeros stand for rows and columns that there are not. The block
// takes part; a barrier must follow. TURNED: columns become rows.
template <int ROWS, int COLUMNS, bool WIDE, bool TURNED, class T> FG void fgl_bring(
    T* to, int lead, const T* from, long long down, long long across, long long rows, int columns)
{
    if constexpr (WIDE) {  // eight numbers at a time
        for (int i = threadIdx.x; i < ROWS * (COLUMNS / 8); i += blockDim.x) {
            // Turned, neighbouring threads write next to each other; else they read so.
            const int row = TURNED ? i % ROWS : i / (COLUMNS / 8);
            const int column = (TURNED ? i / ROWS : i % (COLUMNS / 8)) * 8;
            fg_vec<T, 8> x = {};
            if (row < rows && column < columns)
                x = *(const fg_vec<T, 8>*)(from + row * down + column);
            if constexpr (TURNED)
                for (int j = 0; j < 8; ++j) to[(column + j) * lead + row] = x.at[j];
            else *(fg_vec<T, 8>*)(to + row * lead + column) = x;
        }
    } else {
        for (int i = threadIdx.x; i < ROWS * COLUMNS; i += blockDim.x) {
            const int row = i / COLUMNS, column = i % COLUMNS;
            T x = T();
            if (row < rows && column < columns) x = from[row * down + column * across];
            if constexpr (TURNED) to[column * lead + row] = x;
            else to[row * lead + column] = x;
        }
    }
}
#endif
"""
