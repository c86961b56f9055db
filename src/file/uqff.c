/* UQFF, mistral.rs's own container: <stem>-0.uqff, <stem>-1.uqff, ... beside residual.safetensors and the usual
 * configuration. Each is a safetensors file. What an entry means is written in further entries:
 *
 *   uqff.version.{major,minor,patch}   u32
 *   <module>.weight                    bytes of some format
 *   <module>.weight.format             u8, row of `formats` below
 *   <module>.weight.<more>             exactly those of that row
 *   <module>.bias                      may be missing
 *
 * Here they become the parts and configuration values that another container would have for the same weights, so that
 * nothing above knows: blocks of ggml get their type and shape, codes of HQQ and AFQ the names of HQQ's and MLX's
 * files. What config.json says of quantization is left out: the entries say it.
 *
 * That is 1.x; a file of 0.x is first made into one by file/uqff0.c.
 * Source: mistral.rs: mistralrs-quant/src/uqff/reader.rs, serialize_directly of each format, and the reference page of
 * the format in its documentation. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/path.h"
#include "file/inner.h"

enum { MOST_MORE = 9, NAME = SR_NAME_CAP + 64 };

static const struct {
    const char *name;
    const char *type, *to; /* stored types of the weight entry (NULL: any), its name behind "<module>." */
    sr_uqff_entry more[MOST_MORE];
} formats[SR_UQFF_TAGS] = {
    [SR_UQFF_GGUF] = {"gguf", "u8", "weight", {{"dtype", "u32", true, NULL}, {"shape", "u32", false, NULL}}},
    [SR_UQFF_UNQUANT] = {"unquant", NULL, "weight", {{0}}},
    [SR_UQFF_HQQ] = {"hqq",
                     "u8|i32",
                     "W_q",
                     {{"scales", "f32", false, "scale"},
                      {"zeros", "f32", false, "zero"},
                      {"shape", "u32", false, "shape"},
                      {"bits", "u8", true, "nbits"},
                      {"group_size", "u32", true, "group_size"},
                      {"axis", "u8", true, "axis"},
                      {"optimization_steps", "u32", true, NULL},
                      {"round_zeros", "u8", true, NULL},
                      {"channel_wise", "u8", true, "channel_wise"}}},
    [SR_UQFF_FP8] = {"fp8",
                     "f8_e4m3",
                     "weight",
                     {{"dequant_w_scale", "f32", true, "weight_scale"},
                      {"dequant_x_scale", "f32", true, NULL},
                      {"quant_scale", "f32", true, NULL},
                      {"dtype", "u32", true, NULL}}},
    [SR_UQFF_AFQ] = {"afq",
                     "u32",
                     "weight",
                     {{"scales", "f16|bf16|f32", false, "scales"},
                      {"biases", "f16|bf16|f32", false, "biases"},
                      {"bits", "u8", true, NULL},
                      {"group_size", "u8", true, NULL}}},
    [SR_UQFF_F8Q8] = {"f8q8", "u8", "weight", {{"num_blocks", "u32", true, NULL}, {"shape", "u32", false, NULL}}},
    [SR_UQFF_MXFP4] = {"mxfp4", "u8", "weight", {{"scales", "u8", false, "scales"}}},
};

const sr_uqff_entry *sr_uqff_entry_at(enum sr_uqff_tag tag, int i) {
    return i < MOST_MORE && formats[tag].more[i].suffix ? &formats[tag].more[i] : NULL;
}
const char *sr_uqff_weight(enum sr_uqff_tag tag) {
    return formats[tag].to;
}

struct reader {
    sr_file *file;
    int first;             /* the entries are the parts from here on */
    struct sr_names names; /* of them, relative to first */
    enum { UNUSED, KEPT, CONSUMED } * use;
    int seen[SR_UQFF_TAGS];
    const char *path;
    sr_err *err;
};

/* ---------------------------------------------------------------- entries */

static sr_status bad(const struct reader *r, const char *name, const char *found) {
    return sr_fail(r->err, SR_CORRUPT, "%s: entry \"%s\": found %s", r->path, sr_show_name(name).text, found);
}

/* "<module>.<a><b>", -1 when there is none. */
static int find(const struct reader *r, const char *module, const char *a, const char *b) {
    char name[NAME];
    int n = snprintf(name, sizeof name, "%s.%s%s", module, a, b);
    if (n < 0 || n >= NAME) return -1;
    return sr_names_find(&r->names, r->file->part + r->first, sizeof *r->file->part, name);
}

