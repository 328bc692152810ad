"""Factorisations and solves in CUDA C: a block of threads takes a matrix, rows contiguous."""

from string import Template

# Numbers that may be complex.
NUMBERS = r"""
#ifndef FGRAD_MATRICES
#define FGRAD_MATRICES
#define FGL_Z(T) fgl_complex<T>
template <class T> FG FGL_Z(T) operator+(FGL_Z(T) x, FGL_Z(T) y)
{
    return {x.re + y.re, x.im + y.im};
}
template <class T> FG FGL_Z(T) operator-(FGL_Z(T) x, FGL_Z(T) y)
{
    return {x.re - y.re, x.im - y.im};
}
template <class T> FG FGL_Z(T) operator*(FGL_Z(T) x, FGL_Z(T) y)
{
    return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
template <class T> FG FGL_Z(T) operator/(FGL_Z(T) x, FGL_Z(T) y)  // without overflow between
{
    if (fabs(y.re) >= fabs(y.im)) {
        const T r = y.im / y.re, d = y.re + y.im * r;
        return {(x.re + x.im * r) / d, (x.im - x.re * r) / d};
    }
    const T r = y.re / y.im, d = y.re * r + y.im;
    return {(x.re * r + x.im) / d, (x.im * r - x.re) / d};
}
FG float fgl_conj(float x) { return x; }
FG double fgl_conj(double x) { return x; }
template <class T> FG FGL_Z(T) fgl_conj(FGL_Z(T) x) { return {x.re, -x.im}; }
FG float fgl_real(float x) { return x; }
FG double fgl_real(double x) { return x; }
template <class T> FG T fgl_real(FGL_Z(T) x) { return x.re; }
FG float fgl_imaginary(float) { return 0; }
FG double fgl_imaginary(double) { return 0; }
template <class T> FG T fgl_imaginary(FGL_Z(T) x) { return x.im; }
template <class C, class R> FG C fgl_number(R x)  // of a real one
{
    if constexpr (fgl_kind<C>::is_complex) return {x, 0};
    else return x;
}
FG float fgl_size(float x) { return fabs(x); }  // as LAPACK looks for pivots
FG double fgl_size(double x) { return fabs(x); }
template <class T> FG T fgl_size(FGL_Z(T) x) { return fabs(x.re) + fabs(x.im); }
template <class C> FG auto fgl_square(C x)
{
    const auto re = fgl_real(x), im = fgl_imaginary(x);
    return re * re + im * im;
}
template <class C> FG bool fgl_finite(C x)
{
    return fg_isfinite(fgl_real(x)) && fg_isfinite(fgl_imaginary(x));
}
template <class C> FG C fgl_nan()
{
    if constexpr (fgl_kind<C>::is_complex) return {fg_nan(decltype(C::re)()), 0};
    else return fg_nan(C());
}
#undef FGL_Z
#endif
"""

_HEAD = r"""
struct @NAME@_words { long long v[$COUNT]; };
extern "C" __global__ void __launch_bounds__(256) @NAME@($POINTERS, void* scratch,
                                                         const @NAME@_words w)
{
    typedef $C C;
    typedef $R R;
    const int thread = threadIdx.x, threads = blockDim.x;
"""

CHOLESKY = Template(
    _HEAD.replace("$POINTERS", "$C* p_out")
    + r"""
    const long long n = $N;
    C* const a = p_out + blockIdx.x * n * n;
    for (long long j = 0; j < n; ++j) {
        __syncthreads();
        const R square = fgl_real(a[j * n + j]);
        if (!(square > 0) || !fg_isfinite(square)) {  // all threads read the same
            for (long long i = thread; i < n * n; i += threads)
                a[i] = i % n <= i / n ? fgl_nan<C>() : fgl_number<C>((R)0);
            return;
        }
        const R root = sqrt(square);
        __syncthreads();
        for (long long i = j + thread; i < n; i += threads)
            a[i * n + j] = i == j ? fgl_number<C>(root) : a[i * n + j] / fgl_number<C>(root);
        for (long long i = thread; i < j; i += threads) a[i * n + j] = fgl_number<C>((R)0);
        __syncthreads();
        const long long left = n - j - 1;
        for (long long at = thread; at < left * left; at += threads) {
            const long long i = j + 1 + at / left, k = j + 1 + at % left;
            if (k <= i) a[i * n + k] = a[i * n + k] - a[i * n + j] * fgl_conj(a[k * n + j]);
        }
    }
}
"""
)

