/* HQQ: codes of 8, 4, 3, 2 or 1 bits in groups along or across the rows, w = (code - zero) * scale, zero a float.
 *
 * The matrix [N][K] is one flat array of N * K numbers, folded into a grouped matrix of R rows and C columns:
 *     axis 1   R = N * K / group, C = group; a scale a row, so that a group is consecutive numbers
 *     axis 0   R = group, C = N * K / group; a scale a column: number i has scale i % C
 *     not channel_wise   R = N, C = K; one scale
 * Packing works on rows, in stripes: with `per` codes a word and S = ceil(R / per), word row r holds row r in its
 * highest bits, then rows r + S, r + 2 S, ... down to the lowest. In the flat array that is simple: with L = S * C
 * words, number i lies in word i % L, as field i / L from the top.
 *     8 bits   u8, one code (also what is called 6 and 5 bits)
 *     4 bits   u8   |row r     |row r + S|
 *     3 bits   i32  |0 0|row r |row r + S|...|row r + 9 S|     R is padded to a multiple of 10
 *     2 bits   u8   four codes (also 1.58 bits)
 *     1 bit    u8   eight codes
 * Sources: dropbox/hqq: hqq/core/bitpack.py (pack_*), hqq/core/quantize.py (Quantizer.quantize, dequantize,
 * HQQLinear.state_dict), hqq/core/utils.py (encode_safetensor_type: what is no tensor becomes one).
 *
 * view_as_float words are the same bytes under a float type. Old files hold scales and zeros that are quantized by HQQ
 * again (scale_q and meta_scale), or both stacked (zero_scale); or all but W_q in a dictionary "meta". */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/half.h"
#include "base/random.h"
#include "fmt/hqq.h"
#include "fmt/search.h"
#include "fmt/shrink.h"

enum { NAME = 600, PACKING = 16 };

typedef sr_hqq hqq;

/* A run of numbers in f32, whatever plane they stand in. */
typedef struct floats {
    const uint8_t *data;
    const sr_stored *type;
} floats;

static void read_floats(floats f, int64_t i, int64_t n, float *out) {
    if (f.type->bytes == 4) {
        memcpy(out, f.data + 4 * i, (size_t)n * 4);
        return;
    }
    const uint8_t *p = f.data + 2 * i;
    if (f.type->name[0] == 'f')
        for (int64_t j = 0; j < n; j++) out[j] = sr_f16_to_f32((uint16_t)(p[2 * j] | p[2 * j + 1] << 8));
    else
        for (int64_t j = 0; j < n; j++) out[j] = sr_bf16_to_f32((uint16_t)(p[2 * j] | p[2 * j + 1] << 8));
}
static float one_float(floats f, int64_t i) {
    float v;
    read_floats(f, i, 1, &v);
    return v;
}

static const hqq *of(const sr_weight *w) {
    return w->aux;
}
static floats scales_of(const sr_weight *w) {
    return (floats){w->plane[SR_HQQ_SCALES].data, w->plane[SR_HQQ_SCALES].type};
}
static floats zeros_of(const sr_weight *w) {
    return (floats){w->plane[SR_HQQ_ZEROS].data, w->plane[SR_HQQ_ZEROS].type};
}

/* Words of number i on, the shift of its field, and how many numbers follow in the same field. */
static const uint8_t *field(const hqq *h, int64_t i, int *shift, int64_t *left) {
    int64_t at = i % h->words;
    *shift = h->bits * (h->per - 1 - (int)(i / h->words));
    *left = h->words - at;
    return h->word + at * h->bytes;
}

/* Codes of n numbers from i on, less `minus`. */
static void read_codes(const hqq *h, int64_t i, int64_t n, int minus, int8_t *code) {
    const int mask = h->bits == 8 ? 255 : (1 << h->bits) - 1;
    while (n > 0) {
        int shift;
        int64_t m;
        const uint8_t *p = field(h, i, &shift, &m);
        m = m < n ? m : n;
        if (h->bytes == 4)
            for (int64_t j = 0; j < m; j++) code[j] = (int8_t)((int)(sr_get_u32(p + 4 * j) >> shift & 7) - minus);
        else
            for (int64_t j = 0; j < m; j++) code[j] = (int8_t)((p[j] >> shift & mask) - minus);
        code += m, i += m, n -= m;
    }
}