static bool listed(const char *types, const char *type) {
    size_t n = strlen(type);
    for (const char *at = types; at; at = strchr(at, '|')) {
        if (*at == '|') at++;
        if (strncmp(at, type, n) == 0 && (at[n] == '|' || at[n] == 0)) return true;
    }
    return types == NULL;
}

/* The number that an entry of one u8 or u32 is. */
static uint32_t number(const sr_part *p) {
    return p->type->bytes == 1 ? *p->data : sr_get_u32(p->data);
}

/* Entry "<module>.weight.<suffix>" of a layer whose entries are all there: see read_layer. */
static sr_part *more(const struct reader *r, const char *module, const char *suffix) {
    return &r->file->part[r->first + find(r, module, "weight.", suffix)];
}

/* Gives the weight its stored type, and the shape that another entry holds. */
static sr_status set_shape(const struct reader *r, const char *module, sr_part *weight, const sr_stored *type) {
    const sr_part *shape = more(r, module, "shape");
    int64_t n = 1, bytes, dim[SR_MAX_DIMS];
    if (weight->n_dims != 1 || shape->n_dims != 1 || shape->n_elements < 1 || shape->n_elements > SR_MAX_DIMS)
        return bad(r, weight->name, "bytes or a shape that are no vector, or more than 8 dimensions");
    for (int i = 0; i < shape->n_elements; i++) {
        dim[i] = sr_get_u32(shape->data + 4 * i);
        if (dim[i] == 0 || !sr_times(n, dim[i], &n))
            return bad(r, weight->name, "a shape with a 0, or whose product does not fit 63 bits");
    }
    int64_t K = dim[shape->n_elements - 1];
    if (K % type->block != 0)
        return sr_fail(r->err, SR_UNSUPPORTED,
                       "%s: entry \"%s\": found rows of %" PRId64 ", expected a multiple of %d (%s)", r->path,
                       sr_show_name(weight->name).text, K, type->block, type->name);
    if (!sr_stored_bytes(type, n, &bytes) || bytes != weight->bytes)
        return sr_fail(r->err, SR_CORRUPT,
                       "%s: entry \"%s\": found %" PRId64 " bytes, expected those of %" PRId64 " elements of %s",
                       r->path, sr_show_name(weight->name).text, weight->bytes, n, type->name);
    weight->type = type;
    weight->n_dims = (int)shape->n_elements;
    weight->n_elements = n;
    memset(weight->shape, 0, sizeof weight->shape);
    memcpy(weight->shape, dim, (size_t)shape->n_elements * sizeof *dim);
    return SR_OK;
}

static char *join(const struct reader *r, const char *a, const char *b, const char *c) {
    size_t n = strlen(a) + strlen(b) + strlen(c) + 1;
    char *text = sr_arena_small(&r->file->arena, n, 1);
    if (text)
        snprintf(text, n, "%s%s%s", a, b, c);
    else
        sr_fail(r->err, SR_NOMEM, "%s: no memory for a name", r->path);
    return text;
}

static void add_int(const struct reader *r, const char *module, const char *key, uint64_t v) {
    sr_value *value = sr_file_add_value(r->file, r->err);
    if (!value) return;
    *value = (sr_value){.key = join(r, "quantization.", module, key), .kind = SR_KIND_U64, .stored = 255, .v.u = v};
}
static void add_text(const struct reader *r, const char *a, const char *b, const char *c, const char *text) {
    sr_value *value = sr_file_add_value(r->file, r->err);
    if (!value) return;
    *value = (sr_value){.key = join(r, a, b, c), .kind = SR_KIND_STRING, .stored = 255, .v.s = {text, strlen(text)}};
}

/* HQQ's files have these as signed integers. */
static sr_status to_i32(const struct reader *r, sr_part *p) {
    for (int64_t i = 0; i < p->n_elements; i++)
        if (sr_get_u32(p->data + 4 * i) > INT32_MAX) return bad(r, p->name, "a number above 2^31");
    p->type = sr_stored_by_name("i32");
    return SR_OK;
}

