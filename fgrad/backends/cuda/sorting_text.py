"""The kernels of `sorting`."""

ENCODE = r"""
#ifndef FGRAD_ORDER
#define FGRAD_ORDER
// An unsigned integer in the order of numbers; zeros are equal, and NaN comes last.
FG unsigned fgl_order(float x)
{
    if (x != x) return ~0u;
    unsigned bits = __float_as_uint(x == 0 ? 0.0f : x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
FG unsigned long long fgl_order(double x)
{
    if (x != x) return ~0ull;
    unsigned long long bits = (unsigned long long)__double_as_longlong(x == 0 ? 0.0 : x);
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}
FG unsigned fgl_order(fg_float16 x) { return fgl_order(fg_widen(x)); }
FG unsigned fgl_order(fg_bfloat16 x) { return fgl_order(fg_widen(x)); }
FG unsigned long long fgl_order(long long x) { return (unsigned long long)x ^ 1ull << 63; }
FG unsigned long long fgl_order(unsigned long long x) { return x; }
template <class T> FG unsigned fgl_order(T x)
{
    return fg_is_signed<T>() ? (unsigned)(int)x ^ 0x80000000u : (unsigned)x;
}
#endif
"""

CHUNK = r"""
struct @NAME@_words {{ long long v[{words}]; }};
extern "C" __global__ void __launch_bounds__(256) @NAME@(
    {pointers}void* scratch, const @NAME@_words w)
{{
    {shared}
    const auto before = [&](unsigned high, unsigned low) -> bool {{ {less} }};
    for (long long block = blockIdx.x; block < {total}; block += gridDim.x) {{
        const long long row = block / {parts}, first = block % {parts} * {chunk};
        {begin}
        for (unsigned i = threadIdx.x; i < {chunk}; i += 256) {{
            const long long place = first + i;
            if (place < {length}) {{
                {loads}
                s{last}[i] = (unsigned)place;
            }} else {{
                {pads}
                s{last}[i] = ~0u;
            }}
        }}
        __syncthreads();
        for (unsigned size = 2; size <= {chunk}; size *= 2)
            for (unsigned step = size / 2; step; step /= 2) {{
                for (unsigned i = threadIdx.x; i < {half}; i += 256) {{
                    const unsigned low = i / step * 2 * step + i % step, high = low + step;
                    if (before(high, low) == !(low & size)) {{ {swaps} }}
                }}
                __syncthreads();
            }}
        for (unsigned i = threadIdx.x; i < {chunk}; i += 256) {{
            const long long place = first + i;
            if (place < {length}) {{ {stores} }}
        }}
        __syncthreads();
    }}
}}
"""

MERGE = r"""
struct @NAME@_words {{ long long v[{words}]; }};
extern "C" __global__ void __launch_bounds__(256) @NAME@(void* scratch, const @NAME@_words w)
{{
    {begin}
    const long long step = gridDim.x * (long long)blockDim.x, width = {half}, length = {length};
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < {total}; i += step) {{
        const long long row = i / length * length, at_row = i - row;
        const long long first = at_row / (2 * width) * 2 * width;
        const long long middle = first + width < length ? first + width : length;
        const long long end = middle + width < length ? middle + width : length;
        {keys}
        const auto before = [&](long long at) -> bool {{ {less} }};
        const bool is_left = at_row < middle;
        long long low = row + (is_left ? middle : first), high = row + (is_left ? end : middle);
        const long long start = low;
        while (low < high) {{  // how many of the other run come before this element
            const long long at = (low + high) / 2;
            if (before(at)) low = at + 1; else high = at;
        }}
        const long long own = is_left ? at_row - first : at_row - middle;
        const long long place = row + first + own + (low - start);
        {stores}
    }}
}}
"""

GATHER = r"""
struct @NAME@_words {{ long long v[{words}]; }};
extern "C" __global__ void __launch_bounds__(256) @NAME@(
    {pointer}{t}* __restrict__ p_out, void* scratch, const @NAME@_words w)
{{
    const unsigned* order = (const unsigned*)((char*)scratch + {order});
    const long long step = gridDim.x * (long long)blockDim.x;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < {total}; i += step) {{
        const long long row = i / {many}, place = i % {many};
        {begin}
        const long long at = order[row * {length} + place];
        p_out[to + place * {step}] = {value};
    }}
}}
"""
