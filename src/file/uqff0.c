/* UQFF 0.x, what mistral.rs wrote before 1.0: the same files, but an entry is a whole layer and its name a number. Here
 * each becomes the entries that it would be in a 1.x file, pointing into it; file/uqff.c reads those.
 *
 * An entry, u8[n], little-endian:
 *
 *   u32 version     0, major, minor and patch from the highest byte on
 *   u8  format      as in 1.x
 *   then by format, T being a tensor:
 *     gguf     u32 bytes, u8 has_bias, u32 ggml type, SHAPE, the blocks
 *     unquant  u8 has_bias, T weight
 *     hqq      u8 has_bias, T codes, T scales, T zeros, SHAPE, u8 bits, u32 group, u8 axis, u32 steps, u8 round_zeros,
 *              u8 channel_wise
 *     fp8      u8 has_bias, T weight, f32 scale of w, f32 scale of x, f32 scale of quantizing, u32 type
 *     afq      u8 has_bias, T codes, T scales, T biases, u8 bits, u8 group
 *     f8q8     u8 has_bias, u32 blocks, SHAPE, the blocks
 *     mxfp4    u8 has_bias, T codes, T scales
 *   T bias, if there is one
 *
 *   SHAPE: u32 dimensions, u32 each, outermost first.  T: u32 bytes, u32 type, SHAPE, the bytes.
 *
 * The numbers count what a model of mistral.rs calls its quantizable layers, in its own order: `orders` below, which
 * did not change from the first release that wrote UQFF (0.3.0) to the last one of 0.x (0.8.3). A head that is tied to
 * the embedding is there, too, as the copy that was quantized. Source: mistral.rs at e1dd7c8:
 * mistralrs-quant/src/utils/uqff.rs, serialize of each format, get_layers of the models in mistralrs-core/src/models
 * and quantize of mistralrs-core/src/pipeline/isq.rs. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "file/inner.h"

enum { MAJOR = 0, MINOR = 2, MOST_MODULES = 10 };

/* ---------------------------------------------------------------- which layer a number is */

#define ATTENTION "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"
#define GATED ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"

/* lm_head, then these of every layer. Those with a '*' stand last and are one group for each expert. Of two rows of a
 * type, the one that has as many modules as the file. */
static const struct order {
    const char *model_type; /* of config.json */
    const char *module[MOST_MODULES];
    const char *experts; /* key of their number */
    const char *norm;    /* name of what residual.safetensors calls model.norm, where that is another */
} orders[] = {
    {.model_type = "llama", .module = {GATED}},
    {.model_type = "mistral", .module = {GATED}},
    {.model_type = "qwen2", .module = {GATED}},
    {.model_type = "qwen3", .module = {GATED}},
    {.model_type = "phi3", .module = {"self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"}},
    {.model_type = "smollm3", .module = {GATED}},
    {.model_type = "gemma", .module = {GATED}},
    {.model_type = "gemma2", .module = {GATED}},
    {.model_type = "phi",
     .module = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.dense", "mlp.fc1", "mlp.fc2"},
     .norm = "model.final_layernorm"},
    {.model_type = "starcoder2", .module = {ATTENTION, "mlp.c_fc", "mlp.c_proj"}},
    {.model_type = "mixtral",
     .module = {ATTENTION, "block_sparse_moe.gate", "block_sparse_moe.experts.*.w1", "block_sparse_moe.experts.*.w2",
                "block_sparse_moe.experts.*.w3"},
     .experts = "num_local_experts"},
    {.model_type = "phimoe",
     .module = {ATTENTION, "block_sparse_moe.experts.*.w1", "block_sparse_moe.experts.*.w2",
                "block_sparse_moe.experts.*.w3"},
     .experts = "num_local_experts"},
    {.model_type = "qwen3_moe",
     .module = {ATTENTION, "mlp.experts.*.gate_proj", "mlp.experts.*.up_proj", "mlp.experts.*.down_proj"},
     .experts = "num_experts"},
    {.model_type = "qwen3_moe",
     .module = {ATTENTION, "mlp.experts.gate_proj", "mlp.experts.up_proj", "mlp.experts.down_proj"}},
};
enum { N_ORDERS = sizeof orders / sizeof *orders };