/* What the entries say, told as the format's own files tell it. */
static sr_status rewrite(const struct reader *r, const char *module, enum sr_uqff_tag tag, sr_part *weight) {
    sr_status s = SR_OK;
    uint32_t id;
    switch (tag) {
    case SR_UQFF_GGUF:
        id = number(more(r, module, "dtype"));
        const sr_stored *type = sr_stored_by_gguf(id);
        if (!type || (id > 15 && id != 30))
            return sr_fail(r->err, SR_UNSUPPORTED,
                           "%s: entry \"%s\": found ggml type %" PRIu32 ", which UQFF does not have", r->path,
                           sr_show_name(weight->name).text, id);
        return set_shape(r, module, weight, type);
    case SR_UQFF_F8Q8:
        if (weight->bytes != (int64_t)number(more(r, module, "num_blocks")) * 33)
            return bad(r, weight->name, "another number of bytes than num_blocks of 33");
        return set_shape(r, module, weight, sr_stored_by_name("f8q8"));
    case SR_UQFF_HQQ:
        s = to_i32(r, more(r, module, "shape"));
        return s == SR_OK ? to_i32(r, more(r, module, "group_size")) : s;
    case SR_UQFF_AFQ:
        add_int(r, module, ".bits", number(more(r, module, "bits")));
        add_int(r, module, ".group_size", number(more(r, module, "group_size")));
        return r->err->code;
    case SR_UQFF_MXFP4: { /* the bytes of MLX's words */
        int last = weight->n_dims - 1;
        if (last < 1 || weight->shape[last] % 16 != 0)
            return bad(r, weight->name, "no matrix with rows of whole blocks of 32 codes");
        weight->type = sr_stored_by_name("u32");
        weight->shape[last] /= 4;
        weight->n_elements /= 4;
        add_int(r, module, ".bits", 4);
        add_int(r, module, ".group_size", 32);
        add_text(r, "quantization.", module, ".mode", "mxfp4");
        return r->err->code;
    }
    default:
        return SR_OK;
    }
}

/* All entries of the module whose format entry is part `at`. */
static sr_status read_layer(struct reader *r, int at, const char *module) {
    sr_part *part = r->file->part + r->first;
    const sr_part *format = &part[at];
    if (strcmp(format->type->name, "u8") != 0 || format->n_elements != 1 || *format->data >= SR_UQFF_TAGS)
        return bad(r, format->name, "no single u8 from 0 to 6");
    enum sr_uqff_tag tag = (enum sr_uqff_tag)format->data[0];
    int index[MOST_MORE], n = 0, weight = find(r, module, "weight", "");
    if (weight < 0) return bad(r, format->name, "no weight for it");
    if (!listed(formats[tag].type, part[weight].type->name)) {
        return sr_fail(r->err, SR_CORRUPT, "%s: entry \"%s\": found %s, expected %s (%s)", r->path,
                       sr_show_name(part[weight].name).text, part[weight].type->name, formats[tag].type,
                       formats[tag].name);
    }
    for (const sr_uqff_entry *m = formats[tag].more; n < MOST_MORE && m->suffix; m++, n++) {
        int i = index[n] = find(r, module, "weight.", m->suffix);
        if (i < 0)
            return sr_fail(r->err, SR_CORRUPT, "%s: module \"%s\": found no entry weight.%s, which %s has", r->path,
                           sr_show_name(module).text, m->suffix, formats[tag].name);
        if (!listed(m->type, part[i].type->name) || (m->one && part[i].n_elements != 1))
            return sr_fail(r->err, SR_CORRUPT, "%s: entry \"%s\": found %" PRId64 " of %s, expected %s%s", r->path,
                           sr_show_name(part[i].name).text, part[i].n_elements, part[i].type->name,
                           m->one ? "one of " : "", m->type);
    }
    sr_status s = rewrite(r, module, tag, &part[weight]);
    for (int k = 0; k < n && s == SR_OK;
         k++) { /* names change only when nothing of this module is looked up any more */
        const char *to = formats[tag].more[k].to;
        r->use[index[k]] = to ? KEPT : CONSUMED;
        if (to && !(part[index[k]].name = join(r, module, ".", to))) s = r->err->code;
    }
    int bias = find(r, module, "bias", "");
    if (bias >= 0) r->use[bias] = KEPT;
    if (s == SR_OK && !(part[weight].name = join(r, module, ".", formats[tag].to))) s = r->err->code;
    r->use[weight] = KEPT;
    r->use[at] = CONSUMED;
    r->seen[tag]++;
    return s;
}

/* ---------------------------------------------------------------- one file, all files */

static bool is_number(const char *name) {
    return name[0] && strspn(name, "0123456789") == strlen(name);
}

/* Checks the version of the parts from `first` on, a file's, and takes its entries out. needed: it must have them,
 * which is so of the first of several. *numbered: the file is of 0.x, which has the version in each layer. */
