/* Kernels of GGUF's formats for AVX2, FMA and F16C. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/gemm.h"
#include "cpu/kern.h"

#include "cpu/target_avx2.h"

#include "cpu/simd_avx2.h"

#define GGUF sr_gguf_avx2
#include "cpu/gguf_kernels.h"

#include "cpu/target_end.h"
#endif
