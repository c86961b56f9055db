/* Unquantized weights: f32, f16, bf16. Little-endian elements in row order at any alignment. */
#include <string.h>

#include "base/bytes.h"
#include "base/half.h"
#include "fmt/fmt.h"

static const uint8_t *elements(const sr_weight *w, int64_t row, int64_t k0, int size) {
    return w->plane[0].data + row * w->plane[0].stride + k0 * size;
}

static void decode_f32(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    memcpy(out, elements(w, row, k0, 4), (size_t)n * 4);
}
static void decode_f16(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const uint8_t *p = elements(w, row, k0, 2);
    for (int64_t i = 0; i < n; i++) out[i] = sr_f16_to_f32((uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
}
static void decode_bf16(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const uint8_t *p = elements(w, row, k0, 2);
    for (int64_t i = 0; i < n; i++) out[i] = sr_bf16_to_f32((uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
}

/* Plain types keep what they can represent: NaN stays NaN, and f16 turns what is too large into infinity. */
static void encode_f32(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    memcpy(w->plane[0].data + row * w->plane[0].stride, src, (size_t)w->K * 4);
}
static void encode_f16(sr_weight *w, int64_t row, const float *src, const float *importance) {
    uint8_t *p = w->plane[0].data + row * w->plane[0].stride;
    (void)importance;
    for (int64_t i = 0; i < w->K; i++) sr_put_u16(p + 2 * i, sr_f32_to_f16(src[i]));
}
static void encode_bf16(sr_weight *w, int64_t row, const float *src, const float *importance) {
    uint8_t *p = w->plane[0].data + row * w->plane[0].stride;
    (void)importance;
    for (int64_t i = 0; i < w->K; i++) sr_put_u16(p + 2 * i, sr_f32_to_bf16(src[i]));
}

const sr_format sr_fmt_f32 = {
    .name = "f32",
    .block = 1,
    .reference = "transformers 5.23",
    .lane = 1,
    .tile = SR_TILE_F32,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = decode_f32,
    .encode = encode_f32,
};
const sr_format sr_fmt_f16 = {
    .name = "f16",
    .block = 1,
    .reference = "transformers 5.23",
    .lane = 1,
    .tile = SR_TILE_F32,
    .rtn_err = 2.14e-4f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = decode_f16,
    .encode = encode_f16,
};
const sr_format sr_fmt_bf16 = {
    .name = "bf16",
    .block = 1,
    .reference = "transformers 5.23",
    .lane = 1,
    .tile = SR_TILE_BF16,
    .rtn_err = 1.71e-3f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = decode_bf16,
    .encode = encode_bf16,
};
