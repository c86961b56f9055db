/* GGUF's IQ types: 1 to 4 bits, codes that are points of a lattice or entries of a table. Layouts:
 * gguf_iq_bits.h. Their scales, signs and the deltas of IQ1 fold into int8 codes with a scale a group. */
#include "fmt/gguf_iq.h"
#include "base/half.h"
#include "base/random.h"
#include "fmt/gguf_iq_bits.h"
#include "fmt/gguf_iq_write_kern.h"

#include <stdlib.h>

enum { QK = 256, Q32 = 32 };

const int8_t sr_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static float f16_at(const uint8_t *p) {
    return sr_f16_to_f32((uint16_t)sr_u16_le(p));
}
static const uint8_t *blocks_at(const sr_weight *w, int64_t row, int64_t k0, int block, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / block * bytes;
}

/* n elements of a grid vector (first in the lowest byte) as codes, negative where a bit of `signs` is set. */
static inline void put_signed(int8_t *code, uint64_t vector, unsigned signs, int n) {
    for (int j = 0; j < n; j++) {
        int v = (int)(vector >> 8 * j & 255);
        code[j] = (int8_t)(signs >> j & 1 ? -v : v);
    }
}
/* The same for IQ1's grid of -1, 0, 1: 8 * grid + delta. */
static inline void put_ternary(int8_t *code, uint64_t vector, int delta) {
    for (int j = 0; j < 8; j++) code[j] = (int8_t)(8 * (int8_t)(vector >> 8 * j & 255) + delta);
}

/* ---------------------------------------------------------------- reading
 * Every product d * scale * code has at most 24 significant bits, and the factors 1/8 and 1/4 are exact: the order of
 * multiplication changes nothing. */

static void unpack_iq2_xxs(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                           float *min) {
    const uint8_t *b = blocks_at(w, row, k0, QK, SR_IQ2_XXS_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_IQ2_XXS_BYTES) {
        float d = f16_at(b) * 0.125f;
        for (int g = 0; g < 8; g++) {
            unsigned signs = sr_iq2_xxs_signs(b, g);
            *scale++ = d * (float)sr_iq2_xxs_scale(b, g);
            for (int l = 0; l < 4; l++, code += 8)
                put_signed(code, sr_iq2xxs_grid[sr_iq2_xxs_index(b, 4 * g + l)], signs >> 8 * l, 8);
        }
    }
}

static void unpack_iq2_xs(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                          float *min) {
    const uint8_t *b = blocks_at(w, row, k0, QK, SR_IQ2_XS_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_IQ2_XS_BYTES) {
        float d = f16_at(b) * 0.125f;
        for (int g = 0; g < 16; g++) *scale++ = d * (float)sr_iq_scale4(b + SR_IQ2_XS_SCALES, g);
        for (int v = 0; v < 32; v++, code += 8)
            put_signed(code, sr_iq2xs_grid[sr_iq2_xs_index(b, v)], sr_iq_signs(sr_iq2_xs_sign_field(b, v)), 8);
    }
}

static void unpack_iq2_s(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = blocks_at(w, row, k0, QK, SR_IQ2_S_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_IQ2_S_BYTES) {
        float d = f16_at(b) * 0.125f;
        for (int g = 0; g < 16; g++) *scale++ = d * (float)sr_iq_scale4(b + SR_IQ2_S_SCALES, g);
        for (int v = 0; v < 32; v++, code += 8)
            put_signed(code, sr_iq2s_grid[sr_iq2_s_index(b, v)], b[SR_IQ2_S_SIGNS + v], 8);
    }
}

static void unpack_iq3_xxs(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                           float *min) {
    const uint8_t *b = blocks_at(w, row, k0, QK, SR_IQ3_XXS_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_IQ3_XXS_BYTES) {
        float d = f16_at(b) * 0.25f;
        for (int g = 0; g < 8; g++) {
            unsigned signs = sr_iq3_xxs_signs(b, g);
            *scale++ = d * (float)sr_iq3_xxs_scale(b, g);
            for (int l = 0; l < 8; l++, code += 4)
                put_signed(code, sr_iq3xxs_grid[sr_iq3_xxs_index(b, 8 * g + l)], signs >> 4 * l, 4);
        }
    }
}

static void unpack_iq3_s(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = blocks_at(w, row, k0, QK, SR_IQ3_S_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_IQ3_S_BYTES) {
        float d = f16_at(b);
        for (int g = 0; g < 8; g++) *scale++ = d * (float)sr_iq_scale4(b + SR_IQ3_S_SCALES, g);
        for (int q = 0; q < 64; q++, code += 4)
            put_signed(code, sr_iq3s_grid[sr_iq3_s_index(b, q)], b[SR_IQ3_S_SIGNS + q / 2] >> 4 * (q % 2), 4);
    }
}

static void unpack_iq1_s(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = blocks_at(w, row, k0, QK, SR_IQ1_S_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_IQ1_S_BYTES) {
        float d = f16_at(b) * 0.125f;
        for (int g = 0; g < 8; g++) *scale++ = d * (float)sr_iq1_s_scale(b, g);
        for (int v = 0; v < 32; v++, code += 8)
            put_ternary(code, sr_iq1s_grid[sr_iq1_s_index(b, v)], sr_iq1_s_delta(b, v / 4));
    }
}

