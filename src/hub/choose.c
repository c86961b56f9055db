/* Which files of a repository a model needs.
 *
 * A directory needs its small texts (configuration, tokenizer, template) and its weights: what the index names, else
 * model.safetensors, else all safetensors. A GGUF file has everything in it. Pickles are never fetched, but for the
 * qmodel.pt that HQQ publishes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "hub/hub.h"

static const char index_name[] = "model.safetensors.index.json";
/* MOST_CHANGES: tensors stand together by file in an index; one where they do not is searched for this long. */
enum { SMALL_TEXT = 64 << 20, MOST_CHANGES = 20000 };

/* ---------------------------------------------------------------- names */

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_text(const char *a, const char *b, size_t n) { /* without regard to case */
    for (size_t i = 0; i < n; i++)
        if (lower(a[i]) != lower(b[i]) || !a[i]) return false;
    return true;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && same_text(s + n - m, end, m);
}

static bool has_word(const char *s, const char *word) {
    for (size_t m = strlen(word); *s; s++)
        if (same_text(s, word, m)) return true;
    return false;
}

static bool at_top(const hub_file *f) {
    return !strchr(f->path, '/');
}

/* "-00002-of-00005" in front of the last `end` characters: where it begins, its two numbers. */
static bool split_at(const char *path, size_t end, size_t *stem, int *no, int *count) {
    static const char shape[] = "-00000-of-00000";
    size_t m = sizeof shape - 1, n = strlen(path) - end;
    if (n <= m) return false;
    const char *at = path + n - m;
    for (size_t i = 0; i < m; i++)
        if (shape[i] == '0' ? at[i] < '0' || at[i] > '9' : lower(at[i]) != shape[i]) return false;
    *stem = n - m;
    *no = atoi(at + 1);
    *count = atoi(at + 10);
    return true;
}

/* ---------------------------------------------------------------- GGUF */

/* A GGUF model of the repository: a file, or the first of its pieces. */
struct gguf {
    int file, count; /* count: pieces, 1 for a whole file */
    size_t stem;     /* length of the path without piece and suffix */
};

/* Images' projectors and importance matrices are no models. */
static bool is_gguf_model(const char *path) {
    const char *base = sr_path_base(path);
    return ends_with(path, ".gguf") && !has_word(base, "mmproj") && !has_word(base, "imatrix");
}

/* The models, without the pieces behind the first; owned (free), NULL when there is no memory. */
static struct gguf *gguf_models(const hub_list *l, int *n) {
    struct gguf *g = malloc(sizeof *g * (size_t)(l->n + 1));
    *n = 0;
    for (int i = 0; g && i < l->n; i++) {
        size_t stem = strlen(l->at[i].path) - 5;
        int no = 1, count = 1;
        if (!is_gguf_model(l->at[i].path)) continue;
        split_at(l->at[i].path, 5, &stem, &no, &count);
        if (no == 1) g[(*n)++] = (struct gguf){i, count, stem};
    }
    return g;
}

/* The last word of the stem, which says the types by convention: "Q4_K_M" of "phi-3-mini.Q4_K_M.gguf". */
static const char *label_of(const hub_list *l, const struct gguf *g, int *n) {
    const char *path = l->at[g->file].path, *base = sr_path_base(path), *at = path + g->stem;
    while (at > base && at[-1] != '-' && at[-1] != '.') at--;
    *n = (int)(path + g->stem - at);
    return at;
}

static bool is_word_end(char c) {
    return c == '-' || c == '.' || c == '/' || c == ' ';
}

/* Whether `quant` stands in the stem as a whole word ("q4_k" is none in "Q4_K_M"), or is the file's name. */
static bool names_gguf(const hub_list *l, const struct gguf *g, const char *quant) {
    const char *path = l->at[g->file].path, *base = sr_path_base(path);
    size_t m = strlen(quant);
    if (strcmp(path, quant) == 0 || strcmp(base, quant) == 0) return true;
    for (size_t i = 0; i + m <= g->stem && m > 0; i++)
        if (same_text(path + i, quant, m) && (i + m == g->stem || is_word_end(path[i + m])) &&
            (i == 0 || is_word_end(path[i - 1]) || path[i - 1] == '_'))
            return true;
    return false;
}

/* "4" stands for the first of these that is there. */
static const char *const types_of_bits[] = {"q%d_k_m", "q%d_k_s", "q%d_k",  "q%d_k_l",  "q%d_0", "q%d_1", "iq%d_nl",
                                            "iq%d_xs", "iq%d_m",  "iq%d_s", "iq%d_xxs", "q%d",   NULL};

