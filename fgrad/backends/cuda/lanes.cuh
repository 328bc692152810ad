// What generated kernels need beside the prelude: accesses to the elements of a group of lanes, and
// scans over the row of a team.

// Elements in memory and values: floats of 16 bits are widened and rounded.
template <class T> FG T fg_get(T x) { return x; }
FG float fg_get(fg_float16 x) { return fg_widen(x); }
FG float fg_get(fg_bfloat16 x) { return fg_widen(x); }
template <class S, class T> FG S fg_put(T x) { return S(x); }
template <> FG fg_float16 fg_put<fg_float16>(float x) { return fg_narrow<fg_float16>(x); }
template <> FG fg_bfloat16 fg_put<fg_bfloat16>(float x) { return fg_narrow<fg_bfloat16>(x); }

// V elements next to each other, from a multiple of V on, by instructions of up to 16 bytes.
template <int V, class T, class S> FG void fg_load(T* x, const S* p) {
  constexpr int N = V * sizeof(S) > 16 ? 16 / sizeof(S) : V;
#pragma unroll
  for (int first = 0; first < V; first += N) {
    const fg_vec<S, N> read = *(const fg_vec<S, N>*)(p + first);
#pragma unroll
    for (int k = 0; k < N; ++k) x[first + k] = fg_get(read.at[k]);
  }
}
template <int V, class T, class S> FG void fg_store(S* p, const T* x) {
  constexpr int N = V * sizeof(S) > 16 ? 16 / sizeof(S) : V;
#pragma unroll
  for (int first = 0; first < V; first += N) {
    fg_vec<S, N> written;
#pragma unroll
    for (int k = 0; k < N; ++k) written.at[k] = fg_put<S>(x[first + k]);
    *(fg_vec<S, N>*)(p + first) = written;
  }
}
template <int V, class T> FG void fg_fill(T* x, T value) {
#pragma unroll
  for (int k = 0; k < V; ++k) x[k] = value;
}

// Which of N kernels a block works for; `starts` are the first blocks of each, and one beyond.
template <int N> FG int fg_member(const long long* starts, unsigned block) {
  int first = 0, end = N;
  while (end - first > 1) {
    const int middle = (first + end) / 2;
    if (starts[middle] <= block) first = middle;
    else end = middle;
  }
  return first;
}

// The quotient of numbers that are not negative.
FG int fg_quotient(int x, int y) { return (int)((unsigned)x / (unsigned)y); }
FG long long fg_quotient(long long x, long long y) {
  if (((x | y) >> 32) == 0) return (unsigned)x / (unsigned)y;
  return x / y;
}

FG bool fg_inside(int x, long long size) { return (unsigned)x < (unsigned)size; }
FG bool fg_inside(long long x, long long size) {
  return (unsigned long long)x < (unsigned long long)size;
}

// Of the values of a team of T threads next to each other: in one warp, every one gets the result;
// in a whole block, warps leave theirs in memory, where all find it behind a barrier.
template <class M, int T, class X> FG X fg_team_reduce(X x) {
  if constexpr (T == 1) return x;
  else return fg_warp_reduce<M, T>(x);
}
template <class M, class X> FG void fg_leave(X* ends, X x) {
  x = fg_warp_reduce<M>(x);
  if (threadIdx.x % 32 == 0) ends[threadIdx.x / 32] = x;
}
template <class M, int T, class X> FG X fg_gather(const X* ends) {
  return fg_warp_reduce<M, T / 32>(ends[threadIdx.x % (T / 32)]);
}

// What the teams of a block have collected, N values a thread; the first team gets the results.
template <class M, int T, int TEAMS, int N, class X> FG void fg_teams_reduce(X* x) {
  constexpr int STEP = N < 4 ? N : 4;
  __shared__ X others[TEAMS / 2 * T * STEP];
  const int t = threadIdx.x % T, team = threadIdx.x / T;
#pragma unroll
  for (int first = 0; first < N; first += STEP)
#pragma unroll
    for (int half = TEAMS / 2; half; half /= 2) {
      __syncthreads();
#pragma unroll
      for (int n = first; n < first + STEP && n < N; ++n)
        if (team >= half && team < 2 * half) others[((team - half) * STEP + n - first) * T + t] = x[n];
      __syncthreads();
#pragma unroll
      for (int n = first; n < first + STEP && n < N; ++n)
        if (team < half) x[n] = M::combine(x[n], others[(team * STEP + n - first) * T + t]);
    }
}

// V values to elements next to each other, wherever they start.
template <int V, class T, class S> FG void fg_put_all(S* p, const T* x) {
#pragma unroll
  for (int k = 0; k < V; ++k) p[k] = fg_put<S>(x[k]);
}

// The reduction of what blocks have left for 32 results: each of Y threads of a result takes every
// Yth from its own on, several at a time; those of a result lie 32 apart. The first gets it.
template <class M, int Y, class X> FG X fg_combine(const X* p, long long count, long long step) {
  constexpr int AHEAD = 8;
  __shared__ X parts[Y][33];
  const int lane = threadIdx.x % 32, y = threadIdx.x / 32;
  fg_partial<M, X> sum;
  if (p)
    for (long long i = y; i < count; i += AHEAD * Y) {
      X read[AHEAD];
#pragma unroll
      for (int n = 0; n < AHEAD; ++n)
        read[n] = i + n * Y < count ? p[(i + n * Y) * step] : M::template identity<X>();
#pragma unroll
      for (int n = 0; n < AHEAD; ++n) sum.add(read[n]);
    }
  if constexpr (Y == 1) return sum.result();
  __syncthreads();
  parts[y][lane] = sum.result();
  __syncthreads();
  X total = parts[0][lane];
#pragma unroll
  for (int i = 1; i < Y; ++i) total = M::combine(total, parts[i][lane]);
  return total;
}

