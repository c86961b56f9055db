/* MLX: affine codes of 1 to 8 bits (mistral.rs calls them AFQ), and its microscaling modes.
 *
 *     <m>.weight   u32 [N][K * bits / 32]       code j of a row is bits [bits * j, bits * (j + 1)) of the row's
 *                                               little-endian bytes; 8 codes take `bits` bytes
 *     affine       .scales .biases, floats [N][K / group]        w = scale * code + bias; a scale may be negative
 *     mxfp4        .scales u8 [N][K / 32], 2^(s - 127)           w = scale * e2m1(code)
 *     nvfp4        .scales u8 [N][K / 16], e4m3                  w = scale * e2m1(code)
 *     mxfp8        .scales u8 [N][K / 32], 2^(s - 127)           w = scale * e4m3(code)
 *
 * `.bias` beside these is the layer's own. Sources: mlx: mlx/backend/cpu/quantized.cpp, mlx/fast.cpp; mlx-lm:
 * mlx_lm/utils.py; mistral.rs: mistralrs-quant/src/afq/. Computed in f32, as mlx does on f32 scales. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "base/random.h"
#include "fmt/fmt.h"
#include "fmt/fp8_bits.h"
#include "fmt/search.h"
#include "fmt/shrink.h"

enum { BLOCK = 32, WEIGHT = 0, SCALES = 1, BIASES = 2 };

/* Eight codes, low bits first. */
static void codes_of(const uint8_t *p, int bits, int8_t *code, int subtract) {
    uint64_t v = 0;
    memcpy(&v, p, (size_t)bits);
    for (int i = 0; i < 8; i++) code[i] = (int8_t)((int)(v >> bits * i & ((1u << bits) - 1)) - subtract);
}

static void put_codes(uint8_t *p, int bits, const int8_t *code, int add) {
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)(uint8_t)(code[i] + add) << bits * i;
    memcpy(p, &v, (size_t)bits);
}

static const uint8_t *codes_at(const sr_weight *w, int64_t row, int64_t k0) {
    return w->plane[WEIGHT].data + row * w->plane[WEIGHT].stride + k0 / 8 * w->fmt->spec.bits;
}
static int64_t scale_at(const sr_weight *w, int64_t row, int64_t k) {
    return row * (w->K / w->spec.group) + k / w->spec.group;
}

/* ---------------------------------------------------------------- binding */

static bool is_u32(const sr_parts *parts) {
    const sr_part *weight = sr_parts_get(parts, "weight");
    return weight && !strcmp(weight->type->name, "u32") && sr_parts_get(parts, "scales");
}
static bool claim_affine(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    return is_u32(parts) && sr_parts_get(parts, "biases") && spec->bits == self->spec.bits &&
           (!spec->layout || !strcmp(spec->layout, "affine"));
}
static bool claim_mode(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    return is_u32(parts) && !sr_parts_get(parts, "biases") && spec->layout && !strcmp(spec->layout, self->spec.layout);
}

static bool dims(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *weight = sr_parts_get(parts, "weight");
    if (!weight || weight->n_dims < 2 || !spec->bits) return false;
    int64_t words = weight->shape[weight->n_dims - 1];
    if (words < 1 || words > INT64_MAX / 32) return false;
    *N = weight->n_elements / words;
    *K = words * 32 / spec->bits;
    return true;
}

static sr_status layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                        sr_err *err) {
    int group = spec->group, bits = self->spec.bits;
    bool affine = !strcmp(self->spec.layout, "affine");
    if (K % BLOCK || K > INT64_MAX / 8)
        return sr_fail(err, SR_INVALID, "%s has blocks of %d columns, which do not divide %lld", self->name, BLOCK,
                       (long long)K);
    bool usual = affine ? group == 32 || group == 64 || group == 128 : group == self->spec.group;
    if (!usual || K % group)
        return sr_fail(err, SR_INVALID, "%s has groups of %d columns in rows of %lld, expected %s that divide them",
                       self->name, group, (long long)K,
                       affine                   ? "32, 64 or 128"
                       : self->spec.group == 16 ? "16"
                                                : "32");
    sr_planes_add(planes, "weight", "u32", false, N, K / 32 * bits);
    sr_planes_add(planes, "scales", affine ? "bf16|f16|f32" : "u8", false, N, K / group);
    if (affine) sr_planes_add(planes, "biases", "bf16|f16|f32", false, N, K / group);
    return SR_OK;
}

