/* The merging models. All repeat: of all adjacent pairs that can be merged take the best (the leftmost of equals)
 * and merge it. They differ in what makes a pair good: BPE looks up (left id, right id) in the merges, SentencePiece
 * (and what has ranks instead of scores) the concatenated text in the vocabulary. A short word keeps its symbols in an
 * array and scans it; a long one uses a linked list and a heap, so that a text of a million letters takes n log n. */
#include "text/tokenizer.h"

enum { SCAN_MAX = 40 /* symbols: below, scanning is faster than a heap (measured) */ };

/* Sets rank and merged of the pair (left, right). */
typedef void (*pair_fn)(const sr_tokenizer *t, const char *word, sr_symbol *left, const sr_symbol *right);

static void pair_bpe(const sr_tokenizer *t, const char *word, sr_symbol *left, const sr_symbol *right) {
    (void)word;
    const sr_merge *m = sr_merges_find(&t->merges, left->id, right->id);
    left->rank = m ? m->rank : UINT32_MAX;
    left->merged = m ? m->id : -1;
}

static void pair_spm(const sr_tokenizer *t, const char *word, sr_symbol *left, const sr_symbol *right) {
    size_t n = (size_t)left->n + right->n;
    left->rank = UINT32_MAX;
    if (n > t->vocab.max_len) return;
    left->merged = sr_vocab_find(&t->vocab, word + left->at, n);
    if (left->merged < 0 || t->flags[left->merged] & (SR_TOKEN_SPECIAL | SR_TOKEN_UNSPOKEN)) return;
    left->rank = t->score_rank[left->merged];
}

static size_t merge_by_scan(const sr_tokenizer *t, const char *word, sr_symbol *s, size_t n, pair_fn pair) {
    for (size_t i = 0; i + 1 < n; i++) pair(t, word, &s[i], &s[i + 1]);
    s[n - 1].rank = UINT32_MAX;
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (s[i].rank < s[best].rank) best = i;
        if (s[best].rank == UINT32_MAX) return n;
        s[best].id = s[best].merged;
        s[best].n += s[best + 1].n;
        n--;
        memmove(s + best + 1, s + best + 2, (n - best - 1) * sizeof *s);
        s[best].rank = UINT32_MAX;
        if (best + 1 < n) pair(t, word, &s[best], &s[best + 1]);
        if (best > 0) pair(t, word, &s[best - 1], &s[best]);
    }
}

static void heap_down(uint64_t *h, size_t n, size_t i) {
    uint64_t x = h[i];
    for (size_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && h[c + 1] < h[c]) c++;
        if (x <= h[c]) break;
        h[i] = h[c];
    }
    h[i] = x;
}

/* A pair's entry is rank << 32 | position. An entry is stale when the symbol is gone or its pair has another rank by
 * now. A symbol's pair changes at most twice a merge, so 3 n entries suffice: n at first, two more for each merge. */