/* Numbers i .. i + n. One scale for a run of them, or one each. */
static void decode_flat(const hqq *h, floats scale, floats zero, int64_t i, int64_t n, float *out) {
    enum { RUN = 256 };
    int8_t code[RUN];
    float s[RUN], z[RUN];
    while (n > 0) {
        int64_t m = n < RUN ? n : RUN;
        if (h->by == SR_HQQ_BY_COLUMN && m > h->cols - i % h->cols) m = h->cols - i % h->cols;
        if (h->by == SR_HQQ_BY_GROUP && m > h->group - i % h->group) m = h->group - i % h->group;
        read_codes(h, i, m, 0, code);
        if (h->by == SR_HQQ_BY_COLUMN) {
            read_floats(scale, i % h->cols, m, s);
            read_floats(zero, i % h->cols, m, z);
            for (int64_t j = 0; j < m; j++) out[j] = ((float)(uint8_t)code[j] - z[j]) * s[j];
        } else {
            int64_t g = h->by == SR_HQQ_BY_GROUP ? i / h->group : 0;
            float s0 = one_float(scale, g), z0 = one_float(zero, g);
            for (int64_t j = 0; j < m; j++) out[j] = ((float)(uint8_t)code[j] - z0) * s0;
        }
        out += m, i += m, n -= m;
    }
}

static void decode_hqq(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    decode_flat(of(w), scales_of(w), zeros_of(w), row * w->K + k0, n, out);
}

/* Only weights whose rows are whole groups come here; a tile's group is part of a stored one. */
static void unpack_hqq(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const hqq *h = of(w);
    floats s = scales_of(w), z = zeros_of(w);
    const int minus = h->bits == 8 ? 128 : 0;
    int64_t i = row * w->K + k0;
    read_codes(h, i, n, minus, code);
    for (int64_t k = 0; k < n; k += w->group, i += w->group) {
        int64_t g = h->by == SR_HQQ_BY_GROUP ? i / h->group : 0;
        *scale = one_float(s, g);
        *min++ = (one_float(z, g) - (float)minus) * *scale;
        scale++;
    }
}

/* ---------------------------------------------------------------- parts that are no planes */

/* "<name>.<key>", or "<name>.meta.<key>" as files from before state_dict had keys of their own; NULL: neither. */
static const sr_part *find(const sr_parts *parts, const char *key) {
    char full[NAME];
    int n = snprintf(full, sizeof full, "%s.%s", parts->name, key);
    const sr_part *p = n > 0 && n < NAME ? sr_file_part(parts->file, full) : NULL;
    if (p) return p;
    n = snprintf(full, sizeof full, "%s.meta.%s", parts->name, key);
    return n > 0 && n < NAME ? sr_file_part(parts->file, full) : NULL;
}
static const sr_part *find_below(const sr_parts *parts, const char *head, const char *key) {
    char both[64];
    snprintf(both, sizeof both, "%s%s", head, key);
    return find(parts, both);
}

/* Element i of a part of integers, or of floats without a fraction. */
static bool whole_of(const sr_part *p, int64_t i, int64_t *out) {
    const uint8_t *at = p ? p->data + i * p->type->bytes : NULL;
    if (!p || i >= p->n_elements) return false;
    if (!strcmp(p->type->name, "i32")) return *out = (int32_t)sr_get_u32(at), true;
    if (!strcmp(p->type->name, "i64"))
        return *out = (int64_t)(sr_get_u32(at) | (uint64_t)sr_get_u32(at + 4) << 32), true;
    if (!strcmp(p->type->name, "u8")) return *out = *at, true;
    return false;
}
static bool is_float(const sr_stored *type) {
    return !strcmp(type->name, "f32") || !strcmp(type->name, "f16") || !strcmp(type->name, "bf16");
}

