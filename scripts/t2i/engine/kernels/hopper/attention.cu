// Attention in fp8 (e4m3) with heads of 64 numbers: softmax(q k^T) v, each operand with one scale.
//
// A block of threads takes 256 queries of one head at a time. A warp loads queries, keys and values
// by TMA; each of two warpgroups has 128 queries in two halves of 64. While the matrix unit works
// for one half, the other's softmax is computed. Keys and values pass by in blocks of 128 through
// a ring of STAGES buffers.
//
// Softmax is kept relative to a maximum that is raised only when a score passes it by more than
// SLACK (as powers of two): sums are then rescaled. Weights are at most 2^(OFFSET + SLACK) = 256,
// below the largest e4m3 (448), and are rounded to e4m3; their sum, which divides, is not.
//
// Queries and keys: rows of (images * length), a head's 64 numbers together. Values are transposed:
// (heads * 64, images * keys), with keys permuted inside of groups of 16 (key 2t, 2t + 1, 2t + 8,
// 2t + 9 for t of 0 to 3), so that weights are where the second product reads them. The result's
// features are permuted inside of a head: place 16t + 2i + b holds feature 8i + 2t + b.
//
// MASKED: `keys` is no multiple of 128; scores of what lies behind count nothing.

#define KEYS 128
#define SLACK 4.0f
#define OFFSET 4.0f
#define QUERIES_BYTES (256 * 64)
#define KEYS_BYTES (KEYS * 64)

// Of a half: the maxima and sums of the two rows that a thread has, and what to rescale with.
struct Softmax {
  float most0, most1, sum0, sum1, factor0, factor1;
  int rescale;
};

// Scores to weights, in place. Four threads share a row.
DEVICE void weigh(float* scores, Softmax& state, float scale, bool first, int block, int keys, int quad) {
#if MASKED
#pragma unroll
  for (int i = 0; i < KEYS / 8; i++) {
    const int key = block * KEYS + 8 * i + 2 * quad;
    if (key >= keys) scores[4 * i] = -1e30f, scores[4 * i + 2] = -1e30f;
    if (key + 1 >= keys) scores[4 * i + 1] = -1e30f, scores[4 * i + 3] = -1e30f;
  }
#endif
  float a = fmaxf(scores[0], scores[1]), b = fmaxf(scores[2], scores[3]);
#pragma unroll
  for (int i = 1; i < KEYS / 8; i++) {
    a = fmaxf(a, fmaxf(scores[4 * i], scores[4 * i + 1]));
    b = fmaxf(b, fmaxf(scores[4 * i + 2], scores[4 * i + 3]));
  }
  a = fmaxf(a, __shfl_xor_sync(~0u, a, 1)), b = fmaxf(b, __shfl_xor_sync(~0u, b, 1));
  a = fmaxf(a, __shfl_xor_sync(~0u, a, 2)), b = fmaxf(b, __shfl_xor_sync(~0u, b, 2));
  a *= scale, b *= scale;
  state.rescale = 0;
  if (first) {
    state.most0 = a, state.most1 = b, state.sum0 = 0.f, state.sum1 = 0.f;
  } else if (__any_sync(~0u, a > state.most0 + SLACK || b > state.most1 + SLACK)) {
    const float most0 = fmaxf(state.most0, a), most1 = fmaxf(state.most1, b);
    state.factor0 = exponential_2(state.most0 - most0), state.factor1 = exponential_2(state.most1 - most1);
    state.most0 = most0, state.most1 = most1;
    state.sum0 *= state.factor0, state.sum1 *= state.factor1;
    state.rescale = 1;
  }
  const float shift0 = OFFSET - state.most0, shift1 = OFFSET - state.most1;
#pragma unroll
  for (int i = 0; i < KEYS / 8; i++) {
#pragma unroll
    for (int u = 0; u < 4; u++)
      scores[4 * i + u] = exponential_2(scores[4 * i + u] * scale + (u < 2 ? shift0 : shift1));
    state.sum0 += scores[4 * i] + scores[4 * i + 1], state.sum1 += scores[4 * i + 2] + scores[4 * i + 3];
  }
}

