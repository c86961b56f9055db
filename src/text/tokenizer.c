#include "text/load.h"

#include "base/base64.h"

/* ---------------------------------------------------------------- added tokens */

/* Adds token i to one of the tries, by its text there. */
static bool index_added(sr_tokenizer *t, int32_t i, bool raw, const char *text, size_t n) {
    if (!n) return true;
    (raw ? t->in_raw : t->in_normalized)[(uint8_t)text[0]] = true;
    return sr_trie_add(raw ? &t->raw : &t->normalized, text, n, i); /* the first of equals */
}

sr_status sr_added_index(sr_tokenizer *t, sr_err *err) {
    for (int32_t i = 0; i < t->n_added; i++) {
        sr_added *a = &t->added[i];
        if (a->n > SR_MAX_ADDED_LEN)
            return sr_fail(err, SR_LIMIT, "tokenizer: added token %d has %u bytes, the limit is %d", a->id, a->n,
                           SR_MAX_ADDED_LEN);
        if (!a->n) continue;
        if (!a->normalized || !t->normalizers.n) {
            if (!index_added(t, i, !a->normalized, a->text, a->n)) goto nomem;
            continue;
        }
        /* matched in normalized text: by its own normalized spelling */
        sr_work w = {.t = t, .err = err};
        sr_status status = SR_OK;
        w.scan.text_bytes = a->n;
        if (!sr_buffer_add(&w.text, a->text, a->n) || !sr_spans_add(&w.spans, 0, a->n, -1, true))
            status = sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
        for (int k = 0; k < t->normalizers.n && status == SR_OK; k++) status = sr_stage_run(&w, &t->normalizers.v[k]);
        if (status == SR_OK && w.text.n > SR_MAX_ADDED_LEN)
            status = sr_fail(err, SR_LIMIT, "tokenizer: added token %d has %zu bytes, the limit is %d", a->id, w.text.n,
                             SR_MAX_ADDED_LEN);
        if (status == SR_OK && !index_added(t, i, false, w.text.at, w.text.n))
            status = sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
        sr_buffer_free(&w.text);
        sr_buffer_free(&w.other);
        free(w.spans.v);
        sr_scan_free(&w.scan);
        if (status != SR_OK) return status;
    }
    return SR_OK;
nomem:
    return sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
}

/* Cuts the added tokens of one trie out of all text spans (added_vocabulary.rs, find_matches): leftmost, of those the
 * longest; the ones that strip take the white space beside them along. */
static sr_status cut_added(sr_work *w, const sr_trie *trie, const bool *begins, bool no_special) {
    const sr_tokenizer *t = w->t;
    bool ok = true;
    if (!trie->n) return SR_OK;
    w->other_spans.n = 0;
    for (size_t k = 0; k < w->spans.n && ok; k++) {
        sr_span span = w->spans.v[k];
        if (span.id >= 0) {
            ok = sr_spans_add(&w->other_spans, span.at, span.n, span.id, span.first);
            continue;
        }
        const char *s = w->text.at + span.at;
        uint32_t done = 0;
        for (uint32_t i = 0; i < span.n && ok;) {
            uint32_t cp;
            size_t len;
            int32_t index = begins[(uint8_t)s[i]] ? sr_trie_longest(trie, SR_TRIE_ROOT, s + i, span.n - i, &len) : -1;
            if (index < 0) {
                i++;
                continue;
            }
            const sr_added *a = &t->added[index];
            uint32_t from = i, end = i + (uint32_t)len;
            i = end;
            if (no_special && a->special) continue;
            if (a->single_word) {
                if (from > 0) {
                    sr_utf8_get(s + sr_utf8_before(s, from), &cp);
                    if (sr_char_is_word(cp)) continue;
                }
                if (end < span.n) {
                    sr_utf8_get(s + end, &cp);
                    if (sr_char_is_word(cp)) continue;
                }
            }
            if (from < done) from = done;
            if (a->left)
                while (from > done) {
                    uint32_t before = (uint32_t)sr_utf8_before(s, from);
                    sr_utf8_get(s + before, &cp);
                    if (!sr_char_is_space(cp)) break;
                    from = before;
                }
            if (a->right)
                while (end < span.n) {
                    unsigned step = sr_utf8_get(s + end, &cp);
                    if (!sr_char_is_space(cp)) break;
                    end += step;
                }
            if (done < from) ok = sr_spans_add(&w->other_spans, span.at + done, from - done, -1, span.first && !done);
            ok &= sr_spans_add(&w->other_spans, span.at + from, end - from, a->id, false);
            done = end;
        }
        if (done < span.n) ok &= sr_spans_add(&w->other_spans, span.at + done, span.n - done, -1, span.first && !done);
    }
    if (!ok) return sr_fail(w->err, SR_NOMEM, "tokenizer: out of memory");
    sr_spans swap = w->spans;
    w->spans = w->other_spans;
    w->other_spans = swap;
    return SR_OK;
}

