/* Chat templates from outside: where a model keeps its own, JSON as a template's variables, and messages as templates
 * expect them. */
#include "text/template.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/map.h"
#include "base/path.h"
#include "base/utf8.h"
#include "text/jinja.h"
#include "text/load.h"

/* The longest template seen has 30 KB; a megabyte of nested lists still parses within the limit of memory. */
enum { LONGEST = 1 << 20 };

/* A conversation of a thousand messages takes about a million steps, and 20 million about a second. */
const sr_template_limits sr_template_default_limits = {
    .steps = 20 * 1000 * 1000, .bytes = 256 << 20, .output = 64 << 20, .depth = 800};

/* ---------------------------------------------------------------- failures and limits */

void sr_j_fail(jenv *e, sr_status code, const char *fmt, ...) {
    char what[220];
    uint32_t line = 1, column = 1, at = e->at < e->t->n ? e->at : e->t->n;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    for (uint32_t i = 0; i < at; i++) {
        column += ((uint8_t)e->t->source[i] & 0xC0) != 0x80;
        if (e->t->source[i] != '\n') continue;
        line++;
        column = 1;
    }
    e->status = sr_fail(e->err, code, "%s: line %u, column %u: %s", e->t->origin, line, column, what);
    longjmp(e->failed, 1);
}

const char *sr_j_shown(const char *s, size_t n) {
    static _Thread_local char text[4][64];
    static _Thread_local unsigned turn;
    char *to = text[turn++ % 4];
    if (n > 60)
        for (n = 60; n > 0 && ((uint8_t)s[n] & 0xC0) == 0x80;) n--;
    if (n) memcpy(to, s, n);
    to[n] = 0;
    return to;
}

void sr_j_out_of_steps(jenv *e) {
    sr_j_fail(e, SR_LIMIT, "found no end after %lld steps, expected a template that does less",
              (long long)e->limits.steps);
}

void sr_j_out_of_memory(jenv *e) {
    sr_j_fail(e, SR_LIMIT, "found a need for more than %zu bytes of memory, expected a template that keeps less",
              e->limits.bytes);
}

void sr_j_enter(jenv *e) {
    if (e->depth >= e->limits.depth)
        sr_j_fail(e, SR_LIMIT, "found nesting deeper than %d, expected a flatter template", e->limits.depth);
    e->depth++;
}

void *sr_j_alloc(jenv *e, size_t n, size_t size) {
    size_t left = e->limits.bytes > e->arena.used ? e->limits.bytes - e->arena.used : 0;
    if (n > left / size) sr_j_out_of_memory(e);
    void *at = sr_arena_small(&e->arena, n, size);
    if (!at) sr_j_fail(e, SR_NOMEM, "no memory for %zu bytes", n * size);
    return at;
}

/* Runs `work` up to its end or its first failure. */
static sr_status guarded(jenv *e, void (*work)(jenv *e, void *with), void *with) {
    if (setjmp(e->failed) == 0) work(e, with);
    sr_buffer_free(&e->out);
    return e->status;
}

/* ---------------------------------------------------------------- JSON */

static jvalue read_json(jenv *e, sr_json *j, const sr_json_value *v);

static jvalue read_number(jenv *e, const sr_json_value *v) {
    jvalue text = sr_j_string(v->text, v->n);
    int64_t i;
    double d;
    if (sr_j_parse_int(e, text, 10, &i)) return sr_j_int(i);
    if (!memchr(v->text, '.', v->n) && !memchr(v->text, 'e', v->n) && !memchr(v->text, 'E', v->n) &&
        v->text[v->n - 1] <= '9')
        return (jvalue){.kind = J_BIG, .n = text.n, .u.s = text.u.s};
    if (!sr_j_parse_float(text, &d))
        sr_j_fail(e, SR_LIMIT, "found a number of %zu digits in JSON, expected at most 500", v->n);
    return sr_j_float(d);
}

