/* bitsandbytes: nf4 and fp4 over the flattened matrix, and LLM.int8().
 *
 * 4 bits. n = N * K numbers in row order, in blocks of `blocksize` that may cross rows:
 *     <m>.weight                  bytes, whatever type they are said to have (bnb_4bit_quant_storage); byte i holds
 *                                 number 2 i in its high and 2 i + 1 in its low nibble
 *     <m>.weight.quant_map        f32 [16]                        w = quant_map[code] * absmax[i / blocksize]
 *     <m>.weight.absmax           f32 [ceil(n / blocksize)], or u8 with
 *     <m>.weight.nested_absmax    f32 [ceil(blocks / nested_blocksize)]
 *     <m>.weight.nested_quant_map f32 [256]           absmax[j] = map[code[j]] * nested_absmax[j / nested_blocksize]
 *                                                                 + nested_offset
 *     <m>.weight.quant_state.bitsandbytes__nf4, or __fp4: JSON with blocksize, shape and the nested numbers
 * 8 bits.
 *     <m>.weight i8 [N][K], <m>.SCB f32 [N]                       w = code * SCB / 127
 *     <m>.weight_format u8: 0 is rows, 1 to 3 are orders of columns that only old versions wrote
 * The threshold beyond which LLM.int8() multiplies columns of x in f16 is a matter of its kernel: here every token
 * whose outliers cost precision has a second column of x (cpu/matmul.c).
 *
 * Sources: bitsandbytes: bitsandbytes/functional.py, bitsandbytes/backends/default/ops.py, csrc/kernels.cu. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/random.h"
#include "fmt/bnb.h"
#include "fmt/fmt.h"
#include "fmt/search.h"
#include "fmt/shrink.h"

enum {
    WEIGHT = SR_BNB_WEIGHT,
    ABSMAX = SR_BNB_ABSMAX,
    MAP = SR_BNB_MAP,
    NESTED_ABSMAX = SR_BNB_NESTED_ABSMAX,
    NESTED_MAP = SR_BNB_NESTED_MAP,
    STATE = SR_BNB_STATE
};
enum {
    LEAST_BLOCK = 32,
    MOST_BLOCK = 4096,
    MOST_STATE = 4096,
    CREATED_STATE = 224,
    NESTED_BLOCK = 256,
    MOST_NESTED_BLOCK = 1 << 20
};

typedef sr_bnb state;

/* ---------------------------------------------------------------- the 4-bit state */

static float f32_at(const uint8_t *p, int64_t i) {
    float v;
    memcpy(&v, p + 4 * i, 4);
    return v;
}

static const char *state_suffix(const char *type) {
    return !strcmp(type, "nf4") ? "weight.quant_state.bitsandbytes__nf4" : "weight.quant_state.bitsandbytes__fp4";
}

static sr_status read_shape(sr_json *j, const sr_json_value *v, state *s, const char *suffix, sr_err *err) {
    sr_json_value item;
    int64_t n[2] = {0, 0};
    int count = 0;
    sr_json_kind kind = v->kind == SR_JSON_ARRAY ? sr_json_next(j, &item) : SR_JSON_ERROR;
    for (; kind == SR_JSON_NUMBER && count < 2 && sr_json_int64(&item, &n[count]) && n[count] > 0; count++)
        kind = sr_json_next(j, &item);
    if (kind != SR_JSON_END || count != 2)
        return sr_fail(err, SR_CORRUPT, "%s: shape is not two sizes of 1 or more", suffix);
    s->N = n[0];
    s->K = n[1];
    return SR_OK;
}

/* {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [N, K], "nested_blocksize": 256,
 * "nested_dtype": "float32", "nested_offset": 0.03} */
