/* From the named parts of a checkpoint to one sr_weight: gather, claim, check, point into the map. Also the slots that
 * formats share. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fmt/fmt.h"
#include "fmt/search.h"

/* Everything that some checkpoint family stores beside or instead of "<name>.weight". A bias is none of it: the decoder
 * binds biases itself. */
static const char *const suffixes[] = {
    "weight",
    /* GPTQ, AWQ; MLX has scales and biases */
    "qweight",
    "qzeros",
    "scales",
    "g_idx",
    "biases",
    "zeros",
    /* bitsandbytes */
    "SCB",
    "weight_format",
    "weight.absmax",
    "weight.quant_map",
    "weight.nested_absmax",
    "weight.nested_quant_map",
    "weight.quant_state.bitsandbytes__nf4",
    "weight.quant_state.bitsandbytes__fp4",
    /* FP8, compressed-tensors, modelopt, NVFP4 in GGUF */
    "weight_packed",
    "weight_scale",
    "weight_scale_inv",
    "weight_scale_2",
    "weight_global_scale",
    "weight_zero_point",
    "weight_shape",
    "weight_g_idx",
    "scale",
    /* HQQ, EXL3, gpt-oss */
    "W_q",
    "trellis",
    "suh",
    "svh",
    "blocks",
};
enum { N_SUFFIXES = sizeof suffixes / sizeof *suffixes, NAME_MAX_BYTES = 512, LIST_BYTES = 160 };

bool sr_weight_parts(const sr_file *file, const char *name, sr_parts *parts) {
    char full[NAME_MAX_BYTES];
    *parts = (sr_parts){.name = name};
    for (int i = 0; i < N_SUFFIXES && parts->n < SR_MAX_PLANES; i++) {
        int n = snprintf(full, sizeof full, "%s.%s", name, suffixes[i]);
        if (n < 0 || (size_t)n >= sizeof full) return false;
        const sr_part *part = sr_file_part(file, full);
        if (!part) continue;
        parts->item[parts->n].suffix = suffixes[i];
        parts->item[parts->n++].part = part;
    }
    return true;
}

/* "weight (q4_k), scales (f16)", cut at LIST_BYTES. */
static const char *list_parts(const sr_parts *parts, char *text) {
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < parts->n && used < LIST_BYTES; i++) {
        int n = snprintf(text + used, LIST_BYTES - used, "%s%s (%s)", i ? ", " : "", parts->item[i].suffix,
                         parts->item[i].part->type->name);
        used += n > 0 ? (size_t)n : 0;
    }
    return text;
}

static const char *path_of(const sr_file *file, const sr_part *part) {
    return part->shard < file->n_shards ? sr_show_path(file->shard[part->shard].path) : file->path;
}

