// Function(suffix='', grid=16384, block=256, shared=0)
struct softmax_words { long long n0, n1, rows, length, chunks, per, ranges, span, m0_0, m6_0; };
extern "C" __global__ void __launch_bounds__(256, 4) softmax(float* p0, float* p1, char* scratch, const softmax_words w) {
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
  float a1 = fg_monoid_max::identity<float>();
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    {
      const I j0 = e;
      fg_load<V>(k0 + c * V, p0 + I(w.m0_0) * i0 + j0);
    }
  }
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    {
      const I j0 = e;
      #pragma unroll
      for (int k = 0; k < V; ++k) {
        a1 = fg_monoid_max::combine(a1, (float)k0[c * V + k]);
      }
    }
  }
  __shared__ float ends1[1][T / 32];
  fg_leave<fg_monoid_max, float>(ends1[0], a1);
  __syncthreads();
  const float v1 = fg_gather<fg_monoid_max, T>(ends1[0]);
  float k3[ITEMS * V];
  float a4 = fg_monoid_add::identity<float>();
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    {
      const I j0 = e;
      #pragma unroll
      for (int k = 0; k < V; ++k) {
        const float v2 = fg_sub(k0[c * V + k], v1);
        k3[c * V + k] = fg_exp(v2);
        a4 = fg_monoid_add::combine(a4, (float)k3[c * V + k]);
      }
    }
  }
  __shared__ float ends4[1][T / 32];
  fg_leave<fg_monoid_add, float>(ends4[0], a4);
  __syncthreads();
  const float v4 = fg_gather<fg_monoid_add, T>(ends4[0]);
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    {
      const I j0 = e;
      float o6[V];
      #pragma unroll
      for (int k = 0; k < V; ++k) {
        const float v5 = fg_div(k3[c * V + k], v4);
        o6[k] = v5;
      }
      fg_store<V>(p1 + I(w.m6_0) * i0 + j0, o6);
    }
  }
}
