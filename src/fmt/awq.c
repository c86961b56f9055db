/* AWQ checkpoints (AutoAWQ: awq/modules/linear/, awq/utils/packing_utils.py). Zeros are stored as they are.
 *
 *     version     qweight             qzeros               scales          codes of a word, from its lowest bits on
 *     gemm        i32 [K][N b / 32]   i32 [G][N b / 32]    f16 [G][N]      rows 0 2 4 6 1 3 5 7 of each eight;
 *                                                                          8 bits: rows 0 2 1 3 of each four
 *     gemv        i32 [N][K / 8]      i32 [N][Z]           f16 [N][8 Z]    columns in order
 *     gemv_fast   i16 [N / 4][K]      f16 [8 Z][N]         f16 [8 Z][N]    below
 *
 * Z = ceil(ceil(G / 8) / m) m, m = 1, 2, 4 for groups of 128 and more, 64, 32. "exllama", "exllamav2" and "ipex" are
 * gemm on disk. gemv_fast, which llm-awq writes with scaled_zeros for qzeros, stores -scale * z, and interleaves four
 * rows: see fast_codes. "marlin" is marlin.c's. No writer of 8 bits is
 * known: the order is what a reader assumes (mistral.rs: scripts/convert_awq_marlin.py). */
#include <ctype.h>
#include <string.h>

#include "base/bytes.h"
#include "base/random.h"
#include "fmt/integer.h"

static bool is_in(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *at = list; *at; at += strcspn(at, "|"), at += *at == '|')
        if (strcspn(at, "|") == n) {
            size_t i = 0;
            while (i < n && at[i] == tolower((unsigned char)name[i])) i++;
            if (i == n) return true;
        }
    return false;
}
static bool claims(const char *layouts, int bits, const char *stored, const sr_parts *parts, const sr_qspec *spec) {
    const sr_part *q = sr_parts_get(parts, "qweight");
    return spec->method && !strcmp(spec->method, "awq") && spec->bits == bits && q && !strcmp(q->type->name, stored) &&
           spec->layout && is_in(layouts, spec->layout);
}

/* ---------------------------------------------------------------- gemm */

/* Bits of row n in its word. */
static int shift_of(int bits, int64_t n) {
    static const uint8_t at8[8] = {0, 4, 1, 5, 2, 6, 3, 7}, at4[4] = {0, 2, 1, 3};
    return bits * (bits == 4 ? at8[n % 8] : at4[n % 4]);
}

static void gemm_codes(const sr_weight *w, int64_t row, int64_t k0, int n, uint8_t *q) {
    const int bits = w->fmt->spec.bits, shift = shift_of(bits, row);
    const int64_t stride = w->plane[SR_INTEGER_CODES].stride;
    const uint8_t *p = w->plane[SR_INTEGER_CODES].data + k0 * stride + row * bits / 32 * 4;
    for (int i = 0; i < n; i++, p += stride) q[i] = (uint8_t)(sr_get_u32(p) >> shift & ((1u << bits) - 1));
}
static int gemm_zero(const sr_weight *w, int64_t row, int64_t g) {
    const int bits = w->fmt->spec.bits;
    const uint8_t *p = w->plane[SR_INTEGER_ZEROS].data;
    if (!p) return 1 << (bits - 1);
    p += g * w->plane[SR_INTEGER_ZEROS].stride + row * bits / 32 * 4;
    return (int)(sr_get_u32(p) >> shift_of(bits, row) & ((1u << bits) - 1));
}

static void gemm_put_codes(sr_weight *w, int64_t row, int64_t k0, int n, const uint8_t *q) {
    const int bits = w->fmt->spec.bits, shift = shift_of(bits, row);
    const int64_t stride = w->plane[SR_INTEGER_CODES].stride;
    uint8_t *p = w->plane[SR_INTEGER_CODES].data + k0 * stride + row * bits / 32 * 4;
    for (int i = 0; i < n; i++, p += stride) sr_put_bits(p, shift, bits, q[i]);
}
static void gemm_put_zero(sr_weight *w, int64_t row, int64_t g, int zero) {
    const int bits = w->fmt->spec.bits;
    uint8_t *p = w->plane[SR_INTEGER_ZEROS].data + g * w->plane[SR_INTEGER_ZEROS].stride + row * bits / 32 * 4;
    sr_put_bits(p, shift_of(bits, row), bits, (unsigned)zero);
}