/* "[4096, 11008]" */
static const char *list_shape(int n_dims, const int64_t *shape, char *text, size_t cap) {
    size_t used = 0;
    for (int i = 0; i < n_dims && used < cap; i++) {
        int n = snprintf(text + used, cap - used, "%s%lld", i ? ", " : "[", (long long)shape[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < cap) snprintf(text + used, cap - used, n_dims ? "]" : "[]");
    return text;
}

static const sr_part *part_called(const sr_parts *parts, const char *suffix) {
    for (int i = 0; i < parts->n; i++)
        if (!strcmp(parts->item[i].suffix, suffix)) return parts->item[i].part;
    return NULL;
}

/* Bytes of n elements in whole blocks, or -1 when they are none or do not fit in 63 bits. */
static int64_t stored_bytes(const sr_stored *type, const sr_planes *planes, int i) {
    int64_t n = 1;
    for (int d = 0; d < planes->plane[i].n_dims; d++)
        if (__builtin_mul_overflow(n, planes->plane[i].shape[d], &n)) return -1;
    int64_t bytes;
    if (type->bits) return __builtin_mul_overflow(n, type->bits, &bytes) || bytes % 8 ? -1 : bytes / 8;
    if (!type->block || n % type->block || __builtin_mul_overflow(n / type->block, type->bytes, &bytes)) return -1;
    return bytes;
}

/* Each plane that layout asks for against the part found: type, shape, bytes. */
static sr_status check_planes(const sr_file *file, const sr_parts *parts, const sr_planes *planes, sr_weight *w,
                              sr_err *err) {
    for (int i = 0; i < planes->n; i++) {
        const char *suffix = planes->plane[i].suffix;
        const sr_part *part = part_called(parts, suffix);
        char found[96], expected[96];
        if (!part)
            return sr_fail(err, SR_CORRUPT, "%s: '%s.%s' is missing; %s needs it", file->path, parts->name, suffix,
                           w->fmt->name);
        if (strcmp(part->type->name, planes->plane[i].stored))
            return sr_fail(err, SR_CORRUPT, "%s: '%s.%s' is stored as %s, expected %s", path_of(file, part),
                           parts->name, suffix, part->type->name, planes->plane[i].stored);
        if (part->n_dims != planes->plane[i].n_dims ||
            memcmp(part->shape, planes->plane[i].shape, (size_t)part->n_dims * sizeof *part->shape))
            return sr_fail(err, SR_CORRUPT, "%s: '%s.%s' has shape %s, expected %s", path_of(file, part), parts->name,
                           suffix, list_shape(part->n_dims, part->shape, found, sizeof found),
                           list_shape(planes->plane[i].n_dims, planes->plane[i].shape, expected, sizeof expected));
        int64_t bytes = stored_bytes(part->type, planes, i);
        if (bytes < 0 || bytes != part->bytes)
            return sr_fail(err, SR_CORRUPT, "%s: '%s.%s' has %lld bytes, expected %lld", path_of(file, part),
                           parts->name, suffix, (long long)part->bytes, (long long)bytes);
        w->plane[i].data = (uint8_t *)part->data; /* never written: only weights of sr_weight_create are */
        w->plane[i].bytes = bytes;
        w->plane[i].stride = part->shape[0] ? bytes / part->shape[0] : 0;
    }
    return SR_OK;
}

sr_status sr_weight_bind(const sr_file *file, const char *name, int64_t N, int64_t K, const sr_qspec *spec,
                         sr_weight *w, sr_err *err) {
    static const sr_qspec none = {0};
    sr_parts parts;
    sr_planes planes = {0};
    char list[LIST_BYTES];

    memset(w, 0, sizeof *w);
    if (!spec) spec = &none;
    if (!sr_weight_parts(file, name, &parts))
        return sr_fail(err, SR_INVALID, "%s: a tensor name has more than %d bytes", file->path, NAME_MAX_BYTES - 1);
    if (!parts.n) return sr_fail(err, SR_CORRUPT, "%s: '%s.weight' is missing", file->path, name);
    const char *path = path_of(file, parts.item[0].part);

    const sr_format *other = NULL;
    for (int i = 0; sr_formats[i]; i++) {
        if (!sr_formats[i]->claim(sr_formats[i], &parts, spec)) continue;
        if (!w->fmt)
            w->fmt = sr_formats[i];
        else
            other = sr_formats[i];
    }
    if (!w->fmt)
        return sr_fail(err, SR_UNSUPPORTED, "%s: no format claims the parts of '%s': %s", path, name,
                       list_parts(&parts, list));
    if (other)
        return sr_fail(err, SR_UNSUPPORTED, "%s: both %s and %s claim the parts of '%s': %s", path, w->fmt->name,
                       other->name, name, list_parts(&parts, list));

    const sr_part *first = parts.item[0].part;
    if (N < 0 || K < 0) {
        /* Formats whose first part has another shape than the weight will need the caller to say. */
        if (first->n_dims != 2)
            return sr_fail(err, SR_CORRUPT, "%s: '%s.%s' has shape %s, expected two dimensions", path, name,
                           parts.item[0].suffix, list_shape(first->n_dims, first->shape, list, sizeof list));
        if (N < 0) N = first->shape[0];
        if (K < 0) K = first->shape[1];
    }
    if (N < 1 || K < 1)
        return sr_fail(err, SR_CORRUPT, "%s: '%s' is a %lld x %lld matrix, expected 1 x 1 or more", path, name,
                       (long long)N, (long long)K);
    w->N = N;
    w->K = K;
    w->group = w->fmt->group ? w->fmt->group : spec->group;
    sr_err why = {0};
    if (w->fmt->layout(w->fmt, N, K, spec, &planes, &why) != SR_OK)
        return sr_fail(err, SR_CORRUPT, "%s: '%s': %s", path, name, why.msg);
    sr_status st = check_planes(file, &parts, &planes, w, err);
    if (st == SR_OK && w->fmt->adopt) st = w->fmt->adopt(&parts, spec, w, err);
    return st;
}

sr_status sr_weight_create(const sr_format *fmt, int64_t N, int64_t K, sr_arena *arena, sr_weight *w, sr_err *err) {
    static const sr_qspec none = {0};
    sr_planes planes = {0};
    memset(w, 0, sizeof *w);
    if (N < 1 || K < 1)
        return sr_fail(err, SR_INVALID, "a weight of %lld x %lld, expected 1 x 1 or more", (long long)N, (long long)K);
    sr_status st = fmt->layout(fmt, N, K, &none, &planes, err);
    if (st != SR_OK) return st;
    w->fmt = fmt;
    w->N = N;
    w->K = K;
    w->group = fmt->group;
    for (int i = 0; i < planes.n; i++) {
        const sr_stored *type = sr_stored_by_name(planes.plane[i].stored);
        int64_t bytes = type ? stored_bytes(type, &planes, i) : -1;
        if (bytes < 0)
            return sr_fail(err, SR_INVALID, "%s: %lld x %lld is no size that it can have", fmt->name, (long long)N,
                           (long long)K);
        w->plane[i].data = sr_arena_alloc(arena, (size_t)bytes, 1);
        if (!w->plane[i].data)
            return sr_fail(err, SR_NOMEM, "%s weight of %lld x %lld: no memory for %lld bytes", fmt->name, (long long)N,
                           (long long)K, (long long)bytes);
        w->plane[i].bytes = bytes;
        w->plane[i].stride = bytes / planes.plane[i].shape[0];
    }
    return SR_OK;
}

int64_t sr_weight_bytes(const sr_weight *w) {
    int64_t bytes = 0;
    for (int i = 0; i < SR_MAX_PLANES; i++) bytes += w->plane[i].bytes;
    return bytes;
}

/* ---------------------------------------------------------------- shared slots */

bool sr_claim_single(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    (void)spec;
    return parts->n == 1 && !strcmp(parts->item[0].suffix, "weight") &&
           !strcmp(parts->item[0].part->type->name, self->name);
}

sr_status sr_layout_single(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                           sr_err *err) {
    (void)spec;
    if (K % self->block)
        return sr_fail(err, SR_INVALID, "%s has blocks of %d columns, which do not divide %lld", self->name,
                       self->block, (long long)K);
    planes->n = 1;
    planes->plane[0].suffix = "weight";
    planes->plane[0].stored = self->name;
    planes->plane[0].n_dims = 2;
    planes->plane[0].shape[0] = N;
    planes->plane[0].shape[1] = K;
    return SR_OK;
}

void sr_decode_i8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    int8_t code[SR_KC];
    float scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS];
    int group = w->group;
    for (int64_t k = 0; k < n; k += SR_KC) {
        int part = n - k < SR_KC ? (int)(n - k) : SR_KC;
        w->fmt->unpack(w, row, k0 + k, part, code, scale, min);
        for (int i = 0; i < part; i += group)
            for (int j = i; j < i + group; j++) {
                float v = scale[i / group] * (float)code[j];
                out[k + j] = w->fmt->has_min ? v - min[i / group] : v;
            }
    }
}