/* ---------------------------------------------------------------- affine */

static void decode_affine(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const uint8_t *p = codes_at(w, row, k0);
    int bits = w->fmt->spec.bits;
    for (int64_t k = 0; k < n; k += 8, p += bits) {
        int8_t code[8];
        int64_t at = scale_at(w, row, k0 + k);
        float scale = sr_plane_float(w, SCALES, at), bias = sr_plane_float(w, BIASES, at);
        codes_of(p, bits, code, 0);
        for (int i = 0; i < 8; i++) out[k + i] = scale * (float)(uint8_t)code[i] + bias;
    }
}

/* Codes of 8 bits are shifted by 128 into int8, and the min with them. */
static void unpack_affine(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                          float *min) {
    const uint8_t *p = codes_at(w, row, k0);
    int bits = w->fmt->spec.bits, middle = bits == 8 ? 128 : 0;
    for (int64_t k = 0; k < n; k += w->group) {
        int64_t at = scale_at(w, row, k0 + k);
        *scale = sr_plane_float(w, SCALES, at);
        *min++ = middle ? -(sr_plane_float(w, BIASES, at) + *scale * (float)middle) : -sr_plane_float(w, BIASES, at);
        scale++;
    }
    for (int64_t k = 0; k < n; k += 8, p += bits) codes_of(p, bits, code + k, middle);
}

/* mlx's rule, in f32: the end of the range that is further from 0 becomes a code exactly, and 0 nearly so. The scale is
 * negative where that is the upper end. */
static void affine_rule(float low, float high, float top, float *scale, float *bias) {
    bool from_low = fabsf(low) > fabsf(high);
    float step = (high - low) / top, edge = from_low ? low : high;
    if (step < 1e-7f) step = 1e-7f;
    if (!from_low) step = -step;
    float q = rintf(edge / step);
    *scale = q != 0 ? edge / q : step;
    *bias = q != 0 ? edge : 0;
}

static void storable_affine(const sr_weight *w, float *scale, float *min) {
    *scale = sr_plane_round(w, SCALES, *scale);
    *min = -sr_plane_round(w, BIASES, -*min);
}

static void fit_affine(const sr_fit *in, sr_grid *grid) {
    const int bits = in->w->fmt->spec.bits, top = (1 << bits) - 1;
    float low, high, scale, bias;
    sr_fit_range(in, &low, &high);
    affine_rule(low, high, (float)top, &scale, &bias);
    grid->n = grid->group = in->n;
    grid->lo = bits == 8 ? -128 : 0;
    grid->hi = grid->lo + top;
    grid->scale[0] = scale;
    grid->min[0] = -bias;
    storable_affine(in->w, &grid->scale[0], &grid->min[0]);
    if (sr_fit_weighs(in)) sr_shrink_affine(in, (float)top, storable_affine, &grid->scale[0], &grid->min[0]);
}

static void hold_affine(const sr_fit *in, float scale, float min, sr_grid *grid) {
    const int bits = in->w->fmt->spec.bits;
    grid->n = grid->group = in->n;
    grid->lo = bits == 8 ? -128 : 0;
    grid->hi = grid->lo + (1 << bits) - 1;
    grid->scale[0] = scale;
    grid->min[0] = min;
    storable_affine(in->w, &grid->scale[0], &grid->min[0]);
}