/* The packing that the parts under `head` name, by itself or by the number of bits; "" when they do not. */
static void packing_of(const sr_parts *parts, const char *head, int config_bits, char text[PACKING]) {
    const sr_part *p = find_below(parts, head, "packing");
    int64_t bits = config_bits;
    text[0] = 0;
    if (p && !strcmp(p->type->name, "u8") && p->n_elements < PACKING) {
        memcpy(text, p->data, (size_t)p->bytes);
        text[p->bytes] = 0;
        return;
    }
    const sr_part *n = find_below(parts, head, "nbits");
    if (n && !whole_of(n, 0, &bits)) bits = 2; /* 1.58 */
    if (bits == 5 || bits == 6) bits = 8;
    if (bits >= 1 && bits <= 8) snprintf(text, PACKING, bits == 3 ? "3bit_32" : "%dbit_u8", (int)bits);
}

static const struct packing {
    const char *name;
    uint8_t bits, per, bytes;
} packings[] = {
    {"8bit_u8", 8, 1, 1}, {"4bit_u8", 4, 2, 1}, {"3bit_32", 3, 10, 4}, {"2bit_u8", 2, 4, 1}, {"1bit_u8", 1, 8, 1}};

static const struct packing *packing_named(const char *name) {
    for (size_t i = 0; i < sizeof packings / sizeof *packings; i++)
        if (!strcmp(packings[i].name, name)) return &packings[i];
    return NULL;
}
static const struct packing *packing_bits(int bits) {
    for (size_t i = 0; i < sizeof packings / sizeof *packings; i++)
        if (packings[i].bits == bits) return &packings[i];
    return NULL;
}

static bool claim_hqq(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    char name[PACKING];
    if (!sr_parts_get(parts, "W_q")) return false;
    packing_of(parts, "", spec->bits, name);
    const struct packing *p = packing_named(name);
    return p && p->bits == self->spec.bits;
}

static bool dims_hqq(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *shape = find(parts, "shape");
    (void)spec;
    return shape && shape->n_elements == 2 && whole_of(shape, 0, N) && whole_of(shape, 1, K);
}

/* ---------------------------------------------------------------- the grouped matrix */

/* Folds `n` numbers ([N][K]) by axis and group. False: the group does not divide them, or a size does not fit. */
static bool fold(hqq *h, const struct packing *p, int64_t N, int64_t K, int axis, int64_t group, bool one) {
    int64_t n, rows;
    *h = (hqq){.bits = p->bits, .per = p->per, .bytes = p->bytes, .group = group};
    h->by = one ? SR_HQQ_BY_ONE : axis ? SR_HQQ_BY_GROUP : SR_HQQ_BY_COLUMN;
    if (__builtin_mul_overflow(N, K, &n) || group < 1 || (!one && n % group)) return false;
    rows = one ? N : axis ? n / group : group;
    h->cols = n / rows;
    int64_t s = (rows - 1) / p->per + 1;
    return !__builtin_mul_overflow(s, h->cols, &h->words);
}
static int64_t n_scales(const hqq *h, int64_t n) {
    return h->by == SR_HQQ_BY_ONE ? 1 : h->by == SR_HQQ_BY_GROUP ? n / h->group : h->cols;
}

static sr_status layout_hqq(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                            sr_err *err) {
    hqq h;
    int64_t n = 0;
    bool fits = fold(&h, packing_bits(self->spec.bits), N, K, spec->axis, spec->group > 0 ? spec->group : K, false);
    if (fits) n = n_scales(&h, N * K);
    (void)err;
    /* What a file has is compared by adopt: other parts than the config's say how they are grouped. */
    sr_planes_add(planes, "W_q", h.bytes == 4 ? "i32|f32|f16|bf16" : "u8|f16|bf16|f32", false,
                  fits ? h.words / h.cols : -1, h.cols);
    /* One a row of the grouped matrix, or a column. */
    sr_planes_add(planes, "scale", "f16|bf16|f32", false, fits ? (spec->axis ? n : 1) : -1, spec->axis ? 1 : n);
    sr_planes_add(planes, "zero", "f16|bf16|f32", false, fits ? (spec->axis ? n : 1) : -1, spec->axis ? 1 : n);
    for (int i = 0; i < planes->n; i++) planes->plane[i].any_shape = planes->plane[i].optional = true;
    return SR_OK;
}

