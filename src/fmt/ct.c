/* Integers of compressed-tensors: w = (q - z) * scale with signed q and z.
 *
 *     int-quantized, naive-quantized   weight i8 [N][K]
 *         weight_scale [1], [N][1], [N][G] or one a block; weight_zero_point i8 likewise, absent: 0
 *     pack-quantized, 2 to 8 bits      weight_packed i32 [N][words] of q + 2^(b-1), low bits first along K
 *         weight_scale [N][1] or [N][G], weight_zero_point i32 [words of N][G]: z + 2^(b-1), packed along dim 0
 *     weight_g_idx i32 [K]             act-order: the group of each column
 *     weight_shape i64 [2]             N and K
 *
 * Packing. Today codes are one stream of bits over the words of a row; before commit 3f01c782 a word held floor(32 / b)
 * codes and its top bits were left. The number of words tells them apart, where they differ at all.
 * Sources: compressed-tensors: compressors/{pack_quantized,naive_quantized}/, quantization/lifecycle/forward.py. */
#include <string.h>

#include "base/bytes.h"
#include "fmt/blocks.h"
#include "fmt/integer.h"

enum { WEIGHT = SR_INTEGER_CODES, SCALE = SR_INTEGER_SCALES, ZERO = SR_INTEGER_ZEROS, G_IDX };

/* ---------------------------------------------------------------- where the scales lie */

/* Columns a scale, from the number of scales a row has. */
static sr_status set_group(sr_weight *w, int64_t n, sr_err *err) {
    int64_t cols = n % w->N == 0 ? n / w->N : n == 1 ? 1 : 0;
    if (cols == 1) {
        w->spec.group = (int32_t)w->K;
    } else {
        int64_t group = w->spec.group > 0 && w->spec.group < w->K ? w->spec.group : cols ? (w->K + cols - 1) / cols : 0;
        if (!cols || (w->K + group - 1) / group != cols)
            return sr_fail(err, SR_CORRUPT,
                           "weight_scale has %lld elements, expected 1, %lld, or one a group of %d columns",
                           (long long)n, (long long)w->N, w->spec.group);
        w->spec.group = (int32_t)group;
    }
    sr_weight_set_group(w, w->spec.group);
    return SR_OK;
}
static int64_t scales_of(const sr_weight *w) {
    return w->plane[SCALE].bytes / w->plane[SCALE].type->bytes;
}

static int64_t one_scale(const sr_weight *w, int64_t row, int64_t group) {
    (void)w, (void)row, (void)group;
    return 0;
}
static int64_t scale_by_row(const sr_weight *w, int64_t row, int64_t group) {
    return row * sr_integer_groups(w->K, &w->spec) + group;
}

/* ---------------------------------------------------------------- pack-quantized */

static int per_word(int bits) {
    return 32 / bits;
}
static int64_t dense_words(int64_t n, int bits) {
    return (n * bits + 31) / 32;
}
static int64_t padded_words(int64_t n, int bits) {
    return (n + per_word(bits) - 1) / per_word(bits);
}

/* Code i of a stream whose words are `step` bytes apart. */
static int packed_code(const uint8_t *words, int64_t step, int64_t i, int bits, bool padded) {
    int64_t bit = padded ? i / per_word(bits) * 32 + i % per_word(bits) * bits : i * bits;
    const uint8_t *p = words + bit / 32 * step;
    int shift = (int)(bit % 32);
    uint32_t v = sr_get_u32(p) >> shift;
    if (shift + bits > 32) v |= sr_get_u32(p + step) << (32 - shift);
    return (int)(v & ((1u << bits) - 1));
}

