/* tokenizer.json, read with the pull reader straight from its map: objects are walked in file order, small ones field
 * by field, the vocabulary and the merges once. */
#include "text/load.h"

#include "base/base64.h"

static sr_status unsupported(sr_loader *l, const char *what, const sr_json_value *v) {
    return sr_fail(l->err, SR_UNSUPPORTED, "%s: %s \"%.*s\" is not supported", l->where, what,
                   (int)(v->n < 80 ? v->n : 80), v->text);
}

/* {"String": ".."} or {"Regex": ".."} */
static sr_status pattern_field(sr_loader *l, const sr_json *object, sr_regex **re) {
    sr_json_value v;
    sr_json inside;
    size_t n;
    if (!sr_json_field(object, "pattern", &v, &inside)) return sr_load_corrupt(l, "a pattern", "there");
    if (v.kind == SR_JSON_STRING) {
        const char *s = sr_json_string(&inside, &v, &l->t->arena, &n);
        return s ? sr_regex_compile(s, n, true, re, l->err) : sr_load_corrupt(l, "a pattern", "valid text");
    }
    if (v.kind != SR_JSON_OBJECT) return sr_load_corrupt(l, "a pattern", "an object");
    const char *s = sr_json_text(l, &inside, "Regex", &n);
    if (s) return sr_regex_compile(s, n, false, re, l->err);
    s = sr_json_text(l, &inside, "String", &n);
    if (s) return sr_regex_compile(s, n, true, re, l->err);
    return sr_load_corrupt(l, "a pattern", "{\"String\"} or {\"Regex\"}");
}

static sr_status behavior_field(sr_loader *l, const sr_json *object, sr_behavior *behavior) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    sr_json_value v;
    *behavior = SR_SPLIT_ISOLATED;
    if (!sr_json_field(object, "behavior", &v, NULL)) return SR_OK;
    for (int i = 0; i < 5; i++)
        if (v.kind == SR_JSON_STRING && sr_json_equals(&v, names[i])) {
            *behavior = (sr_behavior)i;
            return SR_OK;
        }
    return unsupported(l, "split behavior", &v);
}

/* Calls one(l, object) for the object itself or, for a Sequence, for each element of its list. */
static sr_status each(sr_loader *l, const sr_json *object, const char *list,
                      sr_status (*one)(sr_loader *, const sr_json *, const sr_json_value *type)) {
    sr_json_value type, v;
    sr_json j;
    if (!sr_json_field(object, "type", &type, NULL) || type.kind != SR_JSON_STRING)
        return l->err && l->err->code ? l->err->code : sr_load_corrupt(l, list, "an object with a type");
    if (!sr_json_equals(&type, "Sequence")) return one(l, object, &type);
    if (!sr_json_field(object, list, &v, &j) || v.kind != SR_JSON_ARRAY) return sr_load_corrupt(l, list, "an array");
    for (;;) {
        sr_json_kind kind = sr_json_next(&j, &v);
        if (kind == SR_JSON_END) return SR_OK;
        if (kind == SR_JSON_ERROR) return SR_CORRUPT;
        if (kind != SR_JSON_OBJECT) return sr_load_corrupt(l, list, "an array of objects");
        sr_status status = each(l, &j, list, one);
        if (status != SR_OK) return status;
        sr_json_leave(&j);
    }
}

/* Precompiled's precompiled_charsmap, base64. */
static sr_status charsmap(sr_loader *l, const sr_json *object, const sr_charsmap **map) {
    static const char where[] = "tokenizer.json: precompiled_charsmap";
    size_t n;
    sr_charsmap *made = NULL;
    const char *text = sr_json_text(l, object, "precompiled_charsmap", &n);
    uint8_t *data = text ? sr_arena_alloc(&l->t->arena, n + 4, 1) : NULL;
    if (text && !data) return sr_load_no_memory(l);
    if (!text || !sr_base64_decode(text, n, data, &n)) return sr_load_corrupt(l, "precompiled_charsmap", "base64");
    if (!n) return sr_load_corrupt(l, "precompiled_charsmap", "a map");
    sr_status status = sr_charsmap_create(data, n, where, &l->t->arena, &made, l->err);
    *map = made;
    return status;
}

static sr_status normalizer(sr_loader *l, const sr_json *object, const sr_json_value *type) {
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    sr_stage *s = sr_stages_add(&l->t->normalizers, l->err);
    if (!s) return SR_LIMIT;
    for (int i = 0; i < 4; i++)
        if (sr_json_equals(type, forms[i])) {
            s->kind = SR_STAGE_NORMAL_FORM;
            s->form = (sr_normal_form)i;
            return SR_OK;
        }
    if (sr_json_equals(type, "Lowercase")) {
        s->kind = SR_STAGE_LOWERCASE;
    } else if (sr_json_equals(type, "StripAccents")) {
        s->kind = SR_STAGE_STRIP_ACCENTS;
    } else if (sr_json_equals(type, "ByteLevel")) {
        s->kind = SR_STAGE_BYTES;
    } else if (sr_json_equals(type, "Nmt")) {
        s->kind = SR_STAGE_NMT;
    } else if (sr_json_equals(type, "Precompiled")) {
        s->kind = SR_STAGE_CHARSMAP;
        return charsmap(l, object, &s->map);
    } else if (sr_json_equals(type, "BertNormalizer")) {
        s->kind = SR_STAGE_BERT;
        s->clean = sr_json_flag(object, "clean_text", true);
        s->chinese = sr_json_flag(object, "handle_chinese_chars", true);
        s->lower = sr_json_flag(object, "lowercase", true);
        s->accents = sr_json_flag(object, "strip_accents", s->lower); /* null: as the case */
    } else if (sr_json_equals(type, "Strip")) {
        s->kind = SR_STAGE_STRIP;
        s->left = sr_json_flag(object, "strip_left", true);
        s->right = sr_json_flag(object, "strip_right", true);
    } else if (sr_json_equals(type, "Prepend")) {
        s->kind = SR_STAGE_PREPEND;
        s->text = sr_json_text(l, object, "prepend", &s->n);
        if (!s->text) return sr_load_corrupt(l, "Prepend's prepend", "a string");
    } else if (sr_json_equals(type, "Replace")) {
        s->kind = SR_STAGE_REPLACE;
        s->text = sr_json_text(l, object, "content", &s->n);
        if (!s->text) return sr_load_corrupt(l, "Replace's content", "a string");
        return pattern_field(l, object, &s->regex);
    } else {
        return unsupported(l, "normalizer", type);
    }
    return SR_OK;
}

