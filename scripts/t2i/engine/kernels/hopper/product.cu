// Products of fp8 (e4m3) matrices, and convolutions as such products, with what follows them.
//
//   result[row, column] = scale[column] * sum_k features[row, k] * weight[column, k] + bias[column]
//
// One block of threads stays on each multiprocessor and takes tiles of 128 rows and COLUMNS columns
// in turn. A warp loads by TMA into a ring of STAGES buffers, each 128 numbers deep. Two warpgroups
// take tiles alternately: while one multiplies, the other writes its results ("ping-pong"). Sums
// are fp32 in registers.
//
// The macros that it is compiled with:
//   COLUMNS      of a tile: 128 or 160 (all widths of SDXL divide by one of them)
//   STAGES       of the ring
//   CONVOLUTION  0: a matrix. 3: features are (images, height, width, channels), padded by TMA with
//                zeros, a row is a pixel, and k runs over 3x3 taps and their channels. 2: one of the
//                four 2x2 kernels that an upsampler has, which writes every second pixel
//   EPILOGUE     BF16: rounds, adds `residual` before if RESIDUAL. FP8: the same in fp8, whose scale
//                is in `scale` and `bias`, and for the residual in `residual_scale`.
//                GEGLU: columns are values and gates in turn; half as many fp8 columns.
//                TRANSPOSED: rows are the features of values and columns tokens, in the order in
//                which attention multiplies them; scale and bias are by row
//
// A thread of a WGMMA holds columns 8i + 2t and 8i + 2t + 1 (t: its number in a group of four).
// Rows of the weight are permuted beforehand, so that these are eight neighbours in the result: it
// writes and reads 16 bytes at once.

#define BF16 0
#define FP8 1
#define GEGLU 2
#define TRANSPOSED 3

#define ROWS 128
#define DEPTH 128  // bytes, and numbers, of k in a stage
#define FEATURES_BYTES (ROWS * DEPTH)
#define STAGE_BYTES (FEATURES_BYTES + COLUMNS * DEPTH)
#define HALVES 2  // of 64 rows, which a WGMMA has

// Where a row begins in the result.
DEVICE u64 row_offset(int row, int height, int width, int corner, int stride) {
#if CONVOLUTION == 2
  int image = row / (height * width), pixel = row - image * height * width;
  int y = pixel / width, x = pixel - y * width;
  u64 target = (u64)(image * 2 * height + 2 * y + (corner >> 1)) * (2 * width) + 2 * x + (corner & 1);
  return target * stride;
#else
  return (u64)row * stride;
#endif
}