static int match_gguf(const hub_list *l, const struct gguf *g, int n, const char *quant, int *found) {
    int matches = 0;
    for (int i = 0; i < n; i++)
        if (names_gguf(l, &g[i], quant) && matches++ == 0) *found = i;
    if (matches || strlen(quant) != 1 || quant[0] < '1' || quant[0] > '8') return matches;
    for (int t = 0; types_of_bits[t] && !matches; t++) {
        char name[16];
        snprintf(name, sizeof name, types_of_bits[t], quant[0] - '0');
        for (int i = 0; i < n; i++)
            if (names_gguf(l, &g[i], name) && matches++ == 0) *found = i;
    }
    return matches;
}

/* An error that lists the choices: all, or those that `quant` fits. */
static sr_status ask_for_quant(const hub *h, const hub_list *l, const struct gguf *g, int n, bool matching,
                               sr_err *err) {
    char names[200];
    size_t at = 0;
    bool all = true;
    for (int i = 0; i < n && all; i++) {
        int m;
        const char *label = label_of(l, &g[i], &m);
        if (matching) { /* the labels may be the same: whole names */
            label = l->at[g[i].file].path;
            m = (int)strlen(label);
            if (!names_gguf(l, &g[i], h->o->quant)) continue;
        }
        all = at + (size_t)m + 8 < sizeof names;
        at +=
            (size_t)snprintf(names + at, sizeof names - at, "%s%.*s", at ? ", " : "", all ? m : 3, all ? label : "...");
    }
    if (!h->o->quant)
        return sr_fail(err, SR_INVALID, "%s: found %d GGUF models; choose by --quant: %s", h->repo, n, names);
    return sr_fail(err, SR_INVALID, "%s: found %s GGUF for --quant %.30s; choose: %s", h->repo,
                   matching ? "more than one" : "no", h->o->quant, names);
}

static int by_size(const void *a, const void *b) {
    int64_t x = ((const hub_file *)a)->size, y = ((const hub_file *)b)->size;
    return x != y ? (x > y) - (x < y) : strcmp(((const hub_file *)a)->path, ((const hub_file *)b)->path);
}

static sr_status choose_gguf(const hub *h, hub_list *l, hub_pick *pick, sr_err *err) {
    int n, found = 0;
    qsort(l->at, (size_t)l->n, sizeof *l->at, by_size); /* the order of the choices in a message */
    struct gguf *g = gguf_models(l, &n);
    if (!g) return sr_hub_no_memory(h, err);
    int matches = h->o->quant ? match_gguf(l, g, n, h->o->quant, &found) : n;
    sr_status s = matches == 1 ? SR_OK : ask_for_quant(h, l, g, n, h->o->quant && matches > 1, err);
    if (s == SR_OK) {
        const char *first = l->at[g[found].file].path;
        int pieces = 0;
        for (int i = 0; i < l->n; i++) {
            hub_file *f = &l->at[i];
            size_t stem = 0;
            int no, count;
            bool piece = g[found].count > 1 && ends_with(f->path, ".gguf") && split_at(f->path, 5, &stem, &no, &count);
            f->wanted = piece ? stem == g[found].stem && count == g[found].count && memcmp(f->path, first, stem) == 0
                              : i == g[found].file;
            pieces += f->wanted;
        }
        pick->open = first;
        if (pieces != g[found].count)
            s = sr_fail(err, SR_UNSUPPORTED, "%s: found %d of %d pieces of %.80s", h->repo, pieces, g[found].count,
                        first);
    }
    free(g);
    return s;
}

/* ---------------------------------------------------------------- directory */

static bool is_safetensors(const hub_file *f) {
    return at_top(f) && ends_with(f->path, ".safetensors");
}

/* Mistral's own spelling of the same weights, and adapters: not what the directory's reader looks for. */
static bool is_side_weights(const char *path) {
    return strncmp(path, "consolidated", 12) == 0 || strncmp(path, "adapter", 7) == 0;
}

