/* Kernels of GGUF's formats for AArch64 with the dot product of bytes. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/gemm.h"
#include "cpu/kern.h"

#include "cpu/target_neon.h"

#include "cpu/simd_neon.h"

#define GGUF sr_gguf_neon
#include "cpu/gguf_kernels.h"

#include "cpu/target_end.h"
#endif