LU = Template(
    _HEAD.replace("$POINTERS", "$C* p_out, int* p_pivots, int* p_order")
    + r"""
    __shared__ R best[256];
    __shared__ long long where[256];
    const long long m = $M, n = $N, steps = m < n ? m : n;
    C* const a = p_out + blockIdx.x * m * n;
    int *const pivots = p_pivots + blockIdx.x * steps, *const order = p_order + blockIdx.x * m;
    for (long long i = thread; i < m; i += threads) order[i] = (int)i;
    for (long long k = 0; k < steps; ++k) {
        __syncthreads();
        best[thread] = -1;
        where[thread] = k;
        for (long long i = k + thread; i < m; i += threads) {
            const R size = fgl_size(a[i * n + k]);
            if (size > best[thread] || (size != size && best[thread] == best[thread])) {
                best[thread] = size;
                where[thread] = i;
            }
        }
        for (int half = 128; half; half /= 2) {
            __syncthreads();
            if (thread < half) {
                const R mine = best[thread], other = best[thread + half];
                const bool is_first = where[thread + half] < where[thread];
                const bool better = other > mine || (other == mine && is_first)
                    || (other != other && (mine == mine || is_first));
                if (better) {
                    best[thread] = other;
                    where[thread] = where[thread + half];
                }
            }
        }
        __syncthreads();
        const long long pivot = where[0];
        if (pivot != k)
            for (long long j = thread; j < n; j += threads) {
                const C x = a[k * n + j];
                a[k * n + j] = a[pivot * n + j];
                a[pivot * n + j] = x;
            }
        if (thread == 0) {
            pivots[k] = (int)pivot;
            const int x = order[k];
            order[k] = order[pivot];
            order[pivot] = x;
        }
        __syncthreads();
        const C top = a[k * n + k];
        if (fgl_size(top) != 0)
            for (long long i = k + 1 + thread; i < m; i += threads)
                a[i * n + k] = a[i * n + k] / top;
        __syncthreads();
        const long long down = m - k - 1, across = n - k - 1;
        for (long long at = thread; at < down * across; at += threads) {
            const long long i = k + 1 + at / across, j = k + 1 + at % across;
            a[i * n + j] = a[i * n + j] - a[i * n + k] * a[k * n + j];
        }
    }
}
"""
)

# A triangle of op(A) from the left or the right; a block takes some right-hand sides.
TRIANGLE = Template(
    _HEAD.replace("$POINTERS", "const $C* __restrict__ p_a, $C* p_out")
    + r"""
    const long long n = $N, many = $MANY, parts = (many + 31) / 32;
    const C* const a = p_a + blockIdx.x / parts * n * n;
    C* const x = p_out + blockIdx.x / parts * n * many;
    const long long first = blockIdx.x % parts * 32;
    const long long count = many - first < 32 ? many - first : 32;
    const auto entry = [&](long long i, long long j) -> C {
        const C found = $TURNED ? a[j * n + i] : a[i * n + j];
        return $CONJUGATED ? fgl_conj(found) : found;
    };
    const auto place = [&](long long i, long long c) {
        return $LEFT ? i * many + first + c : (first + c) * n + i;
    };
    for (long long step = 0; step < n; ++step) {
        const long long j = $FORWARD ? step : n - 1 - step;
        __syncthreads();
        if (!$UNIT)
            for (long long c = thread; c < count; c += threads)
                x[place(j, c)] = x[place(j, c)] / entry(j, j);
        __syncthreads();
        const long long left = n - 1 - step;
        for (long long at = thread; at < left * count; at += threads) {
            const long long c = at % count, i = $FORWARD ? j + 1 + at / count : at / count;
            x[place(i, c)] = x[place(i, c)] - entry(i, j) * x[place(j, c)];
        }
    }
}
"""
)