static void unpack_iq1_m(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = blocks_at(w, row, k0, QK, SR_IQ1_M_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_IQ1_M_BYTES) {
        float d = sr_f16_to_f32((uint16_t)sr_iq1_m_d(b)) * 0.125f;
        for (int g = 0; g < 16; g++) *scale++ = d * (float)sr_iq1_m_scale(b, g);
        for (int v = 0; v < 32; v++, code += 8)
            put_ternary(code, sr_iq1s_grid[sr_iq1_m_index(b, v)], sr_iq1_m_delta(b, v));
    }
}

static inline void put_iq4(int8_t *code, const uint8_t *qs) {
    for (int j = 0; j < 16; j++) {
        code[j] = sr_iq4_values[qs[j] & 15];
        code[j + 16] = sr_iq4_values[qs[j] >> 4];
    }
}

static void unpack_iq4_nl(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                          float *min) {
    const uint8_t *b = blocks_at(w, row, k0, Q32, SR_IQ4_NL_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += Q32, b += SR_IQ4_NL_BYTES, code += Q32) {
        *scale++ = f16_at(b);
        put_iq4(code, b + SR_IQ4_NL_QS);
    }
}

static void unpack_iq4_xs(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                          float *min) {
    const uint8_t *b = blocks_at(w, row, k0, QK, SR_IQ4_XS_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_IQ4_XS_BYTES) {
        float d = f16_at(b);
        for (int g = 0; g < 8; g++, code += Q32) {
            *scale++ = d * (float)sr_iq4_xs_scale(b, g);
            put_iq4(code, b + SR_IQ4_XS_QS + 16 * g);
        }
    }
}

/* As sr_panel_coarse, but in steps of d times the largest of the block's scales, whose values stay as they are; those
 * of another group are multiplied by what its scale is of that, in 32768ths. */
static void panel_iq4_xs(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = blocks_at(w, row, k0, QK, SR_IQ4_XS_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_IQ4_XS_BYTES, code += QK) {
        int most = 0;
        for (int g = 0; g < QK / 32; g++) {
            const int s = sr_iq4_xs_scale(b, g);
            most = abs(s) > most ? abs(s) : most;
        }
        const float by = most > 0 ? 32767 / (float)most : 0;
        *scale++ = f16_at(b) * (float)most;
        for (int g = 0; g < QK / 32; g++) {
            const int part = (int)sr_nearest((float)sr_iq4_xs_scale(b, g) * by);
            put_iq4(code + 32 * g, b + SR_IQ4_XS_QS + 16 * g);
            for (int j = 32 * g; j < 32 * g + 32; j++) code[j] = (int8_t)((part * code[j] + 16384) >> 15);
        }
    }
}

/* ---------------------------------------------------------------- samples: 0.02 / rms of scale * code of random bytes
 */

static float around(float d, uint64_t *seed) {
    return d * (0.75f + (float)(sr_random(seed) >> 40) * 0x1p-25f);
}

void sr_sample_blocks(sr_weight *w, uint64_t seed, int d_at, float d) {
    const int bytes = w->plane[0].type->bytes;
    for (int64_t i = 0; i < w->plane[0].bytes; i++) w->plane[0].data[i] = (uint8_t)(sr_random(&seed) >> 32);
    if (d_at < 0) return;
    for (int64_t i = d_at; i < w->plane[0].bytes; i += bytes) {
        uint16_t half = sr_f32_to_f16(around(d, &seed));
        w->plane[0].data[i] = (uint8_t)half;
        w->plane[0].data[i + 1] = (uint8_t)(half >> 8);
    }
}

static void sample_iq2(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, 0, 3.6e-4f);
}
static void sample_iq3_xxs(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, 0, 1.4e-4f);
}
static void sample_iq3_s(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, 0, 1.2e-4f);
}
static void sample_iq1_s(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, 0, 2.6e-3f);
}
static void sample_iq1_m(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, -1, 0);
    for (int64_t i = 0; i < w->plane[0].bytes; i += SR_IQ1_M_BYTES) {
        uint16_t half = sr_f32_to_f16(around(2.6e-3f, &seed));
        uint8_t *s = w->plane[0].data + i + SR_IQ1_M_S;
        for (int k = 0; k < 4; k++) s[2 * k + 1] = (uint8_t)((s[2 * k + 1] & 15) | (half >> 4 * k & 15) << 4);
    }
}
static void sample_iq4_nl(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, 0, 2.9e-4f);
}
static void sample_iq4_xs(sr_weight *w, uint64_t seed) {
    sr_sample_blocks(w, seed, 0, 1.5e-5f);
}

/* ---------------------------------------------------------------- rows
 * A coarse panel rounds to 127 steps of the largest of 256 weights, which adds (max / rms)^2 / (12 * 127^2) of the
 * energy, about 5e-5 of normal weights: below 2 % of the error of 4 bits (5e-3) and more so of fewer. */