static jvalue read_string(jenv *e, sr_json *j, const sr_json_value *v) {
    char *to = sr_j_alloc(e, v->n + 1, 1);
    size_t n;
    return sr_json_unescape(j, v, to, &n) ? sr_j_string(to, n) : sr_j_none();
}

static jvalue read_json(jenv *e, sr_json *j, const sr_json_value *v) {
    sr_json_value key, item;
    sr_json_kind kind;
    bool b;
    sr_j_charge(e, 1 + v->n / 16);
    switch (v->kind) {
    case SR_JSON_BOOL:
        sr_json_bool(v, &b);
        return sr_j_bool(b);
    case SR_JSON_NUMBER:
        return read_number(e, v);
    case SR_JSON_STRING:
        return read_string(e, j, v);
    case SR_JSON_ARRAY: {
        jseq *seq = sr_j_seq(e, J_LIST, 0);
        while ((kind = sr_json_next(j, &item)) != SR_JSON_END && kind != SR_JSON_ERROR)
            sr_j_push(e, seq, read_json(e, j, &item));
        return sr_j_of_seq(seq);
    }
    case SR_JSON_OBJECT: {
        jdict *d = sr_j_dict(e);
        while ((kind = sr_json_next_pair(j, &key, &item)) != SR_JSON_END && kind != SR_JSON_ERROR) {
            jvalue name = read_string(e, j, &key);
            sr_j_put(e, d, name, read_json(e, j, &item));
        }
        return sr_j_of_dict(d);
    }
    default:
        return sr_j_none();
    }
}

static bool try_json(jenv *e, const char *text, size_t n, const char *where, jvalue *out, sr_err *err) {
    sr_json j = sr_json_over(text, n, where, err);
    sr_json_value v;
    if (sr_json_next(&j, &v) != SR_JSON_ERROR) *out = read_json(e, &j, &v);
    if (j.failed) return false;
    if (sr_json_at_end(&j)) return true;
    sr_fail(err, SR_CORRUPT, "%s: found text behind the JSON value", where);
    return false;
}

jvalue sr_j_from_json(jenv *e, const char *text, size_t n, const char *where) {
    sr_err err = {0};
    jvalue v;
    if (!try_json(e, text, n, where, &v, &err)) sr_j_fail(e, err.code, "%s", err.msg);
    return v;
}

/* ---------------------------------------------------------------- messages as templates expect them */

static jpair *member(jenv *e, jvalue v, const char *name) {
    return v.kind == J_DICT ? sr_j_find(e, v.u.dict, sr_j_string(name, strlen(name))) : NULL;
}

/* Arguments of a call come as the text of an object; templates want the object. */
static void read_arguments(jenv *e, jvalue call) {
    const jpair *function = member(e, call, "function");
    jpair *arguments = member(e, function ? function->value : call, "arguments");
    jvalue v;
    if (!arguments || arguments->value.kind != J_STRING) return;
    if (try_json(e, arguments->value.u.s, arguments->value.n, "arguments", &v, NULL) && v.kind == J_DICT)
        arguments->value = v;
}

/* Reasoning has three names: templates read the first, or gpt-oss's the second. */
static void name_reasoning(jenv *e, jvalue message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (int i = 0; i < 3; i++) {
        const jpair *p = member(e, message, names[i]);
        if (!p) continue;
        jvalue v = p->value;
        if (!member(e, message, names[1])) sr_j_put(e, message.u.dict, sr_j_string(names[1], 8), v);
        sr_j_put(e, message.u.dict, sr_j_string(names[0], 17), v);
        return;
    }
}

/* What is null is not there: templates ask whether a key is defined. */
static void prepare_message(jenv *e, jvalue message) {
    if (message.kind != J_DICT) return;
    jdict *d = message.u.dict;
    for (uint32_t i = d->n; i-- > 0;)
        if (d->at[i].value.kind == J_NONE) sr_j_remove(e, d, &d->at[i]);
    name_reasoning(e, message);
    const jpair *calls = member(e, message, "tool_calls");
    if (!calls || calls->value.kind != J_SEQ) return;
    for (uint32_t i = 0; i < calls->value.u.seq->n; i++) read_arguments(e, calls->value.u.seq->v[i]);
}