static void put_packed(uint8_t *words, int64_t step, int64_t i, int bits, uint32_t code) {
    const int64_t bit = i * bits;
    const int shift = (int)(bit % 32), first = 32 - shift < bits ? 32 - shift : bits;
    sr_put_bits(words + bit / 32 * step, shift, first, code);
    sr_put_bits(words + (bit / 32 + 1) * step, 0, bits - first, code >> first); /* of no bits, mostly */
}
static void put_codes_packed(sr_weight *w, int64_t row, int64_t k0, int n, const uint8_t *q) {
    const sr_integer *a = w->aux;
    uint8_t *p = w->plane[WEIGHT].data + row * w->plane[WEIGHT].stride;
    for (int i = 0; i < n; i++) put_packed(p, 4, a->file_order ? w->perm[k0 + i] : k0 + i, w->fmt->spec.bits, q[i]);
}
static void put_zero_packed(sr_weight *w, int64_t row, int64_t group, int zero) {
    int64_t groups = sr_integer_groups(w->K, &w->spec);
    put_packed(w->plane[ZERO].data + 4 * group, 4 * groups, row, w->fmt->spec.bits, (uint32_t)zero);
}

static void codes_packed(const sr_weight *w, int64_t row, int64_t k0, int n, uint8_t *q) {
    const sr_integer *a = w->aux;
    const int bits = w->fmt->spec.bits;
    const uint8_t *p = w->plane[WEIGHT].data + row * w->plane[WEIGHT].stride;
    if (a->file_order || 32 % bits || k0 % per_word(bits)) {
        for (int i = 0; i < n; i++)
            q[i] = (uint8_t)packed_code(p, 4, a->file_order ? w->perm[k0 + i] : k0 + i, bits, a->padded);
        return;
    }
    for (p += k0 * bits / 8; n > 0; p += 4) {
        uint32_t v = sr_get_u32(p);
        for (int j = 0; j < 32 && n > 0; j += bits, n--) *q++ = (uint8_t)(v >> j & ((1u << bits) - 1));
    }
}
static int zero_packed(const sr_weight *w, int64_t row, int64_t group) {
    const sr_integer *a = w->aux;
    const int bits = w->fmt->spec.bits;
    const uint8_t *p = w->plane[ZERO].data;
    if (!p) return 1 << (bits - 1);
    int64_t groups = sr_integer_groups(w->K, &w->spec);
    return packed_code(p + 4 * group, 4 * groups, row, bits, a->zeros_padded);
}

static bool claim_packed(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    const sr_part *p = sr_parts_get(parts, "weight_packed");
    return p && !strcmp(p->type->name, "i32") && spec->bits == self->spec.bits && !sr_parts_get(parts, "meta");
}

static bool dims_packed(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    (void)spec;
    return sr_parts_dims(parts, "weight_shape", N, K);
}

static sr_status layout_packed(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                               sr_err *err) {
    const int bits = self->spec.bits;
    if (N > INT64_MAX / 64 || K > INT64_MAX / 64)
        return sr_fail(err, SR_INVALID, "%s: %lld x %lld is too large", self->name, (long long)N, (long long)K);
    sr_planes_add(planes, "weight_packed", "i32", false, N, dense_words(K, bits));
    planes->plane[WEIGHT].any_shape = true; /* padded words are more of them */
    sr_planes_add(planes, "weight_scale", "bf16|f16|f32", false, N, sr_integer_groups(K, spec));
    planes->plane[SCALE].any_shape = true;
    sr_planes_add(planes, "weight_zero_point", "i32", true, dense_words(N, bits), sr_integer_groups(K, spec));
    planes->plane[ZERO].any_shape = !spec->sym; /* padded here too */
    if (spec->sym) planes->plane[ZERO].n_dims = 0;
    sr_planes_add(planes, "weight_g_idx", "i32", true, K, 0);
    planes->plane[G_IDX].created = spec->act_order;
    return SR_OK;
}

/* Rows of `words` words that hold n codes: dense or padded. */
static sr_status packing(const char *what, int64_t words, int64_t n, int bits, bool *padded, sr_err *err) {
    *padded = words != dense_words(n, bits);
    if (!*padded || words == padded_words(n, bits)) return SR_OK;
    return sr_fail(
        err, SR_CORRUPT, "%s has %lld words for %lld codes of %d bits, expected %lld (or %lld, as old files)", what,
        (long long)words, (long long)n, bits, (long long)dense_words(n, bits), (long long)padded_words(n, bits));
}

