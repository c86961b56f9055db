/* A tokenizer as the package `tokenizers` and with it transformers read it: tokenizer.json. SentencePiece's scores
 * become merges as transformers makes them (SentencePieceExtractor): every way to divide a piece in two others, in the
 * order of the pieces' scores. */
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "text/load.h"

static const char *piece_of(const sr_tokenizer *t, int32_t id, size_t *n) {
    const sr_piece *p = &t->vocab.piece[id];
    *n = p->n;
    return p->text;
}

static void put_piece(const sr_tokenizer *t, int32_t id, sr_buffer *b) {
    size_t n;
    const char *text = piece_of(t, id, &n);
    sr_buffer_json(b, text, n);
}

static void put_flag(const char *key, bool on, sr_buffer *b) {
    sr_buffer_text(b, key);
    sr_buffer_text(b, on ? "true" : "false");
}

static void put_string(const char *text, sr_buffer *b) {
    sr_buffer_json(b, text, strlen(text));
}

/* ---------------------------------------------------------------- added tokens */

static int by_id(const void *a, const void *b) {
    const sr_added *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static sr_status put_added(const sr_tokenizer *t, sr_buffer *b, sr_err *err) {
    sr_added *a = malloc(((size_t)t->n_added + 1) * sizeof *a);
    if (!a) return sr_fail(err, SR_NOMEM, "no memory for %d added tokens", t->n_added);
    if (t->n_added) memcpy(a, t->added, (size_t)t->n_added * sizeof *a);
    qsort(a, (size_t)t->n_added, sizeof *a, by_id);
    sr_buffer_text(b, "  \"added_tokens\": [");
    for (int32_t i = 0; i < t->n_added; i++) {
        sr_buffer_text(b, i ? ",\n    {\"id\": " : "\n    {\"id\": ");
        sr_buffer_int(b, a[i].id);
        sr_buffer_text(b, ", \"content\": ");
        sr_buffer_json(b, a[i].text, a[i].n);
        put_flag(", \"single_word\": ", a[i].single_word, b);
        put_flag(", \"lstrip\": ", a[i].left, b);
        put_flag(", \"rstrip\": ", a[i].right, b);
        put_flag(", \"normalized\": ", a[i].normalized, b);
        put_flag(", \"special\": ", a[i].special, b);
        sr_buffer_text(b, "}");
    }
    sr_buffer_text(b, t->n_added ? "\n  ],\n" : "],\n");
    free(a);
    return SR_OK;
}

/* ---------------------------------------------------------------- stages */

/* A list of several objects is a Sequence, one is itself, none null. */
typedef struct sequence {
    sr_buffer items;
    int n;
} sequence;

static sr_buffer *next_item(sequence *s) {
    if (s->n++) sr_buffer_text(&s->items, ", ");
    return &s->items;
}

static void put_sequence(const char *key, const char *list, sequence *s, sr_buffer *b) {
    sr_buffer_text(b, "  \"");
    sr_buffer_text(b, key);
    sr_buffer_text(b, "\": ");
    if (s->n > 1) {
        sr_buffer_text(b, "{\"type\": \"Sequence\", \"");
        sr_buffer_text(b, list);
        sr_buffer_text(b, "\": [");
    }
    if (s->n)
        sr_buffer_add(b, s->items.at, s->items.n);
    else
        sr_buffer_text(b, "null");
    sr_buffer_text(b, s->n > 1 ? "]},\n" : ",\n");
    b->failed = b->failed || s->items.failed;
    sr_buffer_free(&s->items);
}

static void add_replace(sequence *s, const char *kind, const char *pattern, const char *content) {
    sr_buffer *b = next_item(s);
    sr_buffer_text(b, "{\"type\": \"Replace\", \"pattern\": {\"");
    sr_buffer_text(b, kind);
    sr_buffer_text(b, "\": ");
    put_string(pattern, b);
    sr_buffer_text(b, "}, \"content\": ");
    put_string(content, b);
    sr_buffer_text(b, "}");
}

static const char byte_level[] =
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}";