static void prepare(jenv *e) {
    static const char *const lists[] = {"tools", "documents"};
    jvalue all = sr_j_of_dict(e->variables);
    for (int i = 0; i < 2; i++) {
        jpair *p = member(e, all, lists[i]);
        if (p && !sr_j_truth(p->value)) sr_j_remove(e, e->variables, p);
    }
    const jpair *messages = member(e, all, "messages");
    if (!messages || messages->value.kind != J_SEQ) return;
    for (uint32_t i = 0; i < messages->value.u.seq->n; i++) prepare_message(e, messages->value.u.seq->v[i]);
}

/* ---------------------------------------------------------------- parsing and rendering */

static void parse(jenv *e, void *with) {
    sr_template *t = with;
    t->body = sr_j_parse(e, t);
}

sr_status sr_template_parse(const char *text, size_t n, const char *origin, sr_template **out, sr_err *err) {
    sr_err own = {0};
    *out = NULL;
    if (!err) err = &own;
    if (n > LONGEST)
        return sr_fail(err, SR_LIMIT, "%s: found a template of %zu bytes, expected at most %d", origin, n, LONGEST);
    if (!sr_utf8_valid(text, n))
        return sr_fail(err, SR_CORRUPT, "%s: found bytes in the template that are not UTF-8", origin);
    sr_template *t = calloc(1, sizeof *t);
    char *source = t ? sr_arena_strndup(&t->arena, text, n) : NULL;
    if (!source || !(t->origin = sr_arena_strndup(&t->arena, origin, strlen(origin)))) {
        sr_template_free(t);
        return sr_fail(err, SR_NOMEM, "%s: no memory for a template of %zu bytes", origin, n);
    }
    for (size_t i = 0; i < n; i++) { /* "\r\n" and "\r" are "\n" */
        bool pair = text[i] == '\r' && i + 1 < n && text[i + 1] == '\n';
        source[t->n++] = text[i] == '\r' ? '\n' : text[i];
        i += pair;
    }
    if (t->n && source[t->n - 1] == '\n') t->n--;
    t->source = source;
    jenv e = {.t = t, .limits = sr_template_default_limits, .err = err, .arena = t->arena};
    e.steps = e.limits.steps;
    sr_status status = guarded(&e, parse, t);
    t->arena = e.arena;
    if (status != SR_OK) {
        sr_template_free(t);
        return status;
    }
    *out = t;
    return SR_OK;
}

void sr_template_free(sr_template *t) {
    if (!t) return;
    sr_arena_free(&t->arena);
    free(t);
}

struct work {
    const char *variables;
    size_t n_variables;
    char *text;
    size_t n;
};

static void render(jenv *e, void *with) {
    struct work *w = with;
    const sr_template *t = e->t;
    jvalue v;
    e->variables = sr_j_dict(e);
    for (int i = 0; i < t->n_special; i++)
        sr_j_put(e, e->variables, sr_j_string(t->special[i].name, strlen(t->special[i].name)),
                 sr_j_string(t->special[i].text, t->special[i].n));
    if (!try_json(e, w->variables, w->n_variables, "variables of a template", &v, e->err)) {
        e->status = e->err->code;
        return;
    }
    if (v.kind != J_DICT) sr_j_fail(e, SR_INVALID, "found variables of type '%s', expected an object", sr_j_type(v));
    for (uint32_t i = 0; i < v.u.dict->n; i++) sr_j_put(e, e->variables, v.u.dict->at[i].key, v.u.dict->at[i].value);
    prepare(e);
    sr_j_run(e);
    w->n = e->out.n;
    sr_j_put_bytes(e, "", 1);
    w->text = e->out.at;
    e->out = (sr_buffer){0};
}