static void heap_push(sr_work *w, uint64_t x) {
    size_t i = w->n_heap++;
    for (; i > 0 && w->heap[(i - 1) / 2] > x; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = x;
}

static sr_status merge_by_heap(sr_work *w, const char *word, size_t n, pair_fn pair) {
    const sr_tokenizer *t = w->t;
    sr_symbol *s = w->symbol;
    if (w->cap_heap < 3 * n) {
        uint64_t *heap = realloc(w->heap, 3 * n * sizeof *heap);
        if (!heap) return sr_fail(w->err, SR_NOMEM, "tokenizer: out of memory");
        w->heap = heap;
        w->cap_heap = 3 * n;
    }
    w->n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        s[i].prev = (int32_t)i - 1;
        s[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
        s[i].rank = UINT32_MAX;
        if (i + 1 < n) pair(t, word, &s[i], &s[i + 1]);
        if (s[i].rank != UINT32_MAX) w->heap[w->n_heap++] = (uint64_t)s[i].rank << 32 | i;
    }
    for (size_t i = w->n_heap / 2; i-- > 0;) heap_down(w->heap, w->n_heap, i);
    while (w->n_heap) {
        uint64_t top = w->heap[0];
        w->heap[0] = w->heap[--w->n_heap];
        if (w->n_heap) heap_down(w->heap, w->n_heap, 0);
        sr_symbol *a = &s[(uint32_t)top];
        if (a->rank != (uint32_t)(top >> 32)) continue;
        sr_symbol *b = &s[a->next];
        a->id = a->merged;
        a->n += b->n;
        a->next = b->next;
        b->rank = UINT32_MAX;
        b->n = 0;
        a->rank = UINT32_MAX;
        if (a->next >= 0) {
            s[a->next].prev = (int32_t)(a - s);
            pair(t, word, a, &s[a->next]);
            if (a->rank != UINT32_MAX) heap_push(w, (uint64_t)a->rank << 32 | (uint64_t)(a - s));
        }
        if (a->prev >= 0) {
            sr_symbol *p = &s[a->prev];
            pair(t, word, p, a);
            if (p->rank != UINT32_MAX) heap_push(w, (uint64_t)p->rank << 32 | (uint64_t)(p - s));
        }
    }
    return SR_OK;
}

static bool reserve_symbols(sr_work *w, size_t n) {
    if (n <= w->cap_symbols) return true;
    size_t cap = n + n / 2 + 64;
    sr_symbol *s = realloc(w->symbol, cap * sizeof *s);
    if (!s) {
        sr_fail(w->err, SR_NOMEM, "tokenizer: out of memory");
        return false;
    }
    w->symbol = s;
    w->cap_symbols = cap;
    return true;
}

/* Ids of the bytes of a text, when the vocabulary has all of them. */
static bool has_bytes(const sr_tokenizer *t, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (t->byte_id[(uint8_t)s[i]] < 0) return false;
    return true;
}

static int32_t char_id(const sr_tokenizer *t, const char *s, unsigned len, uint32_t cp) {
    return cp < 0x800 ? t->short_id[cp] : sr_vocab_find(&t->vocab, s, len);
}

/* tokenizers/src/models/bpe/model.rs, merge_word, at 3ba8ad00. An unknown character that waits is written when the next
 * known one comes, even where byte tokens came in between. */
sr_status sr_bpe(sr_work *w, const char *word, size_t n) {
    const sr_tokenizer *t = w->t;
    if (t->ignore_merges || (t->whole_lines && n && word[0] == '\n')) {
        int32_t id = sr_vocab_find(&t->vocab, word, n);
        if (id >= 0) {
            sr_emit(w, id);
            return SR_OK;
        }
    }
    size_t k = 0;
    bool waiting = false;
    uint32_t wait_n = 0;
    bool affixed = t->n_prefix || t->n_suffix;
    sr_buffer affix = {0};
    sr_status status = SR_OK;
    for (size_t i = 0; i < n && status == SR_OK;) {
        uint32_t cp;
        unsigned len = sr_utf8_get(word + i, &cp);
        const char *s = word + i;
        size_t s_n = len;
        int32_t id;
        if (affixed && (i > 0 || i + len == n)) {
            affix.n = 0;
            if (!sr_buffer_add(&affix, t->prefix, i > 0 ? t->n_prefix : 0) || !sr_buffer_add(&affix, s, len) ||
                !sr_buffer_add(&affix, t->suffix, i + len == n ? t->n_suffix : 0)) {
                status = sr_fail(w->err, SR_NOMEM, "tokenizer: out of memory");
                break;
            }
            s = affix.at;
            s_n = affix.n;
            id = sr_vocab_find(&t->vocab, s, s_n);
        } else {
            id = char_id(t, s, len, cp);
        }
        if (!reserve_symbols(w, k + s_n + 2)) {
            status = SR_NOMEM;
            break;
        }
        if (id >= 0) {
            if (waiting) w->symbol[k++] = (sr_symbol){.n = wait_n, .id = t->unk};
            waiting = false;
            w->symbol[k++] = (sr_symbol){.n = len, .id = id};
        } else if (t->byte_fallback && has_bytes(t, s, s_n)) {
            for (size_t b = 0; b < s_n; b++) w->symbol[k++] = (sr_symbol){.n = 1, .id = t->byte_id[(uint8_t)s[b]]};
        } else if (t->unk >= 0) {
            if (waiting && !t->fuse_unk) w->symbol[k++] = (sr_symbol){.n = wait_n, .id = t->unk};
            wait_n = waiting && t->fuse_unk ? wait_n + len : len;
            waiting = true;
        }
        i += len;
    }
    sr_buffer_free(&affix);
    if (status != SR_OK) return status;
    if (waiting) {
        if (!reserve_symbols(w, k + 1)) return SR_NOMEM;
        w->symbol[k++] = (sr_symbol){.n = wait_n, .id = t->unk};
    }
    if (k > SCAN_MAX) {
        status = merge_by_heap(w, word, k, pair_bpe);
        if (status != SR_OK) return status;
        for (int32_t i = 0; i >= 0; i = w->symbol[i].next) sr_emit(w, w->symbol[i].id);
        return SR_OK;
    }
    if (k > 1) k = merge_by_scan(t, word, w->symbol, k, pair_bpe);
    for (size_t i = 0; i < k; i++) sr_emit(w, w->symbol[i].id);
    return SR_OK;
}

size_t sr_spm_border(const char *text, size_t n, size_t from) {
    for (size_t i = from + 1; i + 3 <= n; i++)
        if (!memcmp(text + i, SR_SPACE, 3) && (i < from + 3 || memcmp(text + i - 3, SR_SPACE, 3) != 0)) return i;
    return n;
}

/* What a symbol that no merge reached becomes: its own token, else its bytes, else unknown (a run of those once). */
static void emit_spm(sr_work *w, const char *s, size_t n, bool *was_unknown) {
    const sr_tokenizer *t = w->t;
    int32_t id = sr_vocab_find(&t->vocab, s, n);
    if (id >= 0) {
        sr_emit(w, id);
    } else if (has_bytes(t, s, n)) {
        for (size_t b = 0; b < n; b++) sr_emit(w, t->byte_id[(uint8_t)s[b]]);
    } else {
        if (t->unk >= 0 && !*was_unknown) sr_emit(w, t->unk);
        *was_unknown = true;
        return;
    }
    *was_unknown = false;
}

static sr_status spm_word(sr_work *w, const char *text, size_t n, bool *unknown) {
    size_t k = 0;
    if (!reserve_symbols(w, n)) return SR_NOMEM;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        unsigned len = sr_utf8_get(text + i, &cp);
        w->symbol[k++] = (sr_symbol){.at = (uint32_t)i, .n = len};
        i += len;
    }
    if (k > SCAN_MAX) {
        sr_status status = merge_by_heap(w, text, k, pair_spm);
        if (status != SR_OK) return status;
        for (int32_t i = 0; i >= 0; i = w->symbol[i].next) emit_spm(w, text + w->symbol[i].at, w->symbol[i].n, unknown);
        return SR_OK;
    }
    if (k > 1) k = merge_by_scan(w->t, text, w->symbol, k, pair_spm);
    for (size_t i = 0; i < k; i++) emit_spm(w, text + w->symbol[i].at, w->symbol[i].n, unknown);
    return SR_OK;
}

/* Where no piece holds a space behind another character, no merge crosses such a place: words are merged one by one. */
sr_status sr_spm(sr_work *w, const char *text, size_t n) {
    bool unknown = false;
    sr_status status = SR_OK;
    for (size_t i = 0; i < n && status == SR_OK;) {
        size_t end = n;
        if (w->t->words_apart) end = sr_spm_border(text, n, i);
        status = spm_word(w, text + i, end - i, &unknown);
        i = end;
    }
    return status;
}

sr_status sr_ranks(sr_work *w, const char *word, size_t n) {
    int32_t id = sr_vocab_find(&w->t->vocab, word, n);
    bool unknown = false;
    if (id < 0) return spm_word(w, word, n, &unknown);
    sr_emit(w, id);
    return SR_OK;
}
