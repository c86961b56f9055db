/* What stands beside the weights in a directory: configuration, tokenizer, templates, index, README.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/digest.h"
#include "base/disk.h"
#include "base/json.h"
#include "base/map.h"
#include "base/path.h"
#include "quant/quant.h"

enum { CONFIG_CAP = 16 << 20 };

struct place {
    const sr_quantizer *q;
    const char *from, *stage;
    sr_arena arena;
    sr_err *err;
    sr_status status;
};

static sr_status put_text(struct place *p, const char *name, sr_buffer *b) {
    char *path = sr_path_join(&p->arena, p->stage, name);
    sr_status s = !path || b->failed ? sr_fail(p->err, SR_NOMEM, "no memory to write %s", name)
                                     : sr_disk_put(path, b->at, b->n, p->err);
    sr_buffer_free(b);
    return s;
}

/* ---------------------------------------------------------------- config.json */

/* Where experts alone are quantized: of each layer the same, by patterns as the published config has them. */
static const char **modules_beside(const sr_quantizer *q, sr_arena *arena, int *n) {
    static const char *const beside[] = {"layers.*.self_attn", "layers.*.mlp.router", "embed_tokens"};
    const char **kept = sr_arena_small(arena, 4, sizeof *kept);
    char *text = sr_arena_small(arena, 4 * SR_NAME, 1);
    *n = 0;
    if (!kept || !text) return NULL;
    for (; *n < 4; ++*n, text += SR_NAME) {
        const bool head = *n == 3;
        snprintf(text, SR_NAME, "%s%s", head ? q->to.head : q->to.body, head ? "lm_head" : beside[*n]);
        kept[*n] = text;
    }
    return kept;
}

/* The config says what was not quantized by the modules' own names. */
static const char **modules_kept(const sr_quantizer *q, sr_arena *arena, int *n) {
    const char **kept = sr_arena_small(arena, (size_t)q->n_jobs + 2, sizeof *kept);
    char *head = sr_arena_small(arena, SR_NAME, 1);
    bool has_head = q->target.edges;
    *n = 0;
    if (q->target.experts) return modules_beside(q, arena, n);
    if (!kept || !head) return NULL;
    for (int i = 0; i < q->n_jobs; i++) {
        const sr_job *j = &q->job[i];
        has_head = has_head || (j->n_from && j->role == SR_HEAD);
        if (j->stack > 1 && sr_stacks_are_parameters(q)) {
            const char *owner = sr_arena_strndup(arena, j->module, (size_t)(strrchr(j->module, '.') - j->module));
            if (!owner) return NULL;
            if (*n == 0 || strcmp(kept[*n - 1], owner) != 0) kept[(*n)++] = owner; /* of both stacks of a layer */
        } else if (j->n_from && (!j->fmt || !j->fmt->spec.method) && j->role != SR_EMBED)
            kept[(*n)++] = j->module;
    }
    /* A head that is the embedding's is a module of its own to loaders. */
    if (!has_head && sr_name_full(&q->to, SR_HEAD, -1, "", head)) kept[(*n)++] = head;
    return kept;
}

/* Modules of another type than the target's. */
static sr_qmodule *modules_of_their_own(const sr_quantizer *q, sr_arena *arena, int *n) {
    const sr_type usual = {q->target.fmt, q->target.spec};
    sr_qmodule *own = sr_arena_small(arena, (size_t)q->n_jobs + 1, sizeof *own);
    *n = 0;
    for (int i = 0; i < q->n_jobs && own; i++) {
        const sr_job *j = &q->job[i];
        if (!j->n_from || !j->fmt || !j->fmt->spec.method) continue;
        const sr_qmodule m = {j->module, j->fmt, j->spec};
        if (m.fmt != usual.fmt || m.spec.group != sr_type_for(&usual, j->K).spec.group) own[(*n)++] = m;
    }
    return own;
}

