/* GPTQ checkpoints: qweight, scales, and where they exist qzeros and g_idx.
 *
 *     qweight  i32 [ceil(K b / 32)][N]   codes, packed down K
 *     qzeros   i32 [G][ceil(N b / 32)]   zeros, packed along N; absent: 2^(b-1)
 *     scales   f16 [G][N]
 *     g_idx    i32 [K]                   group of each column
 *
 * A stream of codes fills words from their lowest bit on. For 2, 4 and 8 bits no code crosses a word; 32 codes of 3
 * bits fill three words without gaps. "gptq_p" and all of 5, 6 and 7 bits are planar instead: 32 codes take b words,
 * first the low bits of all of them, then the next plane (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1), unless
 * auto-round wrote them, which leaves no gaps there either. (auto_round: utils/bit_packing.py; GPTQModel:
 * nn_modules/qlinear/__init__.py, utils/planar_packing.py)
 *
 * Zeros. "gptq_v2" stores z, "gptq" (v1) z - 1: a symmetric checkpoint is written as v1, which all loaders know,
 * another one as v2, since GPTQModel refuses v1 then (models/loader.py). Where z is 0, writers of v1 differ: GPTQModel
 * subtracts a one a field from whole words, with borrows, which adding them again undoes; others lose the word's higher
 * fields, and the field itself reads as (stored + 1) mod 2^b. (GPTQModel: utils/model.py; AutoGPTQ:
 * qlinear_cuda_old.py)
 *
 * Marlin's order of codes is marlin.c's. */
#include <string.h>

#include "base/bytes.h"
#include "fmt/integer.h"

/* ---------------------------------------------------------------- streams of codes */

/* Bits at, at + 1, .. of a code are `bits` bits of a word, from `shift` on. */
struct field {
    int64_t word;
    int shift, bits, at;
};
enum { MOST_FIELDS = 3 };

static int fields_of(int bits, bool planar, int64_t i, struct field f[MOST_FIELDS]) {
    static const uint8_t planes[9][MOST_FIELDS] = {[3] = {2, 1}, [5] = {4, 1}, [6] = {4, 2}, [7] = {4, 2, 1}};
    if (!planar || !planes[bits][0]) {
        int64_t bit = i * bits;
        int shift = (int)(bit % 32), first = 32 - shift < bits ? 32 - shift : bits;
        f[0] = (struct field){bit / 32, shift, first, 0};
        f[1] = (struct field){bit / 32 + 1, 0, bits - first, first};
        return first < bits ? 2 : 1;
    }
    int n = 0, at = 0, in_block = (int)(i % 32);
    for (; n < MOST_FIELDS && planes[bits][n]; at += planes[bits][n++]) {
        int width = planes[bits][n], per_word = 32 / width;
        f[n] = (struct field){i / 32 * bits + at + in_block / per_word, in_block % per_word * width, width, at};
    }
    return n;
}

/* Code i of the stream whose word j is at `words` + j * step; add goes to each word first. */
static int code_at(const uint8_t *words, int64_t step, int bits, bool planar, int64_t i, uint32_t add) {
    struct field f[MOST_FIELDS];
    uint32_t code = 0;
    for (int n = fields_of(bits, planar, i, f), p = 0; p < n; p++)
        code |= ((sr_get_u32(words + f[p].word * step) + add) >> f[p].shift & ((1u << f[p].bits) - 1)) << f[p].at;
    return (int)code;
}

static void codes(const sr_weight *w, int64_t row, int64_t k0, int n, uint8_t *q) {
    const sr_integer *a = w->aux;
    const int bits = w->fmt->spec.bits;
    const uint8_t *words = w->plane[SR_INTEGER_CODES].data + 4 * row;
    const int64_t step = 4 * w->N;
    if (a->file_order) {
        for (int i = 0; i < n; i++) q[i] = (uint8_t)code_at(words, step, bits, a->planar, w->perm[k0 + i], 0);
        return;
    }
    if (32 % bits || k0 % (32 / bits)) {
        for (int i = 0; i < n; i++) q[i] = (uint8_t)code_at(words, step, bits, a->planar, k0 + i, 0);
        return;
    }
    words += k0 * bits / 32 * step;
    for (int i = 0; i < n; words += step) {
        uint32_t v = sr_get_u32(words);
        for (int j = 0; j < 32 && i < n; j += bits) q[i++] = (uint8_t)(v >> j & ((1u << bits) - 1));
    }
}