static bool gemm_claim(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    return claims("gemm|exllama|exllamav2|ipex", self->spec.bits, "i32", parts, spec);
}
static sr_status gemm_layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                             sr_err *err) {
    int per_word = 32 / self->spec.bits;
    if (spec->group < 1) return sr_fail(err, SR_INVALID, "%s: no group size", self->name);
    if (N % per_word)
        return sr_fail(err, SR_INVALID, "%s has words of %d rows, which do not divide %lld", self->name, per_word,
                       (long long)N);
    int64_t groups = sr_integer_groups(K, spec);
    sr_planes_add(planes, "qweight", "i32", false, K, N / per_word);
    sr_planes_add(planes, "scales", "f16|bf16|f32", false, groups, N);
    sr_planes_add(planes, "qzeros", "i32", true, groups, N / per_word);
    planes->plane[SR_INTEGER_ZEROS].created = true;
    return SR_OK;
}
static bool gemm_dims(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *q = sr_parts_get(parts, "qweight");
    if (!q || q->n_dims != 2 || q->shape[1] > INT64_MAX / 8) return false;
    *K = q->shape[0];
    *N = q->shape[1] * (32 / spec->bits);
    return true;
}

static sr_status need_zeros(const sr_parts *parts, sr_weight *w, sr_err *err) {
    if (!parts) sr_integer_middle(w);
    if (parts && !w->plane[SR_INTEGER_ZEROS].data && !w->spec.sym)
        return sr_fail(err, SR_CORRUPT, "qzeros is missing, and the config says that there are zero points");
    return SR_OK;
}
static sr_status gemm_adopt(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    static const sr_integer aux = {
        .codes = gemm_codes, .zero = gemm_zero, .put_codes = gemm_put_codes, .put_zero = gemm_put_zero};
    (void)arena;
    w->aux = &aux;
    return need_zeros(parts, w, err);
}

/* ---------------------------------------------------------------- gemv */

/* 8 Z: groups of a padded row. */
static int64_t padded_groups(int64_t K, const sr_qspec *spec) {
    int64_t words = (sr_integer_groups(K, spec) + 7) / 8, m = spec->group >= 128 ? 1 : spec->group >= 64 ? 2 : 4;
    return (words + m - 1) / m * m * 8;
}

static void gemv_codes(const sr_weight *w, int64_t row, int64_t k0, int n, uint8_t *q) {
    const uint8_t *p = w->plane[SR_INTEGER_CODES].data + row * w->plane[SR_INTEGER_CODES].stride;
    for (int i = 0; i < n; i++) q[i] = p[(k0 + i) / 2] >> 4 * ((k0 + i) % 2) & 15;
}
static int gemv_zero(const sr_weight *w, int64_t row, int64_t g) {
    const uint8_t *p = w->plane[SR_INTEGER_ZEROS].data;
    return p ? p[row * w->plane[SR_INTEGER_ZEROS].stride + g / 2] >> 4 * (g % 2) & 15 : 8;
}
static void gemv_put_codes(sr_weight *w, int64_t row, int64_t k0, int n, const uint8_t *q) {
    uint8_t *p = w->plane[SR_INTEGER_CODES].data + row * w->plane[SR_INTEGER_CODES].stride;
    for (int i = 0; i < n; i++) sr_put_bits(p + (k0 + i) / 2, (int)(4 * ((k0 + i) % 2)), 4, q[i]);
}
static void gemv_put_zero(sr_weight *w, int64_t row, int64_t g, int zero) {
    uint8_t *p = w->plane[SR_INTEGER_ZEROS].data + row * w->plane[SR_INTEGER_ZEROS].stride + g / 2;
    sr_put_bits(p, (int)(4 * (g % 2)), 4, (unsigned)zero);
}
static int64_t gemv_scale_at(const sr_weight *w, int64_t row, int64_t g) {
    return row * padded_groups(w->K, &w->spec) + g;
}

