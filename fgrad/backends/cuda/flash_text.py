"""The kernels of `flash`: a warp takes 16 rows of a tile, of queries or of keys."""

from string import Template

# A score at a query and a key, changed by bias, masks and bounds.
SCORES = r"""
#ifndef FGRAD_ATTENTION
#define FGRAD_ATTENTION
FG float fgl_exp(float x) { return expf(x); }
FG double fgl_exp(double x) { return exp(x); }
FG float fgl_log(float x) { return logf(x); }
FG double fgl_log(double x) { return log(x); }
// Over the four lanes that hold a row.
template <class W> FG W fgl_row_max(W x)
{
    x = fg_max(x, fg_shfl_xor(x, 1));
    return fg_max(x, fg_shfl_xor(x, 2));
}
template <class W> FG W fgl_row_sum(W x)
{
    x += fg_shfl_xor(x, 1);
    return x + fg_shfl_xor(x, 2);
}
#endif
"""

_BEGIN = r"""
struct @NAME@_words { long long v[$COUNT]; };
extern "C" __global__ void @NAME@($POINTERS, $RESULTS, void* scratch, const @NAME@_words w)
{
    extern __shared__ __align__(16) unsigned char shared[];
    const long long queries = $QUERIES, keys = $KEYS, heads = $HEADS, groups = $GROUPS;
    const int across = (int)$ACROSS, deep = (int)$DEEP;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const $W infinity = fg_infinity($W()), scale = $SCALE;
"""

FORWARD = Template(
    _BEGIN.replace("$RESULTS", "$T* __restrict__ p_out, $W* __restrict__ p_lse")
    + r"""
    $T* const tile_q = ($T*)shared;
    $T* const tile_k = tile_q + $ROWS * ($WIDTH + $PAD);
    $T* const tile_v = tile_k + $COLUMNS * ($WIDTH + $PAD);
    $T* const tile_p = tile_v + $COLUMNS * ($DEPTH + $PAD);
    const long long parts = (queries + $ROWS - 1) / $ROWS;
    const long long first = (parts - 1 - blockIdx.x % parts) * $ROWS;
    const long long head = blockIdx.x / parts % heads, batch = blockIdx.x / parts / heads;
    const long long group = head / (heads / groups);
    $OFFSETS
    const auto visible = [&](long long query, long long key, $W& score) -> bool {
        $SCORE
        return true;
    };
    fgl_bring<$ROWS, $WIDTH, $VECTORS>(
        tile_q, $WIDTH + $PAD, p_q + q + head * $q_N + first * $q_T, $q_T, $q_H, queries - first,
        across);
    $W sums[$DEPTH / 8][4], greatest[2] = {-infinity, -infinity}, total[2] = {0, 0};
#pragma unroll
    for (int n = 0; n < $DEPTH / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[n][i] = 0;
    const long long last = $CAUSAL && first + $ROWS < keys ? first + $ROWS : keys;
    for (long long from = 0; from < last; from += $COLUMNS) {
        fgl_bring<$COLUMNS, $WIDTH, $VECTORS>(
            tile_k, $WIDTH + $PAD, p_k + k + group * $k_N + from * $k_T, $k_T, $k_H, keys - from,
            across);
        fgl_bring<$COLUMNS, $DEPTH, $VECTORS>(
            tile_v, $DEPTH + $PAD, p_v + v + group * $v_N + from * $v_T, $v_T, $v_H, keys - from,
            deep);
        fgl_brought();
        __syncthreads();
        $W scores[$COLUMNS / 8][4], top[2] = {-infinity, -infinity}, added[2] = {0, 0};
#pragma unroll
        for (int n = 0; n < $COLUMNS / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) scores[n][i] = 0;
            fgl_multiply<$WIDTH>(scores[n], tile_q + 16 * warp * ($WIDTH + $PAD), $WIDTH + $PAD,
                                 tile_k + 8 * n * ($WIDTH + $PAD), $WIDTH + $PAD);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                $W score = scores[n][i] * scale;
                const bool seen = visible(first + 16 * warp + g + i / 2 * 8,
                                          from + 8 * n + 2 * t + i % 2, score);
                scores[n][i] = seen ? score : -infinity;
                top[i / 2] = fg_max(top[i / 2], scores[n][i]);
            }
        }
        $W shrink[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            top[r] = fg_max(greatest[r], fgl_row_max(top[r]));
            shrink[r] = greatest[r] == -infinity ? ($W)0 : fgl_exp(greatest[r] - top[r]);
            greatest[r] = top[r];
        }
#pragma unroll
        for (int n = 0; n < $COLUMNS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const $W score = scores[n][i];
                const $W p = score == -infinity ? ($W)0 : fgl_exp(score - top[i / 2]);
                added[i / 2] += p;
                tile_p[(16 * warp + g + i / 2 * 8) * ($COLUMNS + $PAD) + 8 * n + 2 * t + i % 2]
                    = fgl_cast<$T>(p);
            }
        __syncwarp();
#pragma unroll
        for (int r = 0; r < 2; ++r) total[r] = total[r] * shrink[r] + fgl_row_sum(added[r]);
#pragma unroll
        for (int n = 0; n < $DEPTH / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[n][i] *= shrink[i / 2];
            fgl_multiply<$COLUMNS, true>(
                sums[n], tile_p + 16 * warp * ($COLUMNS + $PAD), $COLUMNS + $PAD, tile_v + 8 * n,
                $DEPTH + $PAD);
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const long long query = first + 16 * warp + g + 8 * r;
        if (query >= queries) continue;
        const bool blind = total[r] == 0;
#pragma unroll
        for (int n = 0; n < $DEPTH / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int column = 8 * n + 2 * t + i;
                if (column < deep)
                    p_out[out + query * $out_T + head * $out_N + column * $out_H]
                        = fgl_cast<$T>(blind ? ($W)0 : sums[n][2 * r + i] / total[r]);
            }
        if (t == 0)
            p_lse[lse + head * $lse_N + query * $lse_T]
                = blind ? ($W)0 : greatest[r] + fgl_log(total[r]);
    }
}
"""
)

