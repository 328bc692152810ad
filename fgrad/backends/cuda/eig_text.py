"""Eigenvalues of general matrices in CUDA C, by the shifted QR algorithm on complex float64.

A block takes a matrix: it becomes Hessenberg by reflections, then triangular by rotations, and its
vectors come from those of the triangle by substitution.

Source: Golub and Van Loan, *Matrix Computations* (4th ed., 2013), sections 7.4-7.6.
"""

from string import Template

EIG = Template(r"""
#ifndef FGRAD_EIG
#define FGRAD_EIG
typedef fgl_complex<double> fgl_z;
FG fgl_z fgl_root_of(fgl_z x)
{
    const double size = hypot(x.re, x.im);
    const double a = sqrt((size + fabs(x.re)) / 2), b = size == 0 ? 0 : x.im / (2 * a);
    if (x.re >= 0) return {a, b};
    return x.im < 0 ? fgl_z{-b, -a} : fgl_z{b, a};
}
// The eigenvalue of a 2 × 2 matrix that is nearer to its last entry.
FG fgl_z fgl_shift(fgl_z a, fgl_z b, fgl_z c, fgl_z d)
{
    const fgl_z half = {(a.re - d.re) / 2, (a.im - d.im) / 2};
    const fgl_z root = fgl_root_of(half * half + b * c);
    const fgl_z plus = half + root, minus = half - root;
    const fgl_z greater = fgl_square(plus) >= fgl_square(minus) ? plus : minus;
    return fgl_square(greater) == 0 ? d : d - b * c / greater;
}
// A column of unit length whose element of greatest magnitude is real.
FG void fgl_normalize(fgl_z* v, int n)
{
    double most = 0, sum = 0;
    for (int i = 0; i < n; ++i) most = fg_max(most, fgl_size(v[(long long)i * n]));
    if (!(most > 0)) return;
    int greatest = 0;
    double best = -1;
    for (int i = 0; i < n; ++i) {
        fgl_z& x = v[(long long)i * n];
        x = {x.re / most, x.im / most};
        const double square = fgl_square(x);
        sum += square;
        if (square > best) {
            best = square;
            greatest = i;
        }
    }
    const fgl_z top = v[(long long)greatest * n];
    const double length = sqrt(sum), size = sqrt(best);
    const fgl_z turn = {top.re / size / length, -top.im / size / length};
    for (int i = 0; i < n; ++i) v[(long long)i * n] = v[(long long)i * n] * turn;
    v[(long long)greatest * n].im = 0;
}
#endif
struct @NAME@_words { long long v[$COUNT]; };
extern "C" __global__ void __launch_bounds__(256) @NAME@(
    const $T* p_x, fgl_z* p_h, fgl_z* p_z, fgl_z* p_y, $OUT* p_values$OUTS, void* scratch,
    const @NAME@_words w)
{
    typedef fgl_z C;
    __shared__ double partial[256];
    __shared__ C turn_c, turn_s, shift;
    __shared__ int low;
    const int thread = threadIdx.x, threads = blockDim.x, n = (int)$N;
    const long long first = (long long)blockIdx.x * n * n;
    C *const h = p_h + first, *const z = p_z + first;
    $OUT* const values = p_values + (long long)blockIdx.x * n;
    bool broken = false;
    double sum = 0;
    for (int at = thread; at < n * n; at += threads) {
        const $T x = p_x[first + at];
        h[at] = {(double)fgl_real(x), (double)fgl_imaginary(x)};
        z[at] = {at / n == at % n ? 1.0 : 0.0, 0};
        broken = broken || !fgl_finite(x);
        sum += fgl_square(h[at]);
    }
    partial[thread] = sum;
    broken = __syncthreads_or(broken);
    double norm = 0;
    for (int i = 0; i < threads; ++i) norm += partial[i];
    norm = sqrt(norm);
    for (int k = 0; k + 2 < n && !broken; ++k) {  // to Hessenberg form
        __syncthreads();
        double most = 0, square = 0;
        for (int i = k + 2; i < n; ++i) most = fg_max(most, fgl_size(h[i * n + k]));
        const C alpha = h[(k + 1) * n + k];
        if (most == 0) continue;
        most = fg_max(most, fgl_size(alpha));
        for (int i = k + 1; i < n; ++i) {
            const C x = h[i * n + k];
            square += fgl_square(C{x.re / most, x.im / most});
        }
        const double length = most * sqrt(square), size = hypot(alpha.re, alpha.im);
        // v = x + phase(alpha)·|x|·e, so that the reflection gives -phase(alpha)·|x|·e.
        const C phase = size == 0 ? C{1, 0} : C{alpha.re / size, alpha.im / size};
        const C top = {alpha.re + phase.re * length, alpha.im + phase.im * length};
        const double scale = 1 / (length * (length + size));  // 2 / |v|²
        __syncthreads();
        if (thread == 0) h[(k + 1) * n + k] = top;
        __syncthreads();
        for (int j = k + 1 + thread; j < n; j += threads) {
            C dot = {0, 0};
            for (int i = k + 1; i < n; ++i) dot = dot + fgl_conj(h[i * n + k]) * h[i * n + j];
            dot = {dot.re * scale, dot.im * scale};
            for (int i = k + 1; i < n; ++i) h[i * n + j] = h[i * n + j] - h[i * n + k] * dot;
        }
        __syncthreads();
        for (int at = thread; at < 2 * n; at += threads) {
            C* const row = at < n ? h + at * n : z + (at - n) * n;
            C dot = {0, 0};
            for (int j = k + 1; j < n; ++j) dot = dot + row[j] * h[j * n + k];
            dot = {dot.re * scale, dot.im * scale};
            for (int j = k + 1; j < n; ++j) row[j] = row[j] - dot * fgl_conj(h[j * n + k]);
        }
        __syncthreads();
        for (int i = k + 1 + thread; i < n; i += threads)
            h[i * n + k] = i == k + 1 ? C{-phase.re * length, -phase.im * length} : C{0, 0};
    }
    int end = n - 1, tries = 0;
    while (end > 0 && !broken) {  // to triangular form
        __syncthreads();
        if (thread == 0) {
            int l = end;
            for (; l > 0; --l) {
                double scale = fgl_size(h[l * n + l]) + fgl_size(h[(l - 1) * n + l - 1]);
                if (scale == 0) scale = norm;
                if (fgl_size(h[l * n + l - 1]) <= 1.2e-16 * scale) break;
            }
            if (l > 0) h[l * n + l - 1] = {0, 0};
            low = l;
            const int e = end * n + end;
            shift = fgl_shift(h[e - n - 1], h[e - n], h[e - 1], h[e]);
            if (tries % 10 == 9)  // of a cycle, any other number leads out
                shift = {h[e].re + fgl_size(h[e - 1]), h[e].im};
        }
        __syncthreads();
        const int start = low;
        if (start == end) {
            --end;
            tries = 0;
            continue;
        }
        if (++tries > 90) {
            broken = true;
            break;
        }
        // One step: rotations of rows from the shifted matrix, chased down as a bulge.
        for (int k = start; k < end; ++k) {
            __syncthreads();
            if (thread == 0) {
                const C x = k == start ? h[k * n + k] - shift : h[k * n + k - 1];
                const C y = k == start ? h[(k + 1) * n + k] : h[(k + 1) * n + k - 1];
                const double length = hypot(hypot(x.re, x.im), hypot(y.re, y.im));
                turn_c = length == 0 ? C{1, 0} : C{x.re / length, x.im / length};
                turn_s = length == 0 ? C{0, 0} : C{y.re / length, y.im / length};
            }
            __syncthreads();
            const C c = turn_c, s = turn_s;
            for (int j = (k > start ? k - 1 : k) + thread; j < n; j += threads) {
                const C x = h[k * n + j], y = h[(k + 1) * n + j];
                h[k * n + j] = fgl_conj(c) * x + fgl_conj(s) * y;
                h[(k + 1) * n + j] = c * y - s * x;
            }
            __syncthreads();
            const int last = k + 2 < end ? k + 2 : end;
            for (int at = thread; at < n + last + 1; at += threads) {
                C* const row = at < n ? z + at * n : h + (at - n) * n;
                const C x = row[k], y = row[k + 1];
                row[k] = x * c + y * s;
                row[k + 1] = y * fgl_conj(c) - x * fgl_conj(s);
            }
            __syncthreads();
            if (thread == 0 && k > start) h[(k + 1) * n + k - 1] = {0, 0};
        }
    }
    __syncthreads();
    for (int i = thread; i < n; i += threads)
        values[i] = broken ? fgl_nan<$OUT>() : fgl_cast<$OUT>(h[i * n + i]);
    $VECTORS
}
""")

