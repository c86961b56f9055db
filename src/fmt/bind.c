/* From the named parts of a checkpoint to one sr_weight: gather, claim, check, point into the map. Also the slots that
 * formats share. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/disk.h"
#include "base/half.h"
#include "base/map.h"
#include "base/path.h"
#include "fmt/fmt.h"
#include "fmt/fp8_bits.h"
#include "fmt/search.h"

/* Everything that some checkpoint family stores beside or instead of "<name>.weight". A bias is none of it: the decoder
 * binds biases itself. */
static const char *const suffixes[] = {
    "weight",
    /* GPTQ and AWQ; MLX has scales and biases; "B" and "s" are Marlin's */
    "qweight",
    "qzeros",
    "scales",
    "scaled_zeros",
    "g_idx",
    "biases",
    "B",
    "s",
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
    "pre_quant_scale",
    "scale_packed",
    "meta",
    "compressed",
    "bitmask",
    "row_offsets",
    "weight.compressed",
    "weight.bitmask",
    "weight.shape",
    "weight.row_offsets",
    "qscale_weight",
    "scale",
    /* HQQ */
    "W_q",
    "zero",
    "nbits",
    "group_size",
    "shape",
    "axis",
    "packing",
    "view_as_float",
    /* gpt-oss and fused experts */
    "_blocks",
    "_scales",
    "_scale_inv",
};
enum { N_SUFFIXES = sizeof suffixes / sizeof *suffixes, NAME_MAX_BYTES = 512, LIST_BYTES = 160 };

bool sr_weight_parts(const sr_file *file, const char *name, sr_parts *parts) {
    char full[NAME_MAX_BYTES];
    *parts = (sr_parts){.name = name, .file = file};
    for (int i = 0; i < N_SUFFIXES && parts->n < SR_MOST_PARTS; i++) {
        int n = snprintf(full, sizeof full, suffixes[i][0] == '_' ? "%s%s" : "%s.%s", name, suffixes[i]);
        if (n < 0 || (size_t)n >= sizeof full) return false;
        const sr_part *part = sr_file_part(file, full);
        if (!part && i == 0) part = sr_file_part(file, name); /* fused experts have the name of a parameter */
        if (!part) continue;
        parts->item[parts->n].suffix = suffixes[i];
        parts->item[parts->n++].part = part;
    }
    return true;
}

bool sr_part_module(const char *part, char *module, size_t cap) {
    size_t n = strlen(part), longest = 0;
    for (int i = 0; i < N_SUFFIXES; i++) {
        bool dot = suffixes[i][0] != '_';
        size_t m = strlen(suffixes[i]);
        if (n > m + dot && !strcmp(part + n - m, suffixes[i]) && (!dot || part[n - m - 1] == '.') && m + dot > longest)
            longest = m + dot;
    }
    if (!longest || n - longest >= cap) return false;
    memcpy(module, part, n - longest);
    module[n - longest] = 0;
    return true;
}