/* One tensor of the file as HQQ describes it under `head`: "" or "meta_scale.". word: the part of codes. */
struct described {
    hqq h;
    int64_t n;
    floats scale, zero;
};

static sr_status describe(const sr_parts *parts, const char *head, const sr_part *word, const struct packing *p,
                          int64_t N, int64_t K, int axis, int64_t group, floats scale, int64_t n_scale, floats zero,
                          int64_t n_zero, struct described *d, sr_err *err) {
    const sr_part *own = find_below(parts, head, "axis");
    int64_t v = axis;
    if (own && (!whole_of(own, 0, &v) || v < 0 || v > 1))
        return sr_fail(err, SR_CORRUPT, "%saxis is neither 0 nor 1", head);
    axis = (int)v;
    own = find_below(parts, head, "group_size");
    if (own && !whole_of(own, 0, &group)) return sr_fail(err, SR_CORRUPT, "%sgroup_size is no whole number", head);
    if (group <= 0) group = axis ? K : N; /* None: the whole row or column */
    bool fits = fold(&d->h, p, N, K, axis, group, false);
    /* Without channel_wise nothing is folded. */
    if (n_scale == 1 && n_zero == 1 && !(fits && n_scales(&d->h, N * K) == 1))
        fits = fold(&d->h, p, N, K, axis, group, true);
    if (!fits)
        return sr_fail(err, SR_CORRUPT, "%sgroup_size is %lld, expected a divisor of %lld x %lld", head,
                       (long long)group, (long long)N, (long long)K);
    d->n = N * K;
    int64_t scales = n_scales(&d->h, d->n), bytes;
    if (n_scale != scales || n_zero != scales)
        return sr_fail(err, SR_CORRUPT, "%sscale has %lld elements and zero %lld, expected %lld of each", head,
                       (long long)n_scale, (long long)n_zero, (long long)scales);
    if (__builtin_mul_overflow(d->h.words, d->h.bytes, &bytes) || word->bytes != bytes)
        return sr_fail(err, SR_CORRUPT, "its codes (%s) have %lld bytes, expected %lld words of %d", p->name,
                       (long long)word->bytes, (long long)d->h.words, d->h.bytes);
    own = find_below(parts, head, "view_as_float");
    if (own && whole_of(own, 0, &v) && !v && is_float(word->type))
        return sr_fail(err, SR_CORRUPT, "its codes are stored as %s, but view_as_float is false", word->type->name);
    d->h.word = word->data;
    d->scale = scale;
    d->zero = zero;
    return SR_OK;
}

/* Scales or zeros (`which`) that HQQ quantized: <which>_q with what describes it in meta_<which>. To f32 in the arena.
 */
static sr_status dequantize_meta(const sr_parts *parts, const char *which, const sr_part *codes, sr_arena *arena,
                                 floats *out, int64_t *n, sr_err *err) {
    char head[32], name[PACKING];
    snprintf(head, sizeof head, "meta_%s.", which);
    packing_of(parts, head, 8, name);
    const struct packing *p = packing_named(name);
    const sr_part *scale = find_below(parts, head, "scale"), *zero = find_below(parts, head, "zero");
    const sr_part *shape = find_below(parts, head, "shape");
    int64_t N, K = 1;
    if (!p || !scale || !zero || !is_float(scale->type) || !is_float(zero->type))
        return sr_fail(err, SR_CORRUPT, "%s_q is there, but meta_%s has no packing, scale or zero that fits", which,
                       which);
    if (!shape || shape->n_elements < 1 || shape->n_elements > 2 || !whole_of(shape, 0, &N) ||
        (shape->n_elements == 2 && !whole_of(shape, 1, &K)) || N < 1 || K < 1)
        return sr_fail(err, SR_CORRUPT, "meta_%s.shape is missing, or not one or two sizes", which);
    struct described d;
    sr_status s = describe(parts, head, codes, p, N, K, 0, 0, (floats){scale->data, scale->type}, scale->n_elements,
                           (floats){zero->data, zero->type}, zero->n_elements, &d, err);
    if (s != SR_OK) return s;
    float *v = sr_arena_alloc(arena, (size_t)d.n, sizeof *v);
    if (!v) return sr_fail(err, SR_NOMEM, "no memory for %lld %ss", (long long)d.n, which);
    decode_flat(&d.h, d.scale, d.zero, 0, d.n, v);
    *out = (floats){(const uint8_t *)v, sr_stored_by_name("f32")};
    *n = d.n;
    return SR_OK;
}

