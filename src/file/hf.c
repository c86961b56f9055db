/* The Hugging Face model directory: configuration as values, the tokenizer's file as it is, weights from safetensors.
 *
 * Which weights: all files that model.safetensors.index.json names, if they are there; else model.safetensors; else the
 * UQFF files, else the numbered pieces or the one *.safetensors file in the directory; else what torch.save wrote:
 * qmodel.pt (HQQ), the files of pytorch_model.bin.index.json, or pytorch_model.bin. What a tensor is and where it
 * lies comes from the headers of these files alone: an index may be stale, and often is. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "base/utf8.h"
#include "file/inner.h"

static const char index_name[] = "model.safetensors.index.json";
static const char suffix[] = ".safetensors";

static sr_status no_memory(const char *path, sr_err *err) {
    return sr_fail(err, SR_NOMEM, "%s: no memory to open it", sr_show_path(path));
}

static bool is_torch(const char *name) {
    return sr_ends_with(name, ".bin") || sr_ends_with(name, ".pth") || sr_ends_with(name, ".pt");
}

static sr_status open_shard(sr_file *file, const char *path, sr_err *err) {
    sr_status s = sr_file_add_shard(file, path, err);
    if (s != SR_OK) return s;
    const sr_map *map = &file->shard[file->n_shards - 1].map;
    bool torch = is_torch(path) || sr_pickle_is(map->data, map->size);
    return (torch ? sr_pickle_parse : sr_safetensors_parse)(file, file->n_shards - 1, err);
}

/* ---------------------------------------------------------------- configuration */

static sr_status read_config(sr_file *file, const char *dir, const char *name, const char *prefix, sr_err *err) {
    char *path = sr_path_join(&file->arena, dir, name), *text;
    size_t n;
    if (!path) return no_memory(dir, err);
    if (sr_path_look(path) == SR_PATH_ABSENT) return SR_OK;
    sr_status s = sr_file_read(path, SR_CONFIG_CAP, &text, &n, err);
    if (s == SR_OK) s = sr_config_flatten(file, prefix, text, n, sr_show_path(path), err);
    free(text);
    return s;
}

/* A template in a file of its own becomes the value `key`. */
static sr_status read_template(sr_file *file, const char *dir, const char *name, const char *key, sr_err *err) {
    char *path = sr_path_join(&file->arena, dir, name), *text;
    size_t n;
    if (!path) return no_memory(dir, err);
    if (sr_path_look(path) == SR_PATH_ABSENT) return SR_OK;
    sr_status s = sr_file_read(path, SR_CONFIG_CAP, &text, &n, err);
    if (s != SR_OK) return s;
    bool utf8 = sr_utf8_valid(text, n);
    const char *copy = sr_arena_strndup(&file->arena, text, n);
    free(text);
    if (!utf8) return sr_fail(err, SR_CORRUPT, "%s: found bytes that are not UTF-8", sr_show_path(path));
    if (!copy) return no_memory(path, err);
    sr_value *v = sr_file_add_value(file, err);
    if (!v) return err->code;
    *v = (sr_value){.key = key, .kind = SR_KIND_STRING, .stored = 255, .v.s = {copy, n}};
    return SR_OK;
}

/* Maps a file of the directory if it is there. */
static sr_status map_beside(sr_file *file, const char *dir, const char *name, sr_map *map, sr_err *err) {
    char *path = sr_path_join(&file->arena, dir, name);
    if (!path) return no_memory(dir, err);
    return sr_path_look(path) == SR_PATH_ABSENT ? SR_OK : sr_map_open(path, map, err);
}

struct first_name {
    sr_arena *arena;
    const char *name;
    bool failed;
};

static bool first_tiktoken(void *ctx, const char *name) {
    struct first_name *f = ctx;
    if (!sr_ends_with(name, ".tiktoken") || (f->name && strcmp(f->name, name) < 0)) return true;
    f->name = sr_arena_strndup(f->arena, name, strlen(name));
    f->failed = !f->name;
    return !f->failed;
}

/* tokenizer.json wins, as in transformers; then what it converts: tekken.json, SentencePiece's or tiktoken's file, or a
 * vocabulary with its merges. */
