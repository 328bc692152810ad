// Function(suffix='', grid=16, block=256, shared=0)
struct transposed_words { long long n0, n1, n2, m0_0, m0_2, m1_1, m3_0, m3_1; };
extern "C" __global__ void __launch_bounds__(256) transposed(float* p0, float* p1, float* p2, char* scratch, const transposed_words w) {
  const unsigned block = blockIdx.x;
  typedef int I;
  constexpr int V = 1, SIDE = 32, STEP = 256 / SIDE;
  const int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
  I tile = block;
  const I down = (I(w.n1) + SIDE - 1) / SIDE;
  const I across = (I(w.n2) + SIDE - 1) / SIDE;
  const I right = tile % across * SIDE;
  tile /= across;
  const I top = tile % down * SIDE;
  tile /= down;
  const I i0 = tile;
  __shared__ float tile0[SIDE][SIDE + 1];
  #pragma unroll
  for (int step = 0; step < SIDE; step += STEP) {
    const int n = step + y;
    const I i1 = top + x, j0 = right + n;
    if (i1 < I(w.n1) && j0 < I(w.n2)) {
      tile0[n][x] = p0[I(w.m0_0) * i0 + i1 + I(w.m0_2) * j0];
    }
  }
  __syncthreads();
  #pragma unroll
  for (int step = 0; step < SIDE; step += STEP) {
    const int n = step + y;
    const I i1 = top + n, j0 = right + x;
    if (i1 < I(w.n1) && j0 < I(w.n2)) {
      #pragma unroll
      for (int k = 0; k < V; ++k) {
        const float v1 = fg_get(p1[I(w.m1_1) * i1 + (j0 + k)]);
        const float v2 = fg_add(fg_get(tile0[x][n]), v1);
        p2[I(w.m3_0) * i0 + I(w.m3_1) * i1 + (j0 + k)] = fg_put<float>(v2);
      }
    }
  }
}