# Right-hand sides in the order of rows of a factorisation; NaN where a pivot is 0.
ORDERED = Template(
    _HEAD.replace("$POINTERS", "const $C* p_b, const $C* p_lu, const int* p_order, $C* p_out")
    + r"""
    const long long n = $N, many = $MANY;
    const C* const lu = p_lu + blockIdx.x * n * n;
    bool zero = false;
    for (long long i = thread; i < n; i += threads) zero = zero || fgl_size(lu[i * n + i]) == 0;
    zero = __syncthreads_or(zero);
    for (long long at = thread; at < n * many; at += threads) {
        const long long row = p_order[blockIdx.x * n + at / many];
        p_out[blockIdx.x * n * many + at]
            = zero ? fgl_nan<C>() : p_b[(blockIdx.x * n + row) * many + at % many];
    }
}
"""
)

# Householder reflections I - tau·v·vᴴ as LAPACK chooses them; v lies below the diagonal.
QR = Template(
    _HEAD.replace("$POINTERS", "$C* p_a, $C* p_tau, $C* p_q, $C* p_r")
    + r"""
    __shared__ R partial[256];
    const long long m = $M, n = $N, kept = $KEPT, steps = m < n ? m : n;
    C* const a = p_a + blockIdx.x * m * n;
    C* const tau = p_tau + blockIdx.x * steps;
    C* const q = p_q + blockIdx.x * m * kept;
    C* const r = p_r + blockIdx.x * kept * n;
    for (long long k = 0; k < steps; ++k) {
        __syncthreads();
        R sum = 0, most = 0;
        for (long long i = k + 1 + thread; i < m; i += threads)
            most = fg_max(most, fgl_size(a[i * n + k]));
        partial[thread] = most;
        for (int half = 128; half; half /= 2) {
            __syncthreads();
            if (thread < half)
                partial[thread] = fg_max(partial[thread], partial[thread + half]);
        }
        __syncthreads();
        most = partial[0];
        __syncthreads();
        if (most > 0)
            for (long long i = k + 1 + thread; i < m; i += threads)
                sum += fgl_square(a[i * n + k] / fgl_number<C>(most));
        partial[thread] = sum;
        for (int half = 128; half; half /= 2) {
            __syncthreads();
            if (thread < half) partial[thread] += partial[thread + half];
        }
        __syncthreads();
        const R below = most * sqrt(partial[0]);
        const C alpha = a[k * n + k];
        if (below == 0 && fgl_imaginary(alpha) == 0) {
            __syncthreads();
            if (thread == 0) tau[k] = fgl_number<C>((R)0);
            continue;
        }
        const R length = hypot(hypot(fgl_real(alpha), fgl_imaginary(alpha)), below);
        const R beta = fgl_real(alpha) < 0 ? length : -length;
        const C t = (fgl_number<C>(beta) - alpha) / fgl_number<C>(beta);
        const C scale = fgl_number<C>((R)1) / (alpha - fgl_number<C>(beta));
        __syncthreads();
        for (long long i = k + 1 + thread; i < m; i += threads)
            a[i * n + k] = a[i * n + k] * scale;
        if (thread == 0) {
            a[k * n + k] = fgl_number<C>(beta);
            tau[k] = t;
        }
        __syncthreads();
        for (long long j = k + 1 + thread; j < n; j += threads) {
            C dot = a[k * n + j];
            for (long long i = k + 1; i < m; ++i)
                dot = dot + fgl_conj(a[i * n + k]) * a[i * n + j];
            dot = fgl_conj(t) * dot;
            a[k * n + j] = a[k * n + j] - dot;
            for (long long i = k + 1; i < m; ++i)
                a[i * n + j] = a[i * n + j] - a[i * n + k] * dot;
        }
    }
    __syncthreads();
    for (long long at = thread; at < kept * n; at += threads)
        r[at] = at / n <= at % n && at / n < m ? a[at] : fgl_number<C>((R)0);
    for (long long at = thread; at < m * kept; at += threads)
        q[at] = fgl_number<C>((R)(at / kept == at % kept));
    for (long long k = steps - 1; k >= 0; --k) {
        __syncthreads();
        const C t = tau[k];
        for (long long j = k + thread; j < kept; j += threads) {
            C dot = q[k * kept + j];
            for (long long i = k + 1; i < m; ++i)
                dot = dot + fgl_conj(a[i * n + k]) * q[i * kept + j];
            dot = t * dot;
            q[k * kept + j] = q[k * kept + j] - dot;
            for (long long i = k + 1; i < m; ++i)
                q[i * kept + j] = q[i * kept + j] - a[i * n + k] * dot;
        }
    }
}
"""
)