static sr_status open_tokenizer(sr_file *file, const char *dir, sr_err *err) {
    static const char *const names[] = {"tokenizer.json", "tekken.json",  "tokenizer.model",
                                        "spm.model",      "spiece.model", "tiktoken.model"};
    sr_status s = SR_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && s == SR_OK && !file->tokenizer.size; i++) {
        s = map_beside(file, dir, names[i], &file->tokenizer, err);
        if (file->tokenizer.size) file->tokenizer_name = names[i];
    }
    if (s == SR_OK && !file->tokenizer.size) {
        struct first_name first = {.arena = &file->arena};
        s = sr_path_list(dir, first_tiktoken, &first, err);
        if (first.failed) return no_memory(dir, err);
        if (s == SR_OK && first.name) s = map_beside(file, dir, first.name, &file->tokenizer, err);
        if (file->tokenizer.size) file->tokenizer_name = first.name;
    }
    if (s == SR_OK && !file->tokenizer.size) s = map_beside(file, dir, "merges.txt", &file->merges, err);
    if (s == SR_OK && file->merges.size) {
        s = map_beside(file, dir, "vocab.json", &file->tokenizer, err);
        if (file->tokenizer.size) file->tokenizer_name = "vocab.json";
    }
    if (s != SR_OK || !file->tokenizer_name) return s;
    s = map_beside(file, dir, "tokenizer_config.json", &file->tokenizer_config, err);
    return s == SR_OK ? map_beside(file, dir, "added_tokens.json", &file->added_tokens, err) : s;
}

static sr_status read_configs(sr_file *file, const char *dir, sr_err *err) {
    sr_status s = read_config(file, dir, "config.json", "", err);
    if (s == SR_OK) s = read_config(file, dir, "generation_config.json", "generation_config.", err);
    if (s == SR_OK) s = read_config(file, dir, "tokenizer_config.json", "tokenizer_config.", err);
    /* Counts where the newer list of added tokens is not there, as in transformers. */
    if (s == SR_OK && !file->added_decoder)
        s = read_config(file, dir, "special_tokens_map.json", "special_tokens_map.", err);
    /* Where older quantizers wrote what is now in config.json. */
    if (s == SR_OK) s = read_config(file, dir, "quantize_config.json", "quantize_config.", err);
    if (s == SR_OK) s = read_config(file, dir, "quant_config.json", "quant_config.", err);
    if (s == SR_OK) s = read_config(file, dir, "hf_quant_config.json", "hf_quant_config.", err);
    /* Where templates stood before they came to the tokenizer's files, and where those of processors stand. */
    if (s == SR_OK) s = read_config(file, dir, "chat_template.json", "chat_template_json.", err);
    if (s == SR_OK) s = read_config(file, dir, "processor_config.json", "processor_config.", err);
    if (s == SR_OK) s = read_template(file, dir, "chat_template.jinja", "chat_template_jinja", err);
    if (s == SR_OK)
        s = read_template(file, dir, "additional_chat_templates/tool_use.jinja", "chat_template_jinja.tool_use", err);
    return s == SR_OK ? open_tokenizer(file, dir, err) : s;
}

/* ---------------------------------------------------------------- the index of a sharded model */

struct claim {
    const char *file, *tensor;
};

struct index {
    const char *suffix; /* of the files that it names */
    sr_map map;
    sr_json map_object;  /* bookmark inside "weight_map" */
    sr_arena arena;      /* texts below */
    const char *path;    /* for messages */
    struct claim *shard; /* unique file names in order, each with a tensor that needs it */
    int n_shards;
};

static void close_index(struct index *x) {
    sr_map_close(&x->map);
    sr_arena_free(&x->arena);
    free(x->shard);
}

static int by_file(const void *a, const void *b) {
    return strcmp(((const struct claim *)a)->file, ((const struct claim *)b)->file);
}

/* A file beside the index and nothing else: no way out of the directory. */
static bool is_plain_name(const char *name, size_t n, const char *tail) {
    size_t m = strlen(tail);
    return n > m && n < 256 && memcmp(name + n - m, tail, m) == 0 && name[0] != '.' && !memchr(name, '/', n) &&
           !memchr(name, '\\', n) && !memchr(name, 0, n);
}

