/* BitNet b1.58 as transformers packs it: three values, four rows a byte.
 *
 *     <m>.weight        u8 [N / 4][K]   bits 2 i of byte (r, k): row i N / 4 + r, as value + 1
 *     <m>.weight_scale  one float       divides: w = value / weight_scale; with linear_class "autobitlinear" multiplies
 *
 * Source: transformers: integrations/bitnet.py (pack_weights, unpack_weights, BitLinear, AutoBitLinear). */
#include <string.h>

#include "base/half.h"
#include "base/random.h"
#include "fmt/fmt.h"

enum { WEIGHT, SCALE };

static void unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const int64_t quarter = w->N / 4;
    const uint8_t *p = w->plane[WEIGHT].data + row % quarter * w->K + k0;
    const int shift = 2 * (int)(row / quarter);
    const bool times = w->spec.layout && !strcmp(w->spec.layout, "autobitlinear");
    const float s = sr_plane_float(w, SCALE, 0);
    (void)min;
    for (int64_t k = 0; k < n; k++) code[k] = (int8_t)((p[k] >> shift & 3) - 1);
    for (int64_t k = 0; k < n; k += w->group) *scale++ = times ? s : 1 / s;
}

static bool claim(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    const sr_part *weight = sr_parts_get(parts, "weight");
    (void)self;
    return spec->method && !strcmp(spec->method, "bitnet") && weight && !strcmp(weight->type->name, "u8");
}
static bool dims(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *p = sr_parts_get(parts, "weight");
    (void)spec;
    if (!p || p->n_dims != 2 || p->shape[0] > INT64_MAX / 4) return false;
    *N = 4 * p->shape[0];
    *K = p->shape[1];
    return true;
}
static sr_status layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                        sr_err *err) {
    (void)spec;
    if (N % 4) return sr_fail(err, SR_INVALID, "%s packs 4 rows, which do not divide %lld", self->name, (long long)N);
    sr_planes_add(planes, "weight", "u8", false, N / 4, K);
    sr_planes_add(planes, "weight_scale", "bf16|f16|f32", false, 1, 0);
    return SR_OK;
}

static void sample(sr_weight *w, uint64_t seed) {
    uint16_t scale = sr_f32_to_bf16(50); /* about 0.02 */
    for (int64_t i = 0; i < w->plane[WEIGHT].bytes; i++) {
        uint64_t r = sr_random(&seed);
        w->plane[WEIGHT].data[i] = (uint8_t)(r % 3 | (r >> 16) % 3 << 2 | (r >> 32) % 3 << 4 | (r >> 48) % 3 << 6);
    }
    w->plane[SCALE].data[0] = (uint8_t)scale;
    w->plane[SCALE].data[1] = (uint8_t)(scale >> 8);
}

const sr_format sr_fmt_bitnet = {
    .name = "bitnet",
    .block = 1,
    .group = SR_KC,
    .lane = 1,
    .spec = {.method = "bitnet", .sym = true, .bits = 2, .group = -1},
    .reference = "transformers 5.24",
    .tile = SR_TILE_I8,
    .claim = claim,
    .layout = layout,
    .dims = dims,
    .decode = sr_decode_i8,
    .unpack = unpack,
    .sample = sample,
};
