// Function(suffix='', grid=512, block=256, shared=0)
struct softmax_of_short_rows_words { long long n0, n1, rows, length, chunks, per, ranges, span, m0_0, m6_0; };
extern "C" __global__ void __launch_bounds__(256, 4) softmax_of_short_rows(float* p0, float* p1, char* scratch, const softmax_of_short_rows_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 1, T = 32, TEAMS = 8;
  constexpr int ITEMS = 2;
  const int t = threadIdx.x % T, team = threadIdx.x / T;
  const I unit = block, low = 0, high = I(w.length);
  const I within = unit * TEAMS + team, rows = I(w.rows);
  const bool alive = within < rows;
  const I row = alive ? within : 0;
  const I i0 = row;
  float k0[ITEMS * V];
  float a1 = fg_monoid_max::identity<float>();
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    if (alive && e < high) {
      const I j0 = e;
      #pragma unroll
      for (int k = 0; k < V; ++k) {
        k0[c * V + k] = fg_get(p0[I(w.m0_0) * i0 + (j0 + k)]);
      }
    }
  }
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    if (alive && e < high) {
      const I j0 = e;
      #pragma unroll
      for (int k = 0; k < V; ++k) {
        a1 = fg_monoid_max::combine(a1, (float)k0[c * V + k]);
      }
    }
  }
  const float v1 = fg_team_reduce<fg_monoid_max, T>(a1);
  float k3[ITEMS * V];
  float a4 = fg_monoid_add::identity<float>();
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    if (alive && e < high) {
      const I j0 = e;
      #pragma unroll
      for (int k = 0; k < V; ++k) {
        const float v2 = fg_sub(k0[c * V + k], v1);
        k3[c * V + k] = fg_exp(v2);
        a4 = fg_monoid_add::combine(a4, (float)k3[c * V + k]);
      }
    }
  }
  const float v4 = fg_team_reduce<fg_monoid_add, T>(a4);
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    if (alive && e < high) {
      const I j0 = e;
      #pragma unroll
      for (int k = 0; k < V; ++k) {
        const float v5 = fg_div(k3[c * V + k], v4);
        p1[I(w.m6_0) * i0 + (j0 + k)] = fg_put<float>(v5);
      }
    }
  }
}