/* Element type and half h of a stack of two ("zero_scale": zeros, then scales). */
static void half_of(const sr_part *stack, int h, sr_part *out) {
    *out = *stack;
    out->n_elements = stack->n_elements / 2;
    out->bytes = stack->bytes / 2;
    out->data = stack->data + h * out->bytes;
}

static sr_status meta_floats(const sr_parts *parts, const char *which, sr_arena *arena, floats *out, int64_t *n,
                             sr_err *err) {
    char quantized[16];
    snprintf(quantized, sizeof quantized, "%s_q", which);
    const sr_part *p = find(parts, which), *q = find(parts, quantized), *stack = find(parts, "zero_scale");
    sr_part half;
    if (!p && !q && stack) {
        half_of(stack, !strcmp(which, "scale"), &half);
        *(is_float(stack->type) ? &p : &q) = &half;
    }
    if (!p && q) return dequantize_meta(parts, which, q, arena, out, n, err);
    if (!p) return sr_fail(err, SR_CORRUPT, "'%s.%s' is missing", parts->name, which);
    if (!is_float(p->type))
        return sr_fail(err, SR_CORRUPT, "'%s.%s' is stored as %s, expected f16|bf16|f32", parts->name, which,
                       p->type->name);
    *out = (floats){p->data, p->type};
    *n = p->n_elements;
    return SR_OK;
}

static void set_plane(sr_weight *w, int i, floats f, int64_t n) {
    w->plane[i].data = (uint8_t *)(uintptr_t)f.data; /* never written */
    w->plane[i].type = f.type;
    w->plane[i].bytes = n * f.type->bytes;
    w->plane[i].stride = f.type->bytes;
}

static sr_status adopt_hqq(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    const struct packing *p = packing_bits(w->fmt->spec.bits);
    hqq *h = sr_arena_alloc(arena, 1, sizeof *h);
    if (!h) return sr_fail(err, SR_NOMEM, "no memory to describe its groups");
    w->aux = h;
    if (parts) {
        struct described d;
        floats scale, zero;
        int64_t n_scale, n_zero, N, K;
        if (find(parts, "shape") && (!dims_hqq(parts, &w->spec, &N, &K) || N != w->N || K != w->K))
            return sr_fail(err, SR_CORRUPT, "its shape is another one, expected [%lld, %lld]", (long long)w->N,
                           (long long)w->K);
        sr_status s = meta_floats(parts, "scale", arena, &scale, &n_scale, err);
        if (s == SR_OK) s = meta_floats(parts, "zero", arena, &zero, &n_zero, err);
        if (s == SR_OK)
            s = describe(parts, "", sr_parts_get(parts, "W_q"), p, w->N, w->K, w->spec.axis, w->spec.group, scale,
                         n_scale, zero, n_zero, &d, err);
        if (s != SR_OK) return s;
        set_plane(w, SR_HQQ_SCALES, scale, n_scale);
        set_plane(w, SR_HQQ_ZEROS, zero, n_zero);
        *h = d.h;
    } else {
        if (!fold(h, p, w->N, w->K, w->spec.axis, w->spec.group, false))
            return sr_fail(err, SR_INVALID, "%s: groups of %d do not divide %lld x %lld", w->fmt->name, w->spec.group,
                           (long long)w->N, (long long)w->K);
        h->word = w->plane[SR_HQQ_CODES].data;
    }
    w->spec.bits = h->bits;
    w->spec.axis = h->by != SR_HQQ_BY_COLUMN;
    w->spec.group = h->group > INT32_MAX ? INT32_MAX : (int32_t)h->group;
    if (h->by == SR_HQQ_BY_ONE)
        sr_weight_set_group(w, w->K);
    else if (h->by == SR_HQQ_BY_GROUP && w->K % h->group == 0)
        sr_weight_set_group(w, h->group);
    else
        w->tile = SR_TILE_F32; /* scales within a row differ from row to row or from column to column */
    return SR_OK;
}