const sr_part *sr_parts_get(const sr_parts *parts, const char *suffix) {
    for (int i = 0; parts && i < parts->n; i++)
        if (!strcmp(parts->item[i].suffix, suffix)) return parts->item[i].part;
    return NULL;
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

/* Whether `name` is one of the alternatives of "f16|bf16|f32". */
static bool is_one_of(const char *name, const char *list) {
    size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (!strncmp(at, name, n) && (at[n] == 0 || at[n] == '|')) return true;
    return false;
}

const sr_stored *sr_plane_stored(const sr_planes *planes, int i, const sr_qspec *spec) {
    char name[32];
    size_t n = strcspn(planes->plane[i].stored, "|");
    if (n >= sizeof name) return NULL;
    memcpy(name, planes->plane[i].stored, n);
    name[n] = 0;
    if (spec && spec->floats && is_one_of(name, "f16|bf16|f32") && is_one_of(spec->floats, planes->plane[i].stored))
        return sr_stored_by_name(spec->floats);
    return sr_stored_by_name(name);
}

int sr_planes_find(const sr_planes *planes, const char *suffix) {
    for (int i = 0; suffix && i < planes->n; i++)
        if (is_one_of(suffix, planes->plane[i].suffix)) return i;
    return -1;
}

int64_t sr_plane_bytes(const sr_planes *planes, int i, const sr_stored *type) {
    int64_t n = 1, bytes;
    for (int d = 0; d < planes->plane[i].n_dims; d++)
        if (__builtin_mul_overflow(n, planes->plane[i].shape[d], &n)) return -1;
    return type && sr_stored_bytes(type, n, &bytes) ? bytes : -1;
}

/* Equal but for dimensions of 1, and for the first one being split in several ([E][N] for E * N rows). */
static bool same_shape(const sr_part *part, const sr_planes *planes, int i) {
    int64_t found[SR_MAX_DIMS], expected[4], first = 1;
    int n = 0, m = 0;
    for (int d = 0; d < part->n_dims; d++)
        if (part->shape[d] != 1) found[n++] = part->shape[d];
    for (int d = 0; d < planes->plane[i].n_dims; d++)
        if (planes->plane[i].shape[d] != 1) expected[m++] = planes->plane[i].shape[d];
    if (n < m) return false;
    if (m == 0) return n == 0;
    for (int d = 0; d <= n - m; d++)
        if (__builtin_mul_overflow(first, found[d], &first)) return false;
    if (n > m && m == 1 && part->n_dims <= 2) return false; /* a matrix is no vector */
    return first == expected[0] &&
           (m == 1 || !memcmp(found + n - m + 1, expected + 1, (size_t)(m - 1) * sizeof *found));
}

void sr_planes_add(sr_planes *planes, const char *suffix, const char *stored, bool optional, int64_t rows,
                   int64_t cols) {
    int i = planes->n++;
    planes->plane[i].suffix = suffix;
    planes->plane[i].stored = stored;
    planes->plane[i].optional = optional;
    planes->plane[i].n_dims = cols ? 2 : 1;
    planes->plane[i].shape[0] = rows;
    planes->plane[i].shape[1] = cols;
}

/* The first of "weight_scale|weight_scale_inv" that is there; *suffix becomes its own. */
static const sr_part *first_part(const sr_parts *parts, const char **suffix) {
    for (int i = 0; i < parts->n; i++)
        if (is_one_of(parts->item[i].suffix, *suffix)) {
            *suffix = parts->item[i].suffix;
            return parts->item[i].part;
        }
    return NULL;
}

bool sr_parts_dims(const sr_parts *parts, const char *suffix, int64_t *N, int64_t *K) {
    const sr_part *p = first_part(parts, &suffix);
    if (!p || p->n_elements != 2) return false;
    if (!strcmp(p->type->name, "i64")) {
        memcpy(N, p->data, 8); /* the machine is little-endian, as files are */
        memcpy(K, p->data + 8, 8);
    } else if (!strcmp(p->type->name, "i32")) {
        int32_t pair[2];
        memcpy(pair, p->data, sizeof pair);
        *N = pair[0];
        *K = pair[1];
    } else {
        return false;
    }
    return true;
}

/* Each plane that layout asks for against the part found: type, shape, bytes. */
static sr_status check_planes(const sr_parts *parts, const sr_planes *planes, sr_weight *w, sr_err *err) {
    const sr_file *file = parts->file;
    for (int i = 0; i < planes->n; i++) {
        const char *suffix = planes->plane[i].suffix;
        const sr_part *part = first_part(parts, &suffix);
        char found[96], expected[96];
        if (!part && planes->plane[i].optional) continue;
        if (!part)
            return sr_fail(err, SR_CORRUPT, "%s: '%s%s%s' is missing; %s needs it", file->path, parts->name,
                           suffix[0] == '_' ? "" : ".", suffix, w->fmt->name);
        if (!is_one_of(part->type->name, planes->plane[i].stored))
            return sr_fail(err, SR_CORRUPT, "%s: '%s' is stored as %s, expected %s", path_of(file, part), part->name,
                           part->type->name, planes->plane[i].stored);
        bool compared = planes->plane[i].n_dims > 0 && !planes->plane[i].any_shape;
        if (compared && !same_shape(part, planes, i))
            return sr_fail(err, SR_CORRUPT, "%s: '%s' has shape %s, expected %s", path_of(file, part), part->name,
                           list_shape(part->n_dims, part->shape, found, sizeof found),
                           list_shape(planes->plane[i].n_dims, planes->plane[i].shape, expected, sizeof expected));
        if (compared) {
            int64_t bytes = sr_plane_bytes(planes, i, part->type);
            if (bytes < 0 || bytes != part->bytes)
                return sr_fail(err, SR_CORRUPT, "%s: '%s' has %lld bytes, expected %lld", path_of(file, part),
                               part->name, (long long)part->bytes, (long long)bytes);
        }
        int64_t rows = compared ? planes->plane[i].shape[0] : part->n_dims ? part->shape[0] : 1;
        w->plane[i].data = (uint8_t *)(uintptr_t)part->data; /* never written: only created weights are */
        w->plane[i].bytes = part->bytes;
        w->plane[i].stride = rows ? part->bytes / rows : 0;
        w->plane[i].type = part->type;
    }
    return SR_OK;
}

/* What is set before the planes are. A number of columns fits 32 bits, as sr_qspec.group does. */
static void begin_weight(sr_weight *w, const sr_format *fmt, int64_t N, int64_t K, const sr_qspec *spec) {
    memset(w, 0, sizeof *w);
    w->fmt = fmt;
    w->N = N;
    w->K = K;
    w->spec = *spec;
    w->tile = fmt->tile;
    w->group = fmt->group;
    if (fmt->group) return;
    if (w->spec.group < 0 || w->spec.group > K) w->spec.group = (int32_t)K;
    sr_weight_set_group(w, w->spec.group);
}

void sr_weight_set_group(sr_weight *w, int64_t stored) {
    if (w->fmt->tile != SR_TILE_I8) return;
    bool one = stored >= w->K; /* a group a row: its end need not fall on a multiple */
    w->group = 0;
    for (int g = SR_KC; g >= SR_KC / SR_MAX_GROUPS && !w->group; g /= 2)
        if (one || stored % g == 0) w->group = g;
    if (!w->group) w->tile = SR_TILE_F32;
}

static bool shape_of(const sr_format *fmt, const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *first = parts->item[0].part;
    if (fmt->dims) return fmt->dims(parts, spec, N, K);
    if (first->n_dims < 2) return false;
    *K = first->shape[first->n_dims - 1];
    *N = first->n_elements / (*K ? *K : 1);
    return true;
}

sr_status sr_weight_bind(const sr_file *file, const sr_qconfig *config, const char *name, int64_t N, int64_t K,
                         sr_arena *arena, sr_weight *w, sr_err *err) {
    sr_parts parts;
    sr_planes planes = {0};
    sr_qspec spec;
    char list[LIST_BYTES];

    memset(w, 0, sizeof *w);
    if (!sr_weight_parts(file, name, &parts))
        return sr_fail(err, SR_INVALID, "%s: a tensor name has more than %d bytes", file->path, NAME_MAX_BYTES - 1);
    if (!parts.n) return sr_fail(err, SR_CORRUPT, "%s: '%s.weight' is missing", file->path, name);
    sr_status st = sr_qconfig_resolve(config, name, &spec, err);
    if (st != SR_OK) return st;
    const char *path = path_of(file, parts.item[0].part);

    const sr_format *fmt = NULL, *other = NULL;
    for (int i = 0; sr_formats[i]; i++) {
        if (!sr_formats[i]->claim(sr_formats[i], &parts, &spec)) continue;
        if (!fmt)
            fmt = sr_formats[i];
        else
            other = sr_formats[i];
    }
    if (!fmt)
        return sr_fail(err, SR_UNSUPPORTED, "%s: no format claims the parts of '%s': %s%s%s%s", path, name,
                       list_parts(&parts, list), spec.method ? " (quant_method " : "", spec.method ? spec.method : "",
                       spec.method ? ")" : "");
    if (other)
        return sr_fail(err, SR_UNSUPPORTED, "%s: both %s and %s claim the parts of '%s': %s", path, fmt->name,
                       other->name, name, list_parts(&parts, list));

    if (N < 0 || K < 0) {
        int64_t own_n = 0, own_k = 0;
        const sr_part *first = parts.item[0].part;
        if (!shape_of(fmt, &parts, &spec, &own_n, &own_k))
            return sr_fail(err, SR_CORRUPT, "%s: '%s.%s' has shape %s, expected two dimensions", path, name,
                           parts.item[0].suffix, list_shape(first->n_dims, first->shape, list, sizeof list));
        if (N < 0) N = own_n;
        if (K < 0) K = own_k;
    }
    if (N < 1 || K < 1 || K > INT32_MAX)
        return sr_fail(err, SR_CORRUPT, "%s: '%s' is a %lld x %lld matrix, expected 1 x 1 or more, at most %d columns",
                       path, name, (long long)N, (long long)K, INT32_MAX);
    sr_err why = {0};
    begin_weight(w, fmt, N, K, &spec);
    if (fmt->layout(fmt, N, K, &w->spec, &planes, &why) != SR_OK)
        return sr_fail(err, SR_CORRUPT, "%s: '%s': %s", path, name, why.msg);
    st = check_planes(&parts, &planes, w, err);
    if (st != SR_OK || !fmt->adopt || !arena) return st;
    st = fmt->adopt(&parts, w, arena, &why);
    return st == SR_OK ? SR_OK : sr_fail(err, st, "%s: '%s': %s", path, name, why.msg);
}

sr_status sr_weight_create(const sr_format *fmt, int64_t N, int64_t K, const sr_qspec *spec, sr_arena *arena,
                           sr_weight *w, sr_err *err) {
    sr_planes planes = {0};
    memset(w, 0, sizeof *w);
    if (N < 1 || K < 1 || K > INT32_MAX)
        return sr_fail(err, SR_INVALID, "a weight of %lld x %lld, expected 1 x 1 or more, at most %d columns",
                       (long long)N, (long long)K, INT32_MAX);
    begin_weight(w, fmt, N, K, spec ? spec : &fmt->spec);
    sr_status st = fmt->layout(fmt, N, K, &w->spec, &planes, err);
    if (st != SR_OK) return st;
    for (int i = 0; i < planes.n; i++) {
        if (!sr_plane_created(&planes, i)) continue;
        const sr_stored *type = sr_plane_stored(&planes, i, &w->spec);
        int64_t bytes = sr_plane_bytes(&planes, i, type);
        if (bytes < 0)
            return sr_fail(err, SR_INVALID, "%s: %lld x %lld is no size that it can have", fmt->name, (long long)N,
                           (long long)K);
        w->plane[i].data = sr_arena_alloc(arena, (size_t)bytes, 1);
        if (!w->plane[i].data)
            return sr_fail(err, SR_NOMEM, "%s weight of %lld x %lld: no memory for %lld bytes", fmt->name, (long long)N,
                           (long long)K, (long long)bytes);
        w->plane[i].bytes = bytes;
        w->plane[i].stride = bytes / planes.plane[i].shape[0];
        w->plane[i].type = type;
    }
    return fmt->adopt ? fmt->adopt(NULL, w, arena, err) : SR_OK;
}

static int64_t in_pages(int64_t bytes) {
    return (bytes + SR_PAGES - 1) / SR_PAGES * SR_PAGES;
}

sr_status sr_weight_to_file(sr_weight *w, const char *dir, sr_err *err) {
    sr_arena own = {0};
    sr_slab file = {.fd = -1};
    int64_t size = 0, from = 0;
    for (int p = 0; p < SR_MAX_PLANES; p++) size += in_pages(w->plane[p].bytes);
    const char *path = sr_path_join(&own, dir, "matrix");
    sr_status s = path ? sr_slab_scratch(path, size, &file, err) : sr_fail(err, SR_NOMEM, "no memory for a path");
    for (int p = 0; p < SR_MAX_PLANES && s == SR_OK; p++) {
        const int64_t bytes = w->plane[p].bytes;
        if (bytes >= SR_ARENA_PAGES && !sr_pages_to_file(w->plane[p].data, (size_t)bytes, file.fd, from))
            s = sr_fail(err, SR_NOMEM, "%s: its pages cannot be mapped", path);
        from += in_pages(bytes);
    }
    if (path) sr_slab_close(&file, path, NULL); /* the pages keep it */
    sr_arena_free(&own);
    return s;
}

float sr_plane_float(const sr_weight *w, int plane, int64_t i) {
    const uint8_t *p = w->plane[plane].data;
    const sr_stored *type = w->plane[plane].type;
    if (type->bytes == 1) return strcmp(type->name, "f8_e4m3") ? sr_e8m0_to_f32(p[i]) : sr_e4m3_to_f32(p[i]);
    if (type->bytes == 4) {
        float v;
        memcpy(&v, p + 4 * i, 4);
        return v;
    }
    uint16_t half = (uint16_t)(p[2 * i] | p[2 * i + 1] << 8);
    return type->name[0] == 'f' ? sr_f16_to_f32(half) : sr_bf16_to_f32(half);
}

float sr_plane_round(const sr_weight *w, int plane, float v) {
    const sr_stored *type = w->plane[plane].type;
    if (type->bytes == 4) return v;
    if (type->name[0] == 'f') return sr_f16_to_f32(sr_f32_to_f16(sr_weight_finite(v)));
    v = sr_bf16_to_f32(sr_f32_to_bf16(v));
    return isfinite(v) ? v : copysignf(0x1.fep127f, v); /* the largest */
}

void sr_plane_put(sr_weight *w, int plane, int64_t i, float v) {
    const sr_stored *type = w->plane[plane].type;
    uint8_t *p = w->plane[plane].data + i * type->bytes;
    v = sr_plane_round(w, plane, v);
    if (type->bytes == 4)
        memcpy(p, &v, 4);
    else
        sr_put_u16(p, type->name[0] == 'f' ? sr_f32_to_f16(v) : sr_f32_to_bf16(v));
}

sr_status sr_weight_reorder(sr_weight *w, const int32_t *perm, sr_err *err) {
    if (!w->fmt->reorder || !w->spec.act_order)
        return sr_fail(err, SR_UNSUPPORTED, "%s keeps no order of columns, expected gptq or ct_pack with act_order",
                       w->fmt->name);
    w->perm = perm;
    w->tile = SR_TILE_F32;
    w->fmt->reorder(w);
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
        for (int j = 0; j < part; j++) {
            float v = scale[j / group] * (float)code[j];
            out[k + j] = w->fmt->has_min ? v - min[j / group] : v;
        }
    }
}