# The vectors of one side, a thread for each; `y` is that of the triangle.
RIGHT = r"""
    {
        const double tiny = 1.2e-16 * norm + 1e-300;
        C* const y = p_y + first;
        for (int k = thread; k < n; k += threads) {
            for (int i = n - 1; i >= 0; --i) {
                C x = {i == k ? 1.0 : 0.0, 0};
                if (i < k) {
                    C dot = {0, 0}, gap = h[i * n + i] - h[k * n + k];
                    for (int j = i + 1; j <= k; ++j) dot = dot + h[i * n + j] * y[j * n + k];
                    if (fgl_size(gap) < tiny) gap = {tiny, 0};
                    x = C{-dot.re, -dot.im} / gap;
                }
                y[i * n + k] = x;
                if (fgl_size(x) > 1e100)
                    for (int j = i; j <= k; ++j)
                        y[j * n + k] = {y[j * n + k].re * 1e-100, y[j * n + k].im * 1e-100};
            }
        }
        __syncthreads();
        C* const v = p_full + first;
        for (int at = thread; at < n * n; at += threads) {
            C dot = {0, 0};
            for (int j = 0; j <= at % n; ++j) dot = dot + z[at / n * n + j] * y[j * n + at % n];
            v[at] = dot;
        }
        __syncthreads();
        for (int k = thread; k < n; k += threads) fgl_normalize(v + k, n);
        __syncthreads();
        for (int at = thread; at < n * n; at += threads)
            p_right[first + at] = broken ? fgl_nan<$OUT>() : fgl_cast<$OUT>(v[at]);
    }
"""

