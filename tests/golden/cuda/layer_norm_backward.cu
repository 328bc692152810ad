// Function(suffix='', grid=261, block=512, shared=0)
// Function(suffix='_combine', grid=256, block=1024, shared=0)
struct layer_norm_backward_words { long long n0, n1, rows, length, chunks, per, ranges, span, at20, at21, kept, partials, m0_0, m1_0, c5, m18_0; };
extern "C" __global__ void __launch_bounds__(512, 2) layer_norm_backward(float* p0, float* p1, float* p2, float* p3, float* p4, float* p5, float* p6, float* p7, char* scratch, const layer_norm_backward_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 4, T = 512, TEAMS = 1;
  constexpr int ITEMS = 2;
  const int t = threadIdx.x % T, team = threadIdx.x / T;
  const I unit = block, low = 0, high = I(w.length);
  const I group = unit / I(w.chunks), chunk = unit % I(w.chunks), rows = I(w.rows);
  float c20[ITEMS * V];
  #pragma unroll
  for (int k = 0; k < ITEMS * V; ++k) c20[k] = fg_monoid_add::identity<float>();
  float c21[ITEMS * V];
  #pragma unroll
  for (int k = 0; k < ITEMS * V; ++k) c21[k] = fg_monoid_add::identity<float>();
  const I first = chunk * I(w.per) * TEAMS;
  const I last = min(first + I(w.per) * TEAMS, rows);
  for (I within = first + team; within < last; within += TEAMS) {
    const I row = within;
    const I i0 = row;
    const float v3 = fg_get(p3[i0]);
    const float v4 = fg_get(p4[i0]);
    const float v5 = fg_number<float>(w.c5);
    float k0[ITEMS * V];
    float k1[ITEMS * V];
    float a10 = fg_monoid_add::identity<float>();
    float a11 = fg_monoid_add::identity<float>();
    #pragma unroll
    for (int c = 0; c < ITEMS; ++c) {
      const I e = low + (c * T + t) * V;
      {
        const I j0 = e;
        fg_load<V>(k0 + c * V, p0 + I(w.m0_0) * i0 + j0);
        fg_load<V>(k1 + c * V, p1 + I(w.m1_0) * i0 + j0);
      }
    }
    #pragma unroll
    for (int c = 0; c < ITEMS; ++c) {
      const I e = low + (c * T + t) * V;
      {
        const I j0 = e;
        float x2[V];
        fg_load<V>(x2, p2 + j0);
        #pragma unroll
        for (int k = 0; k < V; ++k) {
          const float v6 = fg_sub(k0[c * V + k], v3);
          const float v7 = fg_mul(v6, v4);
          const float v8 = fg_mul(k1[c * V + k], x2[k]);
          const float v9 = fg_mul(v8, v7);
          const float v19 = fg_mul(k1[c * V + k], v7);
          a10 = fg_monoid_add::combine(a10, (float)v8);
          a11 = fg_monoid_add::combine(a11, (float)v9);
          c20[c * V + k] = fg_monoid_add::combine(c20[c * V + k], (float)v19);
          c21[c * V + k] = fg_monoid_add::combine(c21[c * V + k], (float)k1[c * V + k]);
        }
      }
    }
    __shared__ float ends10[2][T / 32];
    fg_leave<fg_monoid_add, float>(ends10[within & 1], a10);
    __shared__ float ends11[2][T / 32];
    fg_leave<fg_monoid_add, float>(ends11[within & 1], a11);
    __syncthreads();
    const float v10 = fg_gather<fg_monoid_add, T>(ends10[within & 1]);
    const float v11 = fg_gather<fg_monoid_add, T>(ends11[within & 1]);
    const float v12 = fg_div(v10, v5);
    const float v13 = fg_div(v11, v5);
    float k2[ITEMS * V];
    #pragma unroll
    for (int c = 0; c < ITEMS; ++c) {
      const I e = low + (c * T + t) * V;
      {
        const I j0 = e;
        fg_load<V>(k2 + c * V, p2 + j0);
      }
    }
    #pragma unroll
    for (int c = 0; c < ITEMS; ++c) {
      const I e = low + (c * T + t) * V;
      {
        const I j0 = e;
        float o18[V];
        #pragma unroll
        for (int k = 0; k < V; ++k) {
          const float v6 = fg_sub(k0[c * V + k], v3);
          const float v7 = fg_mul(v6, v4);
          const float v8 = fg_mul(k1[c * V + k], k2[c * V + k]);
          const float v14 = fg_mul(v7, v13);
          const float v15 = fg_sub(v8, v12);
          const float v16 = fg_sub(v15, v14);
          const float v17 = fg_mul(v16, v4);
          o18[k] = v17;
        }
        fg_store<V>(p5 + I(w.m18_0) * i0 + j0, o18);
      }
    }
  }
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    if (team == 0 && e < high) fg_put_all<V>(((float*)(scratch + w.at20)) + unit * I(w.length) + e, c20 + c * V);
  }
  #pragma unroll
  for (int c = 0; c < ITEMS; ++c) {
    const I e = low + (c * T + t) * V;
    if (team == 0 && e < high) fg_put_all<V>(((float*)(scratch + w.at21)) + unit * I(w.length) + e, c21 + c * V);
  }
}
extern "C" __global__ void __launch_bounds__(1024) layer_norm_backward_combine(float* p0, float* p1, float* p2, float* p3, float* p4, float* p5, float* p6, float* p7, char* scratch, const layer_norm_backward_words w) {
  const unsigned block = blockIdx.x;
  typedef long long I;
  I at = block;
  {
    const I size = w.length, across = (size + 31) / 32;
    if (0 <= at && at < w.kept * across) {
      const I group = fg_quotient(at, across);
      const I e = (at - group * across) * 32 + threadIdx.x % 32;
      const float* const p = e < size ? (float*)(scratch + w.at20) + group * w.partials * size + e : nullptr;
      const float total = fg_combine<fg_monoid_add, 32>(p, w.partials, size);
      if (p && threadIdx.x < 32) {
        const I j0 = e;
        p6[j0] = fg_put<float>((float)total);
      }
    }
    at -= w.kept * across;
  }
  {
    const I size = w.length, across = (size + 31) / 32;
    if (0 <= at && at < w.kept * across) {
      const I group = fg_quotient(at, across);
      const I e = (at - group * across) * 32 + threadIdx.x % 32;
      const float* const p = e < size ? (float*)(scratch + w.at21) + group * w.partials * size + e : nullptr;
      const float total = fg_combine<fg_monoid_add, 32>(p, w.partials, size);
      if (p && threadIdx.x < 32) {
        const I j0 = e;
        p7[j0] = fg_put<float>((float)total);
      }
    }
    at -= w.kept * across;
  }
}