// Rescale what was summed up, where the maximum has grown, and round the weights.
DEVICE void finish(float* weights, u32* rounded, float* sums, Softmax& state) {
  if (state.rescale) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      sums[4 * i] *= state.factor0, sums[4 * i + 1] *= state.factor0;
      sums[4 * i + 2] *= state.factor1, sums[4 * i + 3] *= state.factor1;
    }
  }
#pragma unroll
  for (int i = 0; i < KEYS / 16; i++) {
    const float* w = weights + 8 * i;
    rounded[2 * i] = as_fp8(w[0], w[1], w[4], w[5]), rounded[2 * i + 1] = as_fp8(w[2], w[3], w[6], w[7]);
  }
}

// Scores of 64 queries; their first product overwrites, so that nothing has to be cleared.
DEVICE void score(float* scores, u64 queries, u64 keys) {
  multiply_first(scores, queries, keys);
  multiply_more(scores, queries + 2, keys + 2);
}

DEVICE void add_values(float* sums, u32* weights, u64 values) {
#pragma unroll
  for (int part = 0; part < KEYS / 32; part++) multiply_registers(sums, weights + 4 * part, values + 2 * part);
}

extern "C" __global__ void __launch_bounds__(384, 1) KERNEL(
    const __grid_constant__ TensorMap query, const __grid_constant__ TensorMap key,
    const __grid_constant__ TensorMap value, void* result, float scale, float result_scale, int heads,
    int length, int keys, int blocks, int tiles, int tiles_of_head, int stride, int padded_keys) {
  extern __shared__ char shared[];
  const u32 queries = (shared_address(shared) + 1023) & ~1023u;
  const u32 key_ring = queries + 2 * QUERIES_BYTES, value_ring = key_ring + STAGES * KEYS_BYTES;
  const u32 query_full = value_ring + STAGES * KEYS_BYTES, query_empty = query_full + 16;
  const u32 key_full = query_empty + 16, key_empty = key_full + 8 * STAGES;
  const u32 value_full = key_empty + 8 * STAGES, value_empty = value_full + 8 * STAGES;
  const int thread = threadIdx.x, group = thread >> 7, lane = thread & 31;
  if (thread == 0) {
    for (int i = 0; i < 2; i++) {
      barrier_init(query_full + 8 * i, 1);
      barrier_init(query_empty + 8 * i, 2);
    }
    for (int i = 0; i < STAGES; i++) {
      barrier_init(key_full + 8 * i, 1);
      barrier_init(key_empty + 8 * i, 2);
      barrier_init(value_full + 8 * i, 1);
      barrier_init(value_empty + 8 * i, 2);
    }
    barriers_ready();
  }
  __syncthreads();

  if (group == 0) {  // the loading warp
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (thread != 0) return;
    u32 stage = 0, parity = 1, slot = 0, slot_parity = 1;
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
      const int image = tile / tiles_of_head / heads, head = tile / tiles_of_head % heads;
      barrier_wait(query_empty + 8 * slot, slot_parity);
      barrier_expect(query_full + 8 * slot, QUERIES_BYTES);
      load_box(queries + slot * QUERIES_BYTES, &query, query_full + 8 * slot, head * 64,
               tile % tiles_of_head * 256, image);
      if (++slot == 2) slot = 0, slot_parity ^= 1;
      for (int block = 0; block < blocks; block++) {
        barrier_wait(key_empty + 8 * stage, parity);
        barrier_expect(key_full + 8 * stage, KEYS_BYTES);
        load_box(key_ring + stage * KEYS_BYTES, &key, key_full + 8 * stage, head * 64, block * KEYS, image);
        barrier_wait(value_empty + 8 * stage, parity);
        barrier_expect(value_full + 8 * stage, KEYS_BYTES);
        load_box(value_ring + stage * KEYS_BYTES, &value, value_full + 8 * stage,
                 image * padded_keys + block * KEYS, head * 64);
        if (++stage == STAGES) stage = 0, parity ^= 1;
      }
    }
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  const int own = group - 1, within = thread & 127, quad = lane & 3;
  const bool speaks = within == 0;
  u32 stage = 0, parity = 0, slot = 0, slot_parity = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int image = tile / tiles_of_head / heads, head = tile / tiles_of_head % heads;
    float sums0[32], sums1[32], scores0[KEYS / 2], scores1[KEYS / 2];
    u32 weights0[KEYS / 8], weights1[KEYS / 8];
    Softmax state0, state1;
#pragma unroll
    for (int i = 0; i < 32; i++) sums0[i] = 0.f, sums1[i] = 0.f;
    settled<32>(sums0), settled<32>(sums1);
    barrier_wait(query_full + 8 * slot, slot_parity);
    const u64 half0 = rows_of_64(queries + slot * QUERIES_BYTES + own * 8192), half1 = half0 + 256;
    barrier_wait(key_full + 8 * stage, parity);
    {
      const u64 k = rows_of_64(key_ring + stage * KEYS_BYTES);
      products_begin(), score(scores0, half0, k), products_commit(), products_wait<0>();
      settled<KEYS / 2>(scores0);
      products_begin(), score(scores1, half1, k), products_commit();
      weigh(scores0, state0, scale, true, 0, keys, quad);
      products_wait<0>(), settled<KEYS / 2>(scores1);
      finish(scores0, weights0, sums0, state0);
      if (speaks) barrier_arrive(key_empty + 8 * stage);
    }
    // Each turn multiplies the weights of one block with its values and scores the next block. The
    // loop is rotated: ptxas would serialise products that cross its edge.
    for (int block = 0; block < blocks - 1; block++) {
      const u64 v = rows_of_128(value_ring + stage * KEYS_BYTES);
      const u32 next = stage + 1 == STAGES ? 0 : stage + 1, next_parity = parity ^ (next == 0);
      const u64 k = rows_of_64(key_ring + next * KEYS_BYTES);
      barrier_wait(value_full + 8 * stage, parity), barrier_wait(key_full + 8 * next, next_parity);
      products_begin(), score(scores0, half0, k), add_values(sums0, weights0, v), products_commit();
      weigh(scores1, state1, scale, block == 0, block, keys, quad);
      products_wait<0>(), settled<KEYS / 2>(scores0), settled<32>(sums0);
      finish(scores1, weights1, sums1, state1);
      products_begin(), score(scores1, half1, k), add_values(sums1, weights1, v), products_commit();
      weigh(scores0, state0, scale, false, block + 1, keys, quad);
      products_wait<0>(), settled<KEYS / 2>(scores1), settled<32>(sums1);
      if (speaks) {
        barrier_arrive(key_empty + 8 * next), barrier_arrive(value_empty + 8 * stage);
        if (block + 2 == blocks) barrier_arrive(query_empty + 8 * slot);
      }
      finish(scores0, weights0, sums0, state0);
      stage = next, parity = next_parity;
    }
    {
      const u64 v = rows_of_128(value_ring + stage * KEYS_BYTES);
      barrier_wait(value_full + 8 * stage, parity);
      if (blocks == 1 && speaks) barrier_arrive(query_empty + 8 * slot);
      products_begin(), add_values(sums0, weights0, v), products_commit();
      weigh(scores1, state1, scale, blocks == 1, blocks - 1, keys, quad);
      products_wait<0>(), settled<32>(sums0);
      finish(scores1, weights1, sums1, state1);
      products_begin(), add_values(sums1, weights1, v), products_commit(), products_wait<0>();
      settled<32>(sums1);
      if (speaks) barrier_arrive(value_empty + 8 * stage);
      if (++stage == STAGES) stage = 0, parity ^= 1;
    }
    if (++slot == 2) slot = 0, slot_parity ^= 1;

    const int first = tile % tiles_of_head * 256 + own * 128 + (within >> 5) * 16 + (lane >> 2);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float total = i == 0 ? state0.sum0 : i == 1 ? state0.sum1 : i == 2 ? state1.sum0 : state1.sum1;
      total += __shfl_xor_sync(~0u, total, 1), total += __shfl_xor_sync(~0u, total, 2);
      const float by = result_scale / total;
      const float* x = (i < 2 ? sums0 : sums1) + (i & 1) * 2;
      const u64 row = (u64)image * length + first + (i >> 1) * 64 + (i & 1) * 8;
      u32 packed[4];
#pragma unroll
      for (int j = 0; j < 4; j++)
        packed[j] = as_fp8(x[8 * j] * by, x[8 * j + 1] * by, x[8 * j + 4] * by, x[8 * j + 5] * by);
      *(uint4*)((char*)result + row * stride + head * 64 + quad * 16) =
          make_uint4(packed[0], packed[1], packed[2], packed[3]);
    }
  }
}