extern "C" __global__ void __launch_bounds__(384, 1) KERNEL(
    const __grid_constant__ TensorMap features, const __grid_constant__ TensorMap weight, void* result,
    const void* residual, const float* scale, const float* bias, int rows, int depths, int tiles_across,
    int tiles, int height, int width, int depths_of_tap, int stride, int corner, float residual_scale) {
  extern __shared__ char shared[];
  const u32 ring = (shared_address(shared) + 1023) & ~1023u;
  const u32 full = ring + STAGES * STAGE_BYTES, empty = full + 8 * STAGES, turn = empty + 8 * STAGES;
  const int thread = threadIdx.x, group = thread >> 7;
  if (thread == 0) {
    for (int i = 0; i < STAGES; i++) {
      barrier_init(full + 8 * i, 1);
      barrier_init(empty + 8 * i, 1);
    }
    barrier_init(turn, 1);
    barrier_init(turn + 8, 1);
    barriers_ready();
  }
  __syncthreads();

  if (group == 0) {  // the loading warp
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (thread != 0) return;
    u32 stage = 0, parity = 1;
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
      const int column = tile % tiles_across * COLUMNS, row = tile / tiles_across * ROWS;
#if CONVOLUTION
      const int image = row / (height * width), pixel = row - image * height * width;
      const int y = pixel / width, x = pixel - y * width;
      int tap = 0, part = 0;
#endif
      for (int k = 0; k < depths; k++) {
        barrier_wait(empty + 8 * stage, parity);
        const u32 ready = full + 8 * stage, target = ring + stage * STAGE_BYTES;
        barrier_expect(ready, STAGE_BYTES);
#if CONVOLUTION
#if CONVOLUTION == 3
        const int down = tap / 3, right = tap - down * 3;
#else
        const int down = (tap >> 1) + (corner >> 1), right = (tap & 1) + (corner & 1);
#endif
        load_box(target, &features, ready, part * DEPTH, x + right - 1, y + down - 1, image);
        if (++part == depths_of_tap) {
          part = 0;
          tap++;
        }
#else
        load_box(target, &features, ready, k * DEPTH, row);
#endif
        load_box(target + FEATURES_BYTES, &weight, ready, k * DEPTH, column);
        if (++stage == STAGES) {
          stage = 0;
          parity ^= 1;
        }
      }
    }
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  const int own = group - 1, within = thread & 127, lane = thread & 31, quad = lane & 3;
  u32 loaded = 0;  // stages before this tile
  int number = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x, number++, loaded += depths) {
    if ((number & 1) != own) continue;
    const int column = tile % tiles_across * COLUMNS, row = tile / tiles_across * ROWS;
    float sums[HALVES][COLUMNS / 2];
    u32 stage = loaded % STAGES, parity = (loaded / STAGES) & 1, previous = 0;
    // The other warpgroup has begun all products of the tile before: without this the barriers of
    // the ring could be a whole turn ahead, and their parity would mean another turn.
    if (number > 0) barrier_wait(turn + 8 * own, ((number >> 1) + (own ? 0 : 1)) & 1);
    for (int k = 0; k < depths; k++) {
      barrier_wait(full + 8 * stage, parity);
      const u32 target = ring + stage * STAGE_BYTES;
      const u64 left = rows_of_128(target), right = rows_of_128(target + FEATURES_BYTES);
      products_begin();
#pragma unroll
      for (int part = 0; part < 4; part++) {
#pragma unroll
        for (int half = 0; half < HALVES; half++)
          multiply(sums[half], left + part * 2 + half * 512, right + part * 2, (k | part) != 0);
      }
      products_commit();
      if (k > 0) {
        products_wait<1>();
        if (within == 0) barrier_arrive(empty + 8 * previous);
      }
      previous = stage;
      if (++stage == STAGES) {
        stage = 0;
        parity ^= 1;
      }
    }
    if (within == 0) barrier_arrive(turn + 8 * (1 - own));
    products_wait<0>();
#pragma unroll
    for (int half = 0; half < HALVES; half++) settled<COLUMNS / 2>(sums[half]);
    if (within == 0) barrier_arrive(empty + 8 * previous);

    // A thread has four rows: 8 apart in each half, and its columns in groups of 32.
    const int first = row + (within >> 5) * 16 + (lane >> 2);
#if EPILOGUE == BF16 || EPILOGUE == FP8
#pragma unroll
    for (int part = 0; part < COLUMNS / 32; part++) {
      const int at = column + part * 32 + quad * 8;
      const float4 s0 = *(const float4*)(scale + at), s1 = *(const float4*)(scale + at + 4);
      const float4 b0 = *(const float4*)(bias + at), b1 = *(const float4*)(bias + at + 4);
#if RESIDUAL
      uint4 added[2 * HALVES];
#pragma unroll
      for (int i = 0; i < 2 * HALVES; i++) {
        const int r = first + (i >> 1) * 64 + (i & 1) * 8;
        if (r < rows) added[i] = read_16((const char*)residual + ((u64)r * stride + at) * 2);
      }
#endif
#pragma unroll
      for (int i = 0; i < 2 * HALVES; i++) {
        const int r = first + (i >> 1) * 64 + (i & 1) * 8;
        if (r >= rows) continue;
        const float* x = sums[i >> 1] + part * 16 + (i & 1) * 2;
        float y0 = x[0] * s0.x + b0.x, y1 = x[1] * s0.y + b0.y;
        float y2 = x[4] * s0.z + b0.z, y3 = x[5] * s0.w + b0.w;
        float y4 = x[8] * s1.x + b1.x, y5 = x[9] * s1.y + b1.y;
        float y6 = x[12] * s1.z + b1.z, y7 = x[13] * s1.w + b1.w;
#if RESIDUAL
        y0 += residual_scale * lower_bf16(added[i].x), y1 += residual_scale * upper_bf16(added[i].x);
        y2 += residual_scale * lower_bf16(added[i].y), y3 += residual_scale * upper_bf16(added[i].y);
        y4 += residual_scale * lower_bf16(added[i].z), y5 += residual_scale * upper_bf16(added[i].z);
        y6 += residual_scale * lower_bf16(added[i].w), y7 += residual_scale * upper_bf16(added[i].w);
#endif
        const u64 offset = row_offset(r, height, width, corner, stride) + at;
#if EPILOGUE == BF16
        *(uint4*)((char*)result + offset * 2) =
            make_uint4(as_bf16(y0, y1), as_bf16(y2, y3), as_bf16(y4, y5), as_bf16(y6, y7));
#else
        *(uint2*)((char*)result + offset) = make_uint2(as_fp8(y0, y1, y2, y3), as_fp8(y4, y5, y6, y7));
#endif
      }
    }
#elif EPILOGUE == TRANSPOSED
    // Tokens are in another order inside of groups of 16: see attention.cu.
#pragma unroll
    for (int i = 0; i < 2 * HALVES; i++) {
      const int r = first + (i >> 1) * 64 + (i & 1) * 8;
      const float s = scale[r], b = bias[r];
      char* target = (char*)result + (u64)r * stride + column + quad * 4;
#pragma unroll
      for (int part = 0; part < COLUMNS / 32; part++) {
        const float* x = sums[i >> 1] + part * 16 + (i & 1) * 2;
        *(u32*)(target + part * 32) = as_fp8(x[0] * s + b, x[1] * s + b, x[4] * s + b, x[5] * s + b);
        *(u32*)(target + part * 32 + 16) = as_fp8(x[8] * s + b, x[9] * s + b, x[12] * s + b, x[13] * s + b);
      }
    }
#else
    // Value and gate of an output are columns 8i + 2t and 8i + 2t + 1. Up to four groups of 32 make
    // 16 neighbouring results of a thread; scale and bias are those of the permuted columns.
#pragma unroll
    for (int block = 0; block < (COLUMNS / 32 + 3) / 4; block++) {
      const int parts = COLUMNS / 32 - 4 * block < 4 ? COLUMNS / 32 - 4 * block : 4;
      u32 packed[2 * HALVES][4];
#pragma unroll
      for (int j = 0; j < parts; j++) {
        const int part = 4 * block + j;
        const float2* s = (const float2*)(scale + column + part * 32 + quad * 2);
        const float2* b = (const float2*)(bias + column + part * 32 + quad * 2);
        const float2 s0 = s[0], s1 = s[4], s2 = s[8], s3 = s[12];
        const float2 b0 = b[0], b1 = b[4], b2 = b[8], b3 = b[12];
#pragma unroll
        for (int i = 0; i < 2 * HALVES; i++) {
          const float* x = sums[i >> 1] + part * 16 + (i & 1) * 2;
          packed[i][j] = as_fp8((x[0] * s0.x + b0.x) * gelu(x[1] * s0.y + b0.y),
                                (x[4] * s1.x + b1.x) * gelu(x[5] * s1.y + b1.y),
                                (x[8] * s2.x + b2.x) * gelu(x[9] * s2.y + b2.y),
                                (x[12] * s3.x + b3.x) * gelu(x[13] * s3.y + b3.y));
        }
      }
#pragma unroll
      for (int i = 0; i < 2 * HALVES; i++) {
        const int r = first + (i >> 1) * 64 + (i & 1) * 8;
        if (r >= rows) continue;
        char* target = (char*)result + (u64)r * stride + column / 2 + 64 * block + 4 * parts * quad;
        if (parts == 4) {
          *(uint4*)target = make_uint4(packed[i][0], packed[i][1], packed[i][2], packed[i][3]);
        } else {
#pragma unroll
          for (int j = 0; j < parts; j++) ((u32*)target)[j] = packed[i][j];
        }
      }
    }
#endif
  }
}