MEANS = Template(r"""
struct @NAME@_words { long long v[$COUNT]; };
extern "C" __global__ void __launch_bounds__(256) @NAME@(
    const $T* __restrict__ p_ct, const $W* __restrict__ p_ct_lse, const $T* __restrict__ p_out,
    void* scratch, const @NAME@_words w)
{
    $W* means = ($W*)scratch;
    const long long step = gridDim.x * (long long)blockDim.x;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < $TOTAL; i += step) {
        $OFFSETS
        fgl_sum<$W> sum;
        for (long long d = 0; d < $DEPTH; ++d)
            sum.add(fgl_cast<$W>(p_ct[ct + d * $CT]) * fgl_cast<$W>(p_out[out + d * $OUT]));
        means[i] = sum.result() - p_ct_lse[ct_lse];
    }
}
""")

BACKWARD_QUERIES = Template(
    _BEGIN.replace("$RESULTS", "$T* __restrict__ p_dq")
    + r"""
    $T* const tile_q = ($T*)shared;
    $T* const tile_ct = tile_q + $ROWS * ($WIDTH + $PAD);
    $T* const tile_k = tile_ct + $ROWS * ($DEPTH + $PAD);
    $T* const tile_v = tile_k + $COLUMNS * ($WIDTH + $PAD);
    $T* const tile_s = tile_v + $COLUMNS * ($DEPTH + $PAD);
    const long long parts = (queries + $ROWS - 1) / $ROWS;
    const long long first = (parts - 1 - blockIdx.x % parts) * $ROWS;
    const long long head = blockIdx.x / parts % heads, batch = blockIdx.x / parts / heads;
    const long long group = head / (heads / groups);
    $OFFSETS
    const auto visible = [&](long long query, long long key, $W& score) -> bool {
        $SCORE
        return true;
    };
    fgl_bring<$ROWS, $WIDTH, $VECTORS>(
        tile_q, $WIDTH + $PAD, p_q + q + head * $q_N + first * $q_T, $q_T, $q_H, queries - first,
        across);
    fgl_bring<$ROWS, $DEPTH, $VECTORS>(
        tile_ct, $DEPTH + $PAD, p_ct + ct + head * $ct_N + first * $ct_T, $ct_T, $ct_H,
        queries - first, deep);
    $W known[2], mean[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const long long query = first + 16 * warp + g + 8 * r;
        const bool is_row = query < queries;
        known[r] = is_row ? p_lse[lse + head * $lse_N + query * $lse_T] : ($W)0;
        mean[r] = is_row ? ((const $W*)scratch)[(batch * heads + head) * queries + query] : ($W)0;
    }
    $W sums[$WIDTH / 8][4];
#pragma unroll
    for (int n = 0; n < $WIDTH / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[n][i] = 0;
    const long long last = $CAUSAL && first + $ROWS < keys ? first + $ROWS : keys;
    for (long long from = 0; from < last; from += $COLUMNS) {
        const $T* const rows_k = p_k + k + group * $k_N + from * $k_T;
        fgl_bring<$COLUMNS, $WIDTH, $VECTORS>(
            tile_k, $WIDTH + $PAD, rows_k, $k_T, $k_H, keys - from, across);
        fgl_bring<$COLUMNS, $DEPTH, $VECTORS>(
            tile_v, $DEPTH + $PAD, p_v + v + group * $v_N + from * $v_T, $v_T, $v_H, keys - from,
            deep);
        fgl_brought();
        __syncthreads();
#pragma unroll
        for (int n = 0; n < $COLUMNS / 8; ++n) {
            $W scores[4] = {0, 0, 0, 0}, pulled[4] = {0, 0, 0, 0};
            fgl_multiply<$WIDTH>(scores, tile_q + 16 * warp * ($WIDTH + $PAD), $WIDTH + $PAD,
                                 tile_k + 8 * n * ($WIDTH + $PAD), $WIDTH + $PAD);
            fgl_multiply<$DEPTH>(pulled, tile_ct + 16 * warp * ($DEPTH + $PAD), $DEPTH + $PAD,
                                 tile_v + 8 * n * ($DEPTH + $PAD), $DEPTH + $PAD);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                $W score = scores[i] * scale, slope = 0;
                if (visible(first + 16 * warp + g + i / 2 * 8, from + 8 * n + 2 * t + i % 2, score))
                    slope = fgl_exp(score - known[i / 2]) * (pulled[i] - mean[i / 2]) * scale;
                tile_s[(16 * warp + g + i / 2 * 8) * ($COLUMNS + $PAD) + 8 * n + 2 * t + i % 2]
                    = fgl_cast<$T>(slope);
            }
        }
        __syncwarp();
#pragma unroll
        for (int n = 0; n < $WIDTH / 8; ++n)
            fgl_multiply<$COLUMNS, true>(
                sums[n], tile_s + 16 * warp * ($COLUMNS + $PAD), $COLUMNS + $PAD, tile_k + 8 * n,
                $WIDTH + $PAD);
        __syncthreads();
    }
#pragma unroll
    for (int n = 0; n < $WIDTH / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const long long query = first + 16 * warp + g + i / 2 * 8;
            const int column = 8 * n + 2 * t + i % 2;
            if (query < queries && column < across)
                p_dq[dq + query * $dq_T + head * $dq_N + column * $dq_H]
                    = fgl_cast<$T>(sums[n][i]);
        }
}
"""
)

