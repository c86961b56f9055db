/* 4- and 6-bit floats with a scale a few columns, as safetensors hold them: NVFP4, MXFP4 and MXFP6 of
 * compressed-tensors, NVFP4 of ModelOpt, MXFP4 of gpt-oss. (GGUF's are in gguf_tq.c, MLX's in mlx.c: other orders,
 * other zeros.)
 *
 *     codes    u8 [N][K / 2], low nibble first: E2M1; or u8 [N][3 K / 4], 6 bits each, low ones first: E2M3
 *     scales   one a group of K
 *                  NVFP4   16 columns, E4M3, times a factor a tensor:
 *                          compressed-tensors   1 / weight_global_scale
 *                          ModelOpt             weight_scale_2
 *                  MX      32 columns, E8M0 as u8: 2^(s - 127)
 *
 *     compressed-tensors   weight_packed, weight_scale, weight_global_scale
 *     ModelOpt             weight (u8), weight_scale, weight_scale_2; MXFP4 without the last
 *     gpt-oss              <experts>_blocks u8 [E][N][K / 32][16], <experts>_scales u8 [E][N][K / 32]
 *     DeepSeek's experts   weight (i8), weight_scale_inv or scale (E8M0); stacks <experts>, <experts>_scale_inv
 *
 * Sources: compressed-tensors: compressors/{nvfp4,mxfp4,mxfp6}/; modelopt: torch/quantization/qtensor/nvfp4_tensor.py;
 * transformers: integrations/{mxfp4,finegrained_fp8}.py. */
#include <string.h>

#include "base/bytes.h"
#include "base/random.h"
#include "fmt/fmt.h"
#include "fmt/fp8_bits.h"
#include "fmt/shrink.h"

enum { CODES, SCALES, FACTOR };

/* ---------------------------------------------------------------- values */

/* Integer codes of n columns: twice E2M1, eight times E2M3. */
static void codes(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code) {
    const uint8_t *p = w->plane[CODES].data + row * w->plane[CODES].stride;
    if (w->fmt->spec.bits == 4)
        for (int64_t k = k0; k < k0 + n; k++) *code++ = sr_e2m1_twice[p[k / 2] >> 4 * (k % 2) & 15];
    else
        for (int64_t k = k0; k < k0 + n; k++) {
            const uint8_t *b = p + k / 4 * 3;
            uint32_t word = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16;
            *code++ = sr_e2m3_eightfold(word >> 6 * (k % 4) & 63);
        }
}
static float unit(const sr_weight *w) {
    return w->fmt->spec.bits == 4 ? 0.5f : 0.125f;
}

static bool claim_packed(const sr_format *self, const sr_parts *parts, const sr_qspec *spec);

/* The scale of a group, tensor-wide factor included: compressed-tensors divides, ModelOpt multiplies. */
static float scale_of(const sr_weight *w, int64_t row, int64_t k) {
    float s = sr_plane_float(w, SCALES, row * (w->K / w->fmt->group) + k / w->fmt->group);
    if (!w->plane[FACTOR].data) return s;
    float f = sr_plane_float(w, FACTOR, row / (w->N / (w->plane[FACTOR].bytes / 4)));
    return w->fmt->claim == claim_packed ? s / f : s * f;
}

static void decode(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    int8_t code[SR_KC];
    for (int64_t i = 0; i < n; i += SR_KC) {
        int m = n - i < SR_KC ? (int)(n - i) : SR_KC;
        codes(w, row, k0 + i, m, code);
        for (int j = 0; j < m;) {
            int64_t left = w->fmt->group - (k0 + i + j) % w->fmt->group;
            float s = scale_of(w, row, k0 + i + j);
            for (int end = left < m - j ? j + (int)left : m; j < end; j++) out[i + j] = s * (unit(w) * (float)code[j]);
        }
    }
}
static void unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    (void)min;
    codes(w, row, k0, n, code);
    for (int64_t k = 0; k < n; k += w->group) *scale++ = unit(w) * scale_of(w, row, k0 + k);
}

/* ---------------------------------------------------------------- binding */