static sr_status read_state(const sr_parts *parts, const char *type, state *s, sr_err *err) {
    const char *suffix = state_suffix(type);
    const sr_part *part = sr_parts_get(parts, suffix);
    sr_err own = {0};
    sr_json_value key, v;
    bool typed = false;
    if (part->bytes > MOST_STATE)
        return sr_fail(err, SR_LIMIT, "%s has %lld bytes, expected at most %d", suffix, (long long)part->bytes,
                       MOST_STATE);
    sr_json j = sr_json_over((const char *)part->data, (size_t)part->bytes, suffix, &own);
    if (sr_json_next(&j, &v) != SR_JSON_OBJECT)
        return sr_fail(err, SR_CORRUPT, "%s is no JSON object%s%s", suffix, own.msg[0] ? ": " : "", own.msg);
    for (;;) {
        sr_json_kind kind = sr_json_next_pair(&j, &key, &v);
        int64_t i = 0;
        double d = 0;
        if (kind == SR_JSON_END) break;
        if (kind == SR_JSON_ERROR) return sr_fail(err, SR_CORRUPT, "%s", own.msg);
        if (sr_json_equals(&key, "quant_type")) {
            typed = kind == SR_JSON_STRING && sr_json_equals(&v, type);
            if (!typed) return sr_fail(err, SR_CORRUPT, "%s: quant_type is not \"%s\"", suffix, type);
        } else if (sr_json_equals(&key, "blocksize")) {
            if (!sr_json_int64(&v, &i) || i < LEAST_BLOCK || i > MOST_BLOCK || (i & (i - 1)))
                return sr_fail(err, SR_CORRUPT, "%s: blocksize is no power of two from %d to %d", suffix, LEAST_BLOCK,
                               MOST_BLOCK);
            s->block = i;
        } else if (sr_json_equals(&key, "shape")) {
            if (read_shape(&j, &v, s, suffix, err) != SR_OK) return SR_CORRUPT;
        } else if (sr_json_equals(&key, "nested_blocksize")) {
            if (!sr_json_int64(&v, &i) || i < 1 || i > MOST_NESTED_BLOCK || (i & (i - 1)))
                return sr_fail(err, SR_CORRUPT, "%s: nested_blocksize is no power of two from 1 to %d", suffix,
                               MOST_NESTED_BLOCK);
            s->nested_block = i;
        } else if (sr_json_equals(&key, "nested_offset")) {
            if (!sr_json_double(&v, &d) || !(fabs(d) <= 3e38))
                return sr_fail(err, SR_CORRUPT, "%s: nested_offset is no finite number", suffix);
            s->offset = (float)d;
        } else {
            sr_json_skip(&j, &v);
        }
    }
    if (!typed || !s->block || !s->N)
        return sr_fail(err, SR_CORRUPT, "%s: %s is missing", suffix,
                       !typed      ? "quant_type"
                       : !s->block ? "blocksize"
                                   : "shape");
    return SR_OK;
}

static bool claim_4bit(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    (void)spec;
    return sr_parts_get(parts, "weight") && sr_parts_get(parts, state_suffix(self->spec.layout));
}

static bool dims_4bit(const sr_parts *parts, const char *type, int64_t *N, int64_t *K) {
    state s = {0};
    /* Not readable: adopt says why; any shape brings it there. */
    *N = *K = 1;
    if (read_state(parts, type, &s, NULL) != SR_OK) return true;
    *N = s.N;
    *K = s.K;
    return true;
}
static bool dims_nf4(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    (void)spec;
    return dims_4bit(parts, "nf4", N, K);
}
static bool dims_fp4(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    (void)spec;
    return dims_4bit(parts, "fp4", N, K);
}

/* The shapes are those of a created weight; what a file must have is known once its state is read. */
static sr_status layout_4bit(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                             sr_err *err) {
    int64_t n, block = spec->group > 0 ? spec->group : self->spec.group;
    if (__builtin_mul_overflow(N, K, &n) || n > INT64_MAX / 4)
        return sr_fail(err, SR_INVALID, "%s: %lld x %lld is more than there can be", self->name, (long long)N,
                       (long long)K);
    if (block < LEAST_BLOCK || block > MOST_BLOCK || (block & (block - 1)))
        return sr_fail(err, SR_INVALID, "%s: groups of %lld, expected a power of two from %d to %d", self->name,
                       (long long)block, LEAST_BLOCK, MOST_BLOCK);
    const int64_t blocks = (n - 1) / block + 1;
    sr_planes_add(planes, "weight", "u8|i8|f16|bf16|f32|f64|i16|i32|i64|u16|u32|u64", false, (n + 1) / 2, 1);
    sr_planes_add(planes, "weight.absmax", spec->nested ? "u8|f32" : "f32|u8", false, blocks, 0);
    sr_planes_add(planes, "weight.quant_map", "f32", false, 16, 0);
    sr_planes_add(planes, "weight.nested_absmax", "f32", true, (blocks - 1) / NESTED_BLOCK + 1, 0);
    sr_planes_add(planes, "weight.nested_quant_map", "f32", true, 256, 0);
    sr_planes_add(planes, state_suffix(self->spec.layout), "u8", true, CREATED_STATE, 0);
    planes->plane[STATE].any_shape = true;
    planes->plane[WEIGHT].any_shape = planes->plane[ABSMAX].any_shape = true;
    planes->plane[NESTED_ABSMAX].any_shape = planes->plane[NESTED_MAP].created = spec->nested;
    if (!spec->nested) planes->plane[NESTED_ABSMAX].n_dims = 0;
    return SR_OK;
}