/* The codes once more, columns group by group, densely. */
static sr_status sort_packed(sr_weight *w, sr_integer *a, sr_arena *arena, sr_err *err) {
    const int bits = w->fmt->spec.bits;
    int64_t words = dense_words(w->K, bits);
    uint32_t *sorted = sr_arena_alloc(arena, (size_t)(w->N * words), sizeof *sorted);
    if (!sorted) return sr_fail(err, SR_NOMEM, "no memory to sort %lld x %lld codes", (long long)w->N, (long long)w->K);
    for (int64_t row = 0; row < w->N; row++) {
        const uint8_t *from = w->plane[WEIGHT].data + row * w->plane[WEIGHT].stride;
        uint32_t *to = sorted + row * words;
        for (int64_t k = 0; k < w->K; k++) {
            uint32_t q = (uint32_t)packed_code(from, 4, w->perm[k], bits, a->padded);
            int64_t bit = k * bits;
            to[bit / 32] |= q << bit % 32;
            if (bit % 32 + bits > 32) to[bit / 32 + 1] |= q >> (32 - bit % 32);
        }
    }
    w->plane[WEIGHT].data = (uint8_t *)sorted; /* the machine is little-endian, as files are */
    w->plane[WEIGHT].stride = 4 * words;
    a->padded = false;
    return SR_OK;
}

static sr_status adopt_packed(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    const int bits = w->fmt->spec.bits;
    sr_integer *a = sr_arena_alloc(arena, 1, sizeof *a);
    if (!a) return sr_fail(err, SR_NOMEM, "no memory to describe it");
    *a = (sr_integer){.codes = codes_packed,
                      .zero = zero_packed,
                      .scale_at = scales_of(w) == 1 && w->N > 1 ? one_scale : scale_by_row,
                      .put_codes = put_codes_packed,
                      .put_zero = w->spec.sym ? NULL : put_zero_packed};
    w->aux = a;
    sr_status s = set_group(w, scales_of(w), err);
    if (s != SR_OK || !parts) {
        if (s == SR_OK) sr_integer_middle(w);
        if (s == SR_OK && w->plane[G_IDX].data) sr_integer_put_order(w, G_IDX);
        return s;
    }
    int64_t row_words = w->plane[WEIGHT].bytes / 4 / w->N, N, K;
    if (w->plane[WEIGHT].bytes != row_words * 4 * w->N)
        return sr_fail(err, SR_CORRUPT, "weight_packed has %lld words, expected %lld rows of them",
                       (long long)w->plane[WEIGHT].bytes / 4, (long long)w->N);
    w->plane[WEIGHT].stride = 4 * row_words;
    if (dims_packed(parts, &w->spec, &N, &K) && (N != w->N || K != w->K))
        return sr_fail(err, SR_CORRUPT, "weight_shape is [%lld, %lld], expected [%lld, %lld]", (long long)N,
                       (long long)K, (long long)w->N, (long long)w->K);
    s = packing("weight_packed", row_words, w->K, bits, &a->padded, err);
    if (s == SR_OK && w->plane[ZERO].data) {
        int64_t groups = sr_integer_groups(w->K, &w->spec), words = w->plane[ZERO].bytes / 4 / groups;
        if (words * groups * 4 != w->plane[ZERO].bytes)
            return sr_fail(err, SR_CORRUPT, "weight_zero_point has %lld words, expected them for %lld groups",
                           (long long)w->plane[ZERO].bytes / 4, (long long)groups);
        /* Numbers of words that fit both mean what the codes' do. */
        a->zeros_padded = a->padded && words == padded_words(w->N, bits);
        if (!a->zeros_padded) s = packing("weight_zero_point", words, w->N, bits, &a->zeros_padded, err);
    } else if (s == SR_OK && !w->spec.sym) {
        s = sr_fail(err, SR_CORRUPT, "weight_zero_point is missing, and the config says that it is not symmetric");
    }
    if (s != SR_OK || !w->plane[G_IDX].data) return s;
    s = sr_perm_sort(sr_parts_get(parts, "weight_g_idx"), w->K, w->spec.group, arena, &w->perm, err);
    return s == SR_OK && w->perm ? sort_packed(w, a, arena, err) : s;
}