static sr_status metaspace_scheme(sr_loader *l, const sr_json *object, sr_prepend *scheme) {
    sr_json_value v;
    *scheme = SR_PREPEND_ALWAYS;
    bool has = sr_json_field(object, "prepend_scheme", &v, NULL) && v.kind == SR_JSON_STRING;
    if (has) {
        if (sr_json_equals(&v, "first"))
            *scheme = SR_PREPEND_FIRST;
        else if (sr_json_equals(&v, "never"))
            *scheme = SR_PREPEND_NEVER;
        else if (!sr_json_equals(&v, "always"))
            return unsupported(l, "prepend_scheme", &v);
    }
    if (!sr_json_flag(object, "add_prefix_space", true)) *scheme = SR_PREPEND_NEVER;
    return SR_OK;
}

static bool replacement(sr_loader *l, const sr_json *object, const char **text, size_t *n) {
    *text = sr_json_text(l, object, "replacement", n);
    return *text && *n >= 1 && sr_utf8_step(*text, *n) == *n;
}

/* The split of ByteLevel (pre_tokenizers/byte_level.rs at 3ba8ad00). */
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static sr_status pre_tokenizer(sr_loader *l, const sr_json *object, const sr_json_value *type) {
    sr_stages *list = &l->t->pre_tokenizers;
    sr_stage *s;
    if (sr_json_equals(type, "ByteLevel")) {
        if (sr_json_flag(object, "add_prefix_space", true)) {
            if (!(s = sr_stages_add(list, l->err))) return SR_LIMIT;
            s->kind = SR_STAGE_SPACE_FIRST;
        }
        if (sr_json_flag(object, "use_regex", true)) {
            sr_status status = sr_stages_add_regex(list, gpt2_pattern, l->err);
            if (status != SR_OK) return status;
        }
        if (!(s = sr_stages_add(list, l->err))) return SR_LIMIT;
        s->kind = SR_STAGE_BYTES;
        return SR_OK;
    }
    if (!(s = sr_stages_add(list, l->err))) return SR_LIMIT;
    if (sr_json_equals(type, "BertPreTokenizer")) {
        s->kind = SR_STAGE_CHARS;
        s->is = sr_char_is_space;
        s->behavior = SR_SPLIT_REMOVED;
        if (!(s = sr_stages_add(list, l->err))) return SR_LIMIT;
        s->kind = SR_STAGE_CHARS;
        s->is = sr_char_is_punct;
        s->behavior = SR_SPLIT_ISOLATED;
        return SR_OK;
    }
    if (sr_json_equals(type, "CharDelimiterSplit")) {
        size_t n;
        const char *delimiter = sr_json_text(l, object, "delimiter", &n);
        if (!delimiter || !n || sr_utf8_step(delimiter, n) != n)
            return sr_load_corrupt(l, "CharDelimiterSplit's delimiter", "one character");
        s->kind = SR_STAGE_SPLIT;
        s->behavior = SR_SPLIT_REMOVED;
        return sr_regex_compile(delimiter, n, true, &s->regex, l->err);
    }
    if (sr_json_equals(type, "Split")) {
        s->kind = SR_STAGE_SPLIT;
        s->invert = sr_json_flag(object, "invert", false);
        sr_status status = behavior_field(l, object, &s->behavior);
        if (status == SR_OK) status = pattern_field(l, object, &s->regex);
        if (status == SR_OK) sr_stage_recognize(s);
        return status;
    }
    if (sr_json_equals(type, "Digits")) {
        s->kind = SR_STAGE_CHARS;
        s->is = sr_char_is_number;
        s->behavior = sr_json_flag(object, "individual_digits", false) ? SR_SPLIT_ISOLATED : SR_SPLIT_CONTIGUOUS;
    } else if (sr_json_equals(type, "Punctuation")) {
        s->kind = SR_STAGE_CHARS;
        s->is = sr_char_is_punct;
        return behavior_field(l, object, &s->behavior);
    } else if (sr_json_equals(type, "WhitespaceSplit")) {
        s->kind = SR_STAGE_CHARS;
        s->is = sr_char_is_space;
        s->behavior = SR_SPLIT_REMOVED;
    } else if (sr_json_equals(type, "Whitespace")) {
        /* \w of UTS 18 here, not Oniguruma's: the package uses another engine for this one */
        static const char words[] =
            "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}\\x{1f130}-"
            "\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}]+|[^\\p{L}\\p{M}\\p{Nd}\\p{Nl}"
            "\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-"
            "\\x{1f169}\\x{1f170}-\\x{1f189}\\s]+";
        s->kind = SR_STAGE_SPLIT;
        s->behavior = SR_SPLIT_REMOVED;
        s->invert = true;
        return sr_regex_compile(words, sizeof words - 1, false, &s->regex, l->err);
    } else if (sr_json_equals(type, "UnicodeScripts")) {
        s->kind = SR_STAGE_SPLIT;
        s->behavior = SR_SPLIT_REMOVED;
        s->invert = true;
        return sr_regex_compile_scripts(&s->regex, l->err);
    } else if (sr_json_equals(type, "Metaspace")) {
        if (!replacement(l, object, &s->text, &s->n))
            return sr_load_corrupt(l, "Metaspace's replacement", "one character");
        s->kind = SR_STAGE_METASPACE;
        sr_status status = metaspace_scheme(l, object, &s->scheme);
        if (status != SR_OK || !sr_json_flag(object, "split", true)) return status;
        const char *text = s->text;
        size_t n = s->n;
        if (!(s = sr_stages_add(list, l->err))) return SR_LIMIT;
        s->kind = SR_STAGE_SPLIT;
        s->behavior = SR_SPLIT_WITH_NEXT;
        return sr_regex_compile(text, n, true, &s->regex, l->err);
    } else {
        return unsupported(l, "pre-tokenizer", type);
    }
    return SR_OK;
}

/* ---------------------------------------------------------------- model */

typedef struct entry {
    uint32_t at, n; /* in the blob */
    int32_t id;
    double score;
} entry;

enum { AHEAD = 8 }; /* table entries whose memory is asked for before it is needed */