static void snap_affine(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    const float scale = grid->scale[0], bias = -grid->min[0], by = scale != 0 ? scale : INFINITY;
    const float top = (float)(grid->hi - grid->lo);
    (void)i0;
    for (int i = 0; i < n; i++) {
        float q = sr_nearest(sr_clamp((sr_weight_finite(w[i]) - bias) / by, 0, top));
        code[i] = (int8_t)((int)q + grid->lo);
        back[i] = scale * q + bias;
    }
}

static void store_affine(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    uint8_t *p = (uint8_t *)(uintptr_t)codes_at(w, row, k0);
    int bits = w->fmt->spec.bits;
    for (int i = 0; i < n; i += 8, p += bits) put_codes(p, bits, code + i, -grid->lo);
    sr_plane_put(w, SCALES, scale_at(w, row, k0), grid->scale[0]);
    sr_plane_put(w, BIASES, scale_at(w, row, k0), -grid->min[0]);
}

/* mlx takes codes by the scale and bias before they are rounded. */
static void encode_affine(sr_weight *w, int64_t row, const float *src, const float *importance) {
    const float top = (float)((1 << w->fmt->spec.bits) - 1);
    (void)importance;
    for (int64_t k0 = 0; k0 < w->K; k0 += w->spec.group) {
        sr_fit in = {w, row, k0, w->spec.group, src + k0, NULL, 0};
        sr_grid grid = {.lo = w->fmt->spec.bits == 8 ? -128 : 0};
        int8_t code[SR_KC];
        float low, high, scale, bias;
        sr_fit_range(&in, &low, &high);
        affine_rule(low, high, top, &scale, &bias);
        for (int i = 0; i < in.n; i++) {
            float q = sr_clamp(rintf((sr_weight_finite(in.x[i]) - bias) / scale), 0, top);
            code[i] = (int8_t)((int)q + grid.lo);
        }
        grid.scale[0] = scale;
        grid.min[0] = -bias;
        store_affine(w, row, k0, in.n, &grid, code);
    }
}

/* ---------------------------------------------------------------- microscaling */

/* 2^(s - 127); 255 is infinite here, as mlx 0.32 computes it. */
static float e8m0(uint8_t s) {
    return s == 255 ? INFINITY : sr_e8m0_to_f32(s);
}

static float scale_of_group(const sr_weight *w, int64_t row, int64_t k) {
    uint8_t s = w->plane[SCALES].data[scale_at(w, row, k)];
    return w->spec.group == 16 ? sr_e4m3_to_f32(s) : e8m0(s);
}

static void decode_fp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const uint8_t *p = codes_at(w, row, k0);
    for (int64_t k = 0; k < n; k++) {
        int v = sr_e2m1_twice[p[k / 2] >> 4 * (k % 2) & 15];
        out[k] = scale_of_group(w, row, k0 + k) * (0.5f * (float)v);
    }
}

static void unpack_fp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const uint8_t *p = codes_at(w, row, k0);
    (void)min;
    for (int64_t k = 0; k < n; k += w->group) *scale++ = 0.5f * scale_of_group(w, row, k0 + k);
    for (int64_t k = 0; k < n; k++) code[k] = sr_e2m1_twice[p[k / 2] >> 4 * (k % 2) & 15];
}

static void decode_fp8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const uint8_t *p = codes_at(w, row, k0);
    for (int64_t k = 0; k < n; k++) out[k] = scale_of_group(w, row, k0 + k) * sr_e4m3_to_f32(p[k]);
}

/* The power of two at or above largest / last element; E4M3 of their quotient for nvfp4. Elements to nearest, of E2M1
 * the nearer to 0 of two, and there is no -0 (as the CPU of mlx 0.32 has it). */
