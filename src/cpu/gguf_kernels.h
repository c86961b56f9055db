/* What GGUF's quantized types bring to an instruction set, and the list of it. Included by <isa>_gguf.c behind its
 * vocabulary; GGUF is the name of the list, and GGUF_FIRST rows that are tried before the others. */
#include "cpu/kern.h"
#include "fmt/gguf_bits.h"
#include "fmt/gguf_iq.h"
#include "fmt/gguf_iq_bits.h"
#include "fmt/gguf_tq_bits.h"

#include "cpu/dot_kern.h"

#include "cpu/coarse_kern.h"

#include "fmt/gguf_k_kern.h"
#include "fmt/gguf_q_kern.h"

#include "fmt/gguf_iq_kern.h"

/* GGUF_TILE: what sr_fast.tile is, of those that have one. */
#if !defined(GGUF_TILE)
#define GGUF_TILE(name) NULL
#endif
#define ROW(name) .panel = panel_##name, .dot = dot_##name
#define TILED(name) ROW(name), .tile = GGUF_TILE(name)
#define COARSELY_TILED(name) TILED(name), .tile_coarse = true
#define UNPACKED(name) .unpack = unpack_##name, TILED(name)
const sr_fast GGUF[] = {
#if defined(GGUF_FIRST)
    GGUF_FIRST,
#endif
    {.format = "q4_k", UNPACKED(q4_k)},
    {.format = "q4_0", TILED(q4_0)},
    {.format = "q4_1", ROW(q4_1)},
    {.format = "q5_0", ROW(q5_0)},
    {.format = "q5_1", ROW(q5_1)},
    {.format = "q8_0", TILED(q8_0)},
    {.format = "q2_k", COARSELY_TILED(q2_k)},
    {.format = "q3_k", COARSELY_TILED(q3_k)},
    {.format = "q5_k", TILED(q5_k)},
    {.format = "q6_k", TILED(q6_k)},
    {.format = "iq1_s", ROW(iq1_s)},
    {.format = "iq1_m", ROW(iq1_m)},
    {.format = "iq2_xxs", ROW(iq2_xxs)},
    {.format = "iq2_xs", ROW(iq2_xs)},
    {.format = "iq2_s", ROW(iq2_s)},
    {.format = "iq3_xxs", ROW(iq3_xxs)},
    {.format = "iq3_s", ROW(iq3_s)},
    {.format = "iq4_nl", TILED(iq4_nl)},
    {.format = "iq4_xs", TILED(iq4_xs)},
    {.format = "tq1_0", ROW(tq1_0)},
    {.format = "tq2_0", ROW(tq2_0)},
    {.format = "mxfp4", TILED(mxfp4)},
    {.format = "nvfp4", ROW(nvfp4)},
    {0},
};