BACKWARD_KEYS = Template(
    _BEGIN.replace("$RESULTS", "$T* __restrict__ p_dk, $T* __restrict__ p_dv")
    + r"""
    $T* const tile_k = ($T*)shared;
    $T* const tile_v = tile_k + $ROWS * ($WIDTH + $PAD);
    $T* const tile_q = tile_v + $ROWS * ($DEPTH + $PAD);
    $T* const tile_ct = tile_q + $COLUMNS * ($WIDTH + $PAD);
    $T* const tile_s = tile_ct + $COLUMNS * ($DEPTH + $PAD);
    const long long parts = (keys + $ROWS - 1) / $ROWS, first = blockIdx.x % parts * $ROWS;
    const long long group = blockIdx.x / parts % groups, batch = blockIdx.x / parts / groups;
    long long head = 0;
    $OFFSETS
    const auto visible = [&](long long query, long long key, $W& score) -> bool {
        $SCORE
        return true;
    };
    fgl_bring<$ROWS, $WIDTH, $VECTORS>(
        tile_k, $WIDTH + $PAD, p_k + k + group * $k_N + first * $k_T, $k_T, $k_H, keys - first,
        across);
    fgl_bring<$ROWS, $DEPTH, $VECTORS>(
        tile_v, $DEPTH + $PAD, p_v + v + group * $v_N + first * $v_T, $v_T, $v_H, keys - first,
        deep);
    $W sums_k[$WIDTH / 8][4], sums_v[$DEPTH / 8][4];
#pragma unroll
    for (int n = 0; n < $WIDTH / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums_k[n][i] = 0;
#pragma unroll
    for (int n = 0; n < $DEPTH / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums_v[n][i] = 0;
    const long long many = heads / groups, start = $CAUSAL ? first / $COLUMNS * $COLUMNS : 0;
    for (head = group * many; head < (group + 1) * many; ++head)
        for (long long from = start; from < queries; from += $COLUMNS) {
            const $T* const rows_q = p_q + q + head * $q_N + from * $q_T;
            const $T* const rows_ct = p_ct + ct + head * $ct_N + from * $ct_T;
            fgl_bring<$COLUMNS, $WIDTH, $VECTORS>(
                tile_q, $WIDTH + $PAD, rows_q, $q_T, $q_H, queries - from, across);
            fgl_bring<$COLUMNS, $DEPTH, $VECTORS>(
                tile_ct, $DEPTH + $PAD, rows_ct, $ct_T, $ct_H, queries - from, deep);
            fgl_brought();
            __syncthreads();
            $W slopes[$COLUMNS / 8][4];
#pragma unroll
            for (int n = 0; n < $COLUMNS / 8; ++n) {
                $W scores[4] = {0, 0, 0, 0}, pulled[4] = {0, 0, 0, 0};
                fgl_multiply<$WIDTH>(scores, tile_k + 16 * warp * ($WIDTH + $PAD), $WIDTH + $PAD,
                                     tile_q + 8 * n * ($WIDTH + $PAD), $WIDTH + $PAD);
                fgl_multiply<$DEPTH>(pulled, tile_v + 16 * warp * ($DEPTH + $PAD), $DEPTH + $PAD,
                                     tile_ct + 8 * n * ($DEPTH + $PAD), $DEPTH + $PAD);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int row = 16 * warp + g + i / 2 * 8, column = 8 * n + 2 * t + i % 2;
                    const long long query = from + column;
                    $W score = scores[i] * scale, p = 0;
                    slopes[n][i] = 0;
                    if (visible(query, first + row, score)) {
                        p = fgl_exp(score - p_lse[lse + head * $lse_N + query * $lse_T]);
                        const $W mean
                            = ((const $W*)scratch)[(batch * heads + head) * queries + query];
                        slopes[n][i] = p * (pulled[i] - mean) * scale;
                    }
                    tile_s[row * ($COLUMNS + $PAD) + column] = fgl_cast<$T>(p);
                }
            }
            __syncwarp();
#pragma unroll
            for (int n = 0; n < $DEPTH / 8; ++n)
                fgl_multiply<$COLUMNS, true>(
                    sums_v[n], tile_s + 16 * warp * ($COLUMNS + $PAD), $COLUMNS + $PAD,
                    tile_ct + 8 * n, $DEPTH + $PAD);
            __syncwarp();
#pragma unroll
            for (int n = 0; n < $COLUMNS / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    tile_s[(16 * warp + g + i / 2 * 8) * ($COLUMNS + $PAD) + 8 * n + 2 * t + i % 2]
                        = fgl_cast<$T>(slopes[n][i]);
            __syncwarp();
#pragma unroll
            for (int n = 0; n < $WIDTH / 8; ++n)
                fgl_multiply<$COLUMNS, true>(
                    sums_k[n], tile_s + 16 * warp * ($COLUMNS + $PAD), $COLUMNS + $PAD,
                    tile_q + 8 * n, $WIDTH + $PAD);
            __syncthreads();
        }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const long long key = first + 16 * warp + g + i / 2 * 8;
        if (key >= keys) continue;
#pragma unroll
        for (int n = 0; n < $WIDTH / 8; ++n) {
            const int column = 8 * n + 2 * t + i % 2;
            if (column < across)
                p_dk[dk + key * $dk_T + group * $dk_N + column * $dk_H]
                    = fgl_cast<$T>(sums_k[n][i]);
        }
#pragma unroll
        for (int n = 0; n < $DEPTH / 8; ++n) {
            const int column = 8 * n + 2 * t + i % 2;
            if (column < deep)
                p_dv[dv + key * $dv_T + group * $dv_N + column * $dv_H]
                    = fgl_cast<$T>(sums_v[n][i]);
        }
    }
}
"""
)