static float mode_scale(const sr_weight *w, int byte) {
    return w->spec.group == 16 ? sr_e4m3_to_f32((uint8_t)byte) : e8m0((uint8_t)byte);
}
static void fit_mode(const sr_fit *in, sr_grid *grid) {
    const bool fp8 = in->w->fmt->spec.bits == 8, e4m3 = in->w->spec.group == 16;
    sr_fit one = *in;
    sr_grid own;
    one.n = in->w->spec.group;
    for (int g = 0; g * one.n < in->n; g++) { /* a block has two groups of nvfp4 */
        one.x = in->x + g * one.n;
        one.importance = in->importance ? in->importance + g * one.n : NULL;
        float s = sr_fit_most(&one) / (fp8 ? 448 : 6);
        int byte = e4m3 ? sr_f32_to_e4m3(s < 448 ? s : 448) : s > 0 ? 127 + (int)ceilf(log2f(s)) : 127;
        sr_fit_byte(&one, &own, byte, !e4m3, e4m3 ? 0x7e : 254, e4m3 ? 3 : 1, mode_scale);
        grid->sc[g] = own.sc[0];
        grid->scale[g] = own.scale[0];
    }
    grid->n = in->n;
    grid->group = one.n;
    grid->lo = fp8 ? -128 : 0;
    grid->hi = fp8 ? 127 : 15;
}
static void snap_mode_fp4(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    static const float bound[7] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5};
    for (int i = 0; i < n; i++) {
        const float scale = grid->scale[(i0 + i) / grid->group], x = scale > 0 ? sr_weight_finite(w[i]) / scale : 0;
        int q = 0;
        for (int b = 0; b < 7; b++) q += fabsf(x) > bound[b];
        code[i] = (int8_t)(q && x < 0 ? q + 8 : q);
        back[i] = scale * (0.5f * (float)sr_e2m1_twice[code[i]]);
    }
}
static void store_mode(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    uint8_t *p = (uint8_t *)(uintptr_t)codes_at(w, row, k0);
    if (w->fmt->spec.bits == 8)
        memcpy(p, code, (size_t)n);
    else
        for (int i = 0; i < n; i += 2) p[i / 2] = (uint8_t)(code[i] | code[i + 1] << 4);
    for (int g = 0; g * grid->group < n; g++) w->plane[SCALES].data[scale_at(w, row, k0) + g] = grid->sc[g];
}

static void take_mxfp4(const sr_weight *w, int64_t row, int64_t k0, sr_mxfp4 *out) {
    sr_mxfp4_from_nibbles(codes_at(w, row, k0), out);
    out->scale = w->plane[SCALES].data[scale_at(w, row, k0)];
}
static void put_mxfp4(sr_weight *w, int64_t row, int64_t k0, const sr_mxfp4 *in) {
    sr_mxfp4_to_nibbles(in, (uint8_t *)(uintptr_t)codes_at(w, row, k0));
    w->plane[SCALES].data[scale_at(w, row, k0)] = in->scale;
}

/* Scales near one step of N(0, 0.02), everything else random. */
static void sample_mode(sr_weight *w, uint64_t seed) {
    for (int64_t i = 0; i < w->plane[WEIGHT].bytes; i++) {
        uint8_t v = (uint8_t)(sr_random(&seed) >> 32);
        w->plane[WEIGHT].data[i] = w->fmt->spec.bits == 8 && (v & 0x7f) == 0x7f ? 0 : v; /* no NaN */
    }
    for (int64_t i = 0; i < w->plane[SCALES].bytes; i++) {
        uint8_t r = sr_random(&seed) >> 60 & 3;
        /* e4m3: 2^-8 .. 2^-7; e8m0: 2^-9 .. 2^-6 for 4 bits, 2^-14 .. 2^-11 for 8 */
        w->plane[SCALES].data[i] =
            (uint8_t)(w->spec.group == 16 ? 2 + 2 * r : (w->fmt->spec.bits == 4 ? 118 : 113) + r);
    }
}

/* ---------------------------------------------------------------- rows */

