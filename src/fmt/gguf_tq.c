/* GGUF's ternary types, its types of one and two bits, and its blocks of 4-bit floats. Layouts:
 * gguf_tq_bits.h. */
#include <string.h>

#include "base/half.h"
#include "fmt/gguf_iq.h"
#include "fmt/gguf_tq_bits.h"
#include "fmt/gguf_tq_write_kern.h"

enum { QK = 256 };

static const uint8_t *blocks_at(const sr_weight *w, int64_t row, int64_t k0, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / w->fmt->block * bytes;
}

/* ---------------------------------------------------------------- one f16 scale a block */

/* Blocks of n_code elements and `bytes` with d at d_at. */
static inline void unpack_blocks(const uint8_t *b, int64_t n, const int n_code, const int bytes, const int d_at,
                                 int (*code_of)(const uint8_t *b, int e), int8_t *code, float *scale) {
    for (int64_t i = 0; i < n; i += n_code, b += bytes, code += n_code) {
        *scale++ = sr_f16_to_f32((uint16_t)(b[d_at] | b[d_at + 1] << 8));
        for (int e = 0; e < n_code; e++) code[e] = (int8_t)code_of(b, e);
    }
}

static void unpack_tq1_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    (void)min;
    unpack_blocks(blocks_at(w, row, k0, SR_TQ1_0_BYTES), n, QK, SR_TQ1_0_BYTES, SR_TQ1_0_D, sr_tq1_0_code, code, scale);
}

static void unpack_tq2_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    (void)min;
    unpack_blocks(blocks_at(w, row, k0, SR_TQ2_0_BYTES), n, QK, SR_TQ2_0_BYTES, SR_TQ2_0_D, sr_tq2_0_code, code, scale);
}

static void unpack_q1_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    (void)min;
    unpack_blocks(blocks_at(w, row, k0, SR_Q1_0_BYTES), n, 128, SR_Q1_0_BYTES, 0, sr_q1_0_code, code, scale);
}

static void unpack_q2_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    (void)min;
    unpack_blocks(blocks_at(w, row, k0, SR_Q2_0_BYTES), n, 64, SR_Q2_0_BYTES, 0, sr_q2_0_code, code, scale);
}

/* ---------------------------------------------------------------- 4-bit floats */

const int8_t sr_fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void unpack_mxfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_MXFP4_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += 32, b += SR_MXFP4_BYTES, code += 32) {
        *scale++ = sr_f32_from_bits(sr_mxfp4_scale_bits(b[0]));
        for (int e = 0; e < 32; e++) code[e] = (int8_t)sr_mxfp4_code(b, e);
    }
}

static void take_mxfp4(const sr_weight *w, int64_t row, int64_t k0, sr_mxfp4 *out) {
    const uint8_t *b = blocks_at(w, row, k0, SR_MXFP4_BYTES);
    for (int e = 0; e < 32; e++) out->element[e] = b[SR_MXFP4_QS + e % 16] >> 4 * (e / 16) & 15;
    out->scale = b[0];
}
static void put_mxfp4(sr_weight *w, int64_t row, int64_t k0, const sr_mxfp4 *in) {
    uint8_t *b = block_to_write(w, row, k0, 32, SR_MXFP4_BYTES);
    for (int j = 0; j < 16; j++) b[SR_MXFP4_QS + j] = (uint8_t)(in->element[j] | in->element[j + 16] << 4);
    b[0] = in->scale;
}

/* Plane 1, where there is one: an f32, or one an expert. */
float sr_nvfp4_factor(const sr_weight *w, int64_t row) {
    return w->plane[1].data ? sr_plane_float(w, 1, row / (w->N / (w->plane[1].bytes / 4))) : 1;
}

static void unpack_nvfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_NVFP4_BYTES);
    const float factor = sr_nvfp4_factor(w, row);
    (void)min;
    for (int64_t i = 0; i < n; i += 64, b += SR_NVFP4_BYTES, code += 64) {
        for (int g = 0; g < 4; g++) *scale++ = sr_f16_to_f32((uint16_t)sr_nvfp4_scale_bits(b[g])) * 0x1p7f * factor;
        for (int e = 0; e < 64; e++) code[e] = (int8_t)sr_nvfp4_code(b, e);
    }
}

/* "weight", and "scale" where the factor is not 1 (llama.cpp: convert_hf_to_gguf.py). */
static bool claim_nvfp4(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    const sr_part *weight = sr_parts_get(parts, "weight");
    (void)spec;
    return weight && !strcmp(weight->type->name, self->name) &&
           (parts->n == 1 || (parts->n == 2 && sr_parts_get(parts, "scale")));
}

static sr_status layout_nvfp4(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                              sr_err *err) {
    sr_status st = sr_layout_single(self, N, K, spec, planes, err);
    if (st != SR_OK) return st;
    sr_planes_add(planes, "scale", "f32", true, 1, 0);
    planes->plane[1].n_dims = 0; /* adopt_nvfp4 looks at it */
    return SR_OK;
}