static void reorder_packed(sr_weight *w) {
    ((sr_integer *)(uintptr_t)w->aux)->file_order = true;
    sr_integer_put_order(w, G_IDX);
}
/* weight_shape */
static bool extra_packed(const sr_weight *w, int i, sr_extra *out) {
    int64_t shape[2] = {w->N, w->K};
    *out = (sr_extra){.suffix = "weight_shape", .stored = "i64", .n_dims = 1, .shape = {2}, .bytes = sizeof shape};
    memcpy(out->data, shape, sizeof shape);
    return i == 0;
}

/* ---------------------------------------------------------------- int-quantized */

static int int_zero(const sr_weight *w, int64_t block) {
    return w->plane[ZERO].data ? (int8_t)w->plane[ZERO].data[block] : 0;
}
static const int8_t *int_codes(const sr_weight *w, int64_t row, int64_t k0) {
    return (const int8_t *)(w->plane[WEIGHT].data + row * w->plane[WEIGHT].stride + k0);
}

static void decode_int(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const int8_t *q = int_codes(w, row, k0);
    for (int64_t k = 0, end; k < n;) {
        int64_t block = sr_block_at(w->aux, row, k0 + k, &end);
        float scale = sr_plane_float(w, SCALE, block);
        int zero = int_zero(w, block);
        for (end = end - k0 < n ? end - k0 : n; k < end; k++) out[k] = (float)(q[k] - zero) * scale;
    }
}
static void unpack_int(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    memcpy(code, int_codes(w, row, k0), (size_t)n);
    for (int64_t k = 0, end; k < n; k += w->group) {
        int64_t block = sr_block_at(w->aux, row, k0 + k, &end);
        *scale = sr_plane_float(w, SCALE, block);
        if (w->fmt->has_min) *min++ = *scale * (float)int_zero(w, block);
        scale++;
    }
}

/* The grid is that of unsigned codes, 128 more than the stored ones. */
static void store_int(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    int64_t end, block = sr_block_at(w->aux, row, k0, &end);
    memcpy(w->plane[WEIGHT].data + row * w->plane[WEIGHT].stride + k0, code, (size_t)n);
    sr_plane_put(w, SCALE, block, grid->scale[0]);
    if (w->plane[ZERO].data) w->plane[ZERO].data[block] = (uint8_t)(grid->mn[0] - 128);
}

static bool is_int(const sr_parts *parts) {
    const sr_part *weight = sr_parts_get(parts, "weight");
    return weight && !strcmp(weight->type->name, "i8") && sr_parts_get(parts, "weight_scale");
}
static bool claim_int(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    (void)spec;
    return is_int(parts) && self->has_min == (sr_parts_get(parts, "weight_zero_point") != NULL);
}
static sr_status layout_int(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                            sr_err *err) {
    int64_t groups = spec->group > 0 ? (K - 1) / spec->group + 1 : 1;
    (void)err;
    sr_planes_add(planes, "weight", "i8", false, N, K);
    sr_planes_add(planes, "weight_scale", "bf16|f16|f32", false, N, groups);
    planes->plane[SCALE].any_shape = true;
    sr_planes_add(planes, "weight_zero_point", "i8", !self->has_min, N, groups);
    planes->plane[ZERO].any_shape = self->has_min;
    sr_planes_add(planes, "weight_g_idx", "i32", true, K, 0);
    return SR_OK;
}

/* The bytes of each row, columns group by group. */
static sr_status sort_int(sr_weight *w, sr_arena *arena, sr_err *err) {
    uint8_t *sorted = sr_arena_alloc(arena, (size_t)w->plane[WEIGHT].bytes, 1);
    if (!sorted) return sr_fail(err, SR_NOMEM, "no memory to sort %lld x %lld codes", (long long)w->N, (long long)w->K);
    for (int64_t row = 0; row < w->N; row++)
        for (int64_t k = 0; k < w->K; k++)
            sorted[row * w->K + k] = w->plane[WEIGHT].data[row * w->plane[WEIGHT].stride + w->perm[k]];
    w->plane[WEIGHT].data = sorted;
    return SR_OK;
}

