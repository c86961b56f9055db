/* GGUF's K types: blocks of 256 with f16 factors over small integer scales of groups. Layouts: gguf_bits.h. */
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/half.h"
#include "fmt/fmt.h"
#include "fmt/gguf_bits.h"
#include "fmt/gguf_k_write_kern.h"

enum { QK = 256, G16 = 16, G32 = 32 };

static uint16_t u16_at(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static float f16_at(const uint8_t *p) {
    return sr_f16_to_f32(u16_at(p));
}
static const uint8_t *blocks_at(const sr_weight *w, int64_t row, int64_t k0, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / QK * bytes;
}

/* ---------------------------------------------------------------- reading
 * Every product d * scale * code has at most 24 significant bits, so the order of multiplication changes nothing; only
 * "scale * code - min" rounds. The loops over 32 elements give the compiler constant shifts. */

static void unpack_q2_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q2_K_BYTES);
    for (int64_t i = 0; i < n; i += QK, b += SR_Q2_K_BYTES, code += QK) {
        float d = f16_at(b + SR_Q2_K_D), dmin = f16_at(b + SR_Q2_K_DMIN);
        for (int g = 0; g < QK / G16; g++) {
            *scale++ = d * (float)sr_q2_k_scale(b, g);
            *min++ = dmin * (float)sr_q2_k_min(b, g);
        }
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q2_k_code(b, j);
    }
}

static void unpack_q3_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q3_K_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q3_K_BYTES, code += QK) {
        float d = f16_at(b + SR_Q3_K_D);
        for (int g = 0; g < QK / G16; g++) *scale++ = d * (float)sr_q3_k_scale(b, g);
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q3_k_code(b, j);
    }
}

static void unpack_q4_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q4_K_BYTES);
    for (int64_t i = 0; i < n; i += QK, b += SR_Q4_K_BYTES, code += QK) {
        float d = f16_at(b), dmin = f16_at(b + SR_K4_DMIN);
        for (int g = 0; g < QK / G32; g++) {
            *scale++ = d * (float)sr_k4_scale(b, g);
            *min++ = dmin * (float)sr_k4_min(b, g);
        }
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q4_k_code(b, j);
    }
}

static void unpack_q5_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q5_K_BYTES);
    for (int64_t i = 0; i < n; i += QK, b += SR_Q5_K_BYTES, code += QK) {
        float d = f16_at(b), dmin = f16_at(b + SR_K4_DMIN);
        for (int g = 0; g < QK / G32; g++) {
            *scale++ = d * (float)sr_k4_scale(b, g);
            *min++ = dmin * (float)sr_k4_min(b, g);
        }
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q5_k_code(b, j);
    }
}

static void unpack_q6_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q6_K_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q6_K_BYTES, code += QK) {
        float d = f16_at(b + SR_Q6_K_D);
        for (int g = 0; g < QK / G16; g++) *scale++ = d * (float)sr_q6_k_scale(b, g);
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q6_k_code(b, j);
    }
}

static void unpack_q8_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q8_K_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q8_K_BYTES, code += QK) {
        *scale++ = sr_f32_from_bits(u16_at(b) | (uint32_t)u16_at(b + 2) << 16);
        memcpy(code, b + SR_Q8_K_QS, QK);
    }
}

/* ---------------------------------------------------------------- panels with one scale a block */

/* Exact: -4..3 times -32..31 is -124..128, and with both the code and d negated -128..124. */
static void panel_q3_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q3_K_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q3_K_BYTES, code += QK) {
        *scale++ = -f16_at(b + SR_Q3_K_D);
        for (int g = 0; g < QK / G16; g++) {
            int sc = sr_q3_k_scale(b, g);
            for (int j = G16 * g; j < G16 * g + G16; j++) code[j] = (int8_t) - (sc * sr_q3_k_code(b, j));
        }
    }
}

/* The 8-bit grid of a block: one that reaches as far as codes 0 .. top of any group could, used or not, so that a group
 * is a table of top + 1 numbers. False: something is not finite. */