static sr_status add_quantization(struct place *p, const char *const *kept, int n_kept, sr_buffer *b) {
    const sr_target *t = &p->q->target;
    const char *text;
    int n_own;
    const sr_qmodule *own = modules_of_their_own(p->q, &p->arena, &n_own);
    if (!own) return sr_fail(p->err, SR_NOMEM, "no memory for a config");
    sr_status s = sr_qconfig_write(t->fmt, &t->spec, kept, n_kept, own, n_own, &p->arena, &text, p->err);
    if (s != SR_OK) return s;
    sr_buffer_text(b, ",\n  \"quantization_config\": ");
    sr_buffer_text(b, text);
    if (sr_target_is_mlx(&p->q->target)) { /* what its loader looks at first */
        sr_buffer_text(b, ",\n  \"quantization\": ");
        sr_buffer_text(b, text);
    }
    return SR_OK;
}

/* transformers 5 has rope_theta and rope_scaling in one object, where most models of mlx-lm do not look. */
static void add_rotation(const char *object, size_t n, sr_buffer *b) {
    sr_err none = {0};
    sr_json j = sr_json_over(object, n, "rope_parameters", &none);
    sr_json_value key, v;
    bool scaled = false;
    const char *theta = NULL;
    size_t n_theta = 0;
    if (sr_json_next(&j, &v) != SR_JSON_OBJECT) return;
    for (sr_json_kind kind; (kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR;) {
        if (kind == SR_JSON_NUMBER && sr_json_equals(&key, "rope_theta")) theta = v.text, n_theta = v.n;
        if (kind == SR_JSON_STRING && sr_json_equals(&key, "rope_type")) scaled = !sr_json_equals(&v, "default");
        sr_json_skip(&j, &v);
    }
    if (!theta) return; /* of each kind of layer its own */
    sr_buffer_text(b, ",\n  \"rope_theta\": ");
    sr_buffer_add(b, theta, n_theta);
    if (!scaled) return;
    sr_buffer_text(b, ",\n  \"rope_scaling\": ");
    sr_buffer_add(b, object, n);
}

/* A text with another quantization config: every other member stays as it was written. */
static sr_status put_config(struct place *p, const char *path, const char *text, size_t n) {
    const sr_quantizer *q = p->q;
    int n_kept;
    sr_status s;
    sr_buffer b = {0};
    sr_json j = sr_json_over(text, n, "config.json", p->err);
    sr_json_value key, v;
    bool comma = false, is_old = false;
    const char *rotation = NULL;
    size_t n_rotation = 0;
    sr_buffer_text(&b, "{\n");
    if (sr_json_next(&j, &v) != SR_JSON_OBJECT && !j.failed)
        sr_fail(p->err, SR_CORRUPT, "%s: found no JSON object", path);
    while (p->err->code == SR_OK) {
        const sr_json_kind kind = sr_json_next_pair(&j, &key, &v);
        if (kind == SR_JSON_END || kind == SR_JSON_ERROR) break;
        const char *const value = kind == SR_JSON_STRING ? v.text - 1 : v.text;
        sr_json_skip(&j, &v);
        const char *const end =
            kind == SR_JSON_ARRAY || kind == SR_JSON_OBJECT ? j.at : v.text + v.n + (kind == SR_JSON_STRING);
        if (sr_json_equals(&key, "quantization_config") || sr_json_equals(&key, "quantization")) continue;
        if (sr_json_equals(&key, "rope_parameters")) rotation = value, n_rotation = (size_t)(end - value);
        is_old = is_old || sr_json_equals(&key, "rope_theta") || sr_json_equals(&key, "rope_scaling");
        if (comma) sr_buffer_text(&b, ",\n");
        comma = true;
        sr_buffer_text(&b, "  \"");
        sr_buffer_add(&b, key.text, key.n);
        sr_buffer_text(&b, "\": ");
        sr_buffer_add(&b, value, (size_t)(end - value));
    }
    if (sr_target_is_mlx(&q->target) && rotation && !is_old && p->err->code == SR_OK)
        add_rotation(rotation, n_rotation, &b);
    const char **kept = modules_kept(q, &p->arena, &n_kept);
    s = p->err->code;
    if (s == SR_OK && !kept) s = sr_fail(p->err, SR_NOMEM, "no memory for a config");
    if (s == SR_OK && q->target.fmt->spec.method && !q->target.uqff) s = add_quantization(p, kept, n_kept, &b);
    sr_buffer_text(&b, "\n}\n");
    if (s == SR_OK) return put_text(p, "config.json", &b);
    sr_buffer_free(&b);
    return s;
}

/* The source's own. */
static sr_status write_config(struct place *p) {
    char *text = NULL, *path = sr_path_join(&p->arena, p->from, "config.json");
    size_t n = 0;
    if (!path) return sr_fail(p->err, SR_NOMEM, "no memory for a path");
    sr_status s = sr_file_read(path, CONFIG_CAP, &text, &n, p->err);
    if (s == SR_OK) s = put_config(p, path, text, n);
    free(text);
    return s;
}

/* ---------------------------------------------------------------- copies */

/* Weights, in any form, and what is written anew. */
static bool is_left_out(const char *name) {
    static const char *const tails[] = {".safetensors", ".bin",  ".pt",      ".pth", ".gguf",      ".uqff",
                                        ".h5",          ".onnx", ".msgpack", ".npz", ".index.json"};
    static const char *const names[] = {"config.json", "README.md", "quantize_config.json", "quant_config.json",
                                        "uqff_report.json"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (sr_ends_with(name, tails[i])) return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return name[0] == '.' || strstr(name, "/.");
}

static bool copy_one(void *ctx, const char *name, int64_t size) {
    enum { MOST = 256 << 20 };
    struct place *p = ctx;
    if (size < 0 || size > MOST || is_left_out(name)) return true;
    if (strchr(name, '/') && strncmp(name, "additional_chat_templates/", 26) != 0) return true;
    char *from = sr_path_join(&p->arena, p->from, name), *to = sr_path_join(&p->arena, p->stage, name);
    char *dir = to ? sr_path_dir(&p->arena, to) : NULL;
    p->status = from && dir ? sr_disk_make(dir, p->err) : sr_fail(p->err, SR_NOMEM, "no memory for a path");
    if (p->status == SR_OK) p->status = sr_disk_copy(from, to, p->err);
    return p->status == SR_OK;
}

/* ---------------------------------------------------------------- index and model card */

static sr_status write_index(struct place *p) {
    const sr_quantizer *q = p->q;
    sr_buffer b = {0};
    sr_buffer_text(&b, "{\n  \"metadata\": {\"total_size\": ");
    sr_buffer_int(&b, q->bytes_out);
    sr_buffer_text(&b, "},\n  \"weight_map\": {");
    for (int i = 0; i < q->n_parts; i++) {
        sr_buffer_text(&b, i ? ",\n    " : "\n    ");
        sr_buffer_json(&b, q->part[i].name, strlen(q->part[i].name));
        sr_buffer_text(&b, ": ");
        sr_buffer_json(&b, q->out[q->part_file[i]].name, strlen(q->out[q->part_file[i]].name));
    }
    sr_buffer_text(&b, "\n  }\n}\n");
    return put_text(p, "model.safetensors.index.json", &b);
}

static sr_status add_hash(struct place *p, const char *name, sr_buffer *b) {
    sr_map map;
    char hex[SR_DIGEST_HEX], *path = sr_path_join(&p->arena, p->stage, name);
    if (!path) return sr_fail(p->err, SR_NOMEM, "no memory for a path");
    sr_status s = sr_map_open(path, &map, p->err);
    if (s != SR_OK) return s;
    sr_digest d = sr_sha256();
    sr_digest_add(&d, map.data, map.size);
    sr_map_close(&map);
    sr_digest_hex(&d, hex);
    sr_buffer_text(b, "| ");
    sr_buffer_text(b, name);
    sr_buffer_text(b, " | ");
    sr_buffer_text(b, hex);
    sr_buffer_text(b, " |\n");
    return SR_OK;
}

static sr_status write_card(struct place *p) {
    const sr_quantizer *q = p->q;
    char line[512];
    double error = 0, weights = 0, bytes = 0, all = 0;
    sr_buffer b = {0};
    for (int i = 0; i < q->n_jobs; i++) {
        const sr_job *j = &q->job[i];
        const double n = (double)j->N * (double)j->K;
        for (int t = 0; t < j->n_parts && j->n_from; t++) bytes += (double)q->part[j->first_part + t].bytes;
        all += n;
        if (j->error < 0 || !j->fmt) continue;
        error += j->error * n;
        weights += n;
    }
    sr_buffer_text(&b, "---\ntags:\n- sirocco\n");
    if (q->target.fmt->spec.method || q->target.uqff) {
        snprintf(line, sizeof line, "- %s\n", q->target.uqff ? "uqff" : q->target.fmt->spec.method);
        sr_buffer_text(&b, line);
    }
    sr_buffer_text(&b, "---\n\n# ");
    sr_buffer_text(&b, sr_path_base(q->result));
    snprintf(line, sizeof line,
             "\n\nWritten by sirocco %s from `%s` (%s, %s).\n\n```\nsirocco quantize %s --to %s%s%s -o %s\n```\n\n"
             "%.2f bits a weight over all matrices; ",
             SR_VERSION, sr_path_base(q->source), q->file->container, q->arch->name, sr_path_base(q->source),
             q->target.text, q->method == SR_RTN ? "" : " --method ",
             q->method == SR_RTN ? "" : sr_method_name(q->method), sr_path_base(q->result),
             all > 0 ? 8 * bytes / all : 0);
    sr_buffer_text(&b, line);
    snprintf(line, sizeof line, "root mean square error of the converted ones %.2f %% of the weights' own.\n\n",
             weights > 0 ? 100 * sqrt(error / weights) : 0);
    sr_buffer_text(&b, line);
    if (sr_method_calibrates(q->method)) {
        snprintf(line, sizeof line, "Calibrated with %lld windows of %d tokens%s.\n\n",
                 (long long)q->calibration.n_windows, q->calibration.n_ctx,
                 q->method == SR_GPTQ
                     ? ": errors are larger than without, and make up for each other in what the model "
                       "computes"
                     : "");
        sr_buffer_text(&b, line);
    }
    sr_buffer_text(&b, "| matrix | from | to | error |\n|---|---|---|---|\n");
    for (int i = 0; i < q->n_jobs; i++) {
        const sr_job *j = &q->job[i];
        if (!j->n_from) continue;
        if (j->fmt)
            snprintf(line, sizeof line, "| %s | %s | %s | %.3f %% |\n", j->module, j->was->name, j->fmt->name,
                     j->error >= 0 ? 100 * sqrt(j->error) : NAN);
        else
            snprintf(line, sizeof line, "| %s | %s | as it is | |\n", j->module, j->was->name);
        sr_buffer_text(&b, line);
    }
    sr_buffer_text(&b, "\n| file | SHA-256 |\n|---|---|\n");
    sr_status s = SR_OK;
    for (int f = 0; f < q->n_out && s == SR_OK; f++) s = add_hash(p, q->out[f].name, &b);
    if (s == SR_OK) return put_text(p, "README.md", &b);
    sr_buffer_free(&b);
    return s;
}

sr_status sr_write_texts(const sr_quantizer *q, const char *stage, sr_err *err) {
    struct place p = {.q = q, .stage = stage, .err = err};
    const struct {
        const char *name;
        const sr_buffer *text;
    } rest[] = {{"generation_config.json", &q->text.generation},
                {"tokenizer.json", &q->text.tokenizer},
                {"tokenizer_config.json", &q->text.tokenizer_config}};
    sr_status s = put_config(&p, "config.json", q->text.config.at, q->text.config.n);
    for (int i = 0; i < 3 && s == SR_OK; i++) {
        sr_buffer copy = {0};
        if (rest[i].text->n == 0) continue;
        sr_buffer_add(&copy, rest[i].text->at, rest[i].text->n);
        s = put_text(&p, rest[i].name, &copy);
    }
    sr_arena_free(&p.arena);
    return s;
}

sr_status sr_write_companions(const sr_quantizer *q, const char *stage, sr_err *err) {
    struct place p = {.q = q, .stage = stage, .err = err};
    sr_status s = SR_OK;
    p.from = sr_path_look(q->source) == SR_PATH_DIRECTORY ? q->source : sr_path_dir(&p.arena, q->source);
    if (!p.from) s = sr_fail(err, SR_NOMEM, "no memory for a path");
    if (s == SR_OK && !q->from_gguf) s = write_config(&p); /* else they are there: sr_write_texts */
    if (s == SR_OK && !q->from_gguf) s = sr_disk_walk(p.from, copy_one, &p, err);
    if (s == SR_OK) s = p.status;
    if (s == SR_OK && q->n_out > 1 && !q->target.uqff) s = write_index(&p);
    if (s == SR_OK) s = write_card(&p);
    sr_arena_free(&p.arena);
    return s;
}