static bool has(const sr_parts *parts, const char *suffix, const char *type) {
    const sr_part *p = sr_parts_get(parts, suffix);
    return p && !strcmp(p->type->name, type);
}
/* The parts tell: NVFP4 has a factor, and the bytes a scale of 32 columns are 16 or 24. */
static bool claim_packed(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    const sr_part *codes_part = sr_parts_get(parts, "weight_packed"), *scales = sr_parts_get(parts, "weight_scale");
    (void)spec;
    if (!has(parts, "weight_packed", "u8") || !scales) return false;
    if (self->group == 16 || sr_parts_get(parts, "weight_global_scale"))
        return self->group == 16 && sr_parts_get(parts, "weight_global_scale");
    return scales->n_elements > 0 && codes_part->n_elements / scales->n_elements == self->group * self->spec.bits / 8;
}
/* x times pre_quant_scale (AWQ of ModelOpt) is no product with these weights alone. */
static bool claim_modelopt(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    (void)self, (void)spec;
    return has(parts, "weight", "u8") && sr_parts_get(parts, "weight_scale") && sr_parts_get(parts, "weight_scale_2") &&
           !sr_parts_get(parts, "pre_quant_scale");
}
static const char *const block_scales[] = {"_scales", "weight_scale", "weight_scale_inv", "scale", "_scale_inv"};
static bool claim_blocks(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    (void)self, (void)spec;
    if (has(parts, "_blocks", "u8")) return sr_parts_get(parts, "_scales") != NULL;
    if (parts->n != 2 || (!has(parts, "weight", "u8") && !has(parts, "weight", "i8"))) return false;
    for (int i = has(parts, "weight", "u8") ? 1 : 2; i < 5; i++) /* i8 with weight_scale are whole numbers */
        if (has(parts, block_scales[i], "u8") || has(parts, block_scales[i], "f8_e8m0")) return true;
    return false;
}

static bool dims_bytes(const sr_part *p, int bits, int64_t *N, int64_t *K) {
    if (!p || p->n_dims < 2) return false;
    int64_t bytes = p->shape[p->n_dims - 1];
    if (bytes < 1 || bytes > INT64_MAX / 8) return false;
    *N = p->n_elements / bytes;
    *K = bytes * 8 / bits;
    return true;
}
static bool dims_packed(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *p = sr_parts_get(parts, "weight_packed"), *scales = sr_parts_get(parts, "weight_scale");
    int bits = p && scales && scales->n_elements > 0 && p->n_elements / scales->n_elements == 24 ? 6 : 4;
    (void)spec;
    return dims_bytes(p ? p : sr_parts_get(parts, "weight"), bits, N, K);
}
static bool dims_blocks(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *p = sr_parts_get(parts, "_blocks");
    (void)spec;
    if (!p) return dims_bytes(sr_parts_get(parts, "weight"), 4, N, K);
    if (p->n_dims < 3 || p->shape[p->n_dims - 1] != 16 || p->shape[p->n_dims - 2] > INT64_MAX / 64) return false;
    *K = 32 * p->shape[p->n_dims - 2];
    *N = *K ? p->n_elements / (*K / 2) : 0;
    return true;
}

static sr_status layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                        sr_err *err) {
    const bool blocks = self->claim == claim_blocks, modelopt = self->claim == claim_modelopt;
    const bool e4m3 = self->group == 16;
    (void)spec;
    if (K % self->block || K > INT64_MAX / 8)
        return sr_fail(err, SR_INVALID, "%s has groups of %d columns, which do not divide %lld", self->name,
                       self->block, (long long)K);
    sr_planes_add(planes,
                  blocks     ? "_blocks|weight"
                  : modelopt ? "weight"
                             : "weight_packed",
                  blocks ? "u8|i8" : "u8", false, N, K * self->spec.bits / 8);
    if (blocks) { /* its rank: adopt compares the bytes */
        planes->plane[CODES].any_shape = true;
        planes->plane[CODES].n_dims = 3;
        planes->plane[CODES].shape[1] = K / 32;
        planes->plane[CODES].shape[2] = 16;
    }
    sr_planes_add(planes, blocks ? "_scales|weight_scale|weight_scale_inv|scale|_scale_inv" : "weight_scale",
                  e4m3 ? "f8_e4m3" : "u8|f8_e8m0", false, N, K / self->group);
    if (e4m3) {
        sr_planes_add(planes, modelopt ? "weight_scale_2" : "weight_global_scale", "f32", false, 1, 0);
        planes->plane[FACTOR].any_shape = true; /* one, or one an expert */
        planes->plane[FACTOR].scalar = modelopt;
    }
    return SR_OK;
}

