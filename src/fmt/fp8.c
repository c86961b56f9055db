/* 8-bit floats with scales: what transformers ("fp8"), compressed-tensors ("float-quantized", "naive-quantized",
 * "mxfp8-quantized"), ModelOpt ("FP8") and Mistral write. One rule: w[n][k] = value * scale[n / gn][k / gk].
 *
 *     <m>.weight   f8 [N][K]
 *     a scale under one of its names: weight_scale_inv (a multiplier whatever it is called), weight_scale,
 *     qscale_weight
 *         one element      per tensor
 *         [N], [N][1]      per row
 *         [N][K / g]       per group of a row; u8 or E8M0 for mxfp8
 *         [.][.]           per block of weight_block_size, the last ones ragged
 *     Experts are stacks: <experts> f8 [E][N][K] and <experts>_scale_inv [E][.][.], blocks within each, or [E][1][1].
 *
 * More scales than blocks are refused, as transformers and vLLM do: they come from shards of which each had ragged
 * blocks of its own, and nothing says where these begin.
 *
 * Scales of activations (input_scale, activation_scale) are not needed: activations are quantized as they come.
 * Sources: transformers: integrations/finegrained_fp8.py; compressed-tensors: compressors/{naive_quantized,mxfp8}. */
#include <string.h>

#include "base/random.h"
#include "fmt/fmt.h"
#include "fmt/fp8.h"
#include "fmt/fp8_bits.h"
#include "fmt/shrink.h"

enum { WEIGHT = SR_FP8_WEIGHT, SCALE = SR_FP8_SCALE };
/* The first is what transformers' "fp8" calls it, and compressed-tensors. */
static const char SCALE_NAMES[] = "weight_scale_inv|weight_scale|qscale_weight|scale|_scale_inv";
static const char CT_SCALE_NAMES[] = "weight_scale|weight_scale_inv|qscale_weight|scale|_scale_inv";

static bool claim(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    const sr_part *weight = sr_parts_get(parts, "weight");
    (void)spec;
    return weight && !strcmp(weight->type->name, self->spec.layout) && !sr_parts_get(parts, "pre_quant_scale");
}

static sr_status layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                        sr_err *err) {
    int64_t gn = spec->group_n > 1 ? spec->group_n : 1, gk = spec->group > 0 ? spec->group : K;
    const bool ct = spec->method && !strcmp(spec->method, "compressed-tensors");
    const int64_t down = (N - 1) / gn + 1, across = (K - 1) / gk + 1;
    (void)err;
    sr_planes_add(planes, "weight", self->spec.layout, false, N, K);
    sr_planes_add(planes, ct ? CT_SCALE_NAMES : SCALE_NAMES, "f32|bf16|f16|f8_e8m0|u8", false, down,
                  down == 1 && across == 1 && gn > 1 ? 0 : across); /* one scale is no matrix */
    planes->plane[SCALE].any_shape = true;                          /* adopt reads the rule from it */
    return SR_OK;
}