static sr_status take_version(sr_file *file, int first, const char *path, bool needed, bool *numbered, sr_err *err) {
    static const char *const keys[] = {"uqff.version.major", "uqff.version.minor", "uqff.version.patch"};
    int64_t version[3] = {-1, -1, -1};
    int kept = first, n_numbers = 0;
    for (int i = first; i < file->n_parts; i++) {
        const sr_part *p = &file->part[i];
        int k = 0;
        n_numbers += is_number(p->name);
        while (k < 3 && strcmp(p->name, keys[k]) != 0) k++;
        if (k == 3) {
            file->part[kept++] = *p;
            continue;
        }
        if (version[k] >= 0 || strcmp(p->type->name, "u32") != 0 || p->n_elements != 1)
            return sr_fail(err, SR_CORRUPT, "%s: entry \"%s\": found it twice, or no single u32", path, keys[k]);
        version[k] = sr_get_u32(p->data);
    }
    if (version[0] < 0 && n_numbers > 0 && n_numbers == file->n_parts - first) {
        *numbered = true;
        return SR_OK;
    }
    file->n_parts = kept;
    if (!needed && version[0] < 0 && version[1] < 0 && version[2] < 0) return SR_OK;
    for (int k = 0; k < 3; k++)
        if (version[k] < 0) return sr_fail(err, SR_CORRUPT, "%s: found no entry \"%s\"", path, keys[k]);
    if (version[0] != SR_UQFF_MAJOR || version[1] > SR_UQFF_MINOR)
        return sr_fail(err, SR_UNSUPPORTED, "%s: found UQFF %" PRId64 ".%" PRId64 ", expected %d.0 to %d.%d", path,
                       version[0], version[1], SR_UQFF_MAJOR, SR_UQFF_MAJOR, SR_UQFF_MINOR);
    char text[32];
    int n = snprintf(text, sizeof text, "UQFF %" PRId64 ".%" PRId64, version[0], version[1]);
    const char *container = sr_arena_strndup(&file->arena, text, (size_t)n);
    if (container) file->container = container;
    return SR_OK;
}

/* config.json must not contradict the entries. */
static void drop_quantization(sr_file *file) {
    int kept = 0;
    for (int i = 0; i < file->n_values; i++)
        if (strncmp(file->value[i].key, "quantization_config.", 20) != 0 &&
            strncmp(file->value[i].key, "quantization.", 13) != 0)
            file->value[kept++] = file->value[i];
    file->n_values = kept;
}

static sr_status read_layers(struct reader *r) {
    static const char tail[] = ".weight.format";
    sr_file *file = r->file;
    int n = file->n_parts - r->first;
    char module[NAME];
    for (int i = 0; i < n; i++) {
        const char *name = file->part[r->first + i].name;
        size_t len = strlen(name);
        if (r->use[i] != UNUSED || len < sizeof tail || !sr_ends_with(name, tail)) continue;
        snprintf(module, sizeof module, "%.*s", (int)(len - sizeof tail + 1), name);
        sr_status s = read_layer(r, i, module);
        if (s != SR_OK) return s;
    }
    int kept = r->first;
    for (int i = 0; i < n; i++) {
        const sr_part *p = &file->part[r->first + i];
        if (r->use[i] == UNUSED) return bad(r, p->name, "an entry that its module's format does not have");
        if (r->use[i] == KEPT) file->part[kept++] = *p;
    }
    file->n_parts = kept;
    return SR_OK;
}

/* Rewrites the parts from `first` on, all of UQFF files whose versions were taken. */
static sr_status read_entries(sr_file *file, int first, const char *path, sr_err *err) {
    struct reader r = {.file = file, .first = first, .path = path, .err = err};
    int n = file->n_parts - first, dup[2];
    sr_status s = sr_names_build(&r.names, file->part ? file->part + first : NULL, sizeof *file->part, n, dup);
    if (s != SR_OK)
        s = s == SR_CORRUPT ? bad(&r, file->part[first + dup[0]].name, "it twice")
                            : sr_fail(err, s, "%s: cannot look up %d names", path, n);
    r.use = calloc((size_t)n + 1, sizeof *r.use);
    if (s == SR_OK && !r.use) s = sr_fail(err, SR_NOMEM, "%s: no memory for %d entries", path, n);
    drop_quantization(file);
    if (s == SR_OK) s = read_layers(&r);
    if (s == SR_OK && r.seen[SR_UQFF_AFQ] + r.seen[SR_UQFF_MXFP4] > 0)
        add_text(&r, "quantization.", "mode", "", "affine");
    else if (s == SR_OK && r.seen[SR_UQFF_FP8] > 0)
        add_text(&r, "quantization_config.", "quant_method", "", "fp8");
    else if (s == SR_OK && r.seen[SR_UQFF_HQQ] > 0)
        add_text(&r, "quantization_config.", "quant_method", "", "hqq");
    sr_names_free(&r.names);
    free(r.use);
    return s == SR_OK ? err->code : s;
}

