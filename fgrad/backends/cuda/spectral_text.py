"""Eigenvalues and singular values in CUDA C, by rotations of Jacobi in float64.

Rotations of a round touch different pairs of columns, so they are made at once; a block takes a
matrix. The pairs of a round are those of a tournament: every column meets every other one once.
"""

from string import Template

ROTATIONS = r"""
#ifndef FGRAD_ROTATIONS
#define FGRAD_ROTATIONS
// The pair number k of a round among an even number of players.
FG void fgl_pair(int players, int round, int k, int& p, int& q)
{
    const int ring = players - 1;
    p = k == 0 ? ring : (round + k) % ring;
    q = k == 0 ? round : (round - k + ring) % ring;
    if (p > q) { const int kept = p; p = q; q = kept; }
}
template <class C> FG C fgl_parts(double re, double im)
{
    if constexpr (fgl_kind<C>::is_complex) return {re, im};
    else return re;
}
// What makes a Hermitian 2 × 2 matrix diagonal: columns become
// p' = c·p - s·conj(e)·q and q' = s·e·p + c·q, for the phase e of the entry besides the diagonal.
template <class C> struct fgl_turn { double c, s; C e; };
template <class C> FG fgl_turn<C> fgl_rotation(double first, C between, double second)
{
    const double size = hypot(fgl_real(between), fgl_imaginary(between));
    const double slope = (second - first) / (2 * size);
    const double t = (slope < 0 ? -1.0 : 1.0) / (fabs(slope) + hypot(1.0, slope));
    const double c = 1 / hypot(1.0, t);
    return {c, t * c, between / fgl_number<C>(size)};
}
template <class C> FG void fgl_turn_pair(const fgl_turn<C>& r, C& p, C& q)
{
    const C old = p, s = fgl_number<C>(r.s), c = fgl_number<C>(r.c);
    p = c * old - s * (fgl_conj(r.e) * q);
    q = s * (r.e * old) + c * q;
}
#endif
"""

_HEAD = r"""
struct @NAME@_words { long long v[$COUNT]; };
extern "C" __global__ void __launch_bounds__(256) @NAME@($POINTERS, void* scratch,
                                                         const @NAME@_words w)
{
    typedef $C C;
    const int thread = threadIdx.x, threads = blockDim.x;
"""

# `p_a` is the workspace's copy of a matrix, `p_v` and `p_turns` room in it.
EIGH = Template(
    _HEAD.replace(
        "$POINTERS",
        "const $T* p_x, $C* p_a, $C* p_v, fgl_turn<$C>* p_turns, $T* p_out, $R* p_values",
    )
    + r"""
    __shared__ double partial[256];
    const int n = (int)$N, players = n + n % 2, pairs = players / 2;
    const long long first = (long long)blockIdx.x * n * n;
    const $T* const x = p_x + first;
    C *const a = p_a + first, *const v = p_v + first;
    fgl_turn<C>* const turns = p_turns + (long long)blockIdx.x * pairs;
    $T* const out = p_out + first;
    $R* const values = p_values + (long long)blockIdx.x * n;
    bool broken = false;
    double sum = 0;
    for (int at = thread; at < n * n; at += threads) {
        const int i = at / n, j = at % n;
        const bool given = $LOWER ? j <= i : j >= i;
        C y = fgl_cast<C>(given ? x[i * n + j] : x[j * n + i]);
        if (!given) y = fgl_conj(y);
        if (i == j) y = fgl_number<C>(fgl_real(y));
        a[at] = y;
        v[at] = fgl_number<C>(i == j ? 1.0 : 0.0);
        broken = broken || !fgl_finite(y);
        sum += fgl_square(y);
    }
    broken = __syncthreads_or(broken);
    if (broken) {
        for (int at = thread; at < n * n; at += threads) out[at] = fgl_nan<$T>();
        for (int i = thread; i < n; i += threads) values[i] = fgl_nan<$R>();
        return;
    }
    partial[thread] = sum;
    __syncthreads();
    double norm = 0;
    for (int i = 0; i < threads; ++i) norm += partial[i];
    const double small = 1e-17 * sqrt(norm) / (n + 1);
    for (int sweep = 0; sweep < 60; ++sweep) {
        bool turned = false;
        for (int round = 0; round < players - 1; ++round) {
            __syncthreads();
            for (int k = thread; k < pairs; k += threads) {
                int p, q;
                fgl_pair(players, round, k, p, q);
                fgl_turn<C> turn = {1, 0, fgl_number<C>(1.0)};
                if (q < n) {
                    const C between = a[p * n + q];
                    if (sqrt(fgl_square(between)) > small) {
                        turn = fgl_rotation(fgl_real(a[p * n + p]), between,
                                            fgl_real(a[q * n + q]));
                        turned = true;
                    }
                }
                turns[k] = turn;
            }
            __syncthreads();
            for (int at = thread; at < n * pairs; at += threads) {
                int p, q;
                fgl_pair(players, round, at % pairs, p, q);
                if (q >= n) continue;
                const fgl_turn<C> turn = turns[at % pairs];
                const int row = at / pairs * n;
                fgl_turn_pair(turn, a[row + p], a[row + q]);
                fgl_turn_pair(turn, v[row + p], v[row + q]);
            }
            __syncthreads();
            for (int at = thread; at < n * pairs; at += threads) {
                int p, q;
                fgl_pair(players, round, at / n, p, q);
                if (q >= n) continue;
                fgl_turn<C> turn = turns[at / n];
                turn.e = fgl_conj(turn.e);  // rows by the adjoint
                fgl_turn_pair(turn, a[p * n + at % n], a[q * n + at % n]);
            }
        }
        if (!__syncthreads_or(turned)) break;
    }
    for (int i = thread; i < n; i += threads) {
        const double mine = fgl_real(a[i * n + i]);
        int place = 0;
        for (int j = 0; j < n; ++j) {
            const double other = fgl_real(a[j * n + j]);
            place += other < mine || (other == mine && j < i);
        }
        values[place] = ($R)mine;
        for (int row = 0; row < n; ++row) out[row * n + place] = fgl_cast<$T>(v[row * n + i]);
    }
}
"""
)