sr_status sr_template_render_with(const sr_template *t, const char *variables, size_t n_variables,
                                  const sr_template_limits *limits, int64_t now, char **text, size_t *n, sr_err *err) {
    sr_err own = {0};
    struct work w = {variables, n_variables, NULL, 0};
    jenv e = {.t = t, .limits = limits ? *limits : sr_template_default_limits, .err = err ? err : &own, .now = now};
    e.steps = e.limits.steps;
    if (e.limits.bytes > INT32_MAX) e.limits.bytes = INT32_MAX; /* lengths of values have 32 bits */
    sr_status status = guarded(&e, render, &w);
    sr_arena_free(&e.arena);
    *text = w.text;
    *n = w.n;
    return status;
}

sr_status sr_template_render(const sr_template *t, const char *variables, size_t n_variables, char **text, size_t *n,
                             sr_err *err) {
    return sr_template_render_with(t, variables, n_variables, NULL, 0, text, n, err);
}

void sr_text_free(char *text) {
    free(text);
}

/* ---------------------------------------------------------------- the template of a model */

static sr_status add_special(sr_template *t, const char *name, const char *text, size_t n, sr_err *err) {
    struct sr_special *s = &t->special[t->n_special];
    s->name = sr_arena_strndup(&t->arena, name, strlen(name));
    s->text = sr_arena_strndup(&t->arena, text, n);
    s->n = n;
    if (!s->name || !s->text) return sr_fail(err, SR_NOMEM, "%s: no memory for its special tokens", t->origin);
    t->n_special++;
    return SR_OK;
}

/* Spelling of a special token: of the files beside a directory's tokenizer, or the piece of GGUF's id. */
static bool special(const sr_file *file, const char *name, const char *gguf_key, const char **text, size_t *n) {
    int64_t id;
    if (!file->gguf) return sr_special_spelling(file, name, text, n);
    sr_array pieces = sr_array_over(sr_file_value(file, "tokenizer.ggml.tokens"));
    if (!gguf_key || !sr_value_int(file, gguf_key, 0, INT32_MAX, &id, NULL)) return false;
    while (sr_array_string(&pieces, text, n))
        if (id-- == 0) return true;
    return false;
}

static sr_status add_specials(sr_template *t, const sr_file *file, sr_err *err) {
    static const struct {
        const char *name, *gguf_key;
    } rows[] = {{"bos_token", "tokenizer.ggml.bos_token_id"},       {"eos_token", "tokenizer.ggml.eos_token_id"},
                {"unk_token", "tokenizer.ggml.unknown_token_id"},   {"pad_token", "tokenizer.ggml.padding_token_id"},
                {"sep_token", "tokenizer.ggml.seperator_token_id"}, {"cls_token", "tokenizer.ggml.cls_token_id"},
                {"mask_token", "tokenizer.ggml.mask_token_id"}};
    enum { N = sizeof rows / sizeof *rows };
    t->special = sr_arena_small(&t->arena, N, sizeof *t->special);
    if (!t->special) return sr_fail(err, SR_NOMEM, "%s: no memory for its special tokens", t->origin);
    for (int i = 0; i < N; i++) {
        const char *text;
        size_t n;
        bool there = special(file, rows[i].name, rows[i].gguf_key, &text, &n) && sr_utf8_valid(text, n);
        sr_status status = there ? add_special(t, rows[i].name, text, n, err) : SR_OK;
        if (status != SR_OK) return status;
    }
    return SR_OK;
}

/* Where templates stand, in order of preference; the first one of each pair where there are tools. */
static const struct place {
    const char *key, *name; /* of the value, and of its home for people */
} in_hf[] = {{"processor_config.chat_template.tool_use", "processor_config.json"},
             {"processor_config.chat_template", "processor_config.json"},
             {"chat_template_jinja.tool_use", "additional_chat_templates/tool_use.jinja"},
             {"chat_template_jinja", "chat_template.jinja"},
             {"tokenizer_config.chat_template.tool_use", "tokenizer_config.json"},
             {"tokenizer_config.chat_template", "tokenizer_config.json"},
             {"chat_template_json.chat_template.tool_use", "chat_template.json"},
             {"chat_template_json.chat_template", "chat_template.json"},
             {0}},
  in_gguf[] = {{"tokenizer.chat_template.tool_use", "tokenizer.chat_template.tool_use"},
               {"tokenizer.chat_template", "tokenizer.chat_template"},
               {0}};