static int zero(const sr_weight *w, int64_t row, int64_t g) {
    const sr_integer *a = w->aux;
    const int bits = w->fmt->spec.bits;
    const uint8_t *words = w->plane[SR_INTEGER_ZEROS].data;
    if (!words) return 1 << (bits - 1);
    words += g * w->plane[SR_INTEGER_ZEROS].stride;
    return (code_at(words, 4, bits, a->planar, row, a->add) + a->plus) & ((1 << bits) - 1);
}

static void put_code(uint8_t *words, int64_t step, int bits, bool planar, int64_t i, unsigned code) {
    struct field f[MOST_FIELDS];
    for (int n = fields_of(bits, planar, i, f), p = 0; p < n; p++)
        sr_put_bits(words + f[p].word * step, f[p].shift, f[p].bits, code >> f[p].at);
}
static void put_codes(sr_weight *w, int64_t row, int64_t k0, int n, const uint8_t *q) {
    const sr_integer *a = w->aux;
    const int bits = w->fmt->spec.bits, per_word = 32 / bits;
    uint8_t *words = w->plane[SR_INTEGER_CODES].data + 4 * row;
    const int64_t step = 4 * w->N;
    if (a->file_order || 32 % bits || k0 % per_word || n % per_word) {
        for (int i = 0; i < n; i++)
            put_code(words, step, bits, a->planar, a->file_order ? w->perm[k0 + i] : k0 + i, q[i]);
        return;
    }
    words += k0 * bits / 32 * step;
    for (int i = 0; i < n; words += step) {
        uint32_t v = 0;
        for (int j = 0; j < 32; j += bits) v |= (uint32_t)q[i++] << j;
        sr_put_u32(words, v);
    }
}
static void put_zero(sr_weight *w, int64_t row, int64_t g, int zero_point) {
    const sr_integer *a = w->aux;
    put_code(w->plane[SR_INTEGER_ZEROS].data + g * w->plane[SR_INTEGER_ZEROS].stride, 4, w->fmt->spec.bits, a->planar,
             row, (unsigned)(zero_point - a->plus));
}

/* ---------------------------------------------------------------- claim, layout */

enum { G_IDX = SR_INTEGER_ZEROS + 1 };

static bool is(const char *a, const char *b) {
    return a && !strcmp(a, b);
}

static bool claim(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    return is(spec->method, "gptq") && spec->bits == self->spec.bits && sr_parts_get(parts, "qweight") &&
           (is(spec->layout, "gptq") || is(spec->layout, "gptq_v2") || is(spec->layout, "gptq_p"));
}

static bool is_planar(const sr_format *fmt, const sr_qspec *spec) {
    int bits = fmt->spec.bits;
    return (bits > 4 && bits < 8 && !is(spec->writer, "auto-round")) || (bits == 3 && is(spec->layout, "gptq_p"));
}

static sr_status layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                        sr_err *err) {
    int bits = self->spec.bits;
    int64_t down, along;
    if (spec->group < 1) return sr_fail(err, SR_INVALID, "%s: no group size", self->name);
    if (32 % bits && (K % 32 || N % 32))
        return sr_fail(err, SR_INVALID, "%s is packed in blocks of 32, which do not divide %lld x %lld", self->name,
                       (long long)N, (long long)K);
    if (__builtin_mul_overflow(K, bits, &down) || __builtin_mul_overflow(N, bits, &along))
        return sr_fail(err, SR_INVALID, "%s: %lld x %lld is too large", self->name, (long long)N, (long long)K);
    int64_t groups = sr_integer_groups(K, spec);
    sr_planes_add(planes, "qweight", "i32", false, down / 32 + (down % 32 != 0), N);
    sr_planes_add(planes, "scales", "f16|bf16|f32", false, groups, N);
    sr_planes_add(planes, "qzeros", "i32", true, groups, along / 32 + (along % 32 != 0));
    sr_planes_add(planes, "g_idx", "i32|i64", true, K, 0); /* adopt compares it */
    planes->plane[SR_INTEGER_ZEROS].created = true;        /* loaders want both in any case */
    planes->plane[G_IDX].any_shape = true;
    return SR_OK;
}

static bool dims(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *q = sr_parts_get(parts, "qweight"), *g_idx = sr_parts_get(parts, "g_idx");
    if (!q || q->n_dims != 2 || q->shape[0] > INT64_MAX / 32) return false;
    *N = q->shape[1];
    *K = q->shape[0] * 32 / spec->bits;
    if (g_idx && g_idx->n_elements <= *K) *K = g_idx->n_elements; /* the last word need not be full */
    return true;
}

/* ---------------------------------------------------------------- zeros */

