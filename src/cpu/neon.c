/* Kernels for AArch64 with the dot product of bytes. The GEMMs are gemm_neon.c's and gemm_i8mm.c's. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "base/hwcap.h"
#include "cpu/gemm.h"
#include "cpu/kern.h"

/* Everything below may use the instruction set; what says whether it is there runs first, on any processor. */
static bool usable(void) {
    return sr_hwcap() & SR_HWCAP_DOTPROD;
}
static bool i8mm_usable(void) {
    return usable() && (sr_hwcap() & SR_HWCAP_I8MM);
}

#include "cpu/target_neon.h"

#include "cpu/simd_neon.h"

#include "cpu/rows_kern.h"

#include "cpu/attention_kern.h"

#define GGUF sr_gguf_neon
#include "cpu/fmt_kernels.h"

#include "cpu/target_end.h"

const sr_kern sr_kern_neon = {
    .name = "neon",
    .usable = usable,
    .dot_max_t = SR_DOT_MAX,
    .fast = fast,
    SR_KERN_ROWS,
    .dot_codes = dot_codes,
    .coarse = coarse_codes,
    SR_KERN_GEMM(neon, portable),
};

/* The same with products of matrices for batches. */
const sr_kern sr_kern_i8mm = {
    .name = "i8mm",
    .usable = i8mm_usable,
    .dot_max_t = SR_DOT_MAX,
    .fast = fast,
    SR_KERN_ROWS,
    .dot_codes = dot_codes,
    .coarse = coarse_codes,
    SR_KERN_GEMM(i8mm, portable),
};
#endif