struct names {
    sr_file *file;
    int n, at;         /* layers of the file, named so far */
    const char **name; /* [n] */
    const char *path;
    sr_err *err;
};

/* The tables of names are not built yet. */
static const sr_value *value_of(const sr_file *file, const char *key) {
    for (int i = 0; i < file->n_values; i++)
        if (strcmp(file->value[i].key, key) == 0) return &file->value[i];
    return NULL;
}

static int64_t count_of(const struct names *x, const char *key) {
    const sr_value *v = value_of(x->file, key);
    if (v && v->kind == SR_KIND_U64 && v->v.u >= 1 && v->v.u <= SR_MAX_PARTS) return (int64_t)v->v.u;
    sr_fail(x->err, SR_CORRUPT, "%s: UQFF 0.x needs %s of config.json: found %s, expected 1 to %d", x->path, key,
            v ? "another value" : "none", SR_MAX_PARTS);
    return 0;
}

static sr_status push(struct names *x, const char *name, int n) {
    const char *copy = n > 0 && n < SR_NAME_CAP ? sr_arena_strndup(&x->file->arena, name, (size_t)n) : NULL;
    if (!copy) return sr_fail(x->err, SR_NOMEM, "%s: no memory for a name", x->path);
    x->name[x->at++] = copy;
    return SR_OK;
}

static sr_status push_module(struct names *x, int64_t layer, const char *module, int64_t expert) {
    char name[SR_NAME_CAP];
    const char *star = strchr(module, '*');
    int n = star ? snprintf(name, sizeof name, "model.layers.%" PRId64 ".%.*s%" PRId64 "%s", layer,
                            (int)(star - module), module, expert, star + 1)
                 : snprintf(name, sizeof name, "model.layers.%" PRId64 ".%s", layer, module);
    return push(x, name, n);
}

static sr_status push_layer(struct names *x, const struct order *o, int64_t layer, int64_t experts) {
    sr_status s = SR_OK;
    int i = 0, first;
    for (; o->module[i] && !strchr(o->module[i], '*') && s == SR_OK; i++) s = push_module(x, layer, o->module[i], 0);
    first = i;
    for (int64_t e = 0; e < experts; e++)
        for (i = first; o->module[i] && s == SR_OK; i++) s = push_module(x, layer, o->module[i], e);
    return s;
}

/* Modules that the row counts; *experts is 0 where it has none. */
static int64_t total_of(const struct names *x, const struct order *o, int64_t layers, int64_t *experts) {
    int64_t plain = 0, starred = 0;
    *experts = o->experts ? count_of(x, o->experts) : 0;
    for (int i = 0; o->module[i]; i++) *(strchr(o->module[i], '*') ? &starred : &plain) += 1;
    return 1 + layers * (plain + *experts * starred); /* below 2^44 */
}

static sr_status unknown(const struct names *x, const char *type, size_t n) {
    char list[160] = "";
    for (int i = 0; i < N_ORDERS; i++) {
        size_t at = strlen(list);
        if (i == 0 || strcmp(orders[i].model_type, orders[i - 1].model_type) != 0)
            snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", orders[i].model_type);
    }
    return sr_fail(x->err, SR_UNSUPPORTED, "%s: found UQFF 0.x of a model of type \"%s\", expected one of %s", x->path,
                   sr_show(type, n > 24 ? 24 : n).text, list);
}