/* Next tensor and file of the weight_map. END and ERROR as sr_json_next_pair. */
static sr_json_kind next_claim(struct index *x, sr_json *j, struct claim *claim, sr_err *err) {
    sr_json_value key, v;
    size_t n, m;
    sr_json_kind kind = sr_json_next_pair(j, &key, &v);
    if (kind == SR_JSON_END || kind == SR_JSON_ERROR) return kind;
    claim->tensor = sr_json_string(j, &key, &x->arena, &m);
    if (kind == SR_JSON_STRING && claim->tensor) claim->file = sr_json_string(j, &v, &x->arena, &n);
    if (j->failed) return SR_JSON_ERROR;
    if (kind == SR_JSON_STRING && is_plain_name(claim->file, n, x->suffix)) return kind;
    sr_fail(err, SR_CORRUPT, "%s: tensor \"%s\": found the file \"%s\", expected a plain name ending in %s", x->path,
            sr_show(claim->tensor, m).text, sr_show(v.text, v.n).text, x->suffix);
    return SR_JSON_ERROR;
}

/* Finds weight_map and leaves a bookmark in it. */
static sr_status find_weight_map(struct index *x, sr_err *err) {
    sr_json j = sr_json_over((const char *)x->map.data, x->map.size, x->path, err);
    sr_json_value key, v;
    bool found = false;
    sr_json_kind kind = sr_json_next(&j, &v);
    if (kind != SR_JSON_ERROR && kind != SR_JSON_OBJECT)
        return sr_fail(err, SR_CORRUPT, "%s: found no JSON object at its top", x->path);
    while ((kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        if (kind == SR_JSON_OBJECT && !found && sr_json_equals(&key, "weight_map")) {
            x->map_object = j;
            found = true;
        }
        sr_json_skip(&j, &v);
    }
    if (kind == SR_JSON_ERROR) return err->code;
    return found ? SR_OK : sr_fail(err, SR_CORRUPT, "%s: found no object \"weight_map\"", x->path);
}

static sr_status open_index(struct index *x, const char *path, const char *tail, sr_err *err) {
    *x = (struct index){.path = sr_show_path(path), .suffix = tail};
    sr_status s = sr_map_open(path, &x->map, err);
    if (s == SR_OK && x->map.size > SR_INDEX_CAP)
        s = sr_fail(err, SR_LIMIT, "%s: found %zu bytes, expected at most %d", x->path, x->map.size, SR_INDEX_CAP);
    if (s == SR_OK) s = find_weight_map(x, err);
    if (s != SR_OK) return s;
    sr_json j = x->map_object;
    struct claim claim;
    int n = 0, cap = 0;
    sr_json_kind kind;
    while ((kind = next_claim(x, &j, &claim, err)) != SR_JSON_END) {
        if (kind == SR_JSON_ERROR) return err->code;
        if (n > 0 && strcmp(x->shard[n - 1].file, claim.file) == 0) continue; /* tensors of one file stand together */
        if (n == cap) {
            struct claim *grown = realloc(x->shard, sizeof claim * (size_t)(cap = cap ? 2 * cap : 64));
            if (!grown) return no_memory(path, err);
            x->shard = grown;
        }
        x->shard[n++] = claim;
    }
    if (n == 0) return sr_fail(err, SR_CORRUPT, "%s: found an empty \"weight_map\"", x->path);
    qsort(x->shard, (size_t)n, sizeof claim, by_file);
    for (int i = 0; i < n; i++)
        if (i == 0 || strcmp(x->shard[i].file, x->shard[x->n_shards - 1].file) != 0)
            x->shard[x->n_shards++] = x->shard[i];
    return SR_OK;
}

/* Index of the first shard that is not there, -1 when all are. */
static int missing_shard(const struct index *x, const char *dir, sr_arena *a) {
    for (int i = 0; i < x->n_shards; i++) {
        const char *path = sr_path_join(a, dir, x->shard[i].file);
        if (!path || sr_path_look(path) == SR_PATH_ABSENT) return i;
    }
    return -1;
}

/* Compares the index with the headers. Only a tensor given to two files is an error. */
static sr_status compare_index(const sr_file *file, struct index *x, sr_err *err) {
    sr_json j = x->map_object;
    struct claim claim;
    int stale = 0, listed = 0;
    sr_json_kind kind;
    const char **claimed = calloc((size_t)file->n_parts + 1, sizeof *claimed); /* file that the index gives each part */
    if (!claimed) return no_memory(x->path, err);
    while ((kind = next_claim(x, &j, &claim, err)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        int i = sr_names_find(&file->part_names, file->part, sizeof *file->part, claim.tensor);
        if (i < 0 || strcmp(sr_path_base(file->shard[file->part[i].shard].path), claim.file) != 0) stale++;
        if (i < 0) continue;
        if (claimed[i] && strcmp(claimed[i], claim.file) != 0) {
            sr_fail(err, SR_CORRUPT, "%s: tensor \"%s\": found two files for it, %s and %s", x->path,
                    sr_show_name(claim.tensor).text, claimed[i], claim.file);
            break;
        }
        listed += !claimed[i];
        claimed[i] = claim.file;
    }
    free(claimed);
    if (err->code != SR_OK) return err->code;
    if (stale > 0 || listed < file->n_parts)
        sr_log(SR_LOG_WARNING,
               "%s is stale: %d of its entries are wrong and %d tensors are not in it; using what the files hold",
               x->path, stale, file->n_parts - listed);
    return SR_OK;
}

/* ---------------------------------------------------------------- which files */

/* The numbered pieces that `path` is one of. */
static sr_status open_pieces(sr_file *file, const char *path, size_t prefix, int count, sr_err *err) {
    for (int no = 1; no <= count; no++) {
        const char *piece = sr_split_path(&file->arena, path, prefix, no, count, suffix);
        if (!piece) return no_memory(path, err);
        if (sr_path_look(piece) == SR_PATH_ABSENT)
            return sr_fail(err, SR_IO, "%s: missing, expected it beside %s, which is one of %d pieces",
                           sr_show_path(piece), sr_path_base(path), count);
        sr_status s = open_shard(file, piece, err);
        if (s != SR_OK) return s;
    }
    return sr_file_index(file, err);
}

static sr_status open_one(sr_file *file, const char *path, sr_err *err) {
    size_t prefix;
    int no, count;
    if (sr_split_name(path, suffix, &prefix, &no, &count)) return open_pieces(file, path, prefix, count, err);
    sr_status s = open_shard(file, path, err);
    return s == SR_OK ? sr_file_index(file, err) : s;
}

static sr_status open_indexed(sr_file *file, const char *dir, struct index *x, sr_err *err) {
    sr_status s = SR_OK;
    for (int i = 0; i < x->n_shards && s == SR_OK; i++) {
        const char *path = sr_path_join(&file->arena, dir, x->shard[i].file);
        s = path ? open_shard(file, path, err) : no_memory(dir, err);
    }
    if (s == SR_OK) s = sr_file_index(file, err);
    return s == SR_OK ? compare_index(file, x, err) : s;
}

/* What a scan of the directory finds: names are bounded by the system to 255 bytes. */
struct scan {
    char weights[256],
        other[256]; /* first *.safetensors in order, and another one that is no piece of the same model */
    char gguf[256], torch[256];
};

static bool same_pieces(const char *a, const char *b) {
    size_t na, nb;
    int no, count_a, count_b;
    return sr_split_name(a, suffix, &na, &no, &count_a) && sr_split_name(b, suffix, &nb, &no, &count_b) && na == nb &&
           count_a == count_b && memcmp(a, b, na) == 0;
}

static bool scan_one(void *ctx, const char *name) {
    struct scan *s = ctx;
    if (strlen(name) >= sizeof s->weights || name[0] == '.') return true;
    if (sr_ends_with(name, ".gguf")) strcpy(s->gguf, name);
    if (is_torch(name)) strcpy(s->torch, name);
    if (!sr_ends_with(name, suffix)) return true;
    bool first = !s->weights[0] || strcmp(name, s->weights) < 0;
    if (s->weights[0] && !same_pieces(name, s->weights)) strcpy(s->other, first ? s->weights : name);
    if (first) strcpy(s->weights, name);
    return true;
}

static sr_status missing_file(const struct index *x, int shard, const char *dir, const char *name, sr_err *err) {
    return sr_fail(err, SR_IO, "%s: missing in %s, but %s needs it for tensor \"%s\"; download it again",
                   x->shard[shard].file, sr_show_path(dir), name, sr_show_name(x->shard[shard].tensor).text);
}

/* *found is false when there are none. */
static sr_status open_torch(sr_file *file, const char *dir, bool *found, sr_err *err) {
    static const char torch_index[] = "pytorch_model.bin.index.json";
    static const char *const names[] = {"qmodel.pt", torch_index, "pytorch_model.bin"};
    const char *path = NULL;
    int i;
    *found = false;
    for (i = 0; i < 3; i++) {
        path = sr_path_join(&file->arena, dir, names[i]);
        if (!path) return no_memory(dir, err);
        *found = sr_path_look(path) != SR_PATH_ABSENT;
        if (*found) break;
    }
    if (!*found) return SR_OK;
    if (i != 1) return open_one(file, path, err);
    struct index x;
    sr_status s = open_index(&x, path, ".bin", err);
    int missing = s == SR_OK ? missing_shard(&x, dir, &x.arena) : -1;
    if (missing >= 0)
        s = missing_file(&x, missing, dir, torch_index, err);
    else if (s == SR_OK)
        s = open_indexed(file, dir, &x, err);
    close_index(&x);
    return s;
}

static sr_status open_scanned(sr_file *file, const char *dir, sr_err *err) {
    struct scan found = {0};
    sr_status s = sr_path_list(dir, scan_one, &found, err);
    if (s != SR_OK) return s;
    const char *where = sr_show_path(dir);
    bool torch = false;
    if (!found.weights[0]) s = open_torch(file, dir, &torch, err);
    if (s != SR_OK || torch) return s;
    if (!found.weights[0] && found.gguf[0])
        return sr_fail(err, SR_INVALID, "%s: found %s, expected *.safetensors; open that file by its own path", where,
                       found.gguf);
    if (!found.weights[0])
        return sr_fail(err, found.torch[0] ? SR_UNSUPPORTED : SR_INVALID,
                       "%s: found %s, expected weights in *.safetensors, pytorch_model.bin, qmodel.pt or a .gguf file",
                       where, found.torch[0] ? found.torch : "no weights");
    if (found.other[0])
        return sr_fail(err, SR_INVALID, "%s: found %s and %s, expected one model; open one by its own path", where,
                       found.weights, found.other);
    const char *path = sr_path_join(&file->arena, dir, found.weights);
    return path ? open_one(file, path, err) : no_memory(dir, err);
}

static sr_status open_weights(sr_file *file, const char *dir, sr_err *err) {
    const char *index = sr_path_join(&file->arena, dir, index_name);
    const char *single = sr_path_join(&file->arena, dir, "model.safetensors");
    if (!index || !single) return no_memory(dir, err);
    bool has_single = sr_path_look(single) != SR_PATH_ABSENT;
    if (sr_path_look(index) == SR_PATH_ABSENT) {
        if (has_single) return open_one(file, single, err);
        bool uqff;
        sr_status s = sr_uqff_open(file, dir, NULL, &uqff, err);
        return s == SR_OK && !uqff ? open_scanned(file, dir, err) : s;
    }
    struct index x;
    sr_status s = open_index(&x, index, suffix, err);
    int missing = s == SR_OK ? missing_shard(&x, dir, &x.arena) : -1;
    if (s == SR_OK && missing < 0) {
        s = open_indexed(file, dir, &x, err);
    } else if (s == SR_OK && has_single) {
        sr_log(SR_LOG_WARNING, "%s names files that are not there; using model.safetensors", x.path);
        s = open_one(file, single, err);
    } else if (s == SR_OK) {
        s = missing_file(&x, missing, dir, index_name, err);
    }
    close_index(&x);
    return s;
}

sr_status sr_hf_open(sr_file *file, const char *path, bool no_weights, sr_err *err) {
    bool directory = sr_path_look(path) == SR_PATH_DIRECTORY;
    bool uqff;
    file->container = "safetensors";
    const char *dir = directory ? path : sr_path_dir(&file->arena, path);
    if (!dir) return no_memory(path, err);
    sr_status s = read_configs(file, dir, err);
    if (s != SR_OK) return s;
    if (!directory && sr_ends_with(path, ".uqff")) return sr_uqff_open(file, dir, sr_path_base(path), &uqff, err);
    if (!directory) return open_one(file, path, err);
    if (!no_weights) s = open_weights(file, dir, err);
    if (s != SR_OK) return s;
    const char *config = sr_path_join(&file->arena, dir, "config.json");
    if (!config) return no_memory(dir, err);
    if (sr_path_look(config) == SR_PATH_ABSENT && !(no_weights && file->tokenizer_name))
        return sr_fail(err, SR_INVALID, "%s: found no config.json, expected a model directory or a .gguf file",
                       sr_show_path(path));
    return no_weights ? sr_file_index(file, err) : SR_OK;
}