sr_status sr_uqff_parse_alone(sr_file *file, sr_err *err) {
    const char *path = sr_show_path(file->shard[0].path);
    bool numbered = false;
    sr_status s = sr_safetensors_parse(file, 0, err);
    if (s == SR_OK) s = take_version(file, 0, path, true, &numbered, err);
    if (s == SR_OK && numbered) s = sr_uqff0_split(file, 0, true, err);
    return s == SR_OK ? read_entries(file, 0, path, err) : s;
}

/* ---------------------------------------------------------------- the directory */

/* "<stem>-<no>.uqff": length of the stem, and no; a name without a number is all stem and has no -1. False: no .uqff.
 */
static bool split(const char *name, size_t *stem, int *no) {
    static const char tail[] = ".uqff";
    size_t n = strlen(name), digits = 0;
    if (n < sizeof tail || !sr_ends_with(name, tail)) return false;
    n -= sizeof tail - 1;
    while (digits < n && digits < 5 && name[n - 1 - digits] >= '0' && name[n - 1 - digits] <= '9') digits++;
    bool numbered = digits > 0 && digits < n - 1 && name[n - 1 - digits] == '-';
    *stem = numbered ? n - digits - 1 : n;
    *no = numbered ? atoi(name + n - digits) : -1;
    return true;
}

struct scan {
    const char *want; /* a file's name: only its stem is looked for */
    char name[256], other[256];
    size_t stem;
    int most; /* the largest number */
};

static bool scan_one(void *ctx, const char *name) {
    struct scan *s = ctx;
    size_t stem;
    int no;
    if (name[0] == '.' || strlen(name) >= sizeof s->name || !split(name, &stem, &no)) return true;
    const char *first = s->name[0] ? s->name : s->want;
    size_t first_stem;
    int unused;
    if (first && split(first, &first_stem, &unused) && (stem != first_stem || memcmp(first, name, stem) != 0)) {
        if (!s->want) strcpy(s->other, name);
        return true;
    }
    strcpy(s->name, name);
    s->stem = stem;
    if (no > s->most) s->most = no;
    return true;
}

static sr_status open_shard(sr_file *file, const char *dir, const char *name, sr_err *err) {
    const char *path = sr_path_join(&file->arena, dir, name);
    if (!path) return sr_fail(err, SR_NOMEM, "%s: no memory to open it", sr_show_path(dir));
    if (sr_path_look(path) == SR_PATH_ABSENT)
        return sr_fail(err, SR_IO, "%s: missing, expected it beside the other files of the model", sr_show_path(path));
    sr_status s = sr_file_add_shard(file, path, err);
    return s == SR_OK ? sr_safetensors_parse(file, file->n_shards - 1, err) : s;
}

sr_status sr_uqff_open(sr_file *file, const char *dir, const char *want, bool *found, sr_err *err) {
    struct scan scan = {.want = want, .most = -1};
    sr_status s = sr_path_list(dir, scan_one, &scan, err);
    *found = scan.name[0] != 0;
    if (s != SR_OK || !*found) return s;
    if (scan.other[0])
        return sr_fail(err, SR_INVALID, "%s: found %s and %s, expected one model; open one by its own path",
                       sr_show_path(dir), scan.name, scan.other);
    s = open_shard(file, dir, "residual.safetensors", err);
    int first = file->n_parts;
    bool seen[2] = {false, false}; /* files of 1.x, of 0.x */
    for (int no = scan.most < 0 ? -1 : 0; no <= scan.most && s == SR_OK; no++) {
        char name[300];
        if (no < 0)
            snprintf(name, sizeof name, "%s", scan.name);
        else
            snprintf(name, sizeof name, "%.*s-%d.uqff", (int)scan.stem, scan.name, no);
        int at = file->n_parts;
        bool numbered = false;
        s = open_shard(file, dir, name, err);
        if (s == SR_OK)
            s = take_version(file, at, sr_show_path(file->shard[file->n_shards - 1].path), no < 1, &numbered, err);
        seen[numbered] = true;
    }
    if (s == SR_OK && seen[0] && seen[1])
        s = sr_fail(err, SR_CORRUPT, "%s: found files of UQFF 0.x and of 1.x beside %s, expected one model",
                    sr_show_path(dir), scan.name);
    if (s == SR_OK && seen[1]) s = sr_uqff0_split(file, first, false, err);
    if (s == SR_OK) s = read_entries(file, first, sr_show_path(dir), err);
    return s == SR_OK ? sr_file_index(file, err) : s;
}