static sr_status adopt(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    int64_t n = w->plane[FACTOR].bytes / 4, row = w->K / 8 * w->fmt->spec.bits;
    (void)parts, (void)arena;
    if (w->plane[CODES].bytes != w->N * row)
        return sr_fail(err, SR_CORRUPT, "its codes have %lld bytes, expected %lld", (long long)w->plane[CODES].bytes,
                       (long long)(w->N * row));
    w->plane[CODES].stride = row;
    if (w->plane[FACTOR].data && (n < 1 || w->N % n))
        return sr_fail(err, SR_CORRUPT,
                       "its tensor-wide scale has %lld elements, expected 1, or one an expert of %lld rows",
                       (long long)n, (long long)w->N);
    return SR_OK;
}

/* ---------------------------------------------------------------- writing
 * NVFP4: the factor brings the largest magnitude to 448 * 6, so that scales use all of E4M3; a group's scale is its
 * largest magnitude over 6. MX: sr_e8m0_of. Elements to nearest, ties to the even code. */

static bool tiles(const sr_weight *w, int64_t *rows, int64_t *cols) {
    *rows = w->N;
    *cols = w->K;
    return w->plane[FACTOR].data != NULL;
}
static sr_status begin(sr_weight *w, const sr_peaks *peaks, sr_err *err) {
    (void)err;
    if (!peaks) return SR_OK;
    const float most = peaks->most[0];
    const bool divides = w->fmt->claim == claim_packed; /* by a reciprocal, as torch divides a number by a tensor */
    sr_plane_put(w, FACTOR, 0, !(most > 1e-30f) ? 1 : divides ? 448 * 6 * (1 / most) : most / (448 * 6));
    return SR_OK;
}

static float e8m0_scale(const sr_weight *w, int byte) {
    (void)w;
    return sr_e8m0_to_f32((uint8_t)byte);
}
static float e4m3_scale(const sr_weight *w, int byte) {
    const float s = sr_e4m3_to_f32((uint8_t)byte), f = sr_plane_float(w, FACTOR, 0);
    return w->fmt->claim == claim_packed ? s / f : s * f;
}
static void fit(const sr_fit *in, sr_grid *grid) {
    const sr_weight *w = in->w;
    const int top = 1 << (w->fmt->spec.bits - 1);
    float most = sr_fit_most(in);
    grid->lo = 0;
    grid->hi = 2 * top - 1;
    if (!w->plane[FACTOR].data) {
        sr_fit_byte(in, grid, sr_e8m0_of(most, 2, w->fmt->spec.bits == 4 ? 1 : 3), 1, 254, 1, e8m0_scale);
        return;
    }
    const float f = sr_plane_float(w, FACTOR, 0), s = w->fmt->claim == claim_packed ? f * (most / 6) : most / (6 * f);
    sr_fit_byte(in, grid, sr_f32_to_e4m3(s < 448 ? s : 448), 0, 0x7e, 3, e4m3_scale);
}
static void store(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    uint8_t *p = w->plane[CODES].data + row * w->plane[CODES].stride;
    const int bits = w->fmt->spec.bits;
    for (int i = 0; i < n; i++)
        sr_put_bits(p + (k0 + i) * bits / 8, (int)((k0 + i) * bits % 8), bits, (uint8_t)code[i]);
    w->plane[SCALES].data[row * (w->K / w->fmt->group) + k0 / w->fmt->group] = grid->sc[0];
}

static void take_mxfp4(const sr_weight *w, int64_t row, int64_t k0, sr_mxfp4 *out) {
    sr_mxfp4_from_nibbles(w->plane[CODES].data + row * w->plane[CODES].stride + k0 / 2, out);
    out->scale = w->plane[SCALES].data[(row * w->K + k0) / 32];
}
static void put_mxfp4(sr_weight *w, int64_t row, int64_t k0, const sr_mxfp4 *in) {
    sr_mxfp4_to_nibbles(in, w->plane[CODES].data + row * w->plane[CODES].stride + k0 / 2);
    w->plane[SCALES].data[(row * w->K + k0) / 32] = in->scale;
}