#define TYPE_BY(panel_of)                                                                                              \
    .reference = "gguf 0.19", .tile = SR_TILE_I8, .claim = sr_claim_single, .layout = sr_layout_single,                \
    .decode = sr_decode_i8, .panel = panel_of, .panel_group = SR_KC, .panel_err = 0.0085f
#define TYPE TYPE_BY(sr_panel_coarse)

const sr_format sr_fmt_iq1_s = {.name = "iq1_s",
                                .block = QK,
                                .group = 32,
                                .lane = 8,
                                .unpack = unpack_iq1_s,
                                .fit = fit_iq1_s,
                                .snap = snap_iq1_s,
                                .store = store_iq1_s,
                                .rtn_err = 0.466f,
                                .promote = "q5_k",
                                .fallback = {"iq4_nl"},
                                .sample = sample_iq1_s,
                                TYPE};
const sr_format sr_fmt_iq1_m = {.name = "iq1_m",
                                .block = QK,
                                .group = 16,
                                .lane = 8,
                                .unpack = unpack_iq1_m,
                                .fit = fit_iq1_m,
                                .snap = snap_iq1_m,
                                .store = store_iq1_m,
                                .rtn_err = 0.437f,
                                .promote = "q5_k",
                                .fallback = {"iq4_nl"},
                                .sample = sample_iq1_m,
                                TYPE};
const sr_format sr_fmt_iq2_xxs = {.name = "iq2_xxs",
                                  .block = QK,
                                  .group = 32,
                                  .lane = 8,
                                  .unpack = unpack_iq2_xxs,
                                  .fit = fit_iq2_xxs,
                                  .snap = snap_iq2_xxs,
                                  .store = store_iq2_xxs,
                                  .rtn_err = 0.34f,
                                  .promote = "q5_k",
                                  .fallback = {"iq4_nl"},
                                  .sample = sample_iq2,
                                  TYPE};
const sr_format sr_fmt_iq2_xs = {.name = "iq2_xs",
                                 .block = QK,
                                 .group = 16,
                                 .lane = 8,
                                 .unpack = unpack_iq2_xs,
                                 .fit = fit_iq2_xs,
                                 .snap = snap_iq2_xs,
                                 .store = store_iq2_xs,
                                 .rtn_err = 0.297f,
                                 .promote = "q5_k",
                                 .fallback = {"iq4_nl"},
                                 .sample = sample_iq2,
                                 TYPE};
const sr_format sr_fmt_iq2_s = {.name = "iq2_s",
                                .block = QK,
                                .group = 16,
                                .lane = 8,
                                .unpack = unpack_iq2_s,
                                .fit = fit_iq2_s,
                                .snap = snap_iq2_s,
                                .store = store_iq2_s,
                                .rtn_err = 0.248f,
                                .promote = "q5_k",
                                .fallback = {"iq4_nl"},
                                .sample = sample_iq2,
                                TYPE};
const sr_format sr_fmt_iq3_xxs = {.name = "iq3_xxs",
                                  .block = QK,
                                  .group = 32,
                                  .lane = 8,
                                  .unpack = unpack_iq3_xxs,
                                  .fit = fit_iq3_xxs,
                                  .snap = snap_iq3_xxs,
                                  .store = store_iq3_xxs,
                                  .rtn_err = 0.184f,
                                  .promote = "q5_k",
                                  .fallback = {"iq4_nl"},
                                  .sample = sample_iq3_xxs,
                                  TYPE};
const sr_format sr_fmt_iq3_s = {.name = "iq3_s",
                                .block = QK,
                                .group = 32,
                                .lane = 4,
                                .unpack = unpack_iq3_s,
                                .fit = fit_iq3_s,
                                .snap = snap_iq3_s,
                                .store = store_iq3_s,
                                .rtn_err = 0.135f,
                                .promote = "q6_k",
                                .fallback = {"iq4_nl"},
                                .sample = sample_iq3_s,
                                TYPE};
const sr_format sr_fmt_iq4_nl = {.name = "iq4_nl",
                                 .block = Q32,
                                 .group = 32,
                                 .lane = 1,
                                 .unpack = unpack_iq4_nl,
                                 .fit = fit_iq4_nl,
                                 .snap = snap_iq4,
                                 .store = store_iq4_nl,
                                 .rtn_err = 0.0745f,
                                 .promote = "q6_k",
                                 .sample = sample_iq4_nl,
                                 TYPE};
const sr_format sr_fmt_iq4_xs = {.name = "iq4_xs",
                                 .block = QK,
                                 .group = 32,
                                 .lane = 1,
                                 .unpack = unpack_iq4_xs,
                                 .fit = fit_iq4_xs,
                                 .snap = snap_iq4,
                                 .store = store_iq4_xs,
                                 .rtn_err = 0.0752f,
                                 .promote = "q6_k",
                                 .fallback = {"iq4_nl"},
                                 .sample = sample_iq4_xs,
                                 TYPE_BY(panel_iq4_xs)};
