// Function(suffix='', grid=32, block=256, shared=0)
// Function(suffix='_1', grid=32, block=256, shared=0)
struct cumulative_sum_by_column_words { long long n0, n1, groups, across, segments, ranges, span, at1, m0_0, m2_0; };
extern "C" __global__ void __launch_bounds__(256) cumulative_sum_by_column(float* p0, float* p1, char* scratch, const cumulative_sum_by_column_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 4;
  const I at = I(block) * 256 + threadIdx.x;
  if (at >= I(w.groups) * I(w.ranges)) return;
  const I range = at / I(w.groups), group = at - range * I(w.groups);
  const I row = fg_quotient(group, I(w.across));
  const I j1 = (group - row * I(w.across)) * V;
  const I low = range * I(w.span), high = min(low + I(w.span), I(w.segments));
  float* const left1 = (float*)(scratch + w.at1) + group * V;
  fg_scan<fg_monoid_add, float, 1, 1> a1[V];
  for (I segment = low; segment < high; ++segment) {
    const I j0 = segment;
    float x0[V];
    fg_load<V>(x0, p0 + I(w.m0_0) * j0 + j1);
    #pragma unroll
    for (int k = 0; k < V; ++k) {
      { float x = x0[k]; a1[k].step(&x); }
    }
  }
  for (int k = 0; k < V; ++k)
    left1[range * I(w.groups) * V + k] = a1[k].so_far();
}
extern "C" __global__ void __launch_bounds__(256) cumulative_sum_by_column_1(float* p0, float* p1, char* scratch, const cumulative_sum_by_column_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 4;
  const I at = I(block) * 256 + threadIdx.x;
  if (at >= I(w.groups) * I(w.ranges)) return;
  const I range = at / I(w.groups), group = at - range * I(w.groups);
  const I row = fg_quotient(group, I(w.across));
  const I j1 = (group - row * I(w.across)) * V;
  const I low = range * I(w.span), high = min(low + I(w.span), I(w.segments));
  float* const left1 = (float*)(scratch + w.at1) + group * V;
  fg_scan<fg_monoid_add, float, 1, 1> s1[V];
  for (I n = 0; n < range; ++n)
    for (int k = 0; k < V; ++k) {
      s1[k].before = fg_monoid_add::combine(s1[k].before, left1[n * I(w.groups) * V + k]);
    }
  for (I segment = low; segment < high; ++segment) {
    const I j0 = segment;
    float x0[V];
    fg_load<V>(x0, p0 + I(w.m0_0) * j0 + j1);
    float o2[V];
    #pragma unroll
    for (int k = 0; k < V; ++k) {
      float v1 = x0[k];
      s1[k].step(&v1);
      o2[k] = v1;
    }
    fg_store<V>(p1 + I(w.m2_0) * j0 + j1, o2);
  }
}
