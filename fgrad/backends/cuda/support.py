"""Small kernels that programs need beside their own: copies, counters, conditions, failed checks.

Each takes its pointers, and then a struct of words, as the kernels of `code` do.
"""

from fgrad.backends.cuda.device import Device, Function

PAIRS = 4  # copies in one launch
_WARP, _THREADS = 32, 256
_BLOCKS = 1024  # of a copy; threads stride over what is left

TEXT = r"""
// Compiled by itself: it needs nothing of the prelude.
typedef long long fg_word;

struct fg_words1 { fg_word a; };
struct fg_words2 { fg_word a, b; };
struct fg_words4 { fg_word n[4]; };

__device__ void fg_move(unsigned char* to, const unsigned char* from, fg_word bytes)
{
    fg_word first = blockIdx.x * (fg_word)blockDim.x + threadIdx.x;
    fg_word stride = gridDim.x * (fg_word)blockDim.x;
    unsigned long long bits = (unsigned long long)to | (unsigned long long)from;
    fg_word wide = bits & 15 ? 0 : bytes / 16;
    for (fg_word i = first; i < wide; i += stride)
        ((uint4*)to)[i] = ((const uint4*)from)[i];
    for (fg_word i = 16 * wide + first; i < bytes; i += stride)
        to[i] = from[i];
}

// Up to four copies, one for each index of the grid's second axis.
extern "C" __global__ void fgrad_copy(
    unsigned char* t0, const unsigned char* f0, unsigned char* t1, const unsigned char* f1,
    unsigned char* t2, const unsigned char* f2, unsigned char* t3, const unsigned char* f3,
    const fg_words4 w)
{
    switch (blockIdx.y) {
    case 0: fg_move(t0, f0, w.n[0]); break;
    case 1: fg_move(t1, f1, w.n[1]); break;
    case 2: fg_move(t2, f2, w.n[2]); break;
    default: fg_move(t3, f3, w.n[3]);
    }
}

// Row `counter * words.a + words.b` of a stack, in bytes from its start, is copied out of it.
struct fg_row { fg_word step, first, bytes; };
extern "C" __global__ void fgrad_row_out(
    unsigned char* to, const unsigned char* stack, const fg_word* counter, const fg_row w)
{
    fg_move(to, stack + *counter * w.step + w.first, w.bytes);
}

extern "C" __global__ void fgrad_row_in(
    unsigned char* stack, const unsigned char* from, const fg_word* counter, const fg_row w)
{
    fg_move(stack + *counter * w.step + w.first, from, w.bytes);
}

extern "C" __global__ void fgrad_set(fg_word* to, const fg_words1 w) { *to = w.a; }

extern "C" __global__ void fgrad_clear(unsigned char* to, const fg_words1 w)
{
    fg_word stride = gridDim.x * (fg_word)blockDim.x;
    for (fg_word i = blockIdx.x * (fg_word)blockDim.x + threadIdx.x; i < w.a; i += stride)
        to[i] = 0;
}

extern "C" __global__ void fgrad_count(fg_word* counter) { *counter += 1; }

// The first failed check is kept. The word lies in memory of the host.
extern "C" __global__ void fgrad_check(const bool* failed, volatile fg_word* fault,
                                       const fg_words1 w)
{
    if (*failed && *fault == 0) *fault = w.a;
}

// Carries of a while loop that are kept at distances that double; `state` is the distance, and
// whether this step's are kept.
extern "C" __global__ void fgrad_thin(
    unsigned char* stack, const fg_word* steps, const fg_word* state, const fg_words2 w)
{
    if (*steps != state[0] * w.a) return;
    fg_word stride = gridDim.x * (fg_word)blockDim.x;
    for (fg_word i = blockIdx.x * (fg_word)blockDim.x + threadIdx.x; i < w.b; i += stride)
        for (fg_word row = 1; 2 * row < w.a; ++row)
            stack[row * w.b + i] = stack[2 * row * w.b + i];
}

extern "C" __global__ void fgrad_space(const fg_word* steps, fg_word* state, const fg_words1 w)
{
    state[1] = *steps % state[0] == 0;
    if (*steps == state[0] * w.a) state[0] *= 2;
}

extern "C" __global__ void fgrad_keep(
    unsigned char* stack, const unsigned char* from, const fg_word* steps, const fg_word* state,
    const fg_words1 w)
{
    if (state[1]) fg_move(stack + *steps / state[0] * w.a, from, w.a);
}

"""

# What conditional nodes look at: the first word is the node's handle.
CONDITIONS = r"""
extern "C" __device__ void cudaGraphSetConditional(unsigned long long handle, unsigned int value);

extern "C" __global__ void fgrad_proceed(const bool* flag, const fg_words1 w)
{
    cudaGraphSetConditional(w.a, *flag);
}

extern "C" __global__ void fgrad_more(const fg_word* counter, const fg_words2 w)
{
    cudaGraphSetConditional(w.a, *counter < w.b);
}

extern "C" __global__ void fgrad_choose(const int* index, const fg_words2 w)
{
    cudaGraphSetConditional(w.a, *index == w.b);
}
"""

SINGLE = ("fgrad_set", "fgrad_count", "fgrad_check", "fgrad_space")
SETTING = ("fgrad_proceed", "fgrad_more", "fgrad_choose")
SPREAD = ("fgrad_copy", "fgrad_row_out", "fgrad_row_in", "fgrad_clear", "fgrad_thin", "fgrad_keep")


class Support:
    """The functions on one device."""

    def __init__(self, device: Device) -> None:
        names, text = [*SINGLE, *SPREAD], TEXT
        if device.conditional:  # older compilers do not know the function that sets a condition
            names += SETTING
            text += CONDITIONS
        self._handles = device.load(text, dict.fromkeys(names, 0))

    def single(self, name: str) -> Function:
        """A function of one thread."""
        return Function(name, self._handles[name], (1, 1, 1), (1, 1, 1))

    def spread(self, name: str, count: int, copies: int = 1) -> Function:
        """A function whose threads share some bytes, or several times as many."""
        needed = max(-(-count // 16), 1)  # threads: each moves as many bytes at once
        threads = min(-(-needed // _WARP) * _WARP, _THREADS)
        blocks = min(-(-needed // threads), _BLOCKS)
        return Function(name, self._handles[name], (blocks, copies, 1), (threads, 1, 1))