static sr_status adopt_int(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    int64_t n = scales_of(w), gn = w->spec.group_n, gk = w->spec.group;
    sr_blocks *b = sr_arena_alloc(arena, 1, sizeof *b);
    if (!b) return sr_fail(err, SR_NOMEM, "no memory to describe it");
    w->aux = b;
    if (gn > 1 && gk > 0 && n == ((w->N - 1) / gn + 1) * ((w->K - 1) / gk + 1)) {
        *b = (sr_blocks){gn, gk, (w->K - 1) / gk + 1, 0, 0};
        sr_weight_set_group(w, gk);
    } else {
        sr_status s = set_group(w, n, err);
        if (s != SR_OK) return s;
        *b = (sr_blocks){n == 1 ? w->N : 1, w->spec.group, sr_integer_groups(w->K, &w->spec), 0, 0};
    }
    if (w->plane[ZERO].data && w->plane[ZERO].bytes != n)
        return sr_fail(err, SR_CORRUPT, "weight_zero_point has %lld elements, expected one a scale: %lld",
                       (long long)w->plane[ZERO].bytes, (long long)n);
    if (!parts) w->spec.sym = !w->fmt->has_min;
    if (!parts || !w->plane[G_IDX].data) return SR_OK;
    sr_status s = sr_perm_sort(sr_parts_get(parts, "weight_g_idx"), w->K, w->spec.group, arena, &w->perm, err);
    return s == SR_OK && w->perm ? sort_int(w, arena, err) : s;
}

/* ---------------------------------------------------------------- rows */

#define COARSE .panel = sr_panel_coarse, .panel_group = SR_KC, .panel_err = 0.012f
#define PACKED(n, ...)                                                                                                 \
    const sr_format sr_fmt_ct_pack##n = {                                                                              \
        .name = "ct_pack" #n,                                                                                          \
        .block = 1,                                                                                                    \
        .lane = 1,                                                                                                     \
        .spec = {.method = "compressed-tensors", .layout = "pack-quantized", .sym = true, .bits = n, .group = 128},    \
        .reference = "compressed-tensors 0.20",                                                                        \
        .tile = SR_TILE_I8,                                                                                            \
        .claim = claim_packed,                                                                                         \
        .layout = layout_packed,                                                                                       \
        .dims = dims_packed,                                                                                           \
        .adopt = adopt_packed,                                                                                         \
        .decode = sr_integer_decode,                                                                                   \
        .unpack = sr_integer_unpack,                                                                                   \
        .sample = sr_integer_sample,                                                                                   \
        .fit = sr_integer_fit,                                                                                         \
        .hold = sr_integer_hold,                                                                                       \
        .snap = sr_integer_snap,                                                                                       \
        .store = sr_integer_store,                                                                                     \
        .reorder = reorder_packed,                                                                                     \
        .extra = extra_packed,                                                                                         \
        __VA_ARGS__,                                                                                                   \
    }
#define INT8(id, symmetric, error)                                                                                     \
    const sr_format sr_fmt_##id = {                                                                                    \
        .name = #id,                                                                                                   \
        .block = 1,                                                                                                    \
        .lane = 1,                                                                                                     \
        .spec = {.method = "compressed-tensors", .layout = "int-quantized", .sym = symmetric, .bits = 8, .group = -1}, \
        .reference = "compressed-tensors 0.20",                                                                        \
        .tile = SR_TILE_I8,                                                                                            \
        .rtn_err = error,                                                                                              \
        .has_min = !symmetric,                                                                                         \
        .claim = claim_int,                                                                                            \
        .layout = layout_int,                                                                                          \
        .adopt = adopt_int,                                                                                            \
        .decode = decode_int,                                                                                          \
        .unpack = unpack_int,                                                                                          \
        .fit = sr_integer_fit,                                                                                         \
        .hold = sr_integer_hold,                                                                                       \
        .snap = sr_integer_snap,                                                                                       \
        .store = store_int,                                                                                            \
    }

PACKED(2, .rtn_err = 0.554f, COARSE);
PACKED(3, .rtn_err = 0.239f, COARSE);
PACKED(4, .rtn_err = 0.111f, COARSE);
PACKED(5, .rtn_err = 0.054f, .has_min = false);
PACKED(6, .rtn_err = 0.0266f, .has_min = false);
PACKED(7, .rtn_err = 0.0131f, .has_min = false);
PACKED(8, .rtn_err = 0.00655f, .has_min = true);
INT8(ct_int8, true, 0.00775f);
INT8(ct_int8_asym, false, 0.00727f);