static bool gemv_claim(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    return claims("gemv", self->spec.bits, "i32", parts, spec);
}
static sr_status gemv_layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                             sr_err *err) {
    if (spec->group < 1) return sr_fail(err, SR_INVALID, "%s: no group size", self->name);
    if (K % 8)
        return sr_fail(err, SR_INVALID, "%s has words of 8 columns, which do not divide %lld", self->name,
                       (long long)K);
    int64_t groups = padded_groups(K, spec);
    sr_planes_add(planes, "qweight", "i32", false, N, K / 8);
    sr_planes_add(planes, "scales", "f16|bf16|f32", false, N, groups);
    sr_planes_add(planes, "qzeros", "i32", true, N, groups / 8);
    planes->plane[SR_INTEGER_ZEROS].created = true;
    return SR_OK;
}
static bool gemv_dims(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *q = sr_parts_get(parts, "qweight");
    (void)spec;
    if (!q || q->n_dims != 2 || q->shape[1] > INT64_MAX / 8) return false;
    *N = q->shape[0];
    *K = q->shape[1] * 8;
    return true;
}
static sr_status gemv_adopt(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    static const sr_integer aux = {.codes = gemv_codes,
                                   .zero = gemv_zero,
                                   .scale_at = gemv_scale_at,
                                   .put_codes = gemv_put_codes,
                                   .put_zero = gemv_put_zero};
    (void)arena;
    w->aux = &aux;
    return need_zeros(parts, w, err);
}

/* ---------------------------------------------------------------- gemv_fast, llm-awq
 * Four rows share words of 16 bits. 64 columns of one row are 16 words; inside 32 columns, column k is code
 * 8 (k % 8 / 2) + 4 (k % 2) + k / 8. */

/* Nibble of column k, from where the row's begin. */
static int64_t fast_at(int64_t k) {
    int in = (int)(k % 32), at = (int)(k % 64) / 32 * 32 + 8 * (in % 8 / 2) + 4 * (in % 2) + in / 8;
    return k / 64 * 256 + at;
}
static uint8_t *fast_row(const sr_weight *w, int64_t row) {
    return w->plane[0].data + row / 4 * w->plane[0].stride + row % 4 * 32;
}
static void fast_codes(const sr_weight *w, int64_t row, int64_t k0, int n, uint8_t *q) {
    const uint8_t *p = fast_row(w, row);
    for (int i = 0; i < n; i++) q[i] = p[fast_at(k0 + i) / 2] >> 4 * (fast_at(k0 + i) % 2) & 15;
}
/* The zero point is stored as -scale * z, rounded: codes are chosen with that. */
static void fast_fit(const sr_fit *in, sr_grid *grid) {
    sr_integer_fit(in, grid);
    grid->lo = 0;
    grid->hi = 15;
    grid->min[0] = -sr_plane_round(in->w, 2, -grid->scale[0] * (float)grid->mn[0]);
}
static void fast_store(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    const int64_t at = k0 / w->spec.group * w->N + row;
    uint8_t *p = fast_row(w, row);
    for (int i = 0; i < n; i++)
        sr_put_bits(p + fast_at(k0 + i) / 2, (int)(4 * (fast_at(k0 + i) % 2)), 4, (uint32_t)code[i]);
    sr_plane_put(w, 1, at, grid->scale[0]);
    sr_plane_put(w, 2, at, -grid->min[0]);
}
static void fast_decode(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i += 64) {
        uint8_t q[64];
        fast_codes(w, row, k0 + i, 64, q);
        for (int j = 0; j < 64; j++) {
            int64_t at = (k0 + i + j) / w->spec.group * w->N + row;
            out[i + j] = sr_plane_float(w, 1, at) * (float)q[j] + sr_plane_float(w, 2, at); /* the product is exact */
        }
    }
}
static void fast_unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    for (int64_t i = 0; i < n; i += w->group) {
        int64_t at = (k0 + i) / w->spec.group * w->N + row;
        *scale++ = sr_plane_float(w, 1, at);
        *min++ = -sr_plane_float(w, 2, at);
    }
    for (int64_t i = 0; i < n; i += 64) fast_codes(w, row, k0 + i, 64, (uint8_t *)code + i);
}