/* What the directory's reader takes for a tokenizer. */
static bool is_tokenizer(const char *path) {
    static const char *const names[] = {"tokenizer.json", "tekken.json",  "tokenizer.model",
                                        "spm.model",      "spiece.model", "tiktoken.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(path, names[i]) == 0) return true;
    return ends_with(path, ".tiktoken");
}

static bool has_tokenizer(const hub_list *l) {
    for (int i = 0; i < l->n; i++)
        if (at_top(&l->at[i]) && is_tokenizer(l->at[i].path)) return true;
    return false;
}

static bool is_small_text(const hub_file *f) {
    if (!at_top(f) || f->size > SMALL_TEXT || f->path[0] == '.') return false;
    if (ends_with(f->path, ".index.json")) return strcmp(f->path, index_name) == 0;
    return is_tokenizer(f->path) || ends_with(f->path, ".json") || ends_with(f->path, ".jinja");
}

sr_status sr_hub_choose(const hub *h, hub_list *l, hub_pick *pick, sr_err *err) {
    const char *format = h->o->format;
    bool gguf = false, safetensors = false, tokenizer = has_tokenizer(l);
    *pick = (hub_pick){0};
    for (int i = 0; i < l->n; i++) {
        gguf = gguf || is_gguf_model(l->at[i].path);
        safetensors = safetensors || is_safetensors(&l->at[i]);
    }
    bool asked = h->o->quant || (format && strcmp(format, "gguf") == 0);
    if (asked && !gguf)
        return sr_fail(err, SR_UNSUPPORTED, "%s: found no GGUF file%s", h->repo,
                       h->o->quant ? ", which --quant chooses from; --isq quantizes while loading" : "");
    if (gguf && (asked || !safetensors) && !(format && strcmp(format, "gguf") != 0) &&
        !(h->o->tokenizer_only && tokenizer && !h->o->quant))
        return choose_gguf(h, l, pick, err);
    for (int i = 0; i < l->n; i++) l->at[i].wanted = is_small_text(&l->at[i]);
    if (!(h->o->tokenizer_only && tokenizer) && sr_hub_list_find(l, index_name)) pick->index = index_name;
    return SR_OK;
}

/* Marks the files that the index names. *missing is one that the repository lacks. */
static sr_status choose_indexed(hub *h, hub_list *l, const char *text, size_t n, const char **missing, sr_err *err) {
    sr_json j = sr_json_over(text, n, index_name, err);
    sr_json_value key, v;
    sr_json_kind kind = sr_json_next(&j, &v);
    const hub_file *last = NULL;
    int named = 0, looked = 0;
    *missing = NULL;
    if (kind != SR_JSON_OBJECT && kind != SR_JSON_ERROR)
        return sr_fail(err, SR_CORRUPT, "%s: %s: found no object", h->repo, index_name);
    while ((kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        if (kind != SR_JSON_OBJECT || !sr_json_equals(&key, "weight_map")) {
            sr_json_skip(&j, &v);
            continue;
        }
        while ((kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
            named++;
            if (kind == SR_JSON_STRING && last && sr_json_equals(&v, last->path)) continue;
            size_t m;
            if (looked++ == MOST_CHANGES)
                return sr_fail(err, SR_LIMIT, "%s: %s changes the file more than %d times", h->repo, index_name,
                               MOST_CHANGES);
            const char *path = kind == SR_JSON_STRING ? sr_json_string(&j, &v, &h->arena, &m) : NULL;
            hub_file *f =
                path && strlen(path) == m && ends_with(path, ".safetensors") ? sr_hub_list_find(l, path) : NULL;
            last = f;
            if (f)
                f->wanted = true;
            else if (!*missing)
                *missing = path ? path : "";
            sr_json_skip(&j, &v);
        }
    }
    if (j.failed) return err->code;
    return named ? SR_OK : sr_fail(err, SR_CORRUPT, "%s: %s: found no weight_map", h->repo, index_name);
}

sr_status sr_hub_choose_weights(hub *h, hub_list *l, const hub_pick *pick, const char *index, size_t n, sr_err *err) {
    hub_file *single = sr_hub_list_find(l, "model.safetensors"), *hqq = sr_hub_list_find(l, "qmodel.pt");
    const char *pickle = NULL, *missing;
    int weights = 0;
    if (pick->open || (h->o->tokenizer_only && has_tokenizer(l))) return SR_OK;
    if (index) {
        sr_status s = choose_indexed(h, l, index, n, &missing, err);
        if (s != SR_OK || !missing) return s;
        /* The reader of the directory does the same with an index that is stale. */
        if (!single && h->scanned)
            return sr_fail(err, SR_IO, "%s: %.80s is not in the cache; connect and load it once", h->repo, missing);
        if (!single)
            return sr_fail(err, SR_CORRUPT, "%s: %s names \"%.80s\", which the repository lacks", h->repo, index_name,
                           missing);
        for (int i = 0; i < l->n; i++)
            if (is_safetensors(&l->at[i])) l->at[i].wanted = false;
    }
    if (single) {
        single->wanted = true;
        return SR_OK;
    }
    for (int side = 0; side < 2 && weights == 0; side++)
        for (int i = 0; i < l->n; i++) {
            const char *path = l->at[i].path;
            if (ends_with(path, ".bin") || ends_with(path, ".pt") || ends_with(path, ".pth")) pickle = path;
            if (!is_safetensors(&l->at[i]) || is_side_weights(path) != (side == 1)) continue;
            l->at[i].wanted = true;
            weights++;
        }
    if (!weights && hqq) {
        hqq->wanted = true;
        weights++;
    }
    if (weights) return SR_OK;
    if (h->scanned) return sr_fail(err, SR_IO, "%s: no weights are in the cache; connect and load it once", h->repo);
    if (pickle)
        return sr_fail(err, SR_UNSUPPORTED,
                       "%s: found %.80s, expected *.safetensors or *.gguf; pickles are "
                       "not fetched",
                       h->repo, pickle);
    return sr_fail(err, SR_UNSUPPORTED, "%s: found %d files, but no *.safetensors or *.gguf among them", h->repo, l->n);
}