/* The names of the file's layers, by the model that config.json describes. */
static sr_status name_all(struct names *x) {
    const sr_value *type = value_of(x->file, "model_type");
    int64_t expected = -1;
    if (!type || type->kind != SR_KIND_STRING)
        return sr_fail(x->err, SR_INVALID,
                       "%s: UQFF 0.x numbers its layers in the order of a model: found no model_type, expected "
                       "config.json beside it",
                       x->path);
    size_t n = (size_t)type->v.s.n;
    for (int i = 0; i < N_ORDERS; i++) {
        const struct order *o = &orders[i];
        if (strlen(o->model_type) != n || memcmp(o->model_type, type->v.s.text, n) != 0) continue;
        int64_t experts, layers = count_of(x, "num_hidden_layers"), total = total_of(x, o, layers, &experts);
        if (x->err->code != SR_OK) return x->err->code;
        if (expected < 0) expected = total;
        if (total != x->n) continue;
        sr_status s = push(x, "lm_head", 7);
        for (int64_t l = 0; l < layers && s == SR_OK; l++) s = push_layer(x, o, l, experts);
        for (int k = 0; o->norm && s == SR_OK && k < x->file->n_parts; k++) {
            static const char norm[] = "model.norm.";
            sr_part *p = &x->file->part[k];
            if (strncmp(p->name, norm, sizeof norm - 1) != 0) continue;
            char name[SR_NAME_CAP];
            snprintf(name, sizeof name, "%s.%.*s", o->norm, 32, p->name + sizeof norm - 1);
            p->name = sr_arena_strndup(&x->file->arena, name, strlen(name));
            if (!p->name) s = sr_fail(x->err, SR_NOMEM, "%s: no memory for a name", x->path);
        }
        return s;
    }
    if (expected < 0) return unknown(x, type->v.s.text, n);
    return sr_fail(x->err, SR_CORRUPT,
                   "%s: found %d layers, expected the %" PRId64 " of the model in config.json (%.*s)", x->path, x->n,
                   expected, (int)n, type->v.s.text);
}

/* ---------------------------------------------------------------- one layer */

struct layer {
    sr_file *file;
    sr_cursor at;
    const char *module;
    uint16_t shard;
    const char *what; /* the first thing wrong */
    sr_err *err;
};

static void wrong(struct layer *l, const char *what) {
    if (!l->what && !l->at.failed) l->what = what;
}

/* The next bytes as entry "<module>.<suffix>": `bytes` of them, a single number where n_dims is 0. */
static void add(struct layer *l, const char *suffix, const char *type, int n_dims, const int64_t *shape) {
    const sr_stored *stored = sr_stored_by_name(type);
    int64_t n = 1, bytes;
    for (int i = 0; i < n_dims; i++)
        if (shape[i] == 0 || !sr_times(n, shape[i], &n)) wrong(l, "a dimension of 0, or too many elements");
    if (l->what) return;
    if (!sr_stored_bytes(stored, n, &bytes)) bytes = INT64_MAX;
    const uint8_t *data = sr_cursor_bytes(&l->at, (uint64_t)bytes);
    sr_part *p = data ? sr_file_add_part(l->file, l->err) : NULL;
    if (!p) return;
    char name[SR_NAME_CAP + 64];
    int k = snprintf(name, sizeof name, "%s.%s", l->module, suffix);
    *p = (sr_part){.name = sr_arena_strndup(&l->file->arena, name, (size_t)k),
                   .type = stored,
                   .n_dims = n_dims,
                   .n_elements = n,
                   .data = data,
                   .bytes = bytes,
                   .shard = l->shard};
    if (n_dims) memcpy(p->shape, shape, (size_t)n_dims * sizeof *shape);
    if (!p->name) sr_fail(l->err, SR_NOMEM, "%s: no memory for a name", l->module);
}

static void add_number(struct layer *l, const char *suffix, const char *type) {
    add(l, suffix, type, 0, NULL);
}

static int64_t dimensions(struct layer *l) {
    uint32_t n = sr_cursor_u32(&l->at);
    if (!l->at.failed && (n < 1 || n > SR_MAX_DIMS)) wrong(l, "no dimensions, or more than 8");
    return l->what ? 1 : n;
}

