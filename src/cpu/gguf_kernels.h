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

#define ROW(name)                                                                                                      \
    { .format = #name, .panel = panel_##name, .dot = dot_##name }
#define BOTH(name)                                                                                                     \
    { .format = #name, .unpack = unpack_##name, .panel = panel_##name, .dot = dot_##name }
const sr_fast GGUF[] = {
#if defined(GGUF_FIRST)
    GGUF_FIRST,
#endif
    ROW(q4_0),  ROW(q4_1),   ROW(q5_0),   ROW(q5_1),  ROW(q8_0),    ROW(q2_k),   ROW(q3_k),  BOTH(q4_k),
    ROW(q5_k),  ROW(q6_k),   ROW(iq1_s),  ROW(iq1_m), ROW(iq2_xxs), ROW(iq2_xs), ROW(iq2_s), ROW(iq3_xxs),
    ROW(iq3_s), ROW(iq4_nl), ROW(iq4_xs), ROW(tq1_0), ROW(tq2_0),   ROW(mxfp4),  ROW(nvfp4), {0},
};