/* Whether each stored zero is `value`. */
static bool zeros_are(const sr_weight *w, int value, bool planar) {
    const int bits = w->fmt->spec.bits;
    const int64_t stride = w->plane[SR_INTEGER_ZEROS].stride;
    for (int64_t g = 0, n = sr_integer_groups(w->K, &w->spec); g < n; g++)
        for (int64_t i = 0; i < w->N; i++)
            if (code_at(w->plane[SR_INTEGER_ZEROS].data + g * stride, 4, bits, planar, i, 0) != value) return false;
    return true;
}

/* A symmetric file has one zero, 2^(b-1): what is stored tells its version, even where the config is silent or wrong.
 */
static void choose_zeros(const sr_weight *w, sr_integer *a) {
    const int bits = w->fmt->spec.bits, middle = 1 << (bits - 1);
    bool v1 = is(w->spec.layout, "gptq");
    if (!w->plane[SR_INTEGER_ZEROS].data) return;
    if (w->spec.sym) v1 = v1 ? !zeros_are(w, middle, a->planar) : zeros_are(w, middle - 1, a->planar);
    if (!v1) return;
    if (w->spec.writer && !strncmp(w->spec.writer, "gptqmodel", 9) && 32 % bits == 0)
        a->add = UINT32_MAX / ((1u << bits) - 1); /* a one a field */
    else
        a->plus = 1;
}

/* ---------------------------------------------------------------- act-order */

/* q[n] = codes of column k, rows row0 .. row0 + n; put adds them to a plane of zeros. */
static void get_column(const sr_weight *w, bool planar, int64_t k, int64_t row0, int n, uint8_t *q) {
    struct field f[MOST_FIELDS];
    int m = fields_of(w->fmt->spec.bits, planar, k, f);
    memset(q, 0, (size_t)n);
    for (int p = 0; p < m; p++) {
        const uint8_t *words = w->plane[SR_INTEGER_CODES].data + 4 * (f[p].word * w->N + row0);
        for (int i = 0; i < n; i++)
            q[i] |= (uint8_t)((sr_get_u32(words + 4 * i) >> f[p].shift & ((1u << f[p].bits) - 1)) << f[p].at);
    }
}
static void put_column(uint8_t *plane, const sr_weight *w, bool planar, int64_t k, int64_t row0, int n,
                       const uint8_t *q) {
    struct field f[MOST_FIELDS];
    int m = fields_of(w->fmt->spec.bits, planar, k, f);
    for (int p = 0; p < m; p++) {
        uint8_t *words = plane + 4 * (f[p].word * w->N + row0);
        for (int i = 0; i < n; i++) {
            uint32_t v = sr_get_u32(words + 4 * i) | ((uint32_t)q[i] >> f[p].at & ((1u << f[p].bits) - 1))
                                                         << f[p].shift;
            sr_put_u32(words + 4 * i, v);
        }
    }
}

/* The codes once more, with the columns group by group. */
static sr_status sort_columns(sr_weight *w, bool planar, sr_arena *arena, sr_err *err) {
    enum { STRIP = 1024 };
    uint8_t q[STRIP], *sorted = sr_arena_alloc(arena, (size_t)w->plane[SR_INTEGER_CODES].bytes, 1);
    if (!sorted)
        return sr_fail(err, SR_NOMEM, "no memory for %lld bytes of codes in another order",
                       (long long)w->plane[SR_INTEGER_CODES].bytes);
    for (int64_t row = 0; row < w->N; row += STRIP) {
        int n = w->N - row < STRIP ? (int)(w->N - row) : STRIP;
        for (int64_t k = 0; k < w->K; k++) {
            get_column(w, planar, w->perm[k], row, n, q);
            put_column(sorted, w, planar, k, row, n, q);
        }
    }
    w->plane[SR_INTEGER_CODES].data = sorted;
    return SR_OK;
}

/* Groups of any size: nothing is sorted, each column looks its group up. */
static sr_status keep_groups(sr_weight *w, const sr_part *g_idx, sr_arena *arena, sr_integer *a, sr_err *err) {
    int32_t *copy = sr_arena_alloc(arena, (size_t)w->K, sizeof *copy);
    if (!copy) return sr_fail(err, SR_NOMEM, "no memory for the groups of %lld columns", (long long)w->K);
    for (int64_t k = 0; k < w->K; k++) copy[k] = (int32_t)sr_get_u32(g_idx->data + 4 * k);
    a->g_idx = copy;
    w->tile = SR_TILE_F32;
    return SR_OK;
}