static void add_shape(struct layer *l) {
    int64_t n = dimensions(l);
    add(l, "weight.shape", "u32", 1, &n);
}

static void add_tensor(struct layer *l, const char *suffix) {
    static const char *const types[] = {"u8", "u32", "i32", "i64", "f16", "bf16", "f32", "f64", "i16", "f8_e4m3"};
    uint32_t bytes = sr_cursor_u32(&l->at), type = sr_cursor_u32(&l->at);
    int64_t shape[SR_MAX_DIMS] = {0}, n = dimensions(l), want = bytes;
    for (int i = 0; i < n && !l->what; i++) shape[i] = sr_cursor_u32(&l->at);
    if (l->at.failed || l->what) return;
    if (type >= sizeof types / sizeof *types) {
        wrong(l, "a tensor of a type that is not known");
        return;
    }
    const uint8_t *from = l->at.at;
    add(l, suffix, types[type], (int)n, shape);
    if (!l->at.failed && !l->what && l->at.at - from != want) wrong(l, "a tensor of another size than its shape's");
}

static void add_bytes(struct layer *l, int64_t n) {
    if (n == 0)
        wrong(l, "no blocks");
    else
        add(l, "weight", "u8", 1, &n);
}

static bool has_bias(struct layer *l) {
    uint8_t has = sr_cursor_u8(&l->at);
    if (has > 1) wrong(l, "neither 0 nor 1 for whether there is a bias");
    return has == 1;
}

static void split_layer(struct layer *l) {
    uint32_t version = sr_cursor_u32(&l->at), n = 0;
    uint8_t tag = l->at.at < l->at.end ? *l->at.at : 0;
    bool bias;
    if (!l->at.failed && (version >> 16 != MAJOR || (version >> 8 & 255) > MINOR)) {
        wrong(l, "a version that is none of 0.0 to 0.2");
        return;
    }
    add_number(l, "weight.format", "u8");
    if (tag == SR_UQFF_GGUF) n = sr_cursor_u32(&l->at);
    bias = has_bias(l);
    switch (tag) {
    case SR_UQFF_GGUF:
        add_number(l, "weight.dtype", "u32");
        add_shape(l);
        add_bytes(l, n);
        break;
    case SR_UQFF_UNQUANT:
        add_tensor(l, "weight");
        break;
    case SR_UQFF_HQQ:
        add_tensor(l, "weight");
        add_tensor(l, "weight.scales");
        add_tensor(l, "weight.zeros");
        add_shape(l);
        add_number(l, "weight.bits", "u8");
        add_number(l, "weight.group_size", "u32");
        add_number(l, "weight.axis", "u8");
        add_number(l, "weight.optimization_steps", "u32");
        add_number(l, "weight.round_zeros", "u8");
        add_number(l, "weight.channel_wise", "u8");
        break;
    case SR_UQFF_FP8:
        add_tensor(l, "weight");
        add_number(l, "weight.dequant_w_scale", "f32");
        add_number(l, "weight.dequant_x_scale", "f32");
        add_number(l, "weight.quant_scale", "f32");
        add_number(l, "weight.dtype", "u32");
        break;
    case SR_UQFF_AFQ:
        add_tensor(l, "weight");
        add_tensor(l, "weight.scales");
        add_tensor(l, "weight.biases");
        add_number(l, "weight.bits", "u8");
        add_number(l, "weight.group_size", "u8");
        break;
    case SR_UQFF_F8Q8: {
        sr_cursor ahead = l->at;
        n = sr_cursor_u32(&ahead);
        add_number(l, "weight.num_blocks", "u32");
        add_shape(l);
        add_bytes(l, (int64_t)n * 33);
        break;
    }
    case SR_UQFF_MXFP4:
        add_tensor(l, "weight");
        add_tensor(l, "weight.scales");
        break;
    default:
        wrong(l, "a format that is none of 0 to 6");
    }
    if (bias) add_tensor(l, "bias");
    if (!l->what && !l->at.failed && l->at.at != l->at.end) wrong(l, "bytes behind its end");
}