/* NULL: there is none, or, with an error, one that is no text. */
static const struct place *find_place(const sr_file *file, bool tools, const char **text, size_t *n, sr_err *err) {
    const struct place *p = file->gguf ? in_gguf : in_hf;
    for (; p->key && err->code == SR_OK; p++) {
        bool for_tools = strstr(p->key, ".tool_use") != NULL;
        if ((tools || !for_tools) && sr_value_string(file, p->key, text, n, err)) return p;
    }
    return NULL;
}

bool sr_template_found(const sr_file *file) {
    const char *text;
    size_t n;
    sr_err err = {0};
    return find_place(file, false, &text, &n, &err) || err.code != SR_OK;
}

sr_status sr_template_create(const sr_file *file, bool tools, sr_template **out, sr_err *err) {
    char origin[96];
    const char *text;
    size_t n;
    sr_err own = {0};
    *out = NULL;
    if (!err) err = &own;
    const struct place *p = find_place(file, tools, &text, &n, err);
    if (err->code != SR_OK) return err->code;
    if (!p)
        return sr_fail(err, SR_UNSUPPORTED, "%s: found no chat template, expected one in %s", sr_show_path(file->path),
                       file->gguf ? in_gguf[1].name : "tokenizer_config.json or chat_template.jinja");
    snprintf(origin, sizeof origin, "%s: chat template", sr_show_path(file->path));
    sr_status status = sr_template_parse(text, n, origin, out, err);
    if (status == SR_OK) (*out)->home = p->name;
    if (status == SR_OK) status = add_specials(*out, file, err);
    if (status == SR_OK) return SR_OK;
    sr_template_free(*out);
    *out = NULL;
    return status;
}

const char *sr_template_home(const sr_template *t) {
    return t->home ? t->home : t->origin;
}

/* A template in a file of its own; its special tokens are those of the tokenizer_config.json beside it. */
static sr_status open_text(const char *path, sr_template **out, sr_err *err) {
    char *text, *dir = NULL, *config = NULL;
    size_t n;
    sr_arena arena = {0};
    sr_status status = sr_file_read(path, LONGEST, &text, &n, err);
    if (status != SR_OK) return status;
    status = sr_template_parse(text, n, sr_show_path(path), out, err);
    free(text);
    if (status == SR_OK &&
        (!(dir = sr_path_dir(&arena, path)) || !(config = sr_path_join(&arena, dir, "tokenizer_config.json"))))
        status = sr_fail(err, SR_NOMEM, "%s: no memory to open it", sr_show_path(path));
    if (status == SR_OK && sr_path_look(config) == SR_PATH_FILE) {
        sr_file *file;
        status = sr_file_open(dir, &(sr_file_options){.no_weights = true}, &file, err);
        if (status == SR_OK) {
            status = add_specials(*out, file, err);
            sr_file_close(file);
        }
    }
    sr_arena_free(&arena);
    if (status != SR_OK) {
        sr_template_free(*out);
        *out = NULL;
    }
    return status;
}

sr_status sr_template_open(const char *path, bool tools, sr_template **out, sr_err *err) {
    size_t n = strlen(path);
    *out = NULL;
    if (n > 6 && strcmp(path + n - 6, ".jinja") == 0) return open_text(path, out, err);
    sr_file *file;
    bool config = n > 5 && strcmp(path + n - 5, ".json") == 0;
    sr_status status = config ? sr_file_open_config(path, &file, err)
                              : sr_file_open(path, &(sr_file_options){.no_weights = true}, &file, err);
    if (status != SR_OK) return status;
    status = sr_template_create(file, tools, out, err);
    sr_file_close(file);
    if (config && status == SR_OK) (*out)->home = sr_arena_strndup(&(*out)->arena, path, n);
    return status;
}