static bool fast_claim(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    return claims("gemv_fast|gemv-fast|gemm|llm-awq", self->spec.bits, "i16", parts, spec);
}
static sr_status fast_layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                             sr_err *err) {
    if (spec->group < 1) return sr_fail(err, SR_INVALID, "%s: no group size", self->name);
    if (K % 64 || N % 4)
        return sr_fail(err, SR_INVALID, "%s has tiles of 4 x 64, which do not divide %lld x %lld", self->name,
                       (long long)N, (long long)K);
    int64_t groups = padded_groups(K, spec);
    sr_planes_add(planes, "qweight", "i16", false, N / 4, K);
    sr_planes_add(planes, "scales", "f16|bf16", false, groups, N);
    sr_planes_add(planes, "qzeros|scaled_zeros", "f16|bf16", false, groups, N);
    return SR_OK;
}
static bool fast_dims(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *q = sr_parts_get(parts, "qweight");
    (void)spec;
    if (!q || q->n_dims != 2 || q->shape[0] > INT64_MAX / 4) return false;
    *N = q->shape[0] * 4;
    *K = q->shape[1];
    return true;
}
static void fast_sample(sr_weight *w, uint64_t seed) {
    for (int64_t i = 0; i < w->plane[0].bytes; i++) w->plane[0].data[i] = (uint8_t)sr_random(&seed);
    for (int64_t i = 0; i < w->plane[1].bytes; i += 2) { /* scale of 1/256 and more, z = 8 */
        unsigned scale = 0x1c00 | (sr_random(&seed) & 0xff), minus = (scale + 0x0c00) | 0x8000;
        uint8_t *s = w->plane[1].data + i, *z = w->plane[2].data + i;
        s[0] = (uint8_t)scale, s[1] = (uint8_t)(scale >> 8);
        z[0] = (uint8_t)minus, z[1] = (uint8_t)(minus >> 8);
    }
}

#define COARSE .panel = sr_panel_coarse, .panel_group = SR_KC, .panel_err = 0.012f
#define AWQ(variable, text, version, n, kind, ...)                                                                     \
    const sr_format sr_fmt_##variable = {                                                                              \
        .name = text,                                                                                                  \
        .lane = 1,                                                                                                     \
        .spec = {.method = "awq", .layout = version, .sym = false, .bits = n, .group = 128},                           \
        .tile = SR_TILE_I8,                                                                                            \
        .claim = kind##_claim,                                                                                         \
        .layout = kind##_layout,                                                                                       \
        .dims = kind##_dims,                                                                                           \
        __VA_ARGS__,                                                                                                   \
    }
#define INTEGER(kind)                                                                                                  \
    .adopt = kind##_adopt, .decode = sr_integer_decode, .unpack = sr_integer_unpack, .sample = sr_integer_sample,      \
    .fit = sr_integer_fit, .hold = sr_integer_hold, .snap = sr_integer_snap, .store = sr_integer_store
#define PACKER .reference = "autoawq 0.2.9, packer"

AWQ(awq4, "awq4", "gemm", 4, gemm, .block = 1, .rtn_err = 0.101f, INTEGER(gemm), .reference = "autoawq 0.2.9", COARSE);
AWQ(awq8, "awq8", "gemm", 8, gemm, .block = 1, .rtn_err = 0.00597f, INTEGER(gemm), .has_min = true);
AWQ(awq4_gemv, "awq4_gemv", "gemv", 4, gemv, .block = 8, .rtn_err = 0.101f, INTEGER(gemv), PACKER, COARSE);
AWQ(awq4_gemv_fast, "awq4_gemv_fast", "gemv_fast", 4, fast, .block = 64, .rtn_err = 0.101f, PACKER, COARSE,
    .has_min = true, .decode = fast_decode, .unpack = fast_unpack, .sample = fast_sample, .fit = fast_fit,
    .snap = sr_snap_affine, .store = fast_store);