/* ---------------------------------------------------------------- all layers */

static const char *path_of(const sr_file *file, const sr_part *p) {
    return sr_show_path(file->shard[p->shard].path);
}

/* order[i]: the part whose name is i. */
static sr_status sort_parts(const sr_file *file, int first, const sr_part **order, sr_err *err) {
    int n = file->n_parts - first;
    for (int i = 0; i < n; i++) {
        const sr_part *p = &file->part[first + i];
        char *end;
        long no = strtol(p->name, &end, 10);
        if (p->name[0] < '0' || p->name[0] > '9' || *end || (p->name[0] == '0' && p->name[1]) || no >= n)
            return sr_fail(err, SR_CORRUPT, "%s: entry \"%s\": expected the layers 0 to %d, of which some are missing",
                           path_of(file, p), sr_show_name(p->name).text, n - 1);
        if (strcmp(p->type->name, "u8") != 0 || p->n_dims != 1)
            return sr_fail(err, SR_CORRUPT, "%s: entry \"%s\": found %s in %d dimensions, expected u8 in one",
                           path_of(file, p), p->name, p->type->name, p->n_dims);
        if (order[no])
            return sr_fail(err, SR_CORRUPT, "%s: entry \"%s\": found it in %s, too", path_of(file, p), p->name,
                           sr_path_base(file->shard[order[no]->shard].path));
        order[no] = p;
    }
    return SR_OK;
}

static sr_status split_all(sr_file *file, const sr_part **order, const char *const *names, int n, sr_err *err) {
    for (int i = 0; i < n; i++) {
        const sr_part *p = order[i];
        struct layer l = {.file = file,
                          .at = sr_cursor_over(p->data, (size_t)p->bytes),
                          .module = names ? names[i] : p->name,
                          .shard = p->shard,
                          .err = err};
        split_layer(&l);
        if (err->code != SR_OK) return err->code;
        if (l.what || l.at.failed)
            return sr_fail(err, SR_CORRUPT, "%s: entry \"%s\" (%s), byte %zu of %" PRId64 ": found %s",
                           path_of(file, p), p->name, sr_show_name(l.module).text, sr_cursor_offset(&l.at), p->bytes,
                           l.what ? l.what : "its end");
    }
    return SR_OK;
}

sr_status sr_uqff0_split(sr_file *file, int first, bool alone, sr_err *err) {
    int n = file->n_parts - first;
    struct names x = {.file = file, .n = n, .path = path_of(file, &file->part[first]), .err = err};
    sr_part *old = malloc((size_t)n * sizeof *old);
    const sr_part **order = calloc((size_t)n, sizeof *order);
    x.name = alone ? NULL : calloc((size_t)n, sizeof *x.name);
    sr_status s = SR_OK;
    if (!old || !order || !(alone || x.name)) s = sr_fail(err, SR_NOMEM, "%s: no memory for %d layers", x.path, n);
    if (s == SR_OK) s = sort_parts(file, first, order, err);
    if (s == SR_OK && !alone) s = name_all(&x);
    if (s == SR_OK) {
        memcpy(old, file->part + first, (size_t)n * sizeof *old);
        for (int i = 0; i < n; i++) order[i] = old + (order[i] - (file->part + first));
        file->n_parts = first;
        s = split_all(file, order, x.name, n, err);
        if (s == SR_OK) {
            char text[32];
            int k = snprintf(text, sizeof text, "UQFF %d.%d", MAJOR, order[0]->data[1]);
            const char *container = sr_arena_strndup(&file->arena, text, (size_t)k);
            if (container) file->container = container;
        }
    }
    free(old);
    free(order);
    free(x.name);
    return s;
}