/* False: there is no such stage that starts from text as it is. */
static bool add_normalizer(const sr_stage *s, sequence *to) {
    if (s->kind != SR_STAGE_SENTENCE || s->suffix || !s->escape || s->scheme == SR_PREPEND_FIRST) return false;
    if (s->map) {
        sr_buffer *b = next_item(to);
        sr_buffer_text(b, "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"");
        sr_charsmap_base64(s->map, b);
        sr_buffer_text(b, "\"}");
    }
    if (s->strip) { /* spaces at both ends, and all but one of a run */
        add_replace(to, "Regex", "^ +| +$", "");
        add_replace(to, "Regex", " {2,}", " ");
    }
    if (s->scheme == SR_PREPEND_ALWAYS)
        sr_buffer_text(next_item(to), "{\"type\": \"Prepend\", \"prepend\": \"" SR_SPACE "\"}");
    add_replace(to, "String", " ", SR_SPACE);
    return true;
}

static bool add_pre_tokenizer(const sr_stage *s, sequence *to) {
    bool literal;
    if (s->kind == SR_STAGE_BYTES) {
        sr_buffer_text(next_item(to), byte_level);
        return true;
    }
    if ((s->kind != SR_STAGE_SPLIT && s->kind != SR_STAGE_THREES) || !s->regex || s->behavior != SR_SPLIT_ISOLATED)
        return false;
    sr_buffer *b = next_item(to);
    const char *pattern = sr_regex_pattern(s->regex, &literal);
    sr_buffer_text(b, literal ? "{\"type\": \"Split\", \"pattern\": {\"String\": "
                              : "{\"type\": \"Split\", \"pattern\": {\"Regex\": ");
    put_string(pattern, b);
    put_flag("}, \"behavior\": \"Isolated\", \"invert\": ", s->invert, b);
    sr_buffer_text(b, "}");
    return true;
}

static sr_status put_stages(const sr_tokenizer *t, sr_buffer *b, sr_err *err) {
    sequence normalizers = {.n = 0}, splits = {.n = 0};
    bool known = true;
    for (int i = 0; i < t->normalizers.n; i++) known = known && add_normalizer(&t->normalizers.v[i], &normalizers);
    for (int i = 0; i < t->pre_tokenizers.n; i++) known = known && add_pre_tokenizer(&t->pre_tokenizers.v[i], &splits);
    put_sequence("normalizer", "normalizers", &normalizers, b);
    put_sequence("pre_tokenizer", "pretokenizers", &splits, b);
    return known
               ? SR_OK
               : sr_fail(err, SR_UNSUPPORTED,
                         "its tokenizer prepares texts in a way that is not written to tokenizer.json yet (a "
                         "precompiled map of characters, or rules of another kind than SentencePiece's and byte-level "
                         "BPE's)");
}

/* ---------------------------------------------------------------- frame and decoder */

static void put_frame_ids(const sr_tokenizer *t, const int32_t *id, int n, bool comma, sr_buffer *b) {
    for (int i = 0; i < n; i++) {
        if (comma || i) sr_buffer_text(b, ", ");
        sr_buffer_text(b, "{\"SpecialToken\": {\"id\": ");
        put_piece(t, id[i], b);
        sr_buffer_text(b, ", \"type_id\": 0}}");
    }
}

static void put_template(const sr_tokenizer *t, const char *key, int sequences, sr_buffer *b) {
    sr_buffer_text(b, key);
    for (int i = 0; i < sequences; i++) {
        if (i) sr_buffer_text(b, ", ");
        put_frame_ids(t, t->front, t->n_front, false, b);
        if (t->n_front) sr_buffer_text(b, ", ");
        sr_buffer_text(b, i ? "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}"
                            : "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}");
        put_frame_ids(t, t->back, t->n_back, true, b);
    }
    sr_buffer_text(b, "]");
}

static void put_special(const sr_tokenizer *t, int32_t id, bool comma, sr_buffer *b) {
    sr_buffer_text(b, comma ? ", " : "");
    put_piece(t, id, b);
    sr_buffer_text(b, ": {\"id\": ");
    put_piece(t, id, b);
    sr_buffer_text(b, ", \"ids\": [");
    sr_buffer_int(b, id);
    sr_buffer_text(b, "], \"tokens\": [");
    put_piece(t, id, b);
    sr_buffer_text(b, "]}");
}

static void put_frame(const sr_tokenizer *t, sr_buffer *b) {
    if (t->n_front + t->n_back == 0) {
        sr_buffer_text(b, "  \"post_processor\": null,\n");
        return;
    }
    sr_buffer_text(b, "  \"post_processor\": {\"type\": \"TemplateProcessing\"");
    put_template(t, ", \"single\": [", 1, b);
    put_template(t, ", \"pair\": [", 2, b);
    sr_buffer_text(b, ", \"special_tokens\": {");
    for (int i = 0; i < t->n_front; i++) put_special(t, t->front[i], i > 0, b);
    for (int i = 0; i < t->n_back; i++)
        if (t->n_front == 0 || t->back[i] != t->front[0]) put_special(t, t->back[i], t->n_front + i > 0, b);
    sr_buffer_text(b, "}},\n");
}

static void put_decoder(const sr_tokenizer *t, bool bytes, sr_buffer *b) {
    sequence s = {.n = 0};
    if (bytes)
        sr_buffer_text(next_item(&s), byte_level);
    else {
        add_replace(&s, "String", SR_SPACE, " ");
        sr_buffer_text(next_item(&s), "{\"type\": \"ByteFallback\"}");
        sr_buffer_text(next_item(&s), "{\"type\": \"Fuse\"}");
        if (t->lead == SR_LEAD_STRIP)
            sr_buffer_text(next_item(&s), "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}");
    }
    put_sequence("decoder", "decoders", &s, b);
}

/* ---------------------------------------------------------------- the model */

/* Text of an id in the vocabulary. NULL: it has none, or an earlier one has the same. */
static const char *own_piece(const sr_tokenizer *t, int32_t id, size_t *n) {
    const char *text = piece_of(t, id, n);
    return text && sr_vocab_find(&t->vocab, text, *n) == id ? text : NULL;
}

static sr_status put_vocabulary(const sr_tokenizer *t, sr_buffer *b, sr_err *err) {
    bool comma = false;
    const bool scored = t->encode == sr_unigram;
    sr_buffer_text(b, scored ? "    \"vocab\": [\n" : "    \"vocab\": {\n");
    for (int32_t id = 0; id < t->vocab.n; id++) {
        size_t n;
        char score[40];
        const char *text = scored ? piece_of(t, id, &n) : own_piece(t, id, &n);
        if (!text && !scored) continue;
        if (!text || !sr_utf8_valid(text, n))
            return sr_fail(err, SR_CORRUPT, "tokenizer: token %d: found no text in UTF-8, which tokenizer.json needs",
                           id);
        sr_buffer_text(b, comma ? ",\n      " : "      ");
        comma = true;
        if (scored) sr_buffer_text(b, "[");
        sr_buffer_json(b, text, n);
        snprintf(score, sizeof score, scored ? ", %.9g]" : ": %.0f", scored ? t->score[id] : (double)id);
        sr_buffer_text(b, score);
    }
    sr_buffer_text(b, scored ? "\n    ]" : "\n    }");
    return SR_OK;
}

/* A piece in two others. */
typedef struct division {
    uint32_t rank, n_left, n_right;
    int32_t id;
} division;

static int by_score(const void *a, const void *b) {
    const division *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->n_left != y->n_left) return x->n_left > y->n_left ? -1 : 1;
    if (x->n_right != y->n_right) return x->n_right > y->n_right ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static bool is_spoken(const sr_tokenizer *t, int32_t id) {
    return id >= 0 && !(t->flags[id] & (SR_TOKEN_SPECIAL | SR_TOKEN_UNSPOKEN));
}

/* All that merging can come to. NULL and *n not 0: out of memory. */
static division *divisions(const sr_tokenizer *t, size_t *n) {
    division *out = NULL;
    size_t cap = 0;
    *n = 0;
    for (int32_t id = 0; id < t->vocab.n; id++) {
        size_t len;
        const char *s = own_piece(t, id, &len);
        if (!s || !is_spoken(t, id)) continue;
        for (size_t i = 1; i < len; i++) {
            if (((unsigned char)s[i] & 0xC0) == 0x80 || !is_spoken(t, sr_vocab_find(&t->vocab, s, i)) ||
                !is_spoken(t, sr_vocab_find(&t->vocab, s + i, len - i)))
                continue;
            if (*n == cap) {
                cap = 2 * cap + 4096;
                division *more = realloc(out, cap * sizeof *out);
                if (!more) {
                    free(out);
                    *n = 1;
                    return NULL;
                }
                out = more;
            }
            out[(*n)++] = (division){t->score_rank[id], (uint32_t)i, (uint32_t)(len - i), id};
        }
    }
    if (*n) qsort(out, *n, sizeof *out, by_score);
    return out;
}

/* Merge i of those of a model, or of a vocabulary. */
typedef struct sides {
    const char *text[2];
    size_t n[2];
} sides;
static sides sides_of(const sr_tokenizer *t, const sr_merge *m, const division *d, size_t i) {
    sides s;
    if (m) {
        s.text[0] = piece_of(t, (int32_t)(m[i].pair >> 32), &s.n[0]);
        s.text[1] = piece_of(t, (int32_t)(uint32_t)m[i].pair, &s.n[1]);
    } else {
        s.text[0] = t->vocab.piece[d[i].id].text;
        s.text[1] = s.text[0] + d[i].n_left;
        s.n[0] = d[i].n_left, s.n[1] = d[i].n_right;
    }
    return s;
}

/* "left right", which every version reads, unless a piece holds a space. */
static void put_merge_texts(const sr_tokenizer *t, const sr_merge *m, const division *d, size_t n, sr_buffer *b) {
    bool spaced = false;
    sr_buffer both = {0};
    for (size_t i = 0; i < n && !spaced; i++) {
        const sides s = sides_of(t, m, d, i);
        spaced = memchr(s.text[0], ' ', s.n[0]) || memchr(s.text[1], ' ', s.n[1]);
    }
    for (size_t i = 0; i < n; i++) {
        const sides s = sides_of(t, m, d, i);
        sr_buffer_text(b, i ? ",\n      " : "\n      ");
        if (spaced) {
            sr_buffer_text(b, "[");
            sr_buffer_json(b, s.text[0], s.n[0]);
            sr_buffer_text(b, ", ");
            sr_buffer_json(b, s.text[1], s.n[1]);
            sr_buffer_text(b, "]");
            continue;
        }
        both.n = 0;
        sr_buffer_add(&both, s.text[0], s.n[0]);
        sr_buffer_text(&both, " ");
        sr_buffer_add(&both, s.text[1], s.n[1]);
        sr_buffer_json(b, both.at, both.n);
    }
    b->failed = b->failed || both.failed;
    sr_buffer_free(&both);
}

static sr_status put_merges(const sr_tokenizer *t, sr_buffer *b, sr_err *err) {
    size_t n;
    sr_merge *m = NULL;
    division *d = NULL;
    if (t->encode == sr_spm)
        d = divisions(t, &n);
    else
        m = sr_merges_sorted(&t->merges, &n);
    if (n && !m && !d) return sr_fail(err, SR_NOMEM, "no memory for the merges of a tokenizer");
    sr_buffer_text(b, ",\n    \"merges\": [");
    put_merge_texts(t, m, d, n, b);
    sr_buffer_text(b, n ? "\n    ]" : "]");
    free(m);
    free(d);
    return SR_OK;
}

static bool has_bytes(const sr_tokenizer *t) {
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] < 0) return false;
    return true;
}

