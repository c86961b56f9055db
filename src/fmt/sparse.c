/* Sparse weights of compressed-tensors ("sparse-bitmask", "sparse-24-bitmask"): the values that are not zero, row after
 * row, and a bit for each weight.
 *
 *     compressed   bf16, f16, f32, f8_e4m3 or i8 [number of bits set]; 2:4 sparse [N][K / 2]
 *     bitmask      u8 [N][ceil(K / 8)]    low bits first
 *     shape        i64 [2]                N and K
 *     row_offsets  i64 [N]                where rows start; sums of the bits, so that nobody needs them
 *     weight_scale [1], [N][1] or [N][G]  of f8 and i8: w = value * scale
 *
 * Releases before 0.9 say weight.compressed and so on.
 * Sources: compressed-tensors 0.11: compressors/sparse_compressors/, utils/helpers.py (pack_bitmasks). */
#include <string.h>

#include "base/half.h"
#include "base/random.h"
#include "fmt/blocks.h"
#include "fmt/fmt.h"
#include "fmt/fp8_bits.h"

enum { VALUES, MASK, SCALE };

typedef struct sparse {
    const int64_t *start; /* [N]: which value is a row's first */
    sr_blocks scales;
    float (*value)(const uint8_t *values, int64_t i);
} sparse;

static float value_f32(const uint8_t *v, int64_t i) {
    float f;
    memcpy(&f, v + 4 * i, 4);
    return f;
}
static float value_bf16(const uint8_t *v, int64_t i) {
    return sr_bf16_to_f32((uint16_t)(v[2 * i] | v[2 * i + 1] << 8));
}
static float value_f16(const uint8_t *v, int64_t i) {
    return sr_f16_to_f32((uint16_t)(v[2 * i] | v[2 * i + 1] << 8));
}
static float value_e4m3(const uint8_t *v, int64_t i) {
    return sr_e4m3_to_f32(v[i]);
}
static float value_i8(const uint8_t *v, int64_t i) {
    return (float)(int8_t)v[i];
}
static const struct {
    const char *type;
    float (*value)(const uint8_t *, int64_t);
    bool scaled;
} types[] = {{"bf16", value_bf16, false},
             {"f16", value_f16, false},
             {"f32", value_f32, false},
             {"f8_e4m3", value_e4m3, true},
             {"i8", value_i8, true}};

/* How many of the first k bits are set. */
static int64_t count(const uint8_t *mask, int64_t k) {
    int64_t n = 0;
    for (; k >= 64; k -= 64, mask += 8) {
        uint64_t v;
        memcpy(&v, mask, 8);
        n += __builtin_popcountll(v);
    }
    for (; k > 0; k -= 8) n += __builtin_popcount(*mask++ & (k < 8 ? (1u << k) - 1 : 255));
    return n;
}

static void decode(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const sparse *s = w->aux;
    const uint8_t *values = w->plane[VALUES].data, *mask = w->plane[MASK].data + row * w->plane[MASK].stride;
    int64_t at = s->start[row] + count(mask, k0);
    for (int64_t i = 0; i < n; i++) out[i] = mask[(k0 + i) / 8] >> (k0 + i) % 8 & 1 ? s->value(values, at++) : 0;
    for (int64_t i = 0, end; w->plane[SCALE].data && i < n;) {
        float scale = sr_plane_float(w, SCALE, sr_block_at(&s->scales, row, k0 + i, &end));
        for (end = end - k0 < n ? end - k0 : n; i < end; i++) out[i] *= scale;
    }
}

static bool dims(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    (void)spec;
    return sr_parts_dims(parts, "shape|weight.shape", N, K);
}

static bool claim(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    (void)self, (void)spec;
    return sr_parts_get(parts, "bitmask") || sr_parts_get(parts, "weight.bitmask");
}

static sr_status layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                        sr_err *err) {
    (void)self, (void)spec, (void)err;
    sr_planes_add(planes, "compressed|weight.compressed", "bf16|f16|f32|f8_e4m3|i8", false, N, K / 2 + K % 2);
    planes->plane[VALUES].any_shape = true; /* half the weights only if it is 2:4 */
    sr_planes_add(planes, "bitmask|weight.bitmask", "u8", false, N, K / 8 + (K % 8 != 0));
    sr_planes_add(planes, "weight_scale", "bf16|f16|f32", true, 0, 0);
    planes->plane[SCALE].n_dims = 0;
    return SR_OK;
}

