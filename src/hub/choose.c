/* Which files of a repository a model needs.
 *
 * A directory needs its small texts (configuration, tokenizer, template) and its weights: what the index names, else
 * model.safetensors, else one UQFF model with residual.safetensors, else all safetensors; where there are none, HQQ's
 * qmodel.pt, what PyTorch's index names, or pytorch_model.bin. Other pickles are not fetched. A GGUF file has
 * everything in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "hub/hub.h"

static const char index_name[] = "model.safetensors.index.json", torch_index[] = "pytorch_model.bin.index.json";
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

/* "-2" in front of ".uqff": where it begins, its number; without one all is stem, and the number 0. */
static void split_uqff(const char *path, size_t *stem, int *no) {
    size_t n = strlen(path) - 5, digits = 0;
    while (digits < n && digits < 5 && path[n - 1 - digits] >= '0' && path[n - 1 - digits] <= '9') digits++;
    bool numbered = digits > 0 && digits < n && path[n - 1 - digits] == '-';
    *stem = numbered ? n - digits - 1 : n;
    *no = numbered ? atoi(path + n - digits) : 0;
}

/* ---------------------------------------------------------------- one model of several: GGUF, UQFF */

/* "4" stands for the first of these that is there. */
static const char *const gguf_types[] = {"q%d_k_m", "q%d_k_s", "q%d_k",  "q%d_k_l",  "q%d_0", "q%d_1", "iq%d_nl",
                                         "iq%d_xs", "iq%d_m",  "iq%d_s", "iq%d_xxs", "q%d",   NULL};
static const char *const uqff_types[] = {"q%dk", "q%d_0", "q%d_1", "afq%d", "hqq%d", "fp%d", "f%de4m3", NULL};

static const struct kind {
    const char *word, *suffix; /* of 5 characters */
    const char *const *types;
} gguf = {"GGUF", ".gguf", gguf_types}, uqff = {"UQFF", ".uqff", uqff_types};

/* A model of the repository: a file, or the first of its pieces. */
struct model {
    int file, count; /* count: pieces, 1 for a whole file; of UQFF as many as there are */
    size_t stem;     /* length of the path without piece and suffix */
};

/* Images' projectors and importance matrices are no models. */
static bool is_model(const struct kind *kind, const hub_file *f) {
    const char *base = sr_path_base(f->path);
    if (!ends_with(f->path, kind->suffix)) return false;
    return kind == &uqff ? at_top(f) : !has_word(base, "mmproj") && !has_word(base, "imatrix");
}

/* The models, without the pieces behind the first; owned (free), NULL when there is no memory. */
static struct model *list_models(const struct kind *kind, const hub_list *l, int *n) {
    struct model *g = malloc(sizeof *g * (size_t)(l->n + 1));
    *n = 0;
    for (int i = 0; g && i < l->n; i++) {
        const char *path = l->at[i].path;
        size_t stem = strlen(path) - 5;
        int no = 1, count = 1;
        if (!is_model(kind, &l->at[i])) continue;
        if (kind == &gguf)
            split_at(path, 5, &stem, &no, &count);
        else
            split_uqff(path, &stem, &no), no++;
        if (no == 1) g[(*n)++] = (struct model){i, count, stem};
    }
    return g;
}

/* The last word of the stem, which says the types by convention: "Q4_K_M" of "phi-3-mini.Q4_K_M.gguf". */
static const char *label_of(const hub_list *l, const struct model *g, int *n) {
    const char *path = l->at[g->file].path, *base = sr_path_base(path), *at = path + g->stem;
    while (at > base && at[-1] != '-' && at[-1] != '.') at--;
    *n = (int)(path + g->stem - at);
    return at;
}

static bool is_word_end(char c) {
    return c == '-' || c == '.' || c == '/' || c == ' ';
}