static bool grow(void **v, size_t *cap, size_t n, size_t size) {
    if (n < *cap) return true;
    size_t more = *cap * 2 + 1024;
    void *p = realloc(*v, more * size);
    if (!p) return false;
    *v = p;
    *cap = more;
    return true;
}

/* Reads an entry of the vocabulary into the blob: "piece": id of an object, or ["piece", score] of an array, whose ids
 * count up. *end: there was none. */
static sr_status vocabulary_entry(sr_loader *l, sr_json *j, bool scored, char *blob, size_t *used, size_t room,
                                  entry *e, bool *end) {
    sr_json_value key, value;
    int64_t id = e->id;
    size_t len;
    sr_json_kind kind = scored ? sr_json_next(j, &value) : sr_json_next_pair(j, &key, &value);
    *end = kind == SR_JSON_END;
    if (*end) return SR_OK;
    if (scored && kind != SR_JSON_ERROR) {
        if (kind != SR_JSON_ARRAY || sr_json_next(j, &key) != SR_JSON_STRING)
            return sr_load_corrupt(l, "an entry of the vocabulary", "[text, score]");
        kind = SR_JSON_STRING;
    }
    if (kind == SR_JSON_ERROR || key.n + 1 > room - *used || !sr_json_unescape(j, &key, blob + *used, &len))
        return sr_load_corrupt(l, "the vocabulary", "readable");
    if (scored) {
        if (sr_json_next(j, &value) != SR_JSON_NUMBER || !sr_json_double(&value, &e->score) ||
            sr_json_next(j, &value) != SR_JSON_END)
            return sr_fail(l->err, SR_CORRUPT, "%s: vocabulary entry %d: found no [text, finite score]", l->where,
                           e->id);
    } else if (!sr_json_int64(&value, &id) || id < 0) {
        return sr_fail(l->err, SR_CORRUPT, "%s: vocabulary entry \"%.*s\": found id %.*s, expected a number >= 0",
                       l->where, (int)(key.n < 60 ? key.n : 60), key.text, (int)(value.n < 20 ? value.n : 20),
                       value.text ? value.text : "");
    }
    if (id >= INT32_MAX / 4) return sr_load_corrupt(l, "a token id", "below 2^29");
    e->at = (uint32_t)*used;
    e->n = (uint32_t)len;
    e->id = (int32_t)id;
    *used += len + 1;
    return SR_OK;
}

/* Reads the vocabulary, which was just entered, and sizes every table by the largest id there and in the added
 * tokens, with room for what other files add. */
static sr_status vocabulary(sr_loader *l, sr_json *j, bool scored, int64_t largest) {
    sr_tokenizer *t = l->t;
    entry *v = NULL;
    size_t n = 0, cap = 0, used = 0, room = l->file->tokenizer.size + 16;
    char *blob = sr_arena_alloc(&t->arena, room, 1); /* every piece with its zero is shorter than in the file */
    sr_status status = blob ? SR_OK : sr_load_no_memory(l);
    while (status == SR_OK) {
        entry e = {.id = n < INT32_MAX ? (int32_t)n : INT32_MAX};
        bool end;
        status = vocabulary_entry(l, j, scored, blob, &used, room, &e, &end);
        if (status != SR_OK || end) break;
        if (!grow((void **)&v, &cap, n, sizeof *v)) {
            status = sr_load_no_memory(l);
            break;
        }
        v[n++] = e;
        if (e.id > largest) largest = e.id;
    }
    if (status == SR_OK && largest >= 65536 + 4 * (int64_t)n)
        status =
            sr_fail(l->err, SR_CORRUPT, "%s: found token id %lld among %zu tokens, expected ids without large gaps",
                    l->where, (long long)largest, n);
    if (status == SR_OK) {
        int32_t most = (int32_t)largest + 1 + l->n_more;
        t->flags = sr_arena_alloc(&t->arena, (size_t)most + 1, 1);
        t->bytes = sr_arena_alloc(&t->arena, (size_t)most + 1, sizeof *t->bytes);
        t->score = scored ? sr_arena_alloc(&t->arena, (size_t)most + 1, sizeof *t->score) : NULL;
        if (!t->flags || !t->bytes || (scored && !t->score) || !sr_vocab_init(&t->vocab, most, &t->arena))
            status = sr_load_no_memory(l);
        t->vocab.n = (int32_t)largest + 1;
    }
    for (size_t i = 0; i < n && status == SR_OK; i++) {
        if (i + AHEAD < n) {
            const entry *e = &v[i + AHEAD];
            SR_PREFETCH(&t->vocab.slot[(uint32_t)sr_vocab_hash(&t->vocab, blob + e->at, e->n) & t->vocab.mask]);
        }
        sr_vocab_add(&t->vocab, v[i].id, blob + v[i].at, v[i].n, true);
        if (!scored) continue;
        t->score[v[i].id] = v[i].score;
        if (!i || v[i].score - 10 < t->unk_score) t->unk_score = v[i].score - 10; /* kUnkPenalty */
    }
    free(v);
    return status;
}

/* The text of a string: in the file, or unescaped in *b. What is not UTF-8 is no piece of the vocabulary. */
static const char *plain(sr_json *j, const sr_json_value *v, sr_buffer *b, size_t *n) {
    *n = v->n;
    if (!v->escaped) return v->text;
    return sr_buffer_reserve(b, v->n + 1) && sr_json_unescape(j, v, b->at, n) ? b->at : NULL;
}

/* Appends one merge, whose value was just read. */
static sr_status merge_text(sr_loader *l, sr_json *j, const sr_json_value *m, sr_pairs *p) {
    const char *side[2] = {NULL, NULL};
    size_t n[2] = {0, 0};
    int parts = 0;
    if (m->kind == SR_JSON_STRING) {
        side[0] = plain(j, m, &p->spelled[0], &n[0]);
        const char *space = side[0] ? memchr(side[0], ' ', n[0]) : NULL;
        if (space) {
            side[1] = space + 1;
            n[1] = n[0] - (size_t)(space - side[0]) - 1;
            n[0] = (size_t)(space - side[0]);
            parts = memchr(side[1], ' ', n[1]) ? 3 : 2;
        }
    } else if (m->kind == SR_JSON_ARRAY) {
        sr_json_value part;
        sr_json_kind kind;
        for (; (kind = sr_json_next(j, &part)) == SR_JSON_STRING; parts++)
            if (parts < 2) side[parts] = plain(j, &part, &p->spelled[parts], &n[parts]);
        if (kind != SR_JSON_END) parts = 0;
    }
    if (parts != 2 || !side[0] || !side[1])
        return sr_fail(l->err, SR_CORRUPT, "%s: merge %u is not a pair (\"a b\" or [\"a\", \"b\"])", l->where,
                       p->count);
    return sr_pairs_add(l, p, side[0], n[0], side[1], n[1]);
}