// Whether long chains have to carry what their additions lose.
template <class M, class X> struct fg_carries { static const bool value = false; };
template <> struct fg_carries<fg_monoid_add, float> { static const bool value = true; };
template <> struct fg_carries<fg_monoid_add, double> { static const bool value = true; };

// What a scan begins with: of sums -0, which leaves even -0 as it is.
template <class M, class X> FG X fg_none() { return M::template identity<X>(); }
template <> FG float fg_none<fg_monoid_add, float>() { return -0.0f; }
template <> FG double fg_none<fg_monoid_add, double>() { return -0.0; }

// Before a thread's value those of the threads of its team ahead of it; `total` of all of them.
template <class M, int T, class X> FG X fg_team_scan(X x, X& total) {
  const X none = fg_none<M, X>();
  if constexpr (T == 1) {
    total = x;
    return none;
  } else if constexpr (T <= 32) {
    const unsigned t = threadIdx.x % T;
#pragma unroll
    for (int step = 1; step < T; step *= 2) {
      const X other = fg_shfl_up(x, step);
      if (t >= step) x = M::combine(other, x);
    }
    total = fg_shfl(x, (int)(threadIdx.x % 32 - t + T - 1));
    const X other = fg_shfl_up(x, 1);
    return t ? other : none;
  } else {
    __shared__ X ends[T / 32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x = fg_warp_scan<M>(x);
    __syncthreads();
    if (lane == 31) ends[warp] = x;
    __syncthreads();
    const X all = fg_warp_scan<M>(lane < T / 32 ? ends[lane] : none);
    total = fg_shfl(all, 31);
    const X ahead = fg_shfl(all, warp ? warp - 1 : 0), other = fg_shfl_up(x, 1);
    if (!lane) return warp ? ahead : none;
    return warp ? M::combine(ahead, other) : other;
  }
}

// A scan over the elements of a row, V a thread and T·V a step: what came before, and how to go on.
template <class M, class X, int T, int V> struct fg_scan {
  X before = fg_none<M, X>(), lost = X(0);
  FG void step(X* x) {
#pragma unroll
    for (int k = 1; k < V; ++k) x[k] = M::combine(x[k - 1], x[k]);
    X total;
    const X ahead = M::combine(so_far(), fg_team_scan<M, T>(x[V - 1], total));
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] = M::combine(ahead, x[k]);
    if constexpr (fg_carries<M, X>::value) {
      const X next = before + total, part = next - before;
      lost += (before - (next - part)) + (total - part);
      before = next;
    } else {
      before = M::combine(before, total);
    }
  }

  // What has been scanned.
  FG X so_far() const { return lost != X(0) && fg_isfinite(lost) ? before + lost : before; }
};

// Products of floats, one after the other: another order may leave the range of numbers.
template <class X, int T, int V> struct fg_scan_product {
  X before = X(1);
  FG void along(X* x, int count) {
    for (int i = 0; i < count; ++i) x[i] = before = before * x[i];
  }
  FG void step(X* x) {
    if constexpr (T == 1) {
      along(x, V);
    } else {
      __shared__ X row[(T > 32 ? T : 256) * V];
      const int t = threadIdx.x % T;
      X* const own = row + (T > 32 ? 0 : threadIdx.x / T * T * V);
#pragma unroll
      for (int k = 0; k < V; ++k) own[t * V + k] = x[k];
      __syncthreads();
      if (t == 0) along(own, T * V);
      __syncthreads();
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] = own[t * V + k];
      before = own[T * V - 1];
      __syncthreads();
    }
  }
};

// The product of complex numbers so far.
template <class X> struct fg_complex {
  X re, im;
  bool begun = false;
  FG void add(X a, X b) {
    const X next = begun ? re * a - im * b : a;
    im = begun ? re * b + im * a : b;
    re = next;
    begun = true;
  }
};

// The same as a scan; x becomes the real parts of the products, or the imaginary ones.
template <class X, int T, int V> struct fg_scan_complex {
  fg_complex<X> before;
  FG void along(X* x, X* y, int count) {
    for (int i = 0; i < count; ++i) {
      before.add(x[i], y[i]);
      x[i] = before.re;
      y[i] = before.im;
    }
  }
  FG void step(X* x, X* y, bool real) {
    if constexpr (T == 1) {
      along(x, y, V);
    } else {
      __shared__ X row[2][(T > 32 ? T : 256) * V];
      const int t = threadIdx.x % T, own = T > 32 ? 0 : threadIdx.x / T * T * V;
#pragma unroll
      for (int k = 0; k < V; ++k) {
        row[0][own + t * V + k] = x[k];
        row[1][own + t * V + k] = y[k];
      }
      __syncthreads();
      if (t == 0) along(row[0] + own, row[1] + own, T * V);
      __syncthreads();
#pragma unroll
      for (int k = 0; k < V; ++k) {
        x[k] = row[0][own + t * V + k];
        y[k] = row[1][own + t * V + k];
      }
      before.re = row[0][own + T * V - 1];
      before.im = row[1][own + T * V - 1];
      before.begun = true;
      __syncthreads();
    }
    if (!real) {
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] = y[k];
    }
  }
};