/* Whether `quant` stands in the stem as a whole word ("q4_k" is none in "Q4_K_M"), or is the file's name. */
static bool names_model(const hub_list *l, const struct model *g, const char *quant) {
    const char *path = l->at[g->file].path, *base = sr_path_base(path);
    size_t m = strlen(quant);
    if (strcmp(path, quant) == 0 || strcmp(base, quant) == 0) return true;
    for (size_t i = 0; i + m <= g->stem && m > 0; i++)
        if (same_text(path + i, quant, m) && (i + m == g->stem || is_word_end(path[i + m])) &&
            (i == 0 || is_word_end(path[i - 1]) || path[i - 1] == '_'))
            return true;
    return false;
}

static int match(const hub_list *l, const struct model *g, int n, const char *quant, int *found) {
    int matches = 0;
    for (int i = 0; i < n; i++)
        if (names_model(l, &g[i], quant) && matches++ == 0) *found = i;
    return matches;
}

static int match_model(const struct kind *kind, const hub_list *l, const struct model *g, int n, const char *quant,
                       int *found) {
    int matches = match(l, g, n, quant, found);
    if (matches) return matches;
    if (kind == &uqff && strlen(quant) == 4 && quant[2] == '_') /* "q4_k": here it is written without the line */
        return match(l, g, n, (const char[]){quant[0], quant[1], quant[3], 0}, found);
    if (strlen(quant) != 1 || quant[0] < '1' || quant[0] > '8') return 0;
    for (int t = 0; kind->types[t] && !matches; t++) {
        char name[16];
        snprintf(name, sizeof name, kind->types[t], quant[0] - '0');
        matches = match(l, g, n, name, found);
    }
    return matches;
}

/* An error that lists the choices: all, or those that `quant` fits. */
static sr_status ask_for_quant(const hub *h, const struct kind *kind, const hub_list *l, const struct model *g, int n,
                               bool matching, sr_err *err) {
    char names[200];
    size_t at = 0;
    bool all = true;
    for (int i = 0; i < n && all; i++) {
        int m;
        const char *label = label_of(l, &g[i], &m);
        if (matching) { /* the labels may be the same: whole names */
            label = l->at[g[i].file].path;
            m = (int)strlen(label);
            if (!names_model(l, &g[i], h->o->quant)) continue;
        }
        all = at + (size_t)m + 8 < sizeof names;
        at +=
            (size_t)snprintf(names + at, sizeof names - at, "%s%.*s", at ? ", " : "", all ? m : 3, all ? label : "...");
    }
    if (!h->o->quant)
        return sr_fail(err, SR_INVALID, "%s: found %d %s models; choose by --quant: %s", h->repo, n, kind->word, names);
    return sr_fail(err, SR_INVALID, "%s: found %s %s for --quant %.30s; choose: %s", h->repo,
                   matching ? "more than one" : "no", kind->word, h->o->quant, names);
}

static int by_size(const void *a, const void *b) {
    int64_t x = ((const hub_file *)a)->size, y = ((const hub_file *)b)->size;
    return x != y ? (x > y) - (x < y) : strcmp(((const hub_file *)a)->path, ((const hub_file *)b)->path);
}

/* Whether the file is a piece of the model; its number counts from 1. */
static bool is_piece(const struct kind *kind, const hub_list *l, const struct model *g, int i, int *no) {
    const char *path = l->at[i].path;
    size_t stem = 0;
    int count = g->count;
    *no = 1;
    if (i == g->file) return true;
    if (!is_model(kind, &l->at[i])) return false;
    if (kind == &uqff)
        split_uqff(path, &stem, no), (*no)++;
    else if (!split_at(path, 5, &stem, no, &count))
        return false;
    return stem == g->stem && count == g->count && memcmp(path, l->at[g->file].path, stem) == 0;
}

