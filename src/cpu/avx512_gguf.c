/* Kernels of GGUF's formats for AVX-512 with VNNI, on 256-bit vectors. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "cpu/gemm.h"
#include "cpu/grids.h"
#include "cpu/kern.h"
#include "cpu/tiles.h"

#include "cpu/target_avx512.h"

#include "cpu/simd_avx512.h"

#define GRIDS(name)                                                                                                    \
    { .format = #name, .fits = sr_grids_fit, .panel = panel_##name, .dot = sr_grids_dot_##name }
#define GGUF_FIRST                                                                                                     \
    {.format = "q4_k", .fits = sr_grids_fit, UNPACKED(q4_k), .panel_rows = sr_panel_rows_q4_k},                        \
        {.format = "iq4_xs", .fits = sr_grids_fit, TILED(iq4_xs), .panel_rows = sr_panel_rows_iq4_xs}, GRIDS(iq1_s),   \
        GRIDS(iq1_m), GRIDS(iq2_xxs), GRIDS(iq2_xs), GRIDS(iq2_s), GRIDS(iq3_xxs), GRIDS(iq3_s)
#define GGUF_TILE(name) sr_tile_##name
#define GGUF sr_gguf_avx512
#include "cpu/gguf_kernels.h"

#include "cpu/target_end.h"
#endif