#define COARSE .panel = sr_panel_coarse, .panel_group = SR_KC, .panel_err = 0.0085f
#define AFFINE(n, ...)                                                                                                 \
    const sr_format sr_fmt_mlx##n = {.name = "mlx" #n,                                                                 \
                                     .alias = "afq" #n,                                                                \
                                     .block = BLOCK,                                                                   \
                                     .lane = 1,                                                                        \
                                     .spec = {.method = "mlx", .layout = "affine", .bits = n, .group = 64},            \
                                     .reference = "mlx 0.32.4",                                                        \
                                     .tile = SR_TILE_I8,                                                               \
                                     .has_min = true,                                                                  \
                                     .claim = claim_affine,                                                            \
                                     .layout = layout,                                                                 \
                                     .decode = decode_affine,                                                          \
                                     .unpack = unpack_affine,                                                          \
                                     .fit = fit_affine,                                                                \
                                     .hold = hold_affine,                                                              \
                                     .snap = snap_affine,                                                              \
                                     .store = store_affine,                                                            \
                                     .encode = encode_affine,                                                          \
                                     .dims = dims,                                                                     \
                                     __VA_ARGS__}

AFFINE(1, .promote = "mlx6", .rtn_err = 0.845f, COARSE);
AFFINE(2, .promote = "mlx6", .rtn_err = 0.398f, COARSE);
AFFINE(3, .promote = "mlx6", .rtn_err = 0.192f, COARSE);
AFFINE(4, .promote = "mlx6", .rtn_err = 0.0919f, COARSE);
AFFINE(5, .promote = "mlx8", .rtn_err = 0.0449f, .panel_err = 0);
AFFINE(6, .promote = "mlx8", .rtn_err = 0.0228f, .panel_err = 0);
AFFINE(8, .promote = "mlx8", .rtn_err = 0.00855f, .panel_err = 0);

const sr_format sr_fmt_mlx_mxfp4 = {
    .name = "mlx_mxfp4",
    .rtn_err = 0.122f,
    .fit = fit_mode,
    .snap = snap_mode_fp4,
    .store = store_mode,
    .block = BLOCK,
    .lane = 1,
    .spec = {.method = "mlx", .layout = "mxfp4", .bits = 4, .group = 32},
    .take_mxfp4 = take_mxfp4,
    .put_mxfp4 = put_mxfp4,
    .reference = "mlx 0.32.4",
    .tile = SR_TILE_I8,
    .claim = claim_mode,
    .layout = layout,
    .decode = decode_fp4,
    .unpack = unpack_fp4,
    .dims = dims,
    .sample = sample_mode,
    COARSE,
};
const sr_format sr_fmt_mlx_nvfp4 = {
    .name = "mlx_nvfp4",
    .rtn_err = 0.0954f,
    .fit = fit_mode,
    .snap = snap_mode_fp4,
    .store = store_mode,
    .block = BLOCK,
    .group = 16,
    .lane = 1,
    .spec = {.method = "mlx", .layout = "nvfp4", .bits = 4, .group = 16},
    .reference = "mlx 0.32.4",
    .tile = SR_TILE_I8,
    .claim = claim_mode,
    .layout = layout,
    .decode = decode_fp4,
    .unpack = unpack_fp4,
    .dims = dims,
    .sample = sample_mode,
    COARSE,
};
const sr_format sr_fmt_mlx_mxfp8 = {
    .name = "mlx_mxfp8",
    .rtn_err = 0.0268f,
    .fit = fit_mode,
    .snap = sr_snap_e4m3,
    .store = store_mode,
    .block = BLOCK,
    .lane = 1,
    .spec = {.method = "mlx", .layout = "mxfp8", .bits = 8, .group = 32},
    .reference = "mlx 0.32.4",
    .tile = SR_TILE_BF16,
    .claim = claim_mode,
    .layout = layout,
    .decode = decode_fp8,
    .dims = dims,
    .sample = sample_mode,
};