static sr_status check_finite(const sr_weight *w, int plane, const char *suffix, float *out, sr_err *err) {
    int64_t n = w->plane[plane].bytes / 4;
    for (int64_t i = 0; i < n; i++) {
        float v = f32_at(w->plane[plane].data, i);
        if (out) out[i] = v;
        if (!isfinite(v)) return sr_fail(err, SR_CORRUPT, "%s[%lld] is not finite", suffix, (long long)i);
    }
    return SR_OK;
}

static sr_status expect_bytes(const sr_weight *w, int plane, const char *suffix, int64_t expected, sr_err *err) {
    return w->plane[plane].bytes == expected ? SR_OK
                                             : sr_fail(err, SR_CORRUPT, "%s has %lld bytes, expected %lld", suffix,
                                                       (long long)w->plane[plane].bytes, (long long)expected);
}

static sr_status check_parts(const sr_parts *parts, const sr_weight *w, state *s, sr_err *err) {
    sr_status st = read_state(parts, w->fmt->spec.layout, s, err);
    if (st != SR_OK) return st;
    if (s->N != w->N || s->K != w->K)
        return sr_fail(err, SR_CORRUPT, "%s: shape is [%lld, %lld], expected [%lld, %lld]",
                       state_suffix(w->fmt->spec.layout), (long long)s->N, (long long)s->K, (long long)w->N,
                       (long long)w->K);
    bool nested = w->plane[ABSMAX].type->bytes == 1;
    int64_t n = s->N * s->K, blocks = (n - 1) / s->block + 1; /* layout has checked the product */
    st = expect_bytes(w, WEIGHT, "weight", (n + 1) / 2, err);
    if (st == SR_OK) st = expect_bytes(w, ABSMAX, "weight.absmax", nested ? blocks : 4 * blocks, err);
    if (st == SR_OK && !nested) st = check_finite(w, ABSMAX, "weight.absmax", NULL, err);
    if (st != SR_OK || !nested) {
        s->nested_block = 0;
        return st;
    }
    if (!w->plane[NESTED_ABSMAX].data || !w->plane[NESTED_MAP].data || !s->nested_block)
        return sr_fail(err, SR_CORRUPT, "weight.absmax is stored as u8 and %s is missing",
                       !w->plane[NESTED_ABSMAX].data ? "weight.nested_absmax"
                       : !w->plane[NESTED_MAP].data  ? "weight.nested_quant_map"
                                                     : "nested_blocksize");
    st = expect_bytes(w, NESTED_ABSMAX, "weight.nested_absmax", 4 * ((blocks - 1) / s->nested_block + 1), err);
    if (st == SR_OK) st = check_finite(w, NESTED_ABSMAX, "weight.nested_absmax", NULL, err);
    return st == SR_OK ? check_finite(w, NESTED_MAP, "weight.nested_quant_map", s->nested_map, err) : st;
}

static void fill_map(state *s) {
    float most = 0;
    for (int i = 0; i < 16; i++) most = fmaxf(most, fabsf(s->map[i]));
    s->unit = most / 127;
    s->fine = most / SR_BNB_MIDDLE;
    for (int i = 0; i < 16; i++) {
        int fine = SR_BNB_MIDDLE + (s->unit >= 1e-30f ? (int)sr_nearest(s->map[i] / s->fine) : 0);
        s->code[i] = s->unit >= 1e-30f ? (int8_t)sr_nearest(s->map[i] / s->unit) : 0;
        s->high[i] = (uint8_t)(fine >> 7);
        s->low[i] = (uint8_t)(fine & 127);
    }
}