/* Reads the merges, whose array was just entered: "a b" or ["a", "b"]. Of duplicates the last counts, as in the
 * reference. */
static sr_status merges(sr_loader *l, sr_json *j) {
    sr_pairs p = {.last_counts = true};
    sr_status status = SR_OK;
    while (status == SR_OK) {
        sr_json_value m;
        if (sr_json_next(j, &m) == SR_JSON_END) break;
        status = merge_text(l, j, &m, &p);
    }
    return sr_pairs_end(l, &p, status);
}

/* The models, with what their fields are when they are absent. */
static const struct kind {
    const char *type;
    sr_status (*encode)(sr_work *w, const char *word, size_t n);
    const char *unk, *prefix;
    size_t max_chars;
} kinds[] = {
    {"BPE", sr_bpe, NULL, "", SIZE_MAX},
    {"Unigram", sr_unigram, NULL, "", SIZE_MAX},
    {"WordPiece", sr_wordpiece, "[UNK]", "##", 100},
    {"WordLevel", sr_word, "<unk>", "", SIZE_MAX},
};

/* The object's own type, or what a file from before it was written has: an array for a vocabulary, or merges. */
static const struct kind *model_kind(sr_loader *l, const sr_json *object) {
    sr_json_value v;
    if (!sr_json_field(object, "type", &v, NULL))
        return &kinds[sr_json_field(object, "vocab", &v, NULL) && v.kind == SR_JSON_ARRAY];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (v.kind == SR_JSON_STRING && sr_json_equals(&v, kinds[i].type)) return &kinds[i];
    unsupported(l, "tokenizer model", &v);
    return NULL;
}

static sr_status model(sr_loader *l, sr_json *j, int64_t largest) {
    sr_tokenizer *t = l->t;
    sr_json_value key, v;
    sr_json merges_at;
    bool has_vocab = false, has_merges = false, merged = false, late = false;
    const struct kind *kind = model_kind(l, j);
    if (!kind) return l->err->code;
    const char *unk = kind->unk;
    size_t n_unk = unk ? strlen(unk) : 0;
    int64_t number, unk_id = -1;
    bool scored = kind->encode == sr_unigram;
    sr_status status = SR_OK;
    t->encode = kind->encode;
    t->prefix = kind->prefix;
    t->n_prefix = strlen(kind->prefix);
    t->max_word_chars = kind->max_chars;
    for (;;) {
        sr_json_kind next = sr_json_next_pair(j, &key, &v);
        if (next == SR_JSON_END) break;
        if (next == SR_JSON_ERROR) return sr_load_corrupt(l, "the model", "readable");
        if (sr_json_equals(&key, "vocab")) {
            if (v.kind != (scored ? SR_JSON_ARRAY : SR_JSON_OBJECT) || has_vocab)
                return sr_load_corrupt(l, "the vocabulary", scored ? "one array" : "one object");
            if ((status = vocabulary(l, j, scored, largest)) != SR_OK) return status;
            has_vocab = true;
            continue;
        }
        if (sr_json_equals(&key, "merges") && v.kind == SR_JSON_ARRAY && kind->encode == sr_bpe) {
            if (has_merges) return sr_load_corrupt(l, "merges", "given once");
            has_merges = true;
            merges_at = *j;
            if (has_vocab) {
                if ((status = merges(l, j)) != SR_OK) return status;
                merged = true;
                continue;
            }
        } else if (sr_json_equals(&key, "unk_token") && v.kind == SR_JSON_STRING) {
            unk = sr_json_string(j, &v, &t->arena, &n_unk);
        } else if (sr_json_equals(&key, "unk_id") && scored) {
            sr_json_int64(&v, &unk_id);
        } else if (sr_json_equals(&key, "continuing_subword_prefix") && v.kind == SR_JSON_STRING) {
            t->prefix = sr_json_string(j, &v, &t->arena, &t->n_prefix);
            late = merged && t->n_prefix; /* the merges were read without it */
        } else if (sr_json_equals(&key, "end_of_word_suffix") && v.kind == SR_JSON_STRING) {
            t->suffix = sr_json_string(j, &v, &t->arena, &t->n_suffix);
        } else if (sr_json_equals(&key, "max_input_chars_per_word")) {
            if (!sr_json_int64(&v, &number) || number < 0)
                return sr_load_corrupt(l, "max_input_chars_per_word", "a number >= 0");
            t->max_word_chars = (size_t)number;
        } else if (sr_json_equals(&key, "byte_fallback")) {
            sr_json_bool(&v, &t->byte_fallback);
        } else if (sr_json_equals(&key, "fuse_unk")) {
            sr_json_bool(&v, &t->fuse_unk);
        } else if (sr_json_equals(&key, "ignore_merges")) {
            sr_json_bool(&v, &t->ignore_merges);
        }
        if (j->failed) return sr_load_corrupt(l, "the model", "readable");
        sr_json_skip(j, &v);
    }
    if (!t->prefix || !t->suffix) return sr_load_no_memory(l);
    if (!has_vocab) return sr_load_corrupt(l, "the model", "one with a vocabulary");
    if (has_merges && (!merged || late)) status = merges(l, &merges_at);
    if (!has_merges && kind->encode == sr_bpe && !sr_merges_init(&t->merges, 0, &t->arena))
        status = sr_load_no_memory(l);
    if (unk && !scored) t->unk = sr_vocab_find(&t->vocab, unk, n_unk);
    if (unk_id >= t->vocab.n)
        return sr_fail(l->err, SR_CORRUPT, "%s: unk_id: found %lld, expected one below %d", l->where, (long long)unk_id,
                       t->vocab.n);
    if (unk_id >= 0) t->unk = (int32_t)unk_id;
    sr_find_byte_tokens(t);
    return status;
}

/* ---------------------------------------------------------------- added tokens, post-processor, decoder */