/* ---------------------------------------------------------------- writing */

static sr_status begin_hqq(sr_weight *w, const sr_peaks *peaks, sr_err *err) {
    const hqq *h = of(w);
    (void)peaks;
    if (h->by == SR_HQQ_BY_GROUP && w->K % h->group == 0) return SR_OK;
    if (h->by == SR_HQQ_BY_COLUMN && h->group <= SR_KC) return SR_OK;
    return sr_fail(err, SR_INVALID,
                   "%s writes groups within rows, or of at most %d across them, and rows of %lld columns are no groups "
                   "of %lld",
                   w->fmt->name, SR_KC, (long long)w->K, (long long)h->group);
}

static int64_t across_hqq(const sr_weight *w) {
    return of(w)->by == SR_HQQ_BY_COLUMN ? of(w)->cols : 0;
}

/* The half-quadratic solver of HQQ, on one group: codes are nearest(w * s + z), and z is moved to where the weights
 * less their (shrunk) errors have it, for 20 steps or until the error no longer falls. hqq: hqq/core/optimize.py,
 * optimize_weights_proximal_legacy, which stops where that of the whole matrix does. */
float sr_hqq_zero(const sr_fit *in, float s, float z, float top) {
    enum { STEPS = 20 };
    double best = INFINITY;
    for (int step = 0; step < STEPS; step++) {
        double error = 0, sum = 0;
        for (int i = 0; i < in->n; i++) {
            float x = sr_weight_finite(in->x[i]), q = sr_clamp(rintf(x * s + z), 0, top), e = x - (q - z) / s;
            float size = fabsf(e), left = 0;
            /* relu(|e| - |e|^(p - 1) / beta), p = 0.7, beta = 10: 0 below 0.1^(1 / 1.3) = 0.1701 */
            if (size > 0.17f) left = copysignf(fmaxf(size - 0.1f * powf(size, -0.3f), 0), e);
            error += (double)size;
            sum += (double)(q - (x - left) * s);
        }
        z = (float)(sum / in->n);
        if (!(error < best)) break;
        best = error;
    }
    return z;
}

/* min = zero * scale, the zero being one that the plane holds. */
static void storable_hqq(const sr_weight *w, float *scale, float *min) {
    float tiny = 0x1p-24f, s = sr_plane_round(w, SR_HQQ_SCALES, *scale);
    if (!(fabsf(s) >= tiny)) s = tiny;
    *min = sr_plane_round(w, SR_HQQ_ZEROS, *min / s) * s;
    *scale = s;
}

static void fit_hqq(const sr_fit *in, sr_grid *grid) {
    const int bits = in->w->fmt->spec.bits, levels = (1 << bits) - 1;
    float low, high, top = (float)levels;
    sr_fit_range(in, &low, &high);
    float s = high - low <= 1e-4f ? 1 : top / (high - low), most = high > -low ? high : -low;
    s = s < 2e4f ? s : 2e4f;
    if (most * s > 6e4f) s = 6e4f / most; /* zeros of f16 */
    float z = -low * s;
    if (bits == 4) z = rintf(z);
    z = sr_hqq_zero(in, s, z, top);
    float scale = 1 / s, min = z * scale;
    storable_hqq(in->w, &scale, &min);
    if (sr_fit_weighs(in)) sr_shrink_affine(in, top, storable_hqq, &scale, &min);
    grid->n = grid->group = in->n;
    grid->lo = bits == 8 ? -128 : 0;
    grid->hi = grid->lo + levels;
    grid->scale[0] = scale;
    grid->min[0] = min;
    grid->d32 = sr_plane_round(in->w, SR_HQQ_ZEROS, min / scale);
}