static void drop_empty(sr_work *w) {
    size_t n = 0;
    for (size_t i = 0; i < w->spans.n; i++)
        if (w->spans.v[i].n || w->spans.v[i].id >= 0) w->spans.v[n++] = w->spans.v[i];
    w->spans.n = n;
}

/* ---------------------------------------------------------------- text to ids */

static sr_status run(sr_work *w, bool no_special) {
    const sr_tokenizer *t = w->t;
    sr_status status = cut_added(w, &t->raw, t->in_raw, no_special);
    for (int i = 0; i < t->normalizers.n && status == SR_OK; i++) status = sr_stage_run(w, &t->normalizers.v[i]);
    if (status == SR_OK) status = cut_added(w, &t->normalized, t->in_normalized, no_special);
    drop_empty(w);
    for (int i = 0; i < t->pre_tokenizers.n && status == SR_OK; i++) status = sr_stage_run(w, &t->pre_tokenizers.v[i]);
    for (size_t i = 0; i < w->spans.n && status == SR_OK; i++) {
        const sr_span *span = &w->spans.v[i];
        if (span->id >= 0)
            sr_emit(w, span->id);
        else
            status = t->encode(w, w->text.at + span->at, span->n);
    }
    return status;
}

sr_status sr_tokenize(const sr_tokenizer *t, const char *text, size_t n_text, unsigned flags, int32_t *ids, size_t cap,
                      size_t *n, sr_err *err) {
    enum { TEXT_MAX = 1 << 28 }; /* bytes: spans are 32 bits wide, and U+FFFD and U+2581 triple a text */
    *n = 0;
    if ((!text && n_text) || (!ids && cap)) return sr_fail(err, SR_INVALID, "tokenizer: no text or no room for ids");
    if (n_text > TEXT_MAX)
        return sr_fail(err, SR_LIMIT, "tokenizer: a text of %zu bytes, the limit is %d", n_text, TEXT_MAX);
    sr_work w = {.t = t, .err = err, .ids = ids, .cap = cap};
    sr_status status = SR_OK;
    bool frame = !(flags & SR_TOKENIZE_NO_BOS), no_special = flags & SR_TOKENIZE_NO_SPECIAL;
    for (int i = 0; frame && i < t->n_front; i++) sr_emit(&w, t->front[i]);
    if (n_text) {
        if (!sr_utf8_sanitize(text, n_text, &w.text) || !sr_spans_add(&w.spans, 0, (uint32_t)w.text.n, -1, true))
            status = sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
        w.scan.text_bytes = w.text.n;
        if (status == SR_OK) status = run(&w, no_special);
    }
    for (int i = 0; frame && i < t->n_back; i++) sr_emit(&w, t->back[i]);
    sr_buffer_free(&w.text);
    sr_buffer_free(&w.other);
    free(w.spans.v);
    free(w.other_spans.v);
    free(w.symbol);
    free(w.heap);
    free(w.node);
    sr_scan_free(&w.scan);
    if (status == SR_OK) *n = w.n;
    return status;
}

/* ---------------------------------------------------------------- opening, asking */

static bool starts(const sr_map *map, const char *with) {
    return map->size >= strlen(with) && !memcmp(map->data, with, strlen(with));
}

