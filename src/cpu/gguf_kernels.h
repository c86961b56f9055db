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
#define ROW(name)                                                                                                      \
    { .format = #name, .panel = panel_##name, .dot = dot_##name }
#define TILED(name)                                                                                                    \
    { .format = #name, .panel = panel_##name, .dot = dot_##name, .tile = GGUF_TILE(name) }
#define COARSELY_TILED(name)                                                                                           \
    { .format = #name, .panel = panel_##name, .dot = dot_##name, .tile = GGUF_TILE(name), .tile_coarse = true }
#define Q4_K .unpack = unpack_q4_k, .panel = panel_q4_k, .dot = dot_q4_k, .tile = GGUF_TILE(q4_k)
const sr_fast GGUF[] = {
#if defined(GGUF_FIRST)
    GGUF_FIRST,
#endif
    {.format = "q4_k", Q4_K},
    TILED(q4_0),
    ROW(q4_1),
    ROW(q5_0),
    ROW(q5_1),
    TILED(q8_0),
    COARSELY_TILED(q2_k),
    COARSELY_TILED(q3_k),
    TILED(q5_k),
    TILED(q6_k),
    ROW(iq1_s),
    ROW(iq1_m),
    ROW(iq2_xxs),
    ROW(iq2_xs),
    ROW(iq2_s),
    ROW(iq3_xxs),
    ROW(iq3_s),
    TILED(iq4_nl),
    TILED(iq4_xs),
    ROW(tq1_0),
    ROW(tq2_0),
    TILED(mxfp4),
    ROW(nvfp4),
    {0},
};