static void hold_hqq(const sr_fit *in, float scale, float min, sr_grid *grid) {
    const int bits = in->w->fmt->spec.bits;
    if (!(fabsf(scale) > SR_TINY)) scale = 1; /* zeros */
    storable_hqq(in->w, &scale, &min);
    grid->n = grid->group = in->n;
    grid->lo = bits == 8 ? -128 : 0;
    grid->hi = grid->lo + (1 << bits) - 1;
    grid->scale[0] = scale;
    grid->min[0] = min;
    grid->d32 = sr_plane_round(in->w, SR_HQQ_ZEROS, min / scale);
}

static void snap_hqq(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    const float scale = grid->scale[0], zero = grid->d32, top = (float)(grid->hi - grid->lo);
    (void)i0;
    for (int i = 0; i < n; i++) {
        float q = sr_nearest(sr_clamp(sr_weight_finite(w[i]) / scale + zero, 0, top));
        code[i] = (int8_t)((int)q + grid->lo);
        back[i] = (q - zero) * scale;
    }
}

/* Rows far apart share bytes, and threads write them: each takes its own bits out and puts them in. */
static void put_field(uint8_t *p, int shift, int bits, unsigned v) {
    for (p += shift / 8, shift %= 8; bits > 0; p++, shift = 0) {
        int n = 8 - shift < bits ? 8 - shift : bits;
        unsigned mask = ((1u << n) - 1) << shift;
        __atomic_fetch_and(p, (uint8_t)~mask, __ATOMIC_RELAXED);
        __atomic_fetch_or(p, (uint8_t)(v << shift & mask), __ATOMIC_RELAXED);
        v >>= n;
        bits -= n;
    }
}

static void store_hqq(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    const hqq *h = of(w);
    const bool columns = h->by == SR_HQQ_BY_COLUMN;
    const int64_t first = row * w->K + k0, step = columns ? h->cols : 1, at = columns ? first : first / h->group;
    for (int i = 0; i < n; i++) {
        int shift;
        int64_t left;
        uint8_t *p = w->plane[SR_HQQ_CODES].data + (field(h, first + i * step, &shift, &left) - h->word);
        const unsigned q = (unsigned)(code[i] - grid->lo);
        if (h->per == 1)
            *p = (uint8_t)q;
        else
            put_field(p, shift, h->bits, q);
    }
    sr_plane_put(w, SR_HQQ_SCALES, at, grid->scale[0]);
    sr_plane_put(w, SR_HQQ_ZEROS, at, grid->d32);
}