/* The maps, for created weights; checkpoints bring them. functional.py: get_4bit_type */
static const float nf4_map[16] = {
    -1,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1,
};
static const float fp4_map[16] = {
    0.f, 0.0625f / 12,  8.f / 12,  12.f / 12,  4.f / 12,  6.f / 12,  2.f / 12,  3.f / 12,
    0.f, -0.0625f / 12, -8.f / 12, -12.f / 12, -4.f / 12, -6.f / 12, -2.f / 12, -3.f / 12,
};

/* 256 numbers for nested absmax, of seven decades: in decade i, the 2^i middles between steps from 0.1 to 1, of either
 * sign; 0 and 1. functional.py: create_dynamic_map. Steps are torch's linspace, from both ends, of fused products. */
static void dynamic_map(float map[256]) {
    static const float decade[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1};
    int n = 128;
    map[127] = 0;
    for (int i = 0; i < 7; i++) {
        const int steps = 1 << i, points = steps + 1;
        const float step = (1 - 0.1f) / (float)steps;
        float last = 0;
        for (int j = 0; j < points; j++) {
            double at = j < points / 2 ? 0.1f + (double)step * j : 1 - (double)step * (steps - j);
            float point = (float)at;
            if (j) {
                map[n] = decade[i] * ((last + point) / 2);
                map[254 - n] = -map[n];
                n++;
            }
            last = point;
        }
    }
    map[n] = 1;
}

/* What a created weight's state says, padded with blanks. */
static void write_state(sr_weight *w, const state *s) {
    char text[CREATED_STATE];
    int n = snprintf(text, sizeof text,
                     "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"bfloat16\", \"shape\": [%lld, %lld]",
                     w->fmt->name, (int)s->block, (long long)w->N, (long long)w->K);
    if (s->nested_block)
        n += snprintf(text + n, sizeof text - (size_t)n,
                      ", \"nested_blocksize\": %d, \"nested_dtype\": \"float32\", \"nested_offset\": %.9g",
                      (int)s->nested_block, (double)s->offset);
    memset(w->plane[STATE].data, ' ', CREATED_STATE);
    memcpy(w->plane[STATE].data, text, (size_t)n);
    w->plane[STATE].data[n] = '}';
}

static sr_status adopt_4bit(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    state *s = sr_arena_alloc(arena, 1, sizeof *s);
    if (!s) return sr_fail(err, SR_NOMEM, "no memory for its maps");
    sr_status st = SR_OK;
    if (parts) {
        st = check_parts(parts, w, s, err);
        if (st == SR_OK) st = check_finite(w, MAP, "weight.quant_map", s->map, err);
    } else {
        s->N = w->N;
        s->K = w->K;
        s->block = w->spec.group > 0 ? w->spec.group : w->fmt->spec.group;
        memcpy(s->map, strcmp(w->fmt->name, "nf4") ? fp4_map : nf4_map, sizeof s->map);
        memcpy(w->plane[MAP].data, s->map, sizeof s->map);
        dynamic_map(s->nested_map);
        s->nested_block = w->spec.nested ? NESTED_BLOCK : 0;
        if (w->spec.nested) memcpy(w->plane[NESTED_MAP].data, s->nested_map, sizeof s->nested_map);
        write_state(w, s);
    }
    if (st != SR_OK) return st;
    fill_map(s);
    s->shift = __builtin_ctzll((unsigned long long)s->block);
    s->nested_shift = s->nested_block ? __builtin_ctzll((unsigned long long)s->nested_block) : 0;
    w->aux = s;
    w->plane[WEIGHT].stride = w->K / 2; /* of rows that are whole bytes; its shape has none */
    w->spec.group = (int32_t)s->block;
    /* Columns that share a block in every row, whatever its start: powers of two that divide both. */
    int64_t common = w->K & -w->K;
    sr_weight_set_group(w, common < s->block ? common : s->block);
    bool tiny = s->unit < 1e-30f && s->unit > 0;             /* steps that f32 cannot hold well */
    if (common < LEAST_BLOCK || tiny) w->tile = SR_TILE_F32; /* kernels want whole bytes, and one scale a vector */
    return SR_OK;
}

/* ---------------------------------------------------------------- 4 bits */

static int code_of(const sr_weight *w, int64_t i) {
    return w->plane[WEIGHT].data[i / 2] >> (i % 2 ? 0 : 4) & 15;
}