/* What the shape of the scale says; blocks where the config gives their size. */
static sr_status adopt(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    sr_blocks *b = sr_arena_alloc(arena, 1, sizeof *b);
    if (!b) return sr_fail(err, SR_NOMEM, "no memory to describe its scales");
    w->aux = b;
    int64_t rows = 0, cols = 1, n = w->plane[SCALE].bytes / w->plane[SCALE].type->bytes;
    int64_t gn = w->spec.group_n > 1 ? w->spec.group_n : 1, gk = w->spec.group > 0 ? w->spec.group : w->K;
    const sr_part *weight = sr_parts_get(parts, "weight");
    const bool stacked = weight && weight->n_dims > 2 && weight->shape[weight->n_dims - 1] == w->K;
    const int64_t stack = stacked ? weight->shape[weight->n_dims - 2] : w->N;
    const int64_t experts = w->N / stack, down = (stack - 1) / gn + 1, across = (w->K - 1) / gk + 1;
    bool matrix = !parts;
    for (int i = 0; parts && i < parts->n; i++) {
        const sr_part *p = parts->item[i].part;
        if (p->data != w->plane[SCALE].data) continue;
        /* a stack of experts counts its rows; [N / gn][1][K / gk][1] has ones between */
        cols = p->n_dims ? p->shape[p->n_dims - 1] : 1;
        if (p->n_dims == 4 && cols == 1) cols = p->shape[2];
        rows = cols ? n / cols : 0;
        matrix = p->n_dims > 1;
    }
    if (!parts) rows = down, cols = across;
    if (n == 1) {
        *b = (sr_blocks){w->N, w->K, 1, 0, 0};
    } else if (matrix && rows == experts * down && cols == across && rows * cols == n) {
        *b = (sr_blocks){gn, gk, cols, experts > 1 ? stack : 0, down * cols};
    } else if (n == w->N && (cols == 1 || rows == 1 || cols == w->N)) {
        *b = (sr_blocks){1, w->K, 1, 0, 0};
    } else if (gn == 1 && rows == w->N && cols && w->K % cols == 0) {
        *b = (sr_blocks){1, w->K / cols, cols, 0, 0}; /* groups of a row: the shape says how many */
    } else if (n == experts) {
        *b = (sr_blocks){stack, w->K, 1, 0, 0};
    } else {
        return sr_fail(
            err, SR_CORRUPT,
            "its scale has %lld x %lld elements, expected 1, %lld (one a row), or %lld x %lld (one a block of "
            "weight_block_size, %lld x %lld)",
            (long long)rows, (long long)cols, (long long)w->N, (long long)(experts * down), (long long)across,
            (long long)gn, (long long)gk);
    }
    w->spec.group = b->gk > INT32_MAX ? INT32_MAX : (int32_t)b->gk;
    w->spec.group_n = b->gn > INT32_MAX ? INT32_MAX : (int32_t)b->gn;
    return SR_OK;
}

static inline void decode_with(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out,
                               float (*value)(uint8_t)) {
    const uint8_t *p = w->plane[WEIGHT].data + row * w->plane[WEIGHT].stride + k0;
    for (int64_t k = 0, end; k < n;) {
        float scale = sr_fp8_scale(w, row, k0 + k, &end);
        for (end = end - k0 < n ? end - k0 : n; k < end; k++) out[k] = value(p[k]) * scale;
    }
}
static void decode_e4m3(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    decode_with(w, row, k0, n, out, sr_e4m3_to_f32);
}
static void decode_e5m2(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    decode_with(w, row, k0, n, out, sr_e5m2_to_f32);
}
static void decode_e4m3fnuz(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    decode_with(w, row, k0, n, out, sr_e4m3fnuz_to_f32);
}
static void decode_e5m2fnuz(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    decode_with(w, row, k0, n, out, sr_e5m2fnuz_to_f32);
}

/* ---------------------------------------------------------------- writing
 * scale = largest magnitude / largest element, and elements to nearest, ties to even, as torch casts. What is all zeros
 * has the scale 1. */

