/* Kernels for AVX-512 with VNNI, on 256-bit vectors. The GEMMs are gemm_avx512.c's and gemm_amx.c's. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/fmt_kernels.h"
#include "cpu/gemm.h"
#include "cpu/kern.h"
#include "fmt/bnb.h"
#include "fmt/fp8.h"
#include "fmt/fp8_bits.h"
#include "fmt/gguf_bits.h"
#include "fmt/gguf_iq.h"
#include "fmt/gguf_iq_bits.h"
#include "fmt/gguf_tq_bits.h"
#include "fmt/integer.h"

/* Everything below may use the instruction set; `usable` runs first, on any processor, and is kept plain. */
static bool usable(void) {
    unsigned a, b, c, d;
    __builtin_cpu_init(); /* clang's cpu_supports knows no F16C: leaf 1, ECX bit 29 */
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))),   \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")
#endif

#include "cpu/simd_avx512.h"

#include "cpu/rows_kern.h"

#include "cpu/attention_kern.h"

#include "cpu/dot_kern.h"

#include "cpu/codes_kern.h"

#include "fmt/gguf_k_kern.h"
#include "fmt/gguf_q_kern.h"
#include "fmt/integer_kern.h"

#include "cpu/groups_kern.h"

#include "fmt/bnb_kern.h"
#include "fmt/fp8_kern.h"
#include "fmt/gguf_iq_kern.h"
#include "fmt/mlx_kern.h"
#include "fmt/mx_kern.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static const sr_fast fast[] = {
    SR_FAST_PLAIN,
    SR_FAST_FP8,
#define ROW(name) {.format = #name, .panel = panel_##name, .dot = dot_##name},
    SR_FMT_KERNELS(ROW)
#undef ROW
#define ROW(name, err)                                                                                                 \
    {.format = #name, .unpack = unpack_##name, .panel = panel_##name, .dot = dot_##name, .dot_err = err},
        SR_FMT_UNPACKERS(ROW)
#undef ROW
#define ROW(name) {.format = #name, .unpack = unpack_##name, .dot = dot_##name},
            SR_FMT_ALONG_ROWS(ROW)
#undef ROW
#define ROW(name) {.format = #name, .unpack = unpack_##name},
                SR_FMT_UNPACK_ONLY(ROW)
#undef ROW
                    {0},
};

const sr_kern sr_kern_avx512 = {
    .name = "avx512",
    .usable = usable,
    .dot_max_t = SR_DOT_MAX,
    .fast = fast,
    SR_KERN_ROWS,
    .dot_codes = dot_codes,
    .coarse = coarse_codes,
    SR_KERN_GEMM(avx512),
    SR_KERN_BF16,
};

static bool amx_usable(void) {
    return usable() && sr_gemm_amx_usable();
}

/* The same with AMX tiles for batches. */
const sr_kern sr_kern_amx = {
    .name = "amx",
    .usable = amx_usable,
    .dot_max_t = SR_DOT_MAX,
    .fast = fast,
    SR_KERN_ROWS,
    .dot_codes = dot_codes,
    .coarse = coarse_codes,
    SR_KERN_GEMM(amx),
    SR_KERN_BF16,
};
#endif