static void decode_4bit(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const state *s = w->aux;
    for (int64_t i = row * w->K + k0, end = i + n; i < end;) {
        float absmax = sr_bnb_absmax(w, s, i / s->block);
        int64_t stop = (i / s->block + 1) * s->block;
        for (; i < end && i < stop; i++) *out++ = s->map[code_of(w, i)] * absmax;
    }
}

static void unpack_4bit(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const state *s = w->aux;
    int64_t i0 = row * w->K + k0;
    (void)min;
    for (int64_t k = 0; k < n; k += w->group) *scale++ = sr_bnb_absmax(w, s, (i0 + k) / s->block) * s->unit;
    for (int64_t k = 0; k < n; k++) code[k] = s->code[code_of(w, i0 + k)];
}

static void sample_4bit(sr_weight *w, uint64_t seed) {
    for (int64_t i = 0; i < w->plane[WEIGHT].bytes; i++) w->plane[WEIGHT].data[i] = (uint8_t)(sr_random(&seed) >> 32);
    for (int64_t i = 0; i < w->plane[ABSMAX].bytes / 4; i++) {
        float v = 0.03f + 0.02f * (float)(sr_random(&seed) >> 40) * 0x1p-24f;
        memcpy(w->plane[ABSMAX].data + 4 * i, &v, 4);
    }
}

/* ---------------------------------------------------------------- writing 4 bits
 * Codes are the nearest by the midpoints between the map's numbers, of which the lower one is below a tie. FP4 has two
 * zeros: what is 0 or a little less is code 0, a little more code 8, as torch's sort has them.
 * bitsandbytes: backends/default/ops.py, quantize_4bit. */

static const uint8_t nf4_order[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t fp4_order[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};

static inline void snap_map(const float map[16], const uint8_t order[16], float absmax, int n, const float *w,
                            int8_t *code, float *back) {
    /* not 0, so that its inverse is finite; nested ones may be a little below 0 */
    const float inverse = 1 / (fabsf(absmax) > 1e-38f ? absmax : 1e-38f);
    float bound[15];
    for (int b = 0; b < 15; b++) bound[b] = (map[order[b]] + map[order[b + 1]]) / 2;
    for (int i = 0; i < n; i++) {
        float x = sr_clamp(sr_weight_finite(w[i]) * inverse, -1, 1);
        int q = 0;
        for (int b = 0; b < 15; b++) q += x > bound[b];
        code[i] = (int8_t)order[q];
        back[i] = map[order[q]] * absmax;
    }
}
static void snap_nf4(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    (void)i0;
    snap_map(nf4_map, nf4_order, grid->scale[0], n, w, code, back);
}
static void snap_fp4(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    (void)i0;
    snap_map(fp4_map, fp4_order, grid->scale[0], n, w, code, back);
}

static bool tiles_4bit(const sr_weight *w, int64_t *rows, int64_t *cols) {
    *rows = 1;
    *cols = w->spec.group;
    return w->spec.nested;
}

/* Double quantization: what absmax exceeds its mean by, in the 8-bit map, relative to the largest of 256. */
static sr_status begin_4bit(sr_weight *w, const sr_peaks *peaks, sr_err *err) {
    state *s = (state *)(uintptr_t)w->aux;
    if (w->K % s->block)
        return sr_fail(err, SR_INVALID, "%s writes blocks within rows, and rows of %lld columns are no blocks of %lld",
                       w->fmt->name, (long long)w->K, (long long)s->block);
    if (!peaks) return SR_OK;
    const int64_t n = peaks->n_down * peaks->n_across;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)peaks->most[i];
    s->offset = sum / (double)n > 1e-30 ? (float)(sum / (double)n) : 0;
    for (int64_t i = 0; i < n; i += NESTED_BLOCK) {
        const int64_t end = n - i < NESTED_BLOCK ? n : i + NESTED_BLOCK;
        float most = 0;
        for (int64_t j = i; j < end; j++) most = fmaxf(most, fabsf(peaks->most[j] - s->offset));
        if (s->offset == 0) most = 0;
        memcpy(w->plane[NESTED_ABSMAX].data + 4 * (i / NESTED_BLOCK), &most, 4);
        for (int64_t j = i; j < end; j++) {
            float x = most > 1e-38f ? (peaks->most[j] - s->offset) / most : 0;
            int lo = 0, hi = 255; /* the least code that is not below by half a step */
            while (lo < hi) {
                int mid = (lo + hi) / 2;
                if (x > (s->nested_map[mid] + s->nested_map[mid + 1]) / 2)
                    lo = mid + 1;
                else
                    hi = mid;
            }
            w->plane[ABSMAX].data[j] = (uint8_t)lo;
        }
    }
    write_state(w, s);
    return SR_OK;
}