/* Values up to 6 (or 7.5) with scales that make 0.02 of them. */
static void sample(sr_weight *w, uint64_t seed) {
    for (int64_t i = 0; i < w->plane[CODES].bytes; i++) w->plane[CODES].data[i] = (uint8_t)(sr_random(&seed) >> 32);
    for (int64_t i = 0; i < w->plane[SCALES].bytes; i++) {
        int r = (int)(sr_random(&seed) >> 60) & 3;
        /* E8M0: 2^-8 .. 2^-6; E4M3: 0.5 .. 0.9 before the factor */
        w->plane[SCALES].data[i] = (uint8_t)(w->fmt->group == 16 ? 0x30 + 2 * r : 119 + r % 2);
    }
    if (!w->plane[FACTOR].data) return;
    float f = w->fmt->claim == claim_packed ? 100.0f : 0.01f;
    memcpy(w->plane[FACTOR].data, &f, 4);
}

/* ---------------------------------------------------------------- rows */

#define ROW                                                                                                            \
    .lane = 1, .tile = SR_TILE_I8, .layout = layout, .adopt = adopt, .decode = decode, .unpack = unpack,               \
    .sample = sample, .tiles = tiles, .begin = begin, .fit = fit, .store = store
#define COARSE .panel = sr_panel_coarse, .panel_group = SR_KC, .panel_err = 0.012f

const sr_format sr_fmt_ct_nvfp4 = {
    .name = "ct_nvfp4",
    .rtn_err = 0.0953f,
    .snap = sr_snap_e2m1,
    .block = 16,
    .group = 16,
    .spec = {.method = "compressed-tensors", .layout = "nvfp4-pack-quantized", .sym = true, .bits = 4, .group = 16},
    .reference = "compressed-tensors 0.20",
    .claim = claim_packed,
    .dims = dims_packed,
    ROW,
    COARSE,
};
const sr_format sr_fmt_ct_mxfp4 = {
    .name = "ct_mxfp4",
    .rtn_err = 0.112f,
    .snap = sr_snap_e2m1,
    .block = 32,
    .group = 32,
    .spec = {.method = "compressed-tensors", .layout = "mxfp4-pack-quantized", .sym = true, .bits = 4, .group = 32},
    .take_mxfp4 = take_mxfp4,
    .put_mxfp4 = put_mxfp4,
    .reference = "compressed-tensors 0.20",
    .claim = claim_packed,
    .dims = dims_packed,
    ROW,
    COARSE,
};
const sr_format sr_fmt_ct_mxfp6 = {
    .name = "ct_mxfp6",
    .rtn_err = 0.0284f,
    .snap = sr_snap_e2m3,
    .block = 32,
    .group = 32,
    .spec = {.method = "compressed-tensors", .layout = "mxfp6-pack-quantized", .sym = true, .bits = 6, .group = 32},
    .reference = "compressed-tensors 0.20",
    .claim = claim_packed,
    .dims = dims_packed,
    ROW,
};
const sr_format sr_fmt_modelopt_nvfp4 = {
    .name = "modelopt_nvfp4",
    .rtn_err = 0.0953f,
    .snap = sr_snap_e2m1,
    .block = 16,
    .group = 16,
    .spec = {.method = "modelopt", .layout = "NVFP4", .sym = true, .bits = 4, .group = 16},
    .reference = "modelopt 0.47",
    .claim = claim_modelopt,
    .dims = dims_packed,
    ROW,
    COARSE,
};
const sr_format sr_fmt_gptoss_mxfp4 = {
    .name = "gptoss_mxfp4",
    .rtn_err = 0.112f,
    .snap = sr_snap_e2m1,
    .block = 32,
    .group = 32,
    .spec = {.method = "mxfp4", .layout = "mxfp4", .sym = true, .bits = 4, .group = 32},
    .take_mxfp4 = take_mxfp4,
    .put_mxfp4 = put_mxfp4,
    .reference = "transformers 5.24",
    .claim = claim_blocks,
    .dims = dims_blocks,
    ROW,
    COARSE,
};