static sr_status adopt_nvfp4(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    int64_t n = w->plane[1].bytes / 4;
    (void)parts, (void)arena;
    if (w->plane[1].data && (n < 1 || w->N % n))
        return sr_fail(err, SR_CORRUPT, "its scale has %lld elements, expected 1, or one an expert of %lld rows",
                       (long long)n, (long long)w->N);
    return SR_OK;
}

/* ---------------------------------------------------------------- samples: see gguf_iq.c */

static void sample_tq1_0(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, SR_TQ1_0_D, 0.025f);
}
static void sample_tq2_0(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, SR_TQ2_0_D, 0.0165f);
}
static void sample_bits(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, 0, 0.018f);
}
static void sample_mxfp4(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, -1, 0);
    for (int64_t i = 0; i < w->plane[0].bytes; i += SR_MXFP4_BYTES) w->plane[0].data[i] = 119 + w->plane[0].data[i] % 2;
}
static void sample_nvfp4(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, -1, 0);
    for (int64_t i = 0; i < w->plane[0].bytes; i += SR_NVFP4_BYTES)
        for (int g = 0; g < 4; g++) w->plane[0].data[i + g] = 2 + w->plane[0].data[i + 4 + g] % 4;
}

/* ---------------------------------------------------------------- rows
 * On the coarse panels see gguf_iq.c. */

#define TYPE(by) .lane = 1, .reference = by, .tile = SR_TILE_I8, .decode = sr_decode_i8
#define SINGLE(by) TYPE(by), .claim = sr_claim_single, .layout = sr_layout_single
#define COARSE .panel = sr_panel_coarse, .panel_group = SR_KC, .panel_err = 0.0085f

const sr_format sr_fmt_tq1_0 = {.name = "tq1_0",
                                .block = QK,
                                .group = QK,
                                .unpack = unpack_tq1_0,
                                .fit = fit_tq1_0,
                                .snap = sr_snap_affine,
                                .store = store_tq1_0,
                                .encode = encode_tq1_0,
                                .rtn_err = 0.817f,
                                .promote = "q6_k",
                                .fallback = {"q4_0"},
                                .sample = sample_tq1_0,
                                SINGLE("gguf 0.19")};
const sr_format sr_fmt_tq2_0 = {.name = "tq2_0",
                                .block = QK,
                                .group = QK,
                                .unpack = unpack_tq2_0,
                                .fit = fit_tq2_0,
                                .snap = sr_snap_affine,
                                .store = store_tq2_0,
                                .encode = encode_tq2_0,
                                .rtn_err = 0.817f,
                                .promote = "q6_k",
                                .fallback = {"q4_0"},
                                .sample = sample_tq2_0,
                                SINGLE("gguf 0.19")};
const sr_format sr_fmt_q1_0 = {.name = "q1_0",
                               .block = 128,
                               .group = 128,
                               .unpack = unpack_q1_0,
                               .fit = fit_q1_0,
                               .snap = snap_q1_0,
                               .store = store_q1_0,
                               .encode = encode_q1_0,
                               .rtn_err = 0.608f,
                               .promote = "q6_k",
                               .fallback = {"q4_0"},
                               .sample = sample_bits,
                               SINGLE("ggml 0.25.3"),
                               COARSE};
const sr_format sr_fmt_q2_0 = {.name = "q2_0",
                               .block = 64,
                               .group = 64,
                               .unpack = unpack_q2_0,
                               .fit = fit_q2_0,
                               .snap = sr_snap_affine,
                               .store = store_q2_0,
                               .encode = encode_q2_0,
                               .rtn_err = 0.727f,
                               .promote = "q6_k",
                               .fallback = {"q4_0"},
                               .sample = sample_bits,
                               SINGLE("ggml 0.25.3"),
                               COARSE};
const sr_format sr_fmt_mxfp4 = {.name = "mxfp4",
                                .block = 32,
                                .group = 32,
                                .unpack = unpack_mxfp4,
                                .fit = fit_mxfp4,
                                .snap = snap_fp4,
                                .store = store_mxfp4,
                                .encode = encode_mxfp4,
                                .take_mxfp4 = take_mxfp4,
                                .put_mxfp4 = put_mxfp4,
                                .rtn_err = 0.116f,
                                .promote = "q8_0",
                                .sample = sample_mxfp4,
                                SINGLE("gguf 0.19"),
                                COARSE};
const sr_format sr_fmt_nvfp4 = {.name = "nvfp4",
                                .block = 64,
                                .group = 16,
                                .unpack = unpack_nvfp4,
                                .fit = fit_nvfp4,
                                .snap = snap_fp4,
                                .store = store_nvfp4,
                                .encode = encode_nvfp4,
                                .rtn_err = 0.096f,
                                .promote = "q8_0",
                                .fallback = {"mxfp4"},
                                TYPE("gguf 0.19"),
                                .sample = sample_nvfp4,
                                .claim = claim_nvfp4,
                                .layout = layout_nvfp4,
                                .adopt = adopt_nvfp4,
                                COARSE};
