/* What gemm_<isa>.c (the int8 GEMM) and <isa>_gguf.c (GGUF's formats) give to the rows in <isa>.c, and what GEMMs
 * share. Types as in sr_kern. */
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
    sr_gemm_amx_probe_ops = 1 << 20,
    sr_gemm_amx_few_pack_columns = 16,
    sr_gemm_amx_few_columns = 64,
    /* both of AArch64 */
    sr_gemm_arm_columns = 12,
    sr_gemm_arm_tile_bytes = 12 * 1024,
    sr_gemm_neon_tile_bytes = sr_gemm_arm_tile_bytes,
    sr_gemm_neon_pack_columns = sr_gemm_arm_columns,
    sr_gemm_neon_probe_ops = 64 * 6 * 8 * 32,
    sr_gemm_i8mm_tile_bytes = sr_gemm_arm_tile_bytes,
    sr_gemm_i8mm_pack_columns = sr_gemm_arm_columns,
    sr_gemm_i8mm_probe_ops = 64 * 6 * 4 * 64
};

/* Beside packed x, in blocks of nr columns: side [SR_SIDE][nr] for each block of K has the sums of the codes of each
 * group of 16, 32, 64, 128 and 256, then the scale. */
enum { SR_SIDE = 32, SR_SIDE_SCALE = SR_SIDE - 1 };
/* Where the sums of the groups of a size begin. */
static inline int sr_side_sum(int group) {
    return SR_SIDE - 2 * (SR_KC / group);
}
static inline void sr_pack_side(const int16_t *sum, float scale, int nr, float *side) {
    for (int g = 0; g < SR_KC / SR_SUM; g++) side[g * nr] = sum[g];
    for (int i = 0, to = SR_KC / SR_SUM; to < SR_SIDE_SCALE; i += 2, to++)
        side[to * nr] = side[i * nr] + side[(i + 1) * nr];
    side[SR_SIDE_SCALE * nr] = scale;
}

/* y[t * ld_y + i] = acc[t * SR_PAIR + i] for i < n_rows: the finished rows of a pair of tiles. */
void sr_gemm_portable_store(const float *acc, int T, int n_rows, float *y, int64_t ld_y);

void sr_gemm_avx2_pack_w(const sr_panel *panel, int half, int group, bool has_min, void *tile);
size_t sr_gemm_avx2_packed_bytes(int T, int64_t n_block);
void sr_gemm_avx2_pack_x(const sr_x8 *x, int item, void *packed);
void sr_gemm_avx2_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                          bool first, float *acc, sr_ahead next);
void sr_gemm_avx2_probe(int64_t n);
/* As sr_gemm_portable_store. Past the caches where all of y has more room than they do, as else every line is read
 * before it is overwritten. For all x86 rows. */
void sr_gemm_avx2_store(const float *acc, int T, int n_rows, float *y, int64_t ld_y);

void sr_gemm_avx512_pack_w(const sr_panel *panel, int half, int group, bool has_min, void *tile);
size_t sr_gemm_avx512_packed_bytes(int T, int64_t n_block);
void sr_gemm_avx512_pack_x(const sr_x8 *x, int item, void *packed);
void sr_gemm_avx512_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                            bool first, float *acc, sr_ahead next);
void sr_gemm_avx512_probe(int64_t n);

/* AMX tiles, where the CPU and the system have them; everything else of that row is AVX-512's. */
bool sr_gemm_amx_usable(void);
void sr_gemm_amx_pack_w(const sr_panel *panel, int half, int group, bool has_min, void *tile);
size_t sr_gemm_amx_packed_bytes(int T, int64_t n_block);
void sr_gemm_amx_pack_x(const sr_x8 *x, int item, void *packed);
void sr_gemm_amx_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                         bool first, float *acc, sr_ahead next);
void sr_gemm_amx_probe(int64_t n);
void sr_gemm_amx_begin(int T, int group, bool has_min);
void sr_gemm_amx_end(void);
/* For few columns: panels, and AVX-512's tiles. */
size_t sr_gemm_amx_few_packed_bytes(int T, int64_t n_block);
void sr_gemm_amx_few_pack_x(const sr_x8 *x, int item, void *packed);
int sr_gemm_amx_few_most(int group, bool has_min);
void sr_gemm_amx_few_begin(int T, int group, bool has_min);
void sr_gemm_amx_few_awake(void);
void sr_gemm_amx_few_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                             bool first, float *acc, sr_ahead next);
bool sr_gemm_amx_bf16_usable(void);
size_t sr_gemm_amx_bf16_bytes(int T, int64_t K);
void sr_gemm_amx_bf16_pack_x(const float *x, int64_t ld_x, int T, int64_t K, int item, void *packed);
void sr_gemm_amx_bf16(const float (*panel)[SR_TILE_KC], const uint8_t *stored, int64_t stride, const void *packed,
                      int T, int64_t k0, bool first, float *acc);

/* AArch64: dot products of bytes, and products of matrices of bytes. */
void sr_gemm_neon_pack_w(const sr_panel *panel, int half, int group, bool has_min, void *tile);
size_t sr_gemm_neon_packed_bytes(int T, int64_t n_block);
void sr_gemm_neon_pack_x(const sr_x8 *x, int item, void *packed);
void sr_gemm_neon_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                          bool first, float *acc, sr_ahead next);
void sr_gemm_neon_probe(int64_t n);
void sr_gemm_i8mm_pack_w(const sr_panel *panel, int half, int group, bool has_min, void *tile);
size_t sr_gemm_i8mm_packed_bytes(int T, int64_t n_block);
void sr_gemm_i8mm_pack_x(const sr_x8 *x, int item, void *packed);
void sr_gemm_i8mm_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                          bool first, float *acc, sr_ahead next);
void sr_gemm_i8mm_probe(int64_t n);

extern const sr_encoder sr_encoders_avx2[]; /* avx2_write.c */
extern const sr_fast sr_gguf_avx2[], sr_gguf_avx512[], sr_gguf_neon[];

/* The GEMM slots of a row; `way` is whose way of storing it has. */
#define SR_KERN_GEMM(isa, way)                                                                                         \
    .tile_bytes = sr_gemm_##isa##_tile_bytes, .pack_w = sr_gemm_##isa##_pack_w,                                        \
    .packed_bytes = sr_gemm_##isa##_packed_bytes, .pack_columns = sr_gemm_##isa##_pack_columns,                        \
    .pack_x = sr_gemm_##isa##_pack_x, .gemm_i8 = sr_gemm_##isa##_gemm_i8, .store = sr_gemm_##way##_store,              \
    .probe = sr_gemm_##isa##_probe, .probe_ops = sr_gemm_##isa##_probe_ops

#endif