/* Marks the files of the one model that --quant names, or that is there. */
static sr_status choose_model(const hub *h, const struct kind *kind, hub_list *l, hub_pick *pick, sr_err *err) {
    int n, found = 0, pieces = 0;
    qsort(l->at, (size_t)l->n, sizeof *l->at, by_size); /* the order of the choices in a message */
    struct model *g = list_models(kind, l, &n);
    if (!g) return sr_hub_no_memory(h, err);
    int matches = h->o->quant ? match_model(kind, l, g, n, h->o->quant, &found) : n;
    sr_status s = matches == 1 ? SR_OK : ask_for_quant(h, kind, l, g, n, h->o->quant && matches > 1, err);
    for (int i = 0, no, most = 1; i < l->n && s == SR_OK; i++) {
        hub_file *f = &l->at[i];
        f->wanted = is_piece(kind, l, &g[found], i, &no);
        if (!f->wanted) continue;
        pieces++;
        if (no > most) most = no;
        if (kind == &uqff) g[found].count = most;
    }
    if (s == SR_OK) pick->open = l->at[g[found].file].path;
    if (s == SR_OK && pieces != g[found].count)
        s = sr_fail(err, SR_UNSUPPORTED, "%s: found %d of %d pieces of %.80s", h->repo, pieces, g[found].count,
                    pick->open);
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

/* In one file, without which a vocabulary and its merges are wanted. */
static bool has_whole_tokenizer(const hub_list *l) {
    for (int i = 0; i < l->n; i++)
        if (at_top(&l->at[i]) && is_tokenizer(l->at[i].path)) return true;
    return false;
}

static bool has_tokenizer(const hub_list *l) {
    return has_whole_tokenizer(l) || (sr_hub_list_find(l, "vocab.json") && sr_hub_list_find(l, "merges.txt"));
}

static bool is_small_text(const hub_file *f) {
    if (!at_top(f) || f->size > SMALL_TEXT || f->path[0] == '.') return false;
    if (ends_with(f->path, ".index.json")) return false;
    return is_tokenizer(f->path) || ends_with(f->path, ".json") || ends_with(f->path, ".jinja");
}

static void want_small_texts(hub_list *l) {
    hub_file *merges = has_whole_tokenizer(l) ? NULL : sr_hub_list_find(l, "merges.txt");
    hub_file *template = sr_hub_list_find(l, "additional_chat_templates/tool_use.jinja");
    if (merges && merges->size <= SMALL_TEXT) merges->wanted = true;
    if (template && template->size <= SMALL_TEXT) template->wanted = true;
    for (int i = 0; i < l->n; i++) l->at[i].wanted = l->at[i].wanted || is_small_text(&l->at[i]);
}

/* One UQFF model, and what it shares with the others. */
static sr_status choose_uqff(const hub *h, hub_list *l, hub_pick *pick, sr_err *err) {
    sr_status s = choose_model(h, &uqff, l, pick, err);
    hub_file *rest = sr_hub_list_find(l, "residual.safetensors");
    if (s == SR_OK && !rest)
        s = sr_fail(err, SR_UNSUPPORTED, "%s: found %.80s, but no residual.safetensors, which it needs", h->repo,
                    pick->open);
    if (s != SR_OK) return s;
    rest->wanted = true;
    want_small_texts(l);
    return SR_OK;
}

sr_status sr_hub_choose(const hub *h, hub_list *l, hub_pick *pick, sr_err *err) {
    const char *format = h->o->format;
    bool any_gguf = false, any_uqff = false, safetensors = false;
    bool tokenizer = h->o->tokenizer_only && has_tokenizer(l);
    bool whole = sr_hub_list_find(l, index_name) || sr_hub_list_find(l, "model.safetensors");
    *pick = (hub_pick){0};
    for (int i = 0; i < l->n; i++) {
        any_gguf = any_gguf || is_model(&gguf, &l->at[i]);
        any_uqff = any_uqff || is_model(&uqff, &l->at[i]);
        safetensors = safetensors || is_safetensors(&l->at[i]);
    }
    bool asked_gguf = format && strcmp(format, "gguf") == 0, asked = h->o->quant || asked_gguf;
    if (asked && !any_gguf && (asked_gguf || !any_uqff))
        return sr_fail(err, SR_UNSUPPORTED, "%s: found no GGUF%s", h->repo,
                       h->o->quant ? " or UQFF file, which --quant chooses from; --isq quantizes while loading"
                                   : " file");
    if (any_gguf && (asked || !safetensors) && (!format || asked_gguf) && !(tokenizer && !h->o->quant))
        return choose_model(h, &gguf, l, pick, err);
    if (any_uqff && (h->o->quant || !whole) && !(tokenizer && !h->o->quant)) return choose_uqff(h, l, pick, err);
    want_small_texts(l);
    if (tokenizer) return SR_OK;
    hub_file *index = sr_hub_list_find(l, index_name);
    if (!index && !safetensors && !sr_hub_list_find(l, "qmodel.pt")) index = sr_hub_list_find(l, torch_index);
    if (!index) return SR_OK;
    if (index->size > SMALL_TEXT)
        return sr_fail(err, SR_LIMIT, "%s: %s has %lld bytes, expected at most %d", h->repo, index->path,
                       (long long)index->size, SMALL_TEXT);
    index->wanted = true;
    pick->index = index->path;
    return SR_OK;
}

/* Marks the files that the index names. *missing is one that the repository lacks. */
static sr_status choose_indexed(hub *h, hub_list *l, const char *name, const char *text, size_t n, const char **missing,
                                sr_err *err) {
    const char *suffix = strcmp(name, torch_index) == 0 ? ".bin" : ".safetensors";
    sr_json j = sr_json_over(text, n, name, err);
    sr_json_value key, v;
    sr_json_kind kind = sr_json_next(&j, &v);
    const hub_file *last = NULL;
    int named = 0, looked = 0;
    *missing = NULL;
    if (kind != SR_JSON_OBJECT && kind != SR_JSON_ERROR)
        return sr_fail(err, SR_CORRUPT, "%s: %s: found no object", h->repo, name);
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
                return sr_fail(err, SR_LIMIT, "%s: %s changes the file more than %d times", h->repo, name,
                               MOST_CHANGES);
            const char *path = kind == SR_JSON_STRING ? sr_json_string(&j, &v, &h->arena, &m) : NULL;
            hub_file *f = path && strlen(path) == m && ends_with(path, suffix) ? sr_hub_list_find(l, path) : NULL;
            last = f;
            if (f)
                f->wanted = true;
            else if (!*missing)
                *missing = path ? path : "";
            sr_json_skip(&j, &v);
        }
    }
    if (j.failed) return err->code;
    return named ? SR_OK : sr_fail(err, SR_CORRUPT, "%s: %s: found no weight_map", h->repo, name);
}