# One-sided: columns of a tall matrix `a` are turned until they are orthogonal. A warp takes a pair.
SVD = Template(
    _HEAD.replace(
        "$POINTERS",
        "const $T* p_x, $C* p_a, $C* p_v, $C* p_left, double* p_norms, int* p_places, "
        "$R* p_values$OUTS",
    )
    + r"""
    const int m = (int)$M, n = (int)$N;  // of `a`: m >= n
    const int players = n + n % 2, pairs = players / 2, kept = (int)$KEPT;
    const int lane = thread % 32, warp = thread / 32, warps = threads / 32;
    const $T* const x = p_x + (long long)blockIdx.x * m * n;
    C* const a = p_a + (long long)blockIdx.x * m * n;
    C* const v = p_v + (long long)blockIdx.x * n * n;
    C* const left = p_left + (long long)blockIdx.x * m * kept;
    int* const places = p_places + (long long)blockIdx.x * n;
    $R* const values = p_values + (long long)blockIdx.x * n;
    double* const norms = p_norms + (long long)blockIdx.x * n;
    __shared__ double partial[256];
    bool broken = false;
    double most = 0;
    for (long long at = thread; at < (long long)m * n; at += threads) {
        const long long i = at / n, j = at % n;
        const C y = $WIDE ? fgl_conj(fgl_cast<C>(x[j * m + i])) : fgl_cast<C>(x[at]);
        a[at] = y;
        broken = broken || !fgl_finite(y);
        most = fg_max(most, fgl_size(y));
    }
    partial[thread] = most;
    __syncthreads();
    for (int i = 0; i < threads; ++i) most = fg_max(most, partial[i]);
    const double unit = most > 0 ? most : 1;  // squares of numbers up to 1 do not overflow
    for (long long at = thread; at < (long long)m * n; at += threads)
        a[at] = a[at] / fgl_number<C>(unit);
    for (int at = thread; at < n * n; at += threads)
        v[at] = fgl_number<C>(at / n == at % n ? 1.0 : 0.0);
    broken = __syncthreads_or(broken);
    for (int sweep = 0; sweep < 60 && !broken; ++sweep) {
        bool turned = false;
        for (int round = 0; round < players - 1; ++round) {
            __syncthreads();
            for (int k = warp; k < pairs; k += warps) {
                int p, q;
                fgl_pair(players, round, k, p, q);
                if (q >= n) continue;
                double first = 0, second = 0, re = 0, im = 0;
                for (int i = lane; i < m; i += 32) {
                    const C y = a[(long long)i * n + p], z = a[(long long)i * n + q];
                    const C product = fgl_conj(y) * z;
                    first += fgl_square(y);
                    second += fgl_square(z);
                    re += fgl_real(product);
                    im += fgl_imaginary(product);
                }
                first = fg_warp_reduce<fg_monoid_add>(first);
                second = fg_warp_reduce<fg_monoid_add>(second);
                re = fg_warp_reduce<fg_monoid_add>(re);
                im = fg_warp_reduce<fg_monoid_add>(im);
                if (!(hypot(re, im) > 1e-15 * sqrt(first) * sqrt(second))) continue;
                turned = true;
                const fgl_turn<C> turn = fgl_rotation(first, fgl_parts<C>(re, im), second);
                for (int i = lane; i < m; i += 32)
                    fgl_turn_pair(turn, a[(long long)i * n + p], a[(long long)i * n + q]);
                for (int i = lane; i < n; i += 32) fgl_turn_pair(turn, v[i * n + p], v[i * n + q]);
            }
        }
        if (!__syncthreads_or(turned)) break;
    }
    __syncthreads();
    for (int j = thread; j < n; j += threads) {
        double sum = 0;
        for (int i = 0; i < m; ++i) sum += fgl_square(a[(long long)i * n + j]);
        norms[j] = sqrt(sum);
    }
    __syncthreads();
    for (int j = thread; j < n; j += threads) {
        int place = 0;
        for (int k = 0; k < n; ++k)
            place += norms[k] > norms[j] || (norms[k] == norms[j] && k < j);
        places[broken ? j : place] = j;
        values[broken ? j : place] = broken ? fgl_nan<$R>() : ($R)(norms[j] * unit);
    }
    __syncthreads();
    $VECTORS
}
"""
)

