#include "text/tokenizer.h"

#include <stdio.h>

#include "base/log.h"

/* ---------------------------------------------------------------- added tokens */

static bool trie_add(sr_trie *trie, const char *text, uint32_t n, int32_t added) {
    int32_t at = -1;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)text[i];
        int32_t next = at < 0 ? trie->root[byte] : trie->node[at].child;
        while (next && trie->node[next].byte != byte) next = trie->node[next].sibling;
        if (!next) {
            if (trie->n == trie->cap) {
                int32_t cap = trie->cap ? 2 * trie->cap : 256;
                sr_trie_node *node = realloc(trie->node, (size_t)cap * sizeof *node);
                if (!node) return false;
                trie->node = node;
                trie->cap = cap;
                if (!trie->n) trie->n = 1; /* 0 means none */
            }
            next = trie->n++;
            trie->node[next] = (sr_trie_node){byte, 0, 0, -1};
            if (at < 0) {
                trie->root[byte] = next;
            } else {
                trie->node[next].sibling = trie->node[at].child;
                trie->node[at].child = next;
            }
        }
        at = next;
    }
    if (at >= 0 && trie->node[at].added < 0) trie->node[at].added = added; /* the first of equals */
    return true;
}

/* Longest token that begins at s: its index in t->added, or -1, and the length of the match. */
static int32_t trie_longest(const sr_trie *trie, const char *s, size_t n, uint32_t *len) {
    int32_t found = -1, at = trie->root[(uint8_t)s[0]];
    for (size_t i = 1; at; i++) {
        if (trie->node[at].added >= 0) {
            found = trie->node[at].added;
            *len = (uint32_t)i;
        }
        if (i == n) break;
        int32_t next = trie->node[at].child;
        while (next && trie->node[next].byte != (uint8_t)s[i]) next = trie->node[next].sibling;
        at = next;
    }
    return found;
}