/* By the name, and tokenizer.model by its content: SentencePiece writes fields, whose numbers are no base64. */
static sr_status load(sr_loader *l) {
    const sr_file *file = l->file;
    const sr_map *map = &file->tokenizer;
    const char *name = file->tokenizer_name;
    if (!name && (sr_file_value(file, "tokenizer.ggml.model") || file->gguf)) {
        l->where = file->path;
        return sr_load_gguf(l);
    }
    if (!name)
        return sr_fail(l->err, SR_UNSUPPORTED,
                       "%s: found no tokenizer (tokenizer.json, tekken.json, tokenizer.model, *.tiktoken or "
                       "vocab.json with merges.txt)",
                       file->path);
    if (starts(map, "version https://git-lfs"))
        return sr_fail(l->err, SR_CORRUPT, "%s: found a Git LFS pointer: the file itself was not downloaded", name);
    size_t n = strlen(name);
    if (!strcmp(name, "tekken.json")) return sr_load_tekken(l);
    if (!strcmp(name, "vocab.json")) return sr_load_vocab(l);
    if (n > 5 && !strcmp(name + n - 5, ".json")) return sr_load_json(l);
    bool ranks = map->size && sr_base64_digit((char)map->data[0]) >= 0;
    return ranks || (n > 9 && !strcmp(name + n - 9, ".tiktoken")) ? sr_load_tiktoken(l) : sr_load_sentencepiece(l);
}

sr_status sr_tokenizer_create(const sr_file *file, sr_tokenizer **out, sr_err *err) {
    *out = NULL;
    sr_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
    t->bos = t->eos = t->unk = -1;
    t->prefix = t->suffix = "";
    t->max_word_chars = SIZE_MAX;
    for (int i = 0; i < 256; i++) t->byte_id[i] = -1;
    sr_err own = {0};
    if (!err) err = &own;
    sr_status status = load(&(sr_loader){.t = t, .file = file, .err = err, .where = file->tokenizer_name});
    if (status != SR_OK) {
        sr_tokenizer_free(t);
        return status;
    }
    *out = t;
    return SR_OK;
}

sr_status sr_tokenizer_open(const char *path, sr_tokenizer **out, sr_err *err) {
    sr_file *file;
    *out = NULL;
    sr_file_options options = {.no_weights = true};
    sr_status status = sr_file_open(path, &options, &file, err);
    if (status != SR_OK) return status;
    status = sr_tokenizer_create(file, out, err);
    sr_file_close(file);
    return status;
}

void sr_tokenizer_free(sr_tokenizer *t) {
    if (!t) return;
    for (int i = 0; i < t->normalizers.n; i++) sr_regex_free(t->normalizers.v[i].regex);
    for (int i = 0; i < t->pre_tokenizers.n; i++) sr_regex_free(t->pre_tokenizers.v[i].regex);
    sr_trie_free(&t->raw);
    sr_trie_free(&t->normalized);
    sr_trie_free(&t->pieces);
    sr_arena_free(&t->arena);
    free(t);
}

int32_t sr_tokenizer_n_vocab(const sr_tokenizer *t) {
    return t->vocab.n;
}
int32_t sr_tokenizer_bos(const sr_tokenizer *t) {
    return t->bos;
}
int32_t sr_tokenizer_eos(const sr_tokenizer *t) {
    return t->eos;
}
bool sr_tokenizer_adds_bos(const sr_tokenizer *t) {
    return t->n_front > 0 && t->front[0] == t->bos;
}

bool sr_tokenizer_is_end(const sr_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocab.n && t->flags[id] & SR_TOKEN_END;
}
void sr_tokenizer_add_end(sr_tokenizer *t, int32_t id) {
    if (id >= 0 && id < t->vocab.n) t->flags[id] |= SR_TOKEN_END;
}

bool sr_token_bytes(const sr_tokenizer *t, int32_t id, const char **bytes, size_t *n) {
    bool known = id >= 0 && id < t->vocab.n;
    *bytes = known && t->bytes[id].text ? t->bytes[id].text : "";
    *n = known ? t->bytes[id].n : 0;
    return known;
}
bool sr_token_is_special(const sr_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocab.n && t->flags[id] & SR_TOKEN_SPECIAL;
}
const char *sr_token_piece(const sr_tokenizer *t, int32_t id) {
    if (id < 0 || id >= t->vocab.n) return NULL;
    return t->vocab.piece[id].text ? t->vocab.piece[id].text : "";
}
