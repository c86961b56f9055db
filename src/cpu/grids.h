/* Dots of GGUF's grid types with AVX-512 VBMI (avx512_grids.c), where the processor has it. */
#ifndef SR_CPU_GRIDS_H
#define SR_CPU_GRIDS_H

#include "cpu/kern.h"

/* sr_fast.fits: of the processor, whatever the weight. */
bool sr_grids_fit(const sr_weight *w);

#define SR_GRIDS_DOT(name)                                                                                             \
    void sr_grids_dot_##name(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y)
SR_GRIDS_DOT(iq1_s);
SR_GRIDS_DOT(iq1_m);
SR_GRIDS_DOT(iq2_xxs);
SR_GRIDS_DOT(iq2_xs);
SR_GRIDS_DOT(iq2_s);
SR_GRIDS_DOT(iq3_xxs);
SR_GRIDS_DOT(iq3_s);

#endif