static sr_status put_model(const sr_tokenizer *t, sr_buffer *b, sr_err *err) {
    const bool unigram = t->encode == sr_unigram, spm = t->encode == sr_spm;
    sr_buffer_text(b, unigram ? "  \"model\": {\n    \"type\": \"Unigram\",\n    \"unk_id\": "
                              : "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": ");
    if (t->unk < 0)
        sr_buffer_text(b, "null");
    else if (unigram)
        sr_buffer_int(b, t->unk);
    else
        put_piece(t, t->unk, b);
    if (!unigram) {
        sr_buffer_text(b, ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null");
        put_flag(",\n    \"fuse_unk\": ", spm, b);
        put_flag(",\n    \"ignore_merges\": ", t->ignore_merges, b);
    }
    put_flag(",\n    \"byte_fallback\": ", !sr_is_byte_level(t) && has_bytes(t), b);
    sr_buffer_text(b, ",\n");
    sr_status s = put_vocabulary(t, b, err);
    if (s == SR_OK && !unigram) s = put_merges(t, b, err);
    sr_buffer_text(b, "\n  }\n}\n");
    return s;
}

sr_status sr_tokenizer_to_json(const sr_tokenizer *t, sr_json_vocab *v, sr_err *err) {
    const bool bytes = t->encode == sr_bpe && sr_is_byte_level(t);
    *v = (sr_json_vocab){.bos = t->bos, .eos = t->eos, .unk = t->unk};
    if (!bytes && t->encode != sr_spm && t->encode != sr_unigram)
        return sr_fail(err, SR_UNSUPPORTED,
                       "its tokenizer is of a kind that is not written to tokenizer.json yet: byte-level byte pair "
                       "encoding, SentencePiece and Unigram are");
    v->add_bos = t->n_front > 0 && t->front[0] == t->bos;
    v->add_eos = t->n_back > 0 && t->back[t->n_back - 1] == t->eos;
    sr_buffer *b = &v->text;
    sr_buffer_text(b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    sr_status s = put_added(t, b, err);
    if (s == SR_OK) s = put_stages(t, b, err);
    put_frame(t, b);
    put_decoder(t, bytes, b);
    if (s == SR_OK) s = put_model(t, b, err);
    if (s == SR_OK && b->failed) s = sr_fail(err, SR_NOMEM, "no memory for tokenizer.json");
    if (s != SR_OK) sr_json_vocab_free(v);
    return s;
}

void sr_json_vocab_free(sr_json_vocab *v) {
    sr_buffer_free(&v->text);
}
