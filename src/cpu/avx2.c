/* Kernels for AVX2, FMA and F16C. The GEMM is gemm_avx2.c's. */
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
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c >> 29 & 1);
}

#include "cpu/target_avx2.h"

#include "cpu/simd_avx2.h"

#include "cpu/rows_kern.h"

#include "cpu/attention_kern.h"

#define GGUF sr_gguf_avx2
#include "cpu/fmt_kernels.h"

#include "cpu/target_end.h"

const sr_kern sr_kern_avx2 = {
    .name = "avx2",
    .usable = usable,
    .dot_max_t = SR_DOT_MAX,
    .fast = fast,
    .encoders = sr_encoders_avx2,
    SR_KERN_ROWS,
    .dot_codes = dot_codes,
    .coarse = coarse_codes,
    SR_KERN_GEMM(avx2, avx2),
};
#endif