static float absmax_of(const sr_fit *in) {
    float most = sr_fit_most(in);
    return most > 1e-30f ? most : 0; /* what is smaller is no multiple that f32 holds well */
}

static void fit_4bit(const sr_fit *in, sr_grid *grid) {
    enum { TRIES = 16 };
    *grid = (sr_grid){.n = in->n, .group = in->n, .lo = 0, .hi = 15};
    if (in->w->spec.nested) {
        grid->scale[0] = sr_bnb_absmax(in->w, in->w->aux, (in->row * in->w->K + in->k0) / in->w->spec.group);
        return;
    }
    const float most = absmax_of(in);
    grid->scale[0] = most;
    if (!sr_fit_weighs(in)) return;
    sr_grid other = *grid;
    float least = sr_fit_error(in, grid);
    for (int t = 1; t < TRIES; t++) {
        other.scale[0] = most * (1 - 0.025f * (float)t);
        float error = sr_fit_error(in, &other);
        if (error < least) least = error, grid->scale[0] = other.scale[0];
    }
}

static void put_codes_4bit(sr_weight *w, int64_t row, int64_t k0, int n, const int8_t *code) {
    int64_t at = row * w->K + k0; /* even: so are blocks */
    for (int i = 0; i < n; i += 2) w->plane[WEIGHT].data[(at + i) / 2] = (uint8_t)(code[i] << 4 | code[i + 1]);
}
static void store_4bit(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    put_codes_4bit(w, row, k0, n, code);
    if (!w->spec.nested) sr_plane_put(w, ABSMAX, (row * w->K + k0) / w->spec.group, grid->scale[0]);
}

/* Codes are chosen by absmax before it is quantized. */
static void encode_4bit(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    for (int64_t k0 = 0; k0 < w->K; k0 += w->spec.group) {
        sr_fit in = {w, row, k0, w->spec.group, src + k0, NULL, 0};
        sr_grid grid = {.scale = {absmax_of(&in)}};
        int8_t code[SR_KC];
        float back[SR_KC];
        for (int i = 0; i < in.n; i += SR_KC) {
            int m = in.n - i < SR_KC ? in.n - i : SR_KC;
            w->fmt->snap(&grid, i, m, in.x + i, code, back);
            store_4bit(w, row, k0 + i, m, &grid, code);
        }
    }
}

/* ---------------------------------------------------------------- 8 bits */

static bool claim_int8(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    const sr_part *weight = sr_parts_get(parts, "weight");
    (void)self, (void)spec;
    return weight && !strcmp(weight->type->name, "i8") && sr_parts_get(parts, "SCB");
}

static sr_status layout_int8(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                             sr_err *err) {
    (void)self, (void)spec, (void)err;
    sr_planes_add(planes, "weight", "i8", false, N, K);
    sr_planes_add(planes, "SCB", "f32", false, N, 0);
    sr_planes_add(planes, "weight_format", "u8", true, 1, 0);
    planes->plane[2].any_shape = planes->plane[2].scalar = true; /* 0: rows */
    return SR_OK;
}

static sr_status adopt_int8(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    static const char *const order[] = {"row", "col32", "col_turing", "col_ampere"};
    (void)arena;
    w->spec.group = (int32_t)w->K; /* whatever the config says of other modules */
    sr_weight_set_group(w, w->K);
    if (!parts || !w->plane[2].data || w->plane[2].data[0] == 0) return SR_OK;
    int format = w->plane[2].data[0];
    return sr_fail(err, SR_UNSUPPORTED, "weight_format is %d (%s), expected 0 (row)", format,
                   format < 4 ? order[format] : "unknown");
}

static void decode_int8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const int8_t *code = (const int8_t *)w->plane[0].data + row * w->plane[0].stride + k0;
    float most = f32_at(w->plane[1].data, row);
    for (int64_t k = 0; k < n; k++) out[k] = (float)code[k] * most * SR_BNB_127TH;
}