sr_status sr_hub_choose_weights(hub *h, hub_list *l, const hub_pick *pick, const char *index, size_t n, sr_err *err) {
    static const char *const torch[] = {"qmodel.pt", "pytorch_model.bin"};
    hub_file *single = sr_hub_list_find(l, "model.safetensors");
    const char *pickle = NULL, *missing;
    int weights = 0;
    if (pick->open || (h->o->tokenizer_only && has_tokenizer(l))) return SR_OK;
    if (index) {
        sr_status s = choose_indexed(h, l, pick->index, index, n, &missing, err);
        if (s != SR_OK || !missing) return s;
        /* The reader of the directory does the same with an index that is stale. */
        if (!single && h->scanned)
            return sr_fail(err, SR_IO, "%s: %.80s is not in the cache; connect and load it once", h->repo, missing);
        if (!single)
            return sr_fail(err, SR_CORRUPT, "%s: %s names \"%.80s\", which the repository lacks", h->repo, pick->index,
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
    for (int i = 0; i < 2 && !weights; i++) {
        hub_file *f = sr_hub_list_find(l, torch[i]);
        if (!f) continue;
        f->wanted = true;
        weights++;
    }
    if (weights) return SR_OK;
    if (h->scanned) return sr_fail(err, SR_IO, "%s: no weights are in the cache; connect and load it once", h->repo);
    if (pickle)
        return sr_fail(
            err, SR_UNSUPPORTED,
            "%s: found %.80s, expected *.safetensors, *.gguf, *.uqff or pytorch_model.bin; other pickles are "
            "not fetched",
            h->repo, pickle);
    return sr_fail(err, SR_UNSUPPORTED,
                   "%s: found %d files, but no *.safetensors, *.gguf, *.uqff or pytorch_model.bin among them", h->repo,
                   l->n);
}
