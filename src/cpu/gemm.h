/* What gemm_<isa>.c (the int8 GEMM) and <isa>_gguf.c (GGUF's formats) give to the rows in <isa>.c. Types as in sr_kern.
 */
#ifndef SR_CPU_GEMM_H
#define SR_CPU_GEMM_H

#include "cpu/kern.h"

/* Constants of the rows: bytes of a pair of tiles, columns of x an item of pack_x takes, operations a probe step does.
 */
enum {
    sr_gemm_avx2_tile_bytes = 20 * 1024,
    sr_gemm_avx2_pack_columns = 4,
    sr_gemm_avx2_probe_ops = 8192,
    sr_gemm_avx512_tile_bytes = 14 * 1024,
    sr_gemm_avx512_pack_columns = 12,
    sr_gemm_avx512_probe_ops = 32768,
    sr_gemm_amx_tile_bytes = 33 * 512,
    sr_gemm_amx_pack_columns = 32,
    sr_gemm_amx_probe_ops = 1 << 20
};

void sr_gemm_avx2_pack_w(const sr_panel *panel, int half, int group, bool has_min, void *tile);
size_t sr_gemm_avx2_packed_bytes(int T, int64_t n_block);
void sr_gemm_avx2_pack_x(const sr_x8 *x, int item, void *packed);
void sr_gemm_avx2_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                          bool first, float *acc);
void sr_gemm_avx2_probe(int64_t n);
/* y[t * ld_y + i] = acc[t * SR_PAIR + i] for i < n_rows: the finished rows of a pair of tiles. Past the caches where
 * all of y has more room than they do, as else every line is read before it is overwritten. For all x86 rows. */
void sr_gemm_avx2_store(const float *acc, int T, int n_rows, float *y, int64_t ld_y);

void sr_gemm_avx512_pack_w(const sr_panel *panel, int half, int group, bool has_min, void *tile);
size_t sr_gemm_avx512_packed_bytes(int T, int64_t n_block);
void sr_gemm_avx512_pack_x(const sr_x8 *x, int item, void *packed);
void sr_gemm_avx512_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                            bool first, float *acc);
void sr_gemm_avx512_probe(int64_t n);

/* AMX tiles, where the CPU and the system have them; everything else of that row is AVX-512's. */
bool sr_gemm_amx_usable(void);
void sr_gemm_amx_pack_w(const sr_panel *panel, int half, int group, bool has_min, void *tile);
size_t sr_gemm_amx_packed_bytes(int T, int64_t n_block);
void sr_gemm_amx_pack_x(const sr_x8 *x, int item, void *packed);
void sr_gemm_amx_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                         bool first, float *acc);
void sr_gemm_amx_probe(int64_t n);

extern const sr_fast sr_gguf_avx2[], sr_gguf_avx512[];

/* The GEMM slots of a row. */
#define SR_KERN_GEMM(isa)                                                                                              \
    .tile_bytes = sr_gemm_##isa##_tile_bytes, .pack_w = sr_gemm_##isa##_pack_w,                                        \
    .packed_bytes = sr_gemm_##isa##_packed_bytes, .pack_columns = sr_gemm_##isa##_pack_columns,                        \
    .pack_x = sr_gemm_##isa##_pack_x, .gemm_i8 = sr_gemm_##isa##_gemm_i8, .store = sr_gemm_avx2_store,                 \
    .probe = sr_gemm_##isa##_probe, .probe_ops = sr_gemm_##isa##_probe_ops

#endif
