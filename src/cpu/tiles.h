/* What is made straight from stored rows: tiles (avx512_tiles.c: sr_fast.tile), and panels. */
#ifndef SR_CPU_TILES_H
#define SR_CPU_TILES_H

#include "cpu/kern.h"

#define SR_TILE_OF(name) void sr_tile_##name(const sr_weight *w, int64_t row0, int64_t k0, void *tile, sr_ahead next);
SR_TILE_OF(q4_0)
SR_TILE_OF(q8_0)
SR_TILE_OF(q2_k)
SR_TILE_OF(q3_k)
SR_TILE_OF(q4_k)
SR_TILE_OF(q5_k)
SR_TILE_OF(q6_k)
SR_TILE_OF(iq4_nl)
SR_TILE_OF(iq4_xs)
SR_TILE_OF(mxfp4)
#undef SR_TILE_OF

/* avx512_panels.c: sr_fast.panel_rows. */
void sr_panel_rows_q4_k(const sr_weight *w, int64_t row0, int64_t k0, int64_t n, sr_panel *panel, sr_ahead next);
void sr_panel_rows_iq4_xs(const sr_weight *w, int64_t row0, int64_t k0, int64_t n, sr_panel *panel, sr_ahead next);

#endif
