// What both kernels use of Hopper (sm_90a): barriers in shared memory, the tensor memory
// accelerator (TMA), warpgroup matrix products (WGMMA) and conversions. Instructions are those of
// the PTX ISA 8.5; each function is one of them.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;
#define DEVICE __device__ __forceinline__

// A tensor map as the driver encodes it (cuTensorMapEncodeTiled).
struct __align__(64) TensorMap { char bytes[128]; };

DEVICE u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// --- Barriers. A wait gives up after some seconds: a program that hangs would hold the GPU.

DEVICE void barrier_init(u32 barrier, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

// Make initialised barriers visible to the TMA.
DEVICE void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrive, and let the phase end once so many bytes have come by TMA.
DEVICE void barrier_expect(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

DEVICE void barrier_arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

DEVICE void barrier_wait(u32 barrier, u32 parity) {
  u32 done;
  int tries = 0;
  do {
    asm volatile(
        "{ .reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p; }"
        : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    if (!done && ++tries > 4000000) asm volatile("trap;");
  } while (!done);
}

// --- TMA: a box of global memory into shared memory. What lies outside of the tensor is zero.

DEVICE void load_box(u32 target, const TensorMap* map, u32 barrier, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
      ::"r"(target), "l"(map), "r"(barrier), "r"(x), "r"(y) : "memory");
}

DEVICE void load_box(u32 target, const TensorMap* map, u32 barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
      ::"r"(target), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z) : "memory");
}

DEVICE void load_box(u32 target, const TensorMap* map, u32 barrier, int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];"
      ::"r"(target), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}

// --- WGMMA. Operands lie in shared memory in rows of 128 or 64 bytes, swizzled as TMA writes them.
// A descriptor holds the address, the distance of groups of eight rows, and the swizzle, in units
// of 16 bytes.

DEVICE u64 rows_of_128(u32 address) {
  return (u64)((address & 0x3FFFF) >> 4) | ((u64)1 << 16) | ((u64)64 << 32) | ((u64)1 << 62);
}

DEVICE u64 rows_of_64(u32 address) {
  return (u64)((address & 0x3FFFF) >> 4) | ((u64)1 << 16) | ((u64)32 << 32) | ((u64)2 << 62);
}

DEVICE void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Wait until at most PENDING groups of products are unfinished.
template <int PENDING> DEVICE void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Keep the compiler from moving reads of sums before the wait above them.
template <int N> DEVICE void settled(float* sums) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(sums[i])::"memory");
}

// --- Conversions and wide reads.

// Four numbers as e4m3, the first in the lowest byte; what is too large becomes 448.
DEVICE u32 as_fp8(float a, float b, float c, float d) {
  u16 low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
  return (u32)low | ((u32)high << 16);
}

DEVICE u32 as_bf16(float a, float b) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(b), "f"(a));
  return pair;
}

DEVICE float lower_bf16(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float upper_bf16(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

DEVICE uint4 read_16(const void* pointer) {
  uint4 value;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w) : "l"(pointer));
  return value;
}

DEVICE float exponential_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// GELU in its form with tanh, which here is the GPU's approximation: the result is rounded to fp8.
DEVICE float gelu(float x) {
  float inner = x * (0.79788456f + x * x * 0.03567741f), bounded;
  asm("tanh.approx.f32 %0, %1;" : "=f"(bounded) : "f"(inner));
  return 0.5f * x + 0.5f * x * bounded;
}
