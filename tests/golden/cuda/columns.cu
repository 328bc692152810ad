// Function(suffix='', grid=1056, block=256, shared=0)
// Function(suffix='_combine', grid=128, block=1024, shared=0)
struct columns_words { long long n0, n1, n2, rows, length, chunks, per, ranges, span, at1, kept, partials, m0_1; };
extern "C" __global__ void __launch_bounds__(256, 4) columns(float* p0, float* p1, char* scratch, const columns_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 4, T = 64, TEAMS = 4;
  constexpr int ITEMS = 1;
  const int t = threadIdx.x % T, team = threadIdx.x / T;
  const I ranges = I(w.ranges), unit = fg_quotient(I(block), ranges);
  const I range = I(block) - unit * ranges;
  const I low = range * I(w.span), high = min(low + I(w.span), I(w.length));
  const I group = unit / I(w.chunks), chunk = unit % I(w.chunks), rows = I(w.rows);
  const I i0 = group;
  float c1[ITEMS * V];
  #pragma unroll
  for (int k = 0; k < ITEMS * V; ++k) c1[k] = fg_monoid_add::identity<float>();
  const I first = chunk * I(w.per) * TEAMS;
  const I last = min(first + I(w.per) * TEAMS, rows);
  #pragma unroll 4
  for (I within = first + team; within < last; within += TEAMS) {
    const I row = within;
    const I i1 = row;
    #pragma unroll
    for (int c = 0; c < ITEMS; ++c) {
      const I e = low + (c * T + t) * V;
      {
        const I j0 = e;
        float x0[V];
        fg_load<V>(x0, p0 + I(w.m0_1) * i1 + j0);
        #pragma unroll
        for (int k = 0; k < V; ++k) {
          c1[c * V + k] = fg_monoid_add::combine(c1[c * V + k], (float)x0[k]);
        }
      }
    }
  }
  fg_teams_reduce<fg_monoid_add, T, TEAMS, ITEMS * V>(c1);
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    if (team == 0 && e < high) fg_put_all<V>(((float*)(scratch + w.at1)) + unit * I(w.length) + e, c1 + c * V);
  }
}
extern "C" __global__ void __launch_bounds__(1024) columns_combine(float* p0, float* p1, char* scratch, const columns_words w) {
  const unsigned block = blockIdx.x;
  typedef long long I;
  I at = block;
  {
    const I size = w.length, across = (size + 31) / 32;
    if (0 <= at && at < w.kept * across) {
      const I group = fg_quotient(at, across);
      const I e = (at - group * across) * 32 + threadIdx.x % 32;
      const float* const p = e < size ? (float*)(scratch + w.at1) + group * w.partials * size + e : nullptr;
      const float total = fg_combine<fg_monoid_add, 32>(p, w.partials, size);
      if (p && threadIdx.x < 32) {
        const I i0 = group;
        const I j0 = e;
        p1[j0] = fg_put<float>((float)total);
      }
    }
    at -= w.kept * across;
  }
}
