// Function(suffix='', grid=4096, block=256, shared=0)
struct cumulative_sum_words { long long n0, n1, rows, length, chunks, per, ranges, span, m0_0, m2_0; };
extern "C" __global__ void __launch_bounds__(256, 4) cumulative_sum(float* p0, float* p1, char* scratch, const cumulative_sum_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 4, T = 256, TEAMS = 1;
  constexpr int ITEMS = 4;
  const int t = threadIdx.x % T, team = threadIdx.x / T;
  const I unit = block, low = 0, high = I(w.length);
  const I within = unit * TEAMS + team, rows = I(w.rows);
  const I row = within;
  const I i0 = row;
  float k0[ITEMS * V];
  fg_scan<fg_monoid_add, float, T, V> s1;
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I at = low + (c * T + t) * V;
    const bool live = at < high;
    const I e = live ? at : 0;
    const I j0 = e;
    fg_load<V>(k0 + c * V, p0 + I(w.m0_0) * i0 + j0);
    float x1[V];
    #pragma unroll
    for (int k = 0; k < V; ++k) {
      x1[k] = live ? k0[c * V + k] : fg_monoid_add::identity<float>();
    }
    s1.step(x1);
    float o2[V];
    #pragma unroll
    for (int k = 0; k < V; ++k) {
      o2[k] = x1[k];
    }
    if (live) fg_store<V>(p1 + I(w.m2_0) * i0 + j0, o2);
  }
}