void sr_panel_coarse(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const int group = w->group;
    (void)min;
    for (int64_t i = 0; i < n; i += SR_KC, code += SR_KC) {
        int m = n - i < SR_KC ? (int)(n - i) : SR_KC;
        float v[SR_KC], s[SR_MAX_GROUPS], lo[SR_MAX_GROUPS] = {0}, max = 0;
        w->fmt->unpack(w, row, k0 + i, m, code, s, lo);
        for (int j = 0; j < m; j++) {
            v[j] = s[j / group] * (float)code[j] - lo[j / group];
            max = fabsf(v[j]) > max || v[j] != v[j] ? fabsf(v[j]) : max;
        }
        if (!isfinite(max)) {
            *scale++ = NAN;
            memset(code, 0, (size_t)m);
            continue;
        }
        float inverse = max > 0 ? 127 / max : 0;
        if (!isfinite(inverse)) inverse = 0; /* no factor that f16 can hold is so small */
        *scale++ = max / 127;
        for (int j = 0; j < m; j++) code[j] = (int8_t)sr_nearest(v[j] * inverse);
    }
}

void sr_panel_row(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    (w->fmt->panel ? w->fmt->panel : w->fmt->unpack)(w, row, k0, n, code, scale, min);
    if (n % SR_KC) memset(code + n, 0, (size_t)(SR_KC - n % SR_KC));
}
