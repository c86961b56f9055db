/* Kernels for AVX-512 with VNNI, on 256-bit vectors. The GEMMs are gemm_avx512.c's and gemm_amx.c's. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/gemm.h"
#include "cpu/kern.h"

/* Everything below may use the instruction set; `usable` runs first, on any processor, and is kept plain. */
static bool usable(void) {
    unsigned a, b, c, d;
    __builtin_cpu_init(); /* clang's cpu_supports knows no F16C: leaf 1, ECX bit 29 */
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

#include "cpu/target_avx512.h"

#include "cpu/simd_avx512.h"

#include "cpu/rows_kern.h"

#include "cpu/attention_kern.h"

#define GGUF sr_gguf_avx512
#include "cpu/fmt_kernels.h"

#include "cpu/target_end.h"

/* All but the GEMM. */
#define SHARED                                                                                                         \
    .dot_max_t = SR_DOT_MAX, .fast = fast, .encoders = sr_encoders_avx2, SR_KERN_ROWS, .dot_codes = dot_codes,         \
    .coarse = coarse_codes

const sr_kern sr_kern_avx512 = {
    .name = "avx512",
    .usable = usable,
    SHARED,
    SR_KERN_GEMM(avx512, avx2),
    .tiles = true,
};

static bool amx_usable(void) {
    return usable() && sr_gemm_amx_usable() && sr_gemm_amx_bf16_usable(); /* no processor has one without the other */
}

static const sr_kern few = {
    .name = "amx few",
    SHARED,
    .tile_bytes = sr_gemm_avx512_tile_bytes,
    .pack_w = sr_gemm_avx512_pack_w,
    .packed_bytes = sr_gemm_amx_few_packed_bytes,
    .pack_columns = sr_gemm_amx_few_pack_columns,
    .pack_x = sr_gemm_amx_few_pack_x,
    .gemm_i8 = sr_gemm_amx_few_gemm_i8,
    .store = sr_gemm_avx2_store,
    .begin = sr_gemm_amx_few_begin,
    .end = sr_gemm_amx_end,
    .awake = sr_gemm_amx_few_awake,
    .most_columns = sr_gemm_amx_few_most,
    .tiles = true,
    .panels = true,
};

/* The same with AMX tiles for batches: what they ask of w costs more than it saves where columns are few. */
const sr_kern sr_kern_amx = {
    .name = "amx",
    .usable = amx_usable,
    SHARED,
    SR_KERN_GEMM(amx, avx2),
    .begin = sr_gemm_amx_begin,
    .end = sr_gemm_amx_end,
    .few = &few,
    .few_columns = sr_gemm_amx_few_columns,
    .bf16_bytes = sr_gemm_amx_bf16_bytes,
    .pack_bf16 = sr_gemm_amx_bf16_pack_x,
    .gemm_bf16 = sr_gemm_amx_bf16,
};
#endif