/* Reads the array of added tokens. With `out` NULL it only counts them and finds the largest id. */
static sr_status added_tokens(sr_loader *l, sr_json j, sr_added *out, int32_t *n, int64_t *largest) {
    *n = 0;
    for (;;) {
        sr_json_value v, id_value;
        int64_t id;
        sr_json_kind kind = sr_json_next(&j, &v);
        if (kind == SR_JSON_END) return SR_OK;
        if (kind != SR_JSON_OBJECT) return sr_load_corrupt(l, "added_tokens", "an array of objects");
        if (!sr_json_field(&j, "id", &id_value, NULL) || !sr_json_int64(&id_value, &id) || id < 0 ||
            id >= INT32_MAX / 4)
            return sr_load_corrupt(l, "an added token's id", "a number from 0 to 2^29");
        if (id > *largest) *largest = id;
        if (out) {
            out[*n].id = (int32_t)id;
            sr_status status = sr_load_added(l, &j, &out[*n]);
            if (status != SR_OK) return status;
        }
        ++*n;
        sr_json_leave(&j);
    }
}

static int by_text(const void *a, const void *b) {
    const sr_added *x = *(const sr_added *const *)a, *y = *(const sr_added *const *)b;
    int order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}
static int by_id(const void *a, const void *b) {
    const sr_added *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static sr_added **find_added(sr_added *const *sorted, int32_t n, const sr_added *like) {
    return bsearch(&like, sorted, (size_t)n, sizeof *sorted, by_text);
}

/* Rows of the embedding, by config.json. */
static int64_t rows_of_model(const sr_file *file) {
    int64_t n = INT32_MAX;
    if (!sr_value_int(file, "vocab_size", 1, INT32_MAX, &n, NULL))
        sr_value_int(file, "text_config.vocab_size", 1, INT32_MAX, &n, NULL);
    return n;
}

/* Tokens that the files beside this one list: those that it has get their flags, others are new, with the vocabulary's
 * id or the next one, as transformers 5.24.0 does it; but what the model has no row for is left out. One that is only
 * named as special is there where the vocabulary has it. Room was made for all of them. */
static sr_status merge_added(sr_loader *l) {
    sr_tokenizer *t = l->t;
    const int64_t rows = rows_of_model(l->file);
    sr_named at = {0};
    const char *text;
    size_t len;
    int32_t n = t->n_added;
    sr_added **sorted = calloc((size_t)n + (size_t)l->n_more + 1, sizeof *sorted);
    if (!sorted) return sr_load_no_memory(l);
    for (int32_t i = 0; i < n; i++) sorted[i] = &t->added[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_text);
    if (l->n_more) qsort(l->more, (size_t)l->n_more, sizeof *l->more, by_id);
    for (int32_t i = 0; i < l->n_more; i++) {
        sr_added *more = &l->more[i], **known = find_added(sorted, n, more);
        more->id = known ? (*known)->id : sr_vocab_find(&t->vocab, more->text, more->n);
        if (more->id < 0 && (!more->n || t->vocab.n >= rows)) continue;
        if (more->id < 0) more->id = t->vocab.n++;
        *(known ? *known : &t->added[t->n_added++]) = *more;
    }
    for (; n < t->n_added; n++) sorted[n] = &t->added[n];
    qsort(sorted, (size_t)n, sizeof *sorted, by_text);
    while (sr_load_named(l->file, &at, &text, &len)) {
        const sr_added named = {
            .id = sr_vocab_find(&t->vocab, text, len), .text = text, .n = (uint32_t)len, .special = true};
        if (named.id >= 0 && len && !find_added(sorted, n, &named)) t->added[t->n_added++] = named;
    }
    free(sorted);
    return SR_OK;
}

static sr_status frame_ids(sr_loader *l, const int32_t *front, int n_front, const int32_t *back, int n_back) {
    sr_tokenizer *t = l->t;
    int32_t *f = sr_arena_small(&t->arena, (size_t)(n_front + t->n_front) + 1, sizeof *f);
    int32_t *b = sr_arena_small(&t->arena, (size_t)(n_back + t->n_back) + 1, sizeof *b);
    if (!f || !b) return sr_load_no_memory(l);
    for (int i = 0; i < n_front + n_back; i++) {
        int32_t id = i < n_front ? front[i] : back[i - n_front];
        if (id < 0 || id >= t->vocab.n)
            return sr_fail(l->err, SR_CORRUPT, "%s: post_processor: found token id %d, expected one below %d", l->where,
                           id, t->vocab.n);
    }
    /* a later processor of a sequence puts its ids outside */
    for (int i = 0; i < n_front; i++) f[i] = front[i];
    for (int i = 0; i < t->n_front; i++) f[n_front + i] = t->front[i];
    for (int i = 0; i < t->n_back; i++) b[i] = t->back[i];
    for (int i = 0; i < n_back; i++) b[t->n_back + i] = back[i];
    t->front = f;
    t->back = b;
    t->n_front += n_front;
    t->n_back += n_back;
    l->framed = true;
    return SR_OK;
}

enum { FRAME_MAX = 32 };

static sr_status template_ids(sr_loader *l, const sr_json *object) {
    sr_json_value v, piece, inner, list;
    sr_json single, at, entry_at;
    int32_t ids[2][FRAME_MAX];
    int n[2] = {0, 0}, side = 0;
    if (!sr_json_field(object, "single", &v, &single) || v.kind != SR_JSON_ARRAY)
        return sr_load_corrupt(l, "TemplateProcessing's single", "an array");
    for (;;) {
        sr_json_kind kind = sr_json_next(&single, &piece);
        if (kind == SR_JSON_END) break;
        if (kind != SR_JSON_OBJECT) return sr_load_corrupt(l, "TemplateProcessing's single", "an array of objects");
        if (sr_json_field(&single, "Sequence", &inner, NULL)) {
            if (side++)
                return sr_fail(l->err, SR_UNSUPPORTED, "%s: a template with two sequences is not supported", l->where);
        } else if (sr_json_field(&single, "SpecialToken", &inner, &at) && inner.kind == SR_JSON_OBJECT) {
            size_t len;
            const char *name = sr_json_text(l, &at, "id", &len);
            sr_json tokens;
            if (!name || !sr_json_field(object, "special_tokens", &v, &tokens) || v.kind != SR_JSON_OBJECT ||
                !sr_json_field(&tokens, name, &v, &entry_at) || v.kind != SR_JSON_OBJECT ||
                !sr_json_field(&entry_at, "ids", &list, &at) || list.kind != SR_JSON_ARRAY)
                return sr_load_corrupt(l, "a special token of the template", "one of its special_tokens");
            while ((kind = sr_json_next(&at, &v)) != SR_JSON_END) {
                int64_t id;
                int s = side ? 1 : 0;
                if (kind == SR_JSON_ERROR || !sr_json_int64(&v, &id) || id < 0 || id > INT32_MAX)
                    return sr_load_corrupt(l, "a special token's ids", "numbers");
                if (n[s] == FRAME_MAX)
                    return sr_fail(l->err, SR_LIMIT, "%s: a template of more than %d tokens", l->where, FRAME_MAX);
                ids[s][n[s]++] = (int32_t)id;
            }
        } else {
            return sr_load_corrupt(l, "a piece of the template", "a Sequence or a SpecialToken");
        }
        sr_json_leave(&single);
    }
    return frame_ids(l, ids[0], n[0], ids[1], n[1]);
}

/* ["<s>", 0] */
static bool named_id(const sr_json *object, const char *name, int32_t *id) {
    sr_json_value v;
    sr_json j;
    int64_t x;
    if (!sr_json_field(object, name, &v, &j) || v.kind != SR_JSON_ARRAY || sr_json_next(&j, &v) != SR_JSON_STRING ||
        sr_json_next(&j, &v) != SR_JSON_NUMBER || !sr_json_int64(&v, &x) || x < 0 || x > INT32_MAX)
        return false;
    *id = (int32_t)x;
    return true;
}

static sr_status post_processor(sr_loader *l, const sr_json *object, const sr_json_value *type) {
    if (sr_json_equals(type, "ByteLevel")) return SR_OK; /* offsets only */
    if (sr_json_equals(type, "TemplateProcessing")) return template_ids(l, object);
    if (sr_json_equals(type, "RobertaProcessing") || sr_json_equals(type, "BertProcessing")) {
        int32_t cls, sep;
        if (!named_id(object, "cls", &cls) || !named_id(object, "sep", &sep))
            return sr_load_corrupt(l, "the post_processor's cls and sep", "[text, id]");
        return frame_ids(l, &cls, 1, &sep, 1);
    }
    return unsupported(l, "post-processor", type);
}

/* The decoders as far as a single token can know them. */
typedef struct decoding {
    sr_stage replace[8];
    int n_replace;
    bool byte_level, byte_fallback, fused, words, cleanup;
    bool alone;                   /* BPEDecoder or CTC: no other one beside it */
    const char *silent, *between; /* CTC's pad_token and word_delimiter_token, NULL: not CTC */
    size_t n_silent, n_between;
    const char *prefix; /* of pieces that continue a word, where words */
    size_t n_prefix;
    int strip_start, strip_stop; /* each token, before Fuse */
    const char *strip_text;
    size_t strip_len;
} decoding;
static sr_status decoder(sr_loader *l, const sr_json *object, const sr_json_value *type, decoding *d) {
    sr_tokenizer *t = l->t;
    bool begun = d->byte_fallback || d->fused || d->n_replace || d->strip_text;
    if (d->byte_level || d->words || d->alone)
        return unsupported(l, "behind ByteLevel, WordPiece, BPEDecoder or CTC the decoder", type);
    if (sr_json_equals(type, "ByteLevel")) {
        d->byte_level = true;
    } else if (sr_json_equals(type, "ByteFallback")) {
        d->byte_fallback = true;
    } else if (sr_json_equals(type, "BPEDecoder")) {
        size_t n;
        const char *suffix = sr_json_text(l, object, "suffix", &n);
        if (!suffix || !n) return sr_load_corrupt(l, "BPEDecoder's suffix", "a string of some characters");
        if (begun) return unsupported(l, "behind other decoders the decoder", type);
        d->alone = t->space_between = true;
        sr_stage *s = &d->replace[d->n_replace++];
        s->kind = SR_STAGE_REPLACE;
        s->text = " ";
        s->n = 1;
        return sr_regex_compile(suffix, n, true, &s->regex, l->err);
    } else if (sr_json_equals(type, "CTC")) {
        if (begun) return unsupported(l, "behind other decoders the decoder", type);
        d->alone = t->repeats_merge = true;
        d->cleanup = sr_json_flag(object, "cleanup", true);
        d->silent = sr_json_text(l, object, "pad_token", &d->n_silent);
        d->between = sr_json_text(l, object, "word_delimiter_token", &d->n_between);
        if (!d->silent || !d->between || !d->n_between)
            return sr_load_corrupt(l, "CTC's pad_token or word_delimiter_token", "a string");
    } else if (sr_json_equals(type, "WordPiece")) {
        if (begun) return unsupported(l, "behind other decoders the decoder", type);
        d->words = true;
        d->cleanup = sr_json_flag(object, "cleanup", true);
        d->prefix = sr_json_text(l, object, "prefix", &d->n_prefix);
        if (!d->prefix) return sr_load_corrupt(l, "WordPiece's prefix", "a string");
        t->lead = SR_LEAD_PIECE;
    } else if (sr_json_equals(type, "Fuse")) {
        d->fused = true;
    } else if (sr_json_equals(type, "Replace")) {
        if (d->fused || d->n_replace == 8) return unsupported(l, "behind Fuse the decoder", type);
        sr_stage *s = &d->replace[d->n_replace++];
        s->kind = SR_STAGE_REPLACE;
        s->text = sr_json_text(l, object, "content", &s->n);
        if (!s->text) return sr_load_corrupt(l, "Replace's content", "a string");
        return pattern_field(l, object, &s->regex);
    } else if (sr_json_equals(type, "Metaspace")) {
        sr_prepend scheme;
        const char *text;
        size_t n;
        if (d->fused || d->n_replace == 8) return unsupported(l, "behind Fuse the decoder", type);
        if (!replacement(l, object, &text, &n)) return sr_load_corrupt(l, "Metaspace's replacement", "one character");
        sr_status status = metaspace_scheme(l, object, &scheme);
        if (status != SR_OK) return status;
        if (scheme != SR_PREPEND_NEVER) {
            t->lead = SR_LEAD_METASPACE;
            t->lead_text = text;
            t->lead_len = n;
        }
        sr_stage *s = &d->replace[d->n_replace++];
        s->kind = SR_STAGE_REPLACE;
        s->text = " ";
        s->n = 1;
        return sr_regex_compile(text, n, true, &s->regex, l->err);
    } else if (sr_json_equals(type, "Strip")) {
        sr_json_value v;
        int64_t start = 0, stop = 0;
        size_t n;
        const char *text = sr_json_text(l, object, "content", &n);
        if (!text || sr_utf8_step(text, n) != n) return sr_load_corrupt(l, "Strip's content", "one character");
        if (sr_json_field(object, "start", &v, NULL)) sr_json_int64(&v, &start);
        if (sr_json_field(object, "stop", &v, NULL)) sr_json_int64(&v, &stop);
        if (start < 0 || stop < 0 || start > INT32_MAX || stop > INT32_MAX)
            return sr_load_corrupt(l, "Strip's counts", "small numbers");
        if (!d->fused) {
            if (d->strip_text) return unsupported(l, "a second decoder", type);
            d->strip_start = (int)start;
            d->strip_stop = (int)stop;
            d->strip_text = text;
            d->strip_len = n;
        } else {
            if (stop || t->lead != SR_LEAD_KEEP) return unsupported(l, "at the end of a text the decoder", type);
            if (start) {
                t->lead = SR_LEAD_STRIP;
                t->lead_text = text;
                t->lead_len = n;
                t->lead_n = (int)start;
            }
        }
    } else {
        return unsupported(l, "decoder", type);
    }
    return SR_OK;
}

/* Replaces all `from` of text[0..n) by something not longer, in place: its length. */
static size_t shortened(char *text, size_t n, const char *from, size_t n_from, const char *to, size_t n_to) {
    size_t kept = 0;
    for (size_t i = 0; i < n;) {
        bool hit = n - i >= n_from && !memcmp(text + i, from, n_from);
        if (hit)
            memcpy(text + kept, to, n_to);
        else
            text[kept] = text[i];
        kept += hit ? n_to : 1;
        i += hit ? n_from : 1;
    }
    return kept;
}

/* decoders/wordpiece.rs, cleanup: punctuation and English suffixes lose the space in front of them. */
static size_t cleaned_up(char *text, size_t n) {
    static const char *const tight[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                           {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                           {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t k = 0; k < sizeof tight / sizeof *tight; k++)
        n = shortened(text, n, tight[k][0], strlen(tight[k][0]), tight[k][1], strlen(tight[k][1]));
    return n;
}

/* WordPiece: a piece without the prefix is a word of its own, behind a space. `out` has room for one byte more than the
 * piece. */
static uint32_t word_bytes(const decoding *d, const char *s, size_t n, char *out) {
    if (n >= d->n_prefix && !memcmp(s, d->prefix, d->n_prefix)) {
        memcpy(out, s + d->n_prefix, n - d->n_prefix);
        n -= d->n_prefix;
    } else {
        out[0] = ' ';
        memcpy(out + 1, s, n);
        n++;
    }
    return (uint32_t)(d->cleanup ? cleaned_up(out, n) : n);
}

/* decoders/ctc.rs */
static uint32_t ctc_bytes(const decoding *d, const char *s, size_t n, char *out) {
    memcpy(out, s, n);
    if (d->n_silent) n = shortened(out, n, d->silent, d->n_silent, "", 0);
    if (!d->cleanup) return (uint32_t)n;
    return (uint32_t)shortened(out, cleaned_up(out, n), d->between, d->n_between, " ", 1);
}

static sr_status decoders(sr_loader *l, const sr_json *object, decoding *d) {
    sr_json_value type, v;
    sr_json j;
    if (!sr_json_field(object, "type", &type, NULL) || type.kind != SR_JSON_STRING)
        return sr_load_corrupt(l, "a decoder", "an object with a type");
    if (!sr_json_equals(&type, "Sequence")) return decoder(l, object, &type, d);
    if (!sr_json_field(object, "decoders", &v, &j) || v.kind != SR_JSON_ARRAY)
        return sr_load_corrupt(l, "decoders", "an array");
    for (;;) {
        sr_json_kind kind = sr_json_next(&j, &v);
        if (kind == SR_JSON_END) return SR_OK;
        if (kind != SR_JSON_OBJECT) return sr_load_corrupt(l, "decoders", "an array of objects");
        sr_status status = decoders(l, &j, d);
        if (status != SR_OK) return status;
        sr_json_leave(&j);
    }
}

static void strip_token(const decoding *d, sr_piece *p) {
    size_t n = d->strip_len;
    for (int i = 0; i < d->strip_start && p->n >= n && !memcmp(p->text, d->strip_text, n); i++) {
        p->text += n;
        p->n -= (uint32_t)n;
    }
    for (int i = 0; i < d->strip_stop && p->n >= n && !memcmp(p->text + p->n - n, d->strip_text, n); i++)
        p->n -= (uint32_t)n;
}

/* Fills t->bytes: all pieces form one text of one span each, which the replacements run over. */
static sr_status token_bytes(sr_loader *l, decoding *d) {
    sr_tokenizer *t = l->t;
    sr_work w = {.t = t, .err = l->err};
    sr_status status = SR_OK;
    size_t total = 0;
    for (int32_t i = 0; i < t->vocab.n; i++) total += t->vocab.piece[i].n;
    w.scan.text_bytes = total;
    if (total > UINT32_MAX / 4) return sr_fail(l->err, SR_LIMIT, "%s: pieces of %zu bytes in all", l->where, total);
    if (!sr_buffer_reserve(&w.text, total)) status = sr_load_no_memory(l);
    for (int32_t i = 0; i < t->vocab.n && status == SR_OK; i++) {
        const sr_piece *p = &t->vocab.piece[i];
        if (!sr_spans_add(&w.spans, (uint32_t)w.text.n, p->n, -1, false) || !sr_buffer_add(&w.text, p->text, p->n))
            status = sr_load_no_memory(l);
    }
    for (int i = 0; i < d->n_replace && status == SR_OK; i++) status = sr_stage_run(&w, &d->replace[i]);
    char *out = status == SR_OK ? sr_arena_alloc(&t->arena, w.text.n + 2 * (size_t)t->vocab.n + 1, 1) : NULL;
    if (status == SR_OK && !out) status = sr_load_no_memory(l);
    for (int32_t i = 0; i < t->vocab.n && status == SR_OK; i++) {
        const char *s = w.text.at ? w.text.at + w.spans.v[i].at : "";
        uint32_t n = w.spans.v[i].n, len = 0;
        int byte = d->byte_fallback ? sr_byte_token(s, n) : -1;
        if (byte >= 0) {
            out[0] = (char)byte;
            len = 1;
            t->flags[i] |= SR_TOKEN_BYTE;
        } else if (d->byte_level) {
            for (uint32_t at = 0; at < n;) {
                uint32_t cp;
                at += sr_utf8_get(s + at, &cp);
                int b = sr_char_to_byte(cp);
                if (b < 0) { /* not of the alphabet: the token stands for itself */
                    memcpy(out, s, n);
                    len = n;
                    break;
                }
                out[len++] = (char)b;
            }
        } else if (d->words && n) {
            len = word_bytes(d, s, n, out);
        } else if (d->between && n) {
            len = ctc_bytes(d, s, n, out);
        } else if (n) {
            memcpy(out, s, n);
            len = n;
        }
        out[len] = 0;
        t->bytes[i] = (sr_piece){out, len};
        out += len + 1;
        if (byte < 0 && d->strip_text) strip_token(d, &t->bytes[i]);
    }
    t->fffd_per_byte = d->byte_fallback && !d->byte_level;
    sr_buffer_free(&w.text);
    sr_buffer_free(&w.other);
    free(w.spans.v);
    free(w.other_spans.v);
    sr_scan_free(&w.scan);
    return status;
}

static sr_status read_all(sr_loader *l, decoding *d) {
    sr_tokenizer *t = l->t;
    const sr_map *map = &l->file->tokenizer;
    sr_json top = sr_json_over((const char *)map->data, map->size, l->where, l->err);
    sr_json_value v, key;
    if (sr_json_next(&top, &v) != SR_JSON_OBJECT) return sr_load_corrupt(l, "the file", "a JSON object");
    sr_json added_at, normalizer_at, pre_at, post_at, decoder_at, j = top;
    bool has_added = false, has_normalizer = false, has_pre = false, has_post = false, has_decoder = false,
         has_model = false;
    int64_t largest = -1;
    sr_status status = sr_read_more_added(l);
    if (status != SR_OK) return status;
    for (;;) {
        sr_json_kind kind = sr_json_next_pair(&j, &key, &v);
        if (kind == SR_JSON_END) break;
        if (kind == SR_JSON_ERROR) return sr_load_corrupt(l, "the file", "valid JSON");
        bool object = v.kind == SR_JSON_OBJECT;
        if (sr_json_equals(&key, "added_tokens") && v.kind == SR_JSON_ARRAY) {
            added_at = j;
            has_added = true;
        } else if (sr_json_equals(&key, "normalizer") && object) {
            normalizer_at = j;
            has_normalizer = true;
        } else if (sr_json_equals(&key, "pre_tokenizer") && object) {
            pre_at = j;
            has_pre = true;
        } else if (sr_json_equals(&key, "post_processor") && object) {
            post_at = j;
            has_post = true;
        } else if (sr_json_equals(&key, "decoder") && object) {
            decoder_at = j;
            has_decoder = true;
        } else if (sr_json_equals(&key, "model") && object) {
            if (has_model) return sr_load_corrupt(l, "model", "given once");
            if (!has_added && sr_json_field(&top, "added_tokens", &v, &added_at) && v.kind == SR_JSON_ARRAY)
                has_added = true;
            if (has_added && (status = added_tokens(l, added_at, NULL, &t->n_added, &largest)) != SR_OK) return status;
            if ((status = model(l, &j, largest)) != SR_OK) return status;
            has_model = true;
            continue;
        }
        sr_json_skip(&j, &v);
        if (j.failed) return sr_load_corrupt(l, "the file", "valid JSON");
    }
    if (!has_model) return sr_load_corrupt(l, "model", "there");
    if (!sr_json_at_end(&j)) return sr_load_corrupt(l, "what follows the top object", "white space");

    sr_named named = {0};
    const char *text;
    size_t len;
    int32_t n_named = 0;
    while (sr_load_named(l->file, &named, &text, &len)) n_named++;
    t->added =
        sr_arena_small(&t->arena, (size_t)t->n_added + (size_t)l->n_more + (size_t)n_named + 1, sizeof *t->added);
    if (!t->added) return sr_load_no_memory(l);
    if (has_added && (status = added_tokens(l, added_at, t->added, &t->n_added, &largest)) != SR_OK) return status;
    if ((status = merge_added(l)) != SR_OK) return status;
    if (has_normalizer && (status = each(l, &normalizer_at, "normalizers", normalizer)) != SR_OK) return status;
    if (has_pre && (status = each(l, &pre_at, "pretokenizers", pre_tokenizer)) != SR_OK) return status;
    for (int32_t i = 0; i < t->n_added; i++) {
        sr_added *a = &t->added[i];
        int32_t known = a->n ? sr_vocab_find(&t->vocab, a->text, a->n) : -1;
        if (known >= 0)
            a->id = known; /* the model's id counts */
        else
            t->flags[a->id] |= SR_TOKEN_UNSPOKEN;
    }
    sr_find_short_ids(t); /* single characters as the model knows them, before added ones join the vocabulary */
    for (int32_t i = 0; i < t->n_added; i++) {
        const sr_added *a = &t->added[i];
        if (!a->n) continue;
        if (a->special) t->flags[a->id] |= SR_TOKEN_SPECIAL;
        t->vocab.piece[a->id] = (sr_piece){a->text, a->n};
    }
    if ((status = sr_added_index(t, l->err)) != SR_OK) return status;
    bool searched = t->encode == sr_unigram || t->encode == sr_wordpiece;
    if (searched && (status = sr_pieces_index(t, l->err)) != SR_OK) return status;
    if (has_post && (status = each(l, &post_at, "processors", post_processor)) != SR_OK) return status;
    if (has_decoder && (status = decoders(l, &decoder_at, d)) != SR_OK) return status;
    return token_bytes(l, d);
}

sr_status sr_load_json(sr_loader *l) {
    decoding d = {0};
    sr_status status = read_all(l, &d);
    for (int i = 0; i < d.n_replace; i++) sr_regex_free(d.replace[i].regex);
    if (status != SR_OK) return l->err->code; /* the reader may have failed first */
    return sr_load_frame(l, false, false);
}
