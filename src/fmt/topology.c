/* mistral.rs's topologies: a map in YAML from layers ("3", "0-8" without the 8th, "/a regular expression/") to
 * {isq: type, device: name}. Of ranges that hold a layer the one with the highest end wins, of equal ends the last;
 * patterns win over ranges, the last of them over the others. An entry replaces others as a whole.
 * Source: EricLBuehler/mistral.rs, mistralrs-core/src/topology/mod.rs. */
#include "fmt/recipe.h"

#if defined(SR_HAVE_YAML)

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/log.h"

struct entry {
    char *key, *isq; /* in the recipe's arena */
    int line, end;   /* of a range; of patterns more than any range's */
    int at;
};

struct reader {
    sr_recipe *r;
    yaml_parser_t yaml;
    yaml_event_t event;
    bool has_event, elsewhere;
    struct entry *entry;
    int n, cap;
    sr_err *err;
};

static sr_status next(struct reader *t) {
    if (t->has_event) yaml_event_delete(&t->event);
    t->has_event = yaml_parser_parse(&t->yaml, &t->event) != 0;
    if (t->has_event) return SR_OK;
    if (t->yaml.error == YAML_MEMORY_ERROR) return sr_fail(t->err, SR_NOMEM, "%s: no memory to read it", t->r->name);
    return sr_fail(t->err, SR_CORRUPT, "%s, line %zu: no YAML: %s", t->r->name, t->yaml.problem_mark.line + 1,
                   t->yaml.problem ? t->yaml.problem : "it cannot be read");
}

static sr_status expected(struct reader *t, const char *what) {
    return sr_fail(t->err, SR_INVALID, "%s, line %zu: expected %s, as 0-8: {isq: q4k}", t->r->name,
                   t->event.start_mark.line + 1, what);
}

/* The scalar that comes next, in the arena. */
static sr_status scalar(struct reader *t, const char *what, char **text) {
    sr_status s = next(t);
    if (s != SR_OK) return s;
    if (t->event.type != YAML_SCALAR_EVENT) return expected(t, what);
    const char *value = (const char *)t->event.data.scalar.value;
    const size_t n = t->event.data.scalar.length;
    if (n != strlen(value) || n > 2 * SR_RECIPE_TEXT) return expected(t, "a shorter text");
    *text = sr_arena_strndup(&t->r->arena, value, n);
    return *text ? SR_OK : sr_fail(t->err, SR_NOMEM, "%s: no memory to read it", t->r->name);
}

static bool is_null(const char *text) {
    return !*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

/* {isq: ..., device: ...}, or nothing. */
static sr_status read_value(struct reader *t, struct entry *e) {
    char *key, *value = NULL;
    sr_status s = next(t);
    if (s == SR_OK && t->event.type == YAML_SCALAR_EVENT && is_null((const char *)t->event.data.scalar.value))
        return SR_OK;
    if (s == SR_OK && t->event.type != YAML_MAPPING_START_EVENT) return expected(t, "{isq: TYPE}");
    while (s == SR_OK) {
        if ((s = next(t)) != SR_OK || t->event.type == YAML_MAPPING_END_EVENT) return s;
        if (t->event.type != YAML_SCALAR_EVENT) return expected(t, "isq or device");
        key = (char *)t->event.data.scalar.value;
        const bool isq = strcmp(key, "isq") == 0, device = strcmp(key, "device") == 0;
        if (!isq && !device) return expected(t, "isq or device");
        if ((s = scalar(t, isq ? "a type" : "a device", &value)) != SR_OK) return s;
        if (isq && !is_null(value)) e->isq = value;
        if (device && strcmp(value, "cpu") != 0) t->elsewhere = true;
    }
    return s;
}

static sr_status read_entry(struct reader *t) {
    if (t->event.type != YAML_SCALAR_EVENT) return expected(t, "layers or a pattern");
    if (t->n == SR_MOST_RULES) return expected(t, "fewer entries");
    if (t->n == t->cap) {
        const int cap = 2 * t->cap + 16;
        struct entry *more = realloc(t->entry, (size_t)cap * sizeof *more);
        if (!more) return sr_fail(t->err, SR_NOMEM, "%s: no memory to read it", t->r->name);
        t->entry = more;
        t->cap = cap;
    }
    const char *key = (const char *)t->event.data.scalar.value;
    const size_t n = t->event.data.scalar.length;
    if (n != strlen(key) || n > 2 * SR_RECIPE_TEXT || n == 0) return expected(t, "layers or a pattern");
    struct entry *e = &t->entry[t->n];
    *e = (struct entry){.at = t->n, .line = (int)t->event.start_mark.line + 1};
    if (!(e->key = sr_arena_strndup(&t->r->arena, key, n)))
        return sr_fail(t->err, SR_NOMEM, "%s: no memory to read it", t->r->name);
    t->n++;
    const bool pattern = key[0] == '/' && key[n - 1] == '/' && n > 2;
    int first;
    if (pattern)
        e->end = INT32_MAX;
    else if (!sr_recipe_layers(e->key, &first, &e->end))
        return expected(t, "layers (3, 0-8) or /a pattern/");
    return read_value(t, e);
}

static int by_end(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    return x->end != y->end ? (x->end > y->end) - (x->end < y->end) : x->at - y->at;
}

static sr_status read_document(struct reader *t) {
    sr_status s = next(t); /* of the stream, */
    if (s == SR_OK) s = next(t);
    if (s == SR_OK && t->event.type == YAML_STREAM_END_EVENT) return SR_OK;
    if (s == SR_OK) s = next(t); /* of the document */
    if (s == SR_OK && t->event.type != YAML_MAPPING_START_EVENT) return expected(t, "a map of layers");
    while (s == SR_OK && (s = next(t)) == SR_OK && t->event.type != YAML_MAPPING_END_EVENT) s = read_entry(t);
    if (s != SR_OK) return s;
    if (t->elsewhere)
        sr_log(SR_LOG_WARNING, "%s: its devices do not count: this build knows the processor only", t->r->name);
    if (t->n) qsort(t->entry, (size_t)t->n, sizeof *t->entry, by_end);
    for (int i = 0; i < t->n && s == SR_OK; i++) {
        struct entry *e = &t->entry[i];
        const bool pattern = e->key[0] == '/';
        if (pattern) e->key[strlen(e->key) - 1] = 0;
        s = sr_recipe_add(t->r, e->key + pattern, pattern, e->isq, e->line, t->err);
    }
    return s;
}

sr_status sr_topology_read(sr_recipe *r, const char *text, size_t n, sr_err *err) {
    struct reader t = {.r = r, .err = err};
    if (!yaml_parser_initialize(&t.yaml)) return sr_fail(err, SR_NOMEM, "%s: no memory to read it", r->name);
    yaml_parser_set_input_string(&t.yaml, (const unsigned char *)text, n);
    sr_status s = read_document(&t);
    if (t.has_event) yaml_event_delete(&t.event);
    yaml_parser_delete(&t.yaml);
    free(t.entry);
    return s;
}

#else

sr_status sr_topology_read(sr_recipe *r, const char *text, size_t n, sr_err *err) {
    (void)text, (void)n;
    return sr_fail(err, SR_UNSUPPORTED,
                   "%s: this build reads no YAML (libyaml was not there): write the rules as lines REGEX = TYPE into a "
                   "file of another name",
                   r->name);
}

#endif