LEFT = r"""
    {
        const double tiny = 1.2e-16 * norm + 1e-300;
        C* const y = p_y + first;
        __syncthreads();
        for (int k = thread; k < n; k += threads) {
            for (int i = 0; i < n; ++i) {
                C x = {i == k ? 1.0 : 0.0, 0};
                if (i > k) {
                    C dot = {0, 0}, gap = h[i * n + i] - h[k * n + k];
                    for (int j = k; j < i; ++j) dot = dot + y[j * n + k] * h[j * n + i];
                    if (fgl_size(gap) < tiny) gap = {tiny, 0};
                    x = C{-dot.re, -dot.im} / gap;
                }
                y[i * n + k] = x;
                if (fgl_size(x) > 1e100)
                    for (int j = k; j <= i; ++j)
                        y[j * n + k] = {y[j * n + k].re * 1e-100, y[j * n + k].im * 1e-100};
            }
        }
        __syncthreads();
        C* const v = p_full + first;
        for (int at = thread; at < n * n; at += threads) {
            C dot = {0, 0};
            for (int j = at % n; j < n; ++j)
                dot = dot + z[at / n * n + j] * fgl_conj(y[j * n + at % n]);
            v[at] = dot;
        }
        __syncthreads();
        for (int k = thread; k < n; k += threads) fgl_normalize(v + k, n);
        __syncthreads();
        for (int at = thread; at < n * n; at += threads)
            p_left[first + at] = broken ? fgl_nan<$OUT>() : fgl_cast<$OUT>(v[at]);
    }
"""
