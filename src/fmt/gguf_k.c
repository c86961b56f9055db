/* GGUF's K types: blocks of 256 with f16 factors over small integer scales of groups. Layouts: gguf_bits.h. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "fmt/fmt.h"
#include "fmt/gguf_bits.h"

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

/* Exact: sc * code is at most 15 * 3. The mins stay per 16. */
static void panel_q2_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q2_K_BYTES);
    for (int64_t i = 0; i < n; i += QK, b += SR_Q2_K_BYTES, code += QK) {
        float dmin = f16_at(b + SR_Q2_K_DMIN);
        *scale++ = f16_at(b + SR_Q2_K_D);
        for (int g = 0; g < QK / G16; g++) {
            int sc = sr_q2_k_scale(b, g);
            *min++ = dmin * (float)sr_q2_k_min(b, g);
            for (int j = G16 * g; j < G16 * g + G16; j++) code[j] = (int8_t)(sc * sr_q2_k_code(b, j));
        }
    }
}

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

/* Rounds to the nearest integer, halves to even, for |x| < 2^22: what cvtps2dq and fcvtns do. */
static float nearest(float x) {
    return x + 0x1.8p23f - 0x1.8p23f;
}

/* The decoded block on an 8-bit grid of its own: step max|w| / 127, no min. A block whose factors are not finite has
 * the scale NaN and codes 0. */
static void panel_q4_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q4_K_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q4_K_BYTES, code += QK) {
        float v[QK], d = f16_at(b), dmin = f16_at(b + SR_K4_DMIN), max = 0;
        if (!isfinite(d) || !isfinite(dmin)) {
            *scale++ = NAN;
            memset(code, 0, QK);
            continue;
        }
        for (int g = 0; g < QK / G32; g++) {
            float s = d * (float)sr_k4_scale(b, g), m = dmin * (float)sr_k4_min(b, g);
            for (int j = G32 * g; j < G32 * g + G32; j++) {
                v[j] = s * (float)sr_q4_k_code(b, j) - m;
                max = fabsf(v[j]) > max ? fabsf(v[j]) : max;
            }
        }
        /* A nonzero max is at least 2^-24, f16's smallest step, so the quotient is finite. */
        float inv = max > 0 ? 127 / max : 0;
        *scale++ = max / 127;
        for (int j = 0; j < QK; j++) code[j] = (int8_t)nearest(v[j] * inv);
    }
}

/* ---------------------------------------------------------------- rows */

const sr_format sr_fmt_q2_k = {
    .name = "q2_k",
    .alias = "q2k",
    .block = QK,
    .group = G16,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q2_k,
    .promote = "q6_k",
    .fallback = {"q4_0"},
    .panel = panel_q2_k,
    .panel_group = QK,
    .panel_min_group = G16,
};
const sr_format sr_fmt_q3_k = {
    .name = "q3_k",
    .alias = "q3k",
    .block = QK,
    .group = G16,
    .lane = 1,
    .tile = SR_TILE_I8,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q3_k,
    .promote = "q6_k",
    .fallback = {"q4_0"},
    .panel = panel_q3_k,
    .panel_group = QK,
};
const sr_format sr_fmt_q4_k = {
    .name = "q4_k",
    .alias = "q4k",
    .block = QK,
    .group = G32,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q4_k,
    .promote = "q6_k",
    .fallback = {"q4_1"},
    .panel = panel_q4_k,
    .panel_group = QK,
    .panel_err = 0.01f,
};
const sr_format sr_fmt_q5_k = {
    .name = "q5_k",
    .alias = "q5k",
    .block = QK,
    .group = G32,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q5_k,
    .promote = "q8_0",
    .fallback = {"q5_0"},
    .panel_group = G32,
    .panel_min_group = G32,
};
const sr_format sr_fmt_q6_k = {
    .name = "q6_k",
    .alias = "q6k",
    .block = QK,
    .group = G16,
    .lane = 1,
    .tile = SR_TILE_I8,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q6_k,
    .promote = "q8_0",
    .fallback = {"q5_1"},
    .panel_group = G16,
};
const sr_format sr_fmt_q8_k = {
    .name = "q8_k",
    .alias = "q8k",
    .block = QK,
    .group = QK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q8_k,
    .promote = "q8_0",
    .fallback = {"q8_1"},
    .panel_group = QK,
};