/* One scale, one a row, or groups of equal length. */
static sr_status place_scales(const sr_weight *w, bool scaled, sparse *s, sr_err *err) {
    const char *type = w->plane[VALUES].type->name;
    if (scaled != (w->plane[SCALE].data != NULL))
        return sr_fail(err, SR_CORRUPT, "its values are %s, expected %s weight_scale", type, scaled ? "a" : "no");
    if (!scaled) return SR_OK;
    int64_t n = w->plane[SCALE].bytes / w->plane[SCALE].type->bytes, a_row = n % w->N ? 0 : n / w->N;
    if (n != 1 && (!a_row || w->K % a_row))
        return sr_fail(err, SR_CORRUPT, "weight_scale has %lld elements, expected 1, %lld or as many groups a row",
                       (long long)n, (long long)w->N);
    s->scales = n == 1 ? (sr_blocks){w->N, w->K, 1, 0, 0} : (sr_blocks){1, w->K / a_row, a_row, 0, 0};
    return SR_OK;
}

static sr_status adopt(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    sparse *s = sr_arena_alloc(arena, 1, sizeof *s);
    int64_t *start = sr_arena_alloc(arena, (size_t)w->N, sizeof *start), total = 0, N, K;
    if (!s || !start) return sr_fail(err, SR_NOMEM, "no memory for where %lld rows start", (long long)w->N);
    size_t t = 0;
    while (strcmp(types[t].type, w->plane[VALUES].type->name)) t++;
    *s = (sparse){.start = start, .value = types[t].value};
    w->aux = s;
    for (int64_t row = 0; row < w->N; row++) {
        start[row] = parts ? total : row * ((w->K + 1) / 2); /* a created one's bits are still to come */
        total += count(w->plane[MASK].data + row * w->plane[MASK].stride, w->K);
    }
    if (!parts) return SR_OK;
    if (!sr_parts_dims(parts, "shape|weight.shape", &N, &K) || N != w->N || K != w->K)
        return sr_fail(err, SR_CORRUPT, "its shape is missing or another one, expected [%lld, %lld]", (long long)w->N,
                       (long long)w->K);
    if (total != w->plane[VALUES].bytes / w->plane[VALUES].type->bytes)
        return sr_fail(err, SR_CORRUPT, "compressed has %lld values, expected one for each of the %lld bits of bitmask",
                       (long long)(w->plane[VALUES].bytes / w->plane[VALUES].type->bytes), (long long)total);
    if (sr_parts_get(parts, "weight_zero_point") || sr_parts_get(parts, "weight_g_idx"))
        return sr_fail(err, SR_UNSUPPORTED, "sparse with zero points or an order of columns, expected neither");
    return place_scales(w, types[t].scaled, s, err);
}

/* One of each two columns. */
static void sample(sr_weight *w, uint64_t seed) {
    for (int64_t i = 0; i < w->plane[MASK].bytes; i++) {
        unsigned odd = (unsigned)sr_random(&seed) & 0x55;
        w->plane[MASK].data[i] = (uint8_t)(odd << 1 | (odd ^ 0x55));
    }
    for (int64_t i = 0; i < w->plane[VALUES].bytes; i += 2) {
        uint16_t v = sr_f32_to_bf16(0.098f * ((float)(sr_random(&seed) >> 40) * 0x1p-24f - 0.5f));
        w->plane[VALUES].data[i] = (uint8_t)v;
        w->plane[VALUES].data[i + 1] = (uint8_t)(v >> 8);
    }
}

const sr_format sr_fmt_ct_bitmask = {
    .name = "ct_bitmask",
    .block = 1,
    .lane = 1,
    .spec = {.method = "compressed-tensors", .layout = "sparse-24-bitmask", .sym = true, .bits = 16},
    .reference = "compressed-tensors 0.11",
    .tile = SR_TILE_F32,
    .claim = claim,
    .layout = layout,
    .dims = dims,
    .decode = decode,
    .adopt = adopt,
    .sample = sample,
};