static sr_status order_columns(const sr_part *g_idx, sr_weight *w, sr_arena *arena, sr_integer *a, sr_err *err) {
    int64_t groups = sr_integer_groups(w->K, &w->spec), group = w->spec.group;
    if (strcmp(g_idx->type->name, "i32") || g_idx->n_elements != w->K)
        return sr_fail(err, SR_CORRUPT, "g_idx has %lld elements of type %s, expected %lld of i32",
                       (long long)g_idx->n_elements, g_idx->type->name, (long long)w->K);
    int64_t *count = sr_arena_alloc(arena, (size_t)groups, sizeof *count);
    if (!count) return sr_fail(err, SR_NOMEM, "no memory to count %lld groups", (long long)groups);
    for (int64_t k = 0; k < w->K; k++) {
        int32_t g = (int32_t)sr_get_u32(g_idx->data + 4 * k);
        if (g < 0 || g >= groups)
            return sr_fail(err, SR_CORRUPT, "g_idx of column %lld is %d, expected 0 to %lld", (long long)k, g,
                           (long long)groups - 1);
        count[g]++;
    }
    /* All zero: nobody filled it in, and groups are in order. So say the loaders that meet such files: exllamav2
     * (ext.py) and with it GPTQModel's qlinear/exllamav2.py, text-generation-inference (layers/gptq/), vLLM without
     * desc_act. (GPTQModel's torch kernel looks each column up, and would give all of them group 0.) */
    if (count[0] == w->K) return SR_OK;
    for (int64_t g = 0; g < groups; g++)
        if (count[g] != (g + 1 < groups ? group : w->K - g * group)) return keep_groups(w, g_idx, arena, a, err);
    sr_status st = sr_perm_sort(g_idx, w->K, group, arena, &w->perm, err);
    return st == SR_OK && w->perm ? sort_columns(w, a->planar, arena, err) : st;
}

static sr_status adopt(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    sr_integer *a = sr_arena_alloc(arena, 1, sizeof *a);
    if (!a) return sr_fail(err, SR_NOMEM, "no memory");
    *a = (sr_integer){.codes = codes,
                      .zero = zero,
                      .put_codes = put_codes,
                      .put_zero = put_zero,
                      .planar = is_planar(w->fmt, &w->spec)};
    w->aux = a;
    if (!parts) {
        a->plus = is(w->spec.layout, "gptq");
        sr_integer_middle(w);
        sr_integer_put_order(w, G_IDX);
        return SR_OK;
    }
    if (!w->plane[SR_INTEGER_ZEROS].data && !w->spec.sym)
        return sr_fail(err, SR_CORRUPT, "qzeros is missing, and the config says that it is not symmetric");
    choose_zeros(w, a);
    const sr_part *g_idx = sr_parts_get(parts, "g_idx");
    return g_idx ? order_columns(g_idx, w, arena, a, err) : SR_OK;
}

/* A column's place in the file is its place in x. */
static void reorder(sr_weight *w) {
    ((sr_integer *)(uintptr_t)w->aux)->file_order = true;
    sr_integer_put_order(w, G_IDX);
}

#define COARSE .panel = sr_panel_coarse, .panel_group = SR_KC, .panel_err = 0.012f
#define GPTQ(n, ...)                                                                                                   \
    const sr_format sr_fmt_gptq##n = {                                                                                 \
        .name = "gptq" #n,                                                                                             \
        .block = n == 2 || n == 4 || n == 8 ? 1 : 32,                                                                  \
        .lane = 1,                                                                                                     \
        .spec =                                                                                                        \
            {.method = "gptq", .layout = n > 4 && n < 8 ? "gptq_p" : "gptq", .sym = true, .bits = n, .group = 128},    \
        .reference = "gptqmodel 7.7.0",                                                                                \
        .tile = SR_TILE_I8,                                                                                            \
        .claim = claim,                                                                                                \
        .layout = layout,                                                                                              \
        .dims = dims,                                                                                                  \
        .adopt = adopt,                                                                                                \
        .decode = sr_integer_decode,                                                                                   \
        .unpack = sr_integer_unpack,                                                                                   \
        .sample = sr_integer_sample,                                                                                   \
        .fit = sr_integer_fit,                                                                                         \
        .hold = sr_integer_hold,                                                                                       \
        .snap = sr_integer_snap,                                                                                       \
        .store = sr_integer_store,                                                                                     \
        .reorder = reorder,                                                                                            \
        __VA_ARGS__,                                                                                                   \
    }

GPTQ(2, .rtn_err = 0.554f, COARSE);
GPTQ(3, .rtn_err = 0.239f, COARSE);
GPTQ(4, .rtn_err = 0.112f, COARSE);
GPTQ(5, .rtn_err = 0.054f, .has_min = false);
GPTQ(6, .rtn_err = 0.0266f, .has_min = false);
GPTQ(7, .rtn_err = 0.0132f, .has_min = false);
GPTQ(8, .rtn_err = 0.00656f, .has_min = true);