void sr_coarse_block(const int8_t *code, const float *scale, const float *min, int group, int n, int8_t *out,
                     float *out_scale) {
    float v[SR_KC], max = 0;
    for (int j = 0; j < n; j++) {
        v[j] = scale[j / group] * (float)code[j] - (min ? min[j / group] : 0);
        max = fabsf(v[j]) > max || v[j] != v[j] ? fabsf(v[j]) : max;
    }
    bool finite = isfinite(max);
    float inverse = max > 0 ? 127 / max : 0;
    if (!isfinite(inverse)) inverse = 0; /* no factor that f16 can hold is so small */
    *out_scale = finite ? max / 127 : NAN;
    for (int j = 0; j < n; j++) out[j] = finite ? (int8_t)sr_nearest(v[j] * inverse) : 0;
}

void sr_panel_coarse(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    (void)min;
    for (int64_t i = 0; i < n; i += SR_KC, code += SR_KC) {
        int m = n - i < SR_KC ? (int)(n - i) : SR_KC;
        int8_t own[SR_KC];
        float s[SR_MAX_GROUPS], lo[SR_MAX_GROUPS] = {0};
        w->fmt->unpack(w, row, k0 + i, m, own, s, lo);
        sr_coarse_block(own, s, w->fmt->has_min ? lo : NULL, w->group, m, code, scale++);
    }
}

void sr_panel_row(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    (w->fmt->panel ? w->fmt->panel : w->fmt->unpack)(w, row, k0, n, code, scale, min);
    if (n % SR_KC) memset(code + n, 0, (size_t)(SR_KC - n % SR_KC));
}