/* What HQQLinear.state_dict adds, as numbers and texts are kept in safetensors. */
static bool extra_hqq(const sr_weight *w, int i, sr_extra *out) {
    const int bits = w->fmt->spec.bits;
    char packing[PACKING];
    snprintf(packing, sizeof packing, bits == 3 ? "3bit_32" : "%dbit_u8", bits);
    const struct {
        const char *suffix, *text;
        int number;
        bool flag;
    } all[] = {
        {"nbits", NULL, bits, false},
        {"group_size", NULL, (int)of(w)->group, false},
        {"axis", NULL, of(w)->by != SR_HQQ_BY_COLUMN, false},
        {"packing", packing, 0, false},
        {"unpack_view_dtype", bits == 3 ? "torch.int32" : "torch.uint8", 0, false},
        {"compute_dtype", "torch.float16", 0, false},
        {"view_as_float", NULL, 0, true},
        {"quant_scale", NULL, 0, true},
        {"quant_zero", NULL, 0, true},
        {"offload_meta", NULL, 0, true},
        {"channel_wise", NULL, 1, true},
        {"optimize", NULL, 1, true},
        {"round_zero", NULL, bits == 4, true},
        {"encoded_state_dict", NULL, 1, true},
        {"stores_quant_config", NULL, 1, true},
    };
    enum { N_ALL = sizeof all / sizeof *all };
    if (i > N_ALL) return false;
    if (i == N_ALL) {
        int64_t shape[2] = {w->N, w->K};
        *out = (sr_extra){.suffix = "shape", .stored = "i64", .n_dims = 1, .shape = {2}, .bytes = sizeof shape};
        memcpy(out->data, shape, sizeof shape);
        return true;
    }
    *out = (sr_extra){.suffix = all[i].suffix, .stored = all[i].text || all[i].flag ? "u8" : "i32"};
    out->bytes = all[i].text ? (int)strlen(all[i].text) : all[i].flag ? 1 : 4;
    if (all[i].text) {
        out->n_dims = 1;
        out->shape[0] = out->bytes;
        memcpy(out->data, all[i].text, (size_t)out->bytes);
    } else {
        sr_put_u32(out->data, (uint32_t)all[i].number);
    }
    return true;
}

/* Zeros around the middle of the codes, scales that make about N(0, 0.02). */
static void sample_hqq(sr_weight *w, uint64_t seed) {
    float levels = (float)(1 << w->spec.bits);
    for (int64_t i = 0; i < w->plane[0].bytes; i++) w->plane[0].data[i] = (uint8_t)(sr_random(&seed) >> 32);
    for (int p = 1; p <= 2; p++)
        for (int64_t i = 0; i < w->plane[p].bytes / 2; i++) {
            float u = (float)(sr_random(&seed) >> 40) * 0x1p-24f;
            float v = p == 1 ? 0.02f * 3.46f / levels * (0.75f + 0.5f * u) : (levels - 1) * (0.45f + 0.1f * u);
            uint16_t half = sr_f32_to_f16(v);
            w->plane[p].data[2 * i] = (uint8_t)half;
            w->plane[p].data[2 * i + 1] = (uint8_t)(half >> 8);
        }
}

/* ---------------------------------------------------------------- rows */

#define COARSE .panel = sr_panel_coarse, .panel_group = SR_KC, .panel_err = 0.0085f
#define HQQ(n, ...)                                                                                                    \
    const sr_format sr_fmt_hqq##n = {                                                                                  \
        .name = "hqq" #n,                                                                                              \
        .block = 1,                                                                                                    \
        .lane = 1,                                                                                                     \
        .spec = {.method = "hqq", .bits = n, .axis = 1, .group = 64},                                                  \
        .reference = "hqq 0.2.8",                                                                                      \
        .tile = SR_TILE_I8,                                                                                            \
        .has_min = true,                                                                                               \
        .claim = claim_hqq,                                                                                            \
        .layout = layout_hqq,                                                                                          \
        .decode = decode_hqq,                                                                                          \
        .unpack = unpack_hqq,                                                                                          \
        .dims = dims_hqq,                                                                                              \
        .adopt = adopt_hqq,                                                                                            \
        .sample = sample_hqq,                                                                                          \
        .begin = begin_hqq,                                                                                            \
        .across = across_hqq,                                                                                          \
        .fit = fit_hqq,                                                                                                \
        .hold = hold_hqq,                                                                                              \
        .snap = snap_hqq,                                                                                              \
        .store = store_hqq,                                                                                            \
        .extra = extra_hqq,                                                                                            \
        __VA_ARGS__,                                                                                                   \
    }

HQQ(8, .rtn_err = 0.00515f, .panel_err = 0);
HQQ(4, .rtn_err = 0.0878f, COARSE);
HQQ(3, .rtn_err = 0.185f, COARSE);
HQQ(2, .rtn_err = 0.439f, COARSE);
/* Two values a group, whose rounding adds up: 0.0103 on what is written of N(0,1). */
HQQ(1, .rtn_err = 1.49f, .panel = sr_panel_coarse, .panel_group = SR_KC, .panel_err = 0.0125f);