static float largest(const sr_weight *w) {
    return strstr(w->fmt->spec.layout, "e5m2") ? 57344 : 448;
}
static float scale_for(const sr_weight *w, float most) {
    return most > 1e-30f ? most / largest(w) : 1;
}
static bool tiles(const sr_weight *w, int64_t *rows, int64_t *cols) {
    *rows = w->spec.group_n;
    *cols = w->spec.group;
    return w->spec.group_n > 1;
}
static sr_status begin(sr_weight *w, const sr_peaks *peaks, sr_err *err) {
    (void)err;
    for (int64_t i = 0; peaks && i < peaks->n_down * peaks->n_across; i++)
        sr_plane_put(w, SCALE, i, scale_for(w, peaks->most[i]));
    return SR_OK;
}
static void fit(const sr_fit *in, sr_grid *grid) {
    enum { TRIES = 8 };
    int64_t end;
    *grid = (sr_grid){.n = in->n, .group = in->n, .lo = -128, .hi = 127};
    if (in->w->spec.group_n > 1) {
        grid->scale[0] = sr_fp8_scale(in->w, in->row, in->k0, &end);
        return;
    }
    grid->scale[0] = sr_plane_round(in->w, SCALE, scale_for(in->w, sr_fit_most(in)));
    if (!sr_fit_weighs(in)) return;
    sr_grid other = *grid;
    float error = sr_fit_error(in, grid);
    for (int t = 1; t < TRIES; t++) { /* larger ones: elements are as fine at any scale, but for where binades end */
        other.scale[0] = sr_plane_round(in->w, SCALE, scale_for(in->w, sr_fit_most(in)) * (1 + 0.125f * (float)t));
        float e = sr_fit_error(in, &other);
        if (e < error) error = e, *grid = other;
    }
}
static void snap_e5m2(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    (void)i0;
    for (int i = 0; i < n; i++) {
        float x = sr_weight_finite(w[i]) / grid->scale[0];
        uint8_t q = sr_f32_to_e5m2(x < -57344 ? -57344 : x > 57344 ? 57344 : x);
        code[i] = (int8_t)q;
        back[i] = sr_e5m2_to_f32(q) * grid->scale[0];
    }
}
static void store(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    int64_t end;
    memcpy(w->plane[WEIGHT].data + row * w->plane[WEIGHT].stride + k0, code, (size_t)n);
    if (w->spec.group_n <= 1) sr_plane_put(w, SCALE, sr_block_at(w->aux, row, k0, &end), grid->scale[0]);
}

/* Values of one binade with a spread of 2, and scales that bring them to 0.02. */
static void sample(sr_weight *w, uint64_t seed) {
    const bool e5 = strstr(w->fmt->spec.layout, "e5m2") != NULL, fnuz = strstr(w->fmt->spec.layout, "fnuz") != NULL;
    const int one = (e5 ? 15 << 2 : 7 << 3) + (fnuz ? (e5 ? 4 : 8) : 0); /* the code of 1 */
    for (int64_t i = 0; i < w->plane[WEIGHT].bytes; i++) {
        uint64_t r = sr_random(&seed);
        int code = one - (e5 ? 8 : 16) + (int)(r >> 40) % (e5 ? 16 : 32); /* 1/4 .. 4 */
        w->plane[WEIGHT].data[i] = (uint8_t)(code | (r >> 63) << 7);
    }
    for (int64_t i = 0; i < w->plane[SCALE].bytes / 4; i++) {
        uint32_t v = sr_bits_from_f32(0.009f * (1 + (float)(sr_random(&seed) >> 40) * 0x1p-26f));
        memcpy(w->plane[SCALE].data + 4 * i, &v, 4);
    }
}

#define WRITTEN .tiles = tiles, .begin = begin, .fit = fit, .store = store
#define ROW(id, type, ...)                                                                                             \
    const sr_format sr_fmt_##id = {                                                                                    \
        .name = #id,                                                                                                   \
        .block = 1,                                                                                                    \
        .lane = 1,                                                                                                     \
        .spec = {.method = "fp8", .layout = type, .sym = true, .bits = 8, .group = 128, .group_n = 128},               \
        .reference = "torch 2.15",                                                                                     \
        .tile = SR_TILE_BF16,                                                                                          \
        .claim = claim,                                                                                                \
        .layout = layout,                                                                                              \
        .adopt = adopt,                                                                                                \
        .sample = sample,                                                                                              \
        .panel_err = 0.0017f, /* value * scale to bfloat16 */                                                          \
        __VA_ARGS__,                                                                                                   \
    }

ROW(fp8_e4m3, "f8_e4m3", .rtn_err = 0.0266f, .decode = decode_e4m3, .alias = "fp8", WRITTEN, .snap = sr_snap_e4m3);
ROW(fp8_e5m2, "f8_e5m2", .rtn_err = 0.0529f, .decode = decode_e5m2, WRITTEN, .snap = snap_e5m2);
ROW(fp8_e4m3fnuz, "f8_e4m3fnuz", .decode = decode_e4m3fnuz);
ROW(fp8_e5m2fnuz, "f8_e5m2fnuz", .decode = decode_e5m2fnuz);