# The left vectors, those of zeros completed to an orthonormal basis, and the right ones.
VECTORS = r"""
    int rank = 0;
    while (rank < n && norms[places[rank]] > 1e-100) ++rank;
    for (long long at = thread; at < (long long)m * kept; at += threads) {
        const long long i = at / kept, j = at % kept;
        left[at] = fgl_number<C>(0.0);
        if (j < rank) left[at] = a[i * n + places[j]] / fgl_number<C>(norms[places[j]]);
    }
    for (int j = rank; j < kept; ++j) {  // the unit vector that the others describe least
        __shared__ double missing[256];
        __shared__ int which[256];
        __syncthreads();
        missing[thread] = -1;
        which[thread] = 0;
        for (int i = thread; i < m; i += threads) {
            double rest = 1;
            for (int k = 0; k < j; ++k) rest -= fgl_square(left[(long long)i * kept + k]);
            if (rest > missing[thread]) {
                missing[thread] = rest;
                which[thread] = i;
            }
        }
        __syncthreads();
        int chosen = which[0];
        double most = missing[0];
        for (int i = 1; i < threads; ++i)
            if (missing[i] > most || (missing[i] == most && which[i] < chosen)) {
                most = missing[i];
                chosen = which[i];
            }
        if (thread == 0) left[(long long)chosen * kept + j] = fgl_number<C>(1.0);
        for (int again = 0; again < 2; ++again)
            for (int k = 0; k < j; ++k) {
                __syncthreads();
                C dot = fgl_number<C>(0.0);
                for (int i = 0; i < m; ++i)
                    dot = dot + fgl_conj(left[(long long)i * kept + k])
                        * left[(long long)i * kept + j];
                __syncthreads();
                for (int i = thread; i < m; i += threads)
                    left[(long long)i * kept + j]
                        = left[(long long)i * kept + j] - left[(long long)i * kept + k] * dot;
            }
        __syncthreads();
        double length = 0;
        for (int i = 0; i < m; ++i) length += fgl_square(left[(long long)i * kept + j]);
        __syncthreads();
        for (int i = thread; i < m; i += threads)
            left[(long long)i * kept + j]
                = left[(long long)i * kept + j] / fgl_number<C>(sqrt(length));
    }
    __syncthreads();
    $T* const u = p_u + (long long)blockIdx.x * $U_SIZE;
    $T* const vh = p_vh + (long long)blockIdx.x * $VH_SIZE;
    for (long long at = thread; at < (long long)m * kept; at += threads) {
        const long long i = at / kept, j = at % kept;
        const $T y = broken ? fgl_nan<$T>() : fgl_cast<$T>(left[at]);
        if ($WIDE) vh[j * m + i] = fgl_conj(y);
        else u[at] = y;
    }
    for (int at = thread; at < n * n; at += threads) {
        const int i = at / n, j = at % n;
        const $T y = broken ? fgl_nan<$T>() : fgl_cast<$T>(v[i * n + places[j]]);
        if ($WIDE) u[at] = y;
        else vh[j * n + i] = fgl_conj(y);
    }
"""