sr_status sr_added_index(sr_tokenizer *t, sr_err *err) {
    for (int32_t i = 0; i < t->n_added; i++) {
        sr_added *a = &t->added[i];
        if (a->n > SR_MAX_ADDED_LEN)
            return sr_fail(err, SR_LIMIT, "tokenizer: added token %d has %u bytes, the limit is %d", a->id, a->n,
                           SR_MAX_ADDED_LEN);
        if (!a->n) continue;
        if (!a->normalized || !t->normalizers.n) {
            if (!trie_add(a->normalized ? &t->normalized : &t->raw, a->text, a->n, i)) goto nomem;
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
        if (status == SR_OK && !trie_add(&t->normalized, w.text.at, (uint32_t)w.text.n, i))
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
static sr_status cut_added(sr_work *w, const sr_trie *trie, bool no_special) {
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
            uint32_t len = 0, cp;
            int32_t index = trie->root[(uint8_t)s[i]] ? trie_longest(trie, s + i, span.n - i, &len) : -1;
            if (index < 0) {
                i++;
                continue;
            }
            const sr_added *a = &t->added[index];
            uint32_t from = i, end = i + len;
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

static sr_status run_spm(sr_work *w) {
    bool after_special = true; /* also at the start */
    for (size_t i = 0; i < w->spans.n; i++) {
        const sr_span *span = &w->spans.v[i];
        if (span->id >= 0) {
            sr_emit(w, span->id);
            after_special = true;
            continue;
        }
        const char *s = w->text.at + span->at;
        bool ok = true;
        w->other.n = 0;
        if (w->t->space_prefix && after_special) ok = sr_buffer_add(&w->other, SR_SPACE, 3);
        for (size_t at = 0; at < span->n && ok;) {
            const char *hit = memchr(s + at, ' ', span->n - at);
            size_t run = hit ? (size_t)(hit - s) - at : span->n - at;
            ok = sr_buffer_add(&w->other, s + at, run) && (!hit || sr_buffer_add(&w->other, SR_SPACE, 3));
            at += run + (hit ? 1 : 0);
        }
        if (!ok) return sr_fail(w->err, SR_NOMEM, "tokenizer: out of memory");
        after_special = false;
        sr_status status = sr_spm(w, w->other.at, w->other.n);
        if (status != SR_OK) return status;
    }
    return SR_OK;
}

static sr_status run_bpe(sr_work *w, bool no_special) {
    const sr_tokenizer *t = w->t;
    sr_status status = SR_OK;
    for (int i = 0; i < t->normalizers.n && status == SR_OK; i++) status = sr_stage_run(w, &t->normalizers.v[i]);
    if (status == SR_OK) status = cut_added(w, &t->normalized, no_special);
    drop_empty(w);
    for (int i = 0; i < t->pre_tokenizers.n && status == SR_OK; i++) status = sr_stage_run(w, &t->pre_tokenizers.v[i]);
    for (size_t i = 0; i < w->spans.n && status == SR_OK; i++) {
        const sr_span *span = &w->spans.v[i];
        if (span->id >= 0)
            sr_emit(w, span->id);
        else
            status = sr_bpe(w, w->text.at + span->at, span->n);
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
        if (status == SR_OK) status = cut_added(&w, &t->raw, no_special);
        if (status == SR_OK) status = t->model == SR_MODEL_SPM ? run_spm(&w) : run_bpe(&w, no_special);
    }
    for (int i = 0; frame && i < t->n_back; i++) sr_emit(&w, t->back[i]);
    sr_buffer_free(&w.text);
    sr_buffer_free(&w.other);
    free(w.spans.v);
    free(w.other_spans.v);
    free(w.symbol);
    free(w.heap);
    sr_scan_free(&w.scan);
    if (status == SR_OK) *n = w.n;
    return status;
}

/* ---------------------------------------------------------------- what the loaders share */

int sr_byte_token(const char *s, size_t n) {
    int v = 0;
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    for (int i = 3; i < 5; i++) {
        char c = s[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                           : -1;
        if (digit < 0) return -1;
        v = 16 * v + digit;
    }
    return v;
}

void sr_tokenizer_finish(sr_tokenizer *t) {
    char s[8];
    for (uint32_t cp = 0; cp < 0x800; cp++) t->short_id[cp] = sr_vocab_find(&t->vocab, s, sr_utf8_put(cp, s));
}

int32_t sr_find_token(const sr_tokenizer *t, const char *text, size_t n) {
    for (int32_t i = 0; i < t->n_added; i++)
        if (t->added[i].n == n && !memcmp(t->added[i].text, text, n)) return t->added[i].id;
    return sr_vocab_find(&t->vocab, text, n);
}

void sr_mark_ends(sr_tokenizer *t) {
    static const char *const ends[] = {
        "<|eot_id|>", "<|im_end|>",    "<|end|>",         "<|return|>",         "<|call|>",   "<|flush|>",
        "<|calls|>",  "<end_of_turn>", "<turn|>",         "<|endoftext|>",      "<|eom_id|>", "<EOT>",
        "[EOT]",      "[EOS]",         "<|end_of_text|>", "<end_of_utterance>", "<eos>",      "</s>"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int32_t id = sr_find_token(t, ends[i], strlen(ends[i]));
        if (id >= 0 && t->flags[id] & SR_TOKEN_SPECIAL) t->flags[id] |= SR_TOKEN_END;
    }
    /* gpt-oss: a message ends with <|end|>, the generation with one of the other two */
    int32_t ret = sr_find_token(t, "<|return|>", 10), call = sr_find_token(t, "<|call|>", 8);
    int32_t end = sr_find_token(t, "<|end|>", 7);
    if (ret >= 0 && call >= 0 && end >= 0) t->flags[end] &= (uint8_t)~SR_TOKEN_END;
    sr_tokenizer_add_end(t, t->eos);
}

sr_status sr_set_frame(sr_tokenizer *t, bool add_bos, bool add_eos, sr_err *err) {
    t->front = sr_arena_small(&t->arena, 1, sizeof *t->front);
    t->back = sr_arena_small(&t->arena, 1, sizeof *t->back);
    if (!t->front || !t->back) return sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
    t->n_front = t->n_back = 0;
    if (add_bos && t->bos >= 0) t->front[t->n_front++] = t->bos;
    if (add_eos && t->eos >= 0) t->back[t->n_back++] = t->eos;
    return SR_OK;
}

/* ---------------------------------------------------------------- opening, asking */

sr_status sr_tokenizer_create(const sr_file *file, sr_tokenizer **out, sr_err *err) {
    *out = NULL;
    sr_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
    t->bos = t->eos = t->unk = -1;
    t->prefix = t->suffix = "";
    for (int i = 0; i < 256; i++) t->byte_id[i] = -1;
    sr_status status;
    if (file->tokenizer_json.data)
        status = sr_load_json(t, file, err);
    else if (sr_file_value(file, "tokenizer.ggml.model") || file->gguf)
        status = sr_load_gguf(t, file, err);
    else
        status = sr_fail(err, SR_UNSUPPORTED, "%s: found no tokenizer.json", file->path);
    if (status == SR_OK) {
        const char *text;
        size_t n;
        const char *key = file->gguf ? "tokenizer.chat_template" : "tokenizer_config.chat_template";
        if (sr_value_string(file, key, &text, &n, NULL) && !(t->chat_template = sr_arena_strndup(&t->arena, text, n)))
            status = sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
    }
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
    free(t->raw.node);
    free(t->normalized.node);
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
const char *sr_tokenizer_chat_template(const sr_tokenizer *t) {
    return t->chat_template;
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
