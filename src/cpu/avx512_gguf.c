/* Kernels of GGUF's formats for AVX-512 with VNNI, on 256-bit vectors. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/gemm.h"
#include "cpu/kern.h"

#include "cpu/target_avx512.h"

#include "cpu/simd_avx512.h"

#define GGUF sr_gguf_avx512
#include "cpu/gguf_kernels.h"

#include "cpu/target_end.h"
#endif