static bool nominal_grid(const float *s, const float *lo, int n_group, float top, float *inverse, float *scale) {
    float max = 0;
    bool finite = true;
    for (int g = 0; g < n_group; g++) {
        const float last = fabsf(s[g] * top - lo[g]), first = fabsf(lo[g]);
        finite = finite && isfinite(s[g]) && isfinite(lo[g]);
        max = last > max ? last : max;
        max = first > max ? first : max;
    }
    *inverse = max > 0 ? 127 / max : 0;
    *scale = finite ? max / 127 : NAN;
    return finite;
}

static void panel_q2_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    (void)min;
    for (int64_t i = 0; i < n; i += QK, code += QK) {
        int8_t own[QK];
        float s[QK / G16], lo[QK / G16], inverse;
        unpack_q2_k(w, row, k0 + i, QK, own, s, lo);
        const bool finite = nominal_grid(s, lo, QK / G16, 3, &inverse, scale++);
        for (int j = 0; j < QK; j++)
            code[j] = finite ? (int8_t)sr_nearest((s[j / G16] * (float)own[j] - lo[j / G16]) * inverse) : 0;
    }
}

/* A table of 16 numbers is made with integers, in 256ths of a step: scale and min of a group are rounded to them, which
 * moves a number by 16 / 512 of a step at most. */
static void panel_q4_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    (void)min;
    for (int64_t i = 0; i < n; i += QK, code += QK) {
        int8_t own[QK];
        float s[QK / G32], lo[QK / G32], inverse;
        unpack_q4_k(w, row, k0 + i, QK, own, s, lo);
        const bool finite = nominal_grid(s, lo, QK / G32, 15, &inverse, scale++);
        for (int g = 0; g < QK / G32; g++) {
            const int step = finite ? (int)sr_nearest(s[g] * (256 * inverse)) : 0;
            const int from = finite ? (int)sr_nearest(lo[g] * (256 * inverse)) - 128 : 0;
            for (int j = G32 * g; j < G32 * g + G32; j++) code[j] = (int8_t)((step * own[j] - from) >> 8);
        }
    }
}

/* ---------------------------------------------------------------- rows */

const sr_format sr_fmt_q2_k = {
    .name = "q2_k",
    .alias = "q2k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G16,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .rtn_err = 0.290f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q2_k,
    .fit = fit_q2_k,
    .snap = sr_snap_affine,
    .store = store_q2_k,
    .promote = "q6_k",
    .fallback = {"q4_0"},
    .panel = panel_q2_k,
    .panel_group = SR_KC,
    .panel_err = 0.0072f,
};
const sr_format sr_fmt_q3_k = {
    .name = "q3_k",
    .alias = "q3k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G16,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.152f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q3_k,
    .fit = fit_q3_k,
    .snap = sr_snap_affine,
    .store = store_q3_k,
    .promote = "q6_k",
    .fallback = {"q4_0"},
    .panel = panel_q3_k,
    .panel_group = QK,
};
const sr_format sr_fmt_q4_k = {
    .name = "q4_k",
    .alias = "q4k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G32,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .rtn_err = 0.0727f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q4_k,
    .fit = fit_q4_k,
    .snap = sr_snap_affine,
    .store = store_q4_k,
    .promote = "q6_k",
    .fallback = {"q4_1"},
    .panel = panel_q4_k,
    .panel_group = SR_KC,
    .panel_err = 0.0072f,
};
const sr_format sr_fmt_q5_k = {
    .name = "q5_k",
    .alias = "q5k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G32,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .rtn_err = 0.0359f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q5_k,
    .fit = fit_q5_k,
    .snap = sr_snap_affine,
    .store = store_q5_k,
    .promote = "q8_0",
    .fallback = {"q5_0"},
};
const sr_format sr_fmt_q6_k = {
    .name = "q6_k",
    .alias = "q6k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G16,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.0172f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q6_k,
    .fit = fit_q6_k,
    .snap = sr_snap_affine,
    .store = store_q6_k,
    .promote = "q8_0",
    .fallback = {"q5_1"},
};
const sr_format sr_fmt_q8_k = {
    .name = "q8_k",
    .alias = "q8k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = QK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.00717f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q8_k,
    .fit = fit_q8_k,
    .snap = sr_snap_affine,
    .store = store_q8_k,
    .promote = "q8_0",
    .fallback = {"q8_1"},
};
