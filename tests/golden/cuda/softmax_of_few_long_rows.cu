// Function(suffix='', grid=256, block=512, shared=0)
// Function(suffix='_1', grid=256, block=512, shared=0)
// Function(suffix='_2', grid=256, block=512, shared=0)
struct softmax_of_few_long_rows_words { long long n0, n1, rows, length, chunks, per, ranges, span, at1, at4, m0_0, m6_0; };
extern "C" __global__ void __launch_bounds__(512, 2) softmax_of_few_long_rows(float* p0, float* p1, char* scratch, const softmax_of_few_long_rows_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 4, T = 512, TEAMS = 1;
  const int t = threadIdx.x % T, team = threadIdx.x / T;
  const I ranges = I(w.ranges), unit = fg_quotient(I(block), ranges);
  const I range = I(block) - unit * ranges;
  const I low = range * I(w.span), high = min(low + I(w.span), I(w.length));
  const I within = unit * TEAMS + team, rows = I(w.rows);
  const I row = within;
  const I i0 = row;
  float a1 = fg_monoid_max::identity<float>();
  #pragma unroll 4
  for (I e = low + t * V; e < high; e += T * V) {
    const I j0 = e;
    float x0[V];
    fg_load<V>(x0, p0 + I(w.m0_0) * i0 + j0);
    #pragma unroll
    for (int k = 0; k < V; ++k) {
      a1 = fg_monoid_max::combine(a1, (float)x0[k]);
    }
  }
  __shared__ float ends1[1][T / 32];
  fg_leave<fg_monoid_max, float>(ends1[0], a1);
  __syncthreads();
  const float r1 = fg_gather<fg_monoid_max, T>(ends1[0]);
  if (t == 0) ((float*)(scratch + w.at1))[row * I(w.ranges) + range] = r1;
}
extern "C" __global__ void __launch_bounds__(512, 2) softmax_of_few_long_rows_1(float* p0, float* p1, char* scratch, const softmax_of_few_long_rows_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 4, T = 512, TEAMS = 1;
  const int t = threadIdx.x % T, team = threadIdx.x / T;
  const I ranges = I(w.ranges), unit = fg_quotient(I(block), ranges);
  const I range = I(block) - unit * ranges;
  const I low = range * I(w.span), high = min(low + I(w.span), I(w.length));
  const I within = unit * TEAMS + team, rows = I(w.rows);
  const I row = within;
  const I i0 = row;
  __shared__ float ends1[1][T / 32];
  fg_leave<fg_monoid_max, float>(ends1[0], (t < I(w.ranges) ? ((float*)(scratch + w.at1))[row * I(w.ranges) + t] : fg_monoid_max::identity<float>()));
  __syncthreads();
  const float v1 = fg_gather<fg_monoid_max, T>(ends1[0]);
  fg_partial<fg_monoid_add, float> a4;
  #pragma unroll 4
  for (I e = low + t * V; e < high; e += T * V) {
    const I j0 = e;
    float x0[V];
    fg_load<V>(x0, p0 + I(w.m0_0) * i0 + j0);
    float g4 = fg_monoid_add::identity<float>();
    #pragma unroll
    for (int k = 0; k < V; ++k) {
      const float v2 = fg_sub(x0[k], v1);
      const float v3 = fg_exp(v2);
      g4 = fg_add(g4, v3);
    }
    a4.add(g4);
  }
  __shared__ float ends4[1][T / 32];
  fg_leave<fg_monoid_add, float>(ends4[0], a4.result());
  __syncthreads();
  const float r4 = fg_gather<fg_monoid_add, T>(ends4[0]);
  if (t == 0) ((float*)(scratch + w.at4))[row * I(w.ranges) + range] = r4;
}
extern "C" __global__ void __launch_bounds__(512, 2) softmax_of_few_long_rows_2(float* p0, float* p1, char* scratch, const softmax_of_few_long_rows_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 4, T = 512, TEAMS = 1;
  const int t = threadIdx.x % T, team = threadIdx.x / T;
  const I ranges = I(w.ranges), unit = fg_quotient(I(block), ranges);
  const I range = I(block) - unit * ranges;
  const I low = range * I(w.span), high = min(low + I(w.span), I(w.length));
  const I within = unit * TEAMS + team, rows = I(w.rows);
  const I row = within;
  const I i0 = row;
  __shared__ float ends1[1][T / 32];
  fg_leave<fg_monoid_max, float>(ends1[0], (t < I(w.ranges) ? ((float*)(scratch + w.at1))[row * I(w.ranges) + t] : fg_monoid_max::identity<float>()));
  __syncthreads();
  const float v1 = fg_gather<fg_monoid_max, T>(ends1[0]);
  __shared__ float ends4[1][T / 32];
  fg_leave<fg_monoid_add, float>(ends4[0], (t < I(w.ranges) ? ((float*)(scratch + w.at4))[row * I(w.ranges) + t] : fg_monoid_add::identity<float>()));
  __syncthreads();
  const float v4 = fg_gather<fg_monoid_add, T>(ends4[0]);
  for (I e = low + t * V; e < high; e += T * V) {
    const I j0 = e;
    float x0[V];
    fg_load<V>(x0, p0 + I(w.m0_0) * i0 + j0);
    float o6[V];
    #pragma unroll
    for (int k = 0; k < V; ++k) {
      const float v2 = fg_sub(x0[k], v1);
      const float v3 = fg_exp(v2);
      const float v5 = fg_div(v3, v4);
      o6[k] = v5;
    }
    fg_store<V>(p1 + I(w.m6_0) * i0 + j0, o6);
  }
}