static void unpack_int8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    float s = f32_at(w->plane[1].data, row) * SR_BNB_127TH;
    (void)min;
    for (int64_t k = 0; k < n; k += w->group) *scale++ = s;
    memcpy(code, w->plane[0].data + row * w->plane[0].stride + k0, (size_t)n);
}

/* functional.py: int8_vectorwise_quant. No code is -128. d32: absmax. */
static void set_int8(sr_grid *grid, float absmax) {
    grid->d32 = absmax;
    grid->scale[0] = grid->d32 * SR_BNB_127TH;
}
static void snap_int8(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    const float by = grid->d32 > 0 ? 127 * (1 / grid->d32) : 0; /* as torch divides a number by a tensor */
    (void)i0;
    for (int i = 0; i < n; i++) {
        float q = sr_nearest(sr_clamp(sr_weight_finite(w[i]) * by, -127, 127));
        code[i] = (int8_t)q;
        back[i] = q * grid->d32 * SR_BNB_127TH;
    }
}
static void fit_int8(const sr_fit *in, sr_grid *grid) {
    enum { TRIES = 16 };
    const float most = absmax_of(in);
    *grid = (sr_grid){.n = in->n, .group = in->n, .lo = -127, .hi = 127};
    set_int8(grid, most);
    if (!sr_fit_weighs(in)) return;
    sr_grid other = *grid;
    float least = sr_fit_error(in, grid);
    for (int t = 1; t < TRIES; t++) {
        set_int8(&other, most * (1 - 0.015f * (float)t));
        float error = sr_fit_error(in, &other);
        if (error < least) least = error, *grid = other;
    }
}
static void store_int8(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    memcpy(w->plane[0].data + row * w->plane[0].stride + k0, code, (size_t)n);
    sr_plane_put(w, 1, row, grid->d32);
}

/* ---------------------------------------------------------------- rows
 * panel_err: the table's 127 steps leave 0.0055 of rms, and coarsening as much again. */

#define REFERENCE .reference = "bitsandbytes 0.50.2"

const sr_format sr_fmt_nf4 = {
    .name = "nf4",
    .rtn_err = 0.0928f,
    .block = 1,
    .lane = 1,
    .spec = {.method = "bitsandbytes", .layout = "nf4", .bits = 4, .group = 64},
    REFERENCE,
    .tile = SR_TILE_I8,
    .claim = claim_4bit,
    .layout = layout_4bit,
    .decode = decode_4bit,
    .unpack = unpack_4bit,
    .dims = dims_nf4,
    .adopt = adopt_4bit,
    .sample = sample_4bit,
    .tiles = tiles_4bit,
    .begin = begin_4bit,
    .fit = fit_4bit,
    .snap = snap_nf4,
    .store = store_4bit,
    .encode = encode_4bit,
    .panel = sr_panel_coarse,
    .panel_group = SR_KC,
    .panel_err = 0.0095f,
};
const sr_format sr_fmt_fp4 = {
    .name = "fp4",
    .rtn_err = 0.123f,
    .block = 1,
    .lane = 1,
    .spec = {.method = "bitsandbytes", .layout = "fp4", .bits = 4, .group = 64},
    REFERENCE,
    .tile = SR_TILE_I8,
    .claim = claim_4bit,
    .layout = layout_4bit,
    .decode = decode_4bit,
    .unpack = unpack_4bit,
    .dims = dims_fp4,
    .adopt = adopt_4bit,
    .sample = sample_4bit,
    .tiles = tiles_4bit,
    .begin = begin_4bit,
    .fit = fit_4bit,
    .snap = snap_fp4,
    .store = store_4bit,
    .encode = encode_4bit,
    .panel = sr_panel_coarse,
    .panel_group = SR_KC,
    .panel_err = 0.0095f,
};
const sr_format sr_fmt_bnb_int8 = {
    .name = "bnb_int8",
    .rtn_err = 0.00776f,
    .block = 1,
    .lane = 1,
    .spec = {.method = "bitsandbytes", .layout = "int8", .bits = 8, .group = -1},
    REFERENCE,
    .tile = SR_TILE_I8,
    .claim = claim_int8,
    .layout = layout_int8,
    .decode = decode_int8,
    .unpack = unpack_int8,
    .adopt = adopt_int8,
    .fit = fit_int8,
    .snap = snap_int8,
    .store = store_int8,
};
