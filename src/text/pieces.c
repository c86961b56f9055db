/* The models that find whole pieces in a text instead of merging small ones: Unigram, WordPiece, WordLevel, and RWKV's
 * longest match. Behaviour follows tokenizers/src/models/{unigram,wordpiece,wordlevel} at 3ba8ad00, and sentencepiece
 * src/unigram_model.cc (EncodeOptimized) at v0.2.0. The trie bounds the work by the length of the text times that of
 * the longest piece. */
#include "text/tokenizer.h"

sr_status sr_pieces_index(sr_tokenizer *t, sr_err *err) {
    sr_piece batch[SR_TRIE_BATCH];
    int32_t ids[SR_TRIE_BATCH], n = 0;
    uint64_t bytes = 0;
    for (int32_t id = 0; id < t->vocab.n; id++) bytes += t->vocab.piece[id].n;
    /* half of the bytes and more are shared with another piece */
    if (!sr_trie_reserve(&t->pieces, bytes / 2)) return sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
    for (int32_t id = 0; id <= t->vocab.n; id++) {
        if (n == SR_TRIE_BATCH || id == t->vocab.n) {
            if (!sr_trie_add_batch(&t->pieces, batch, ids, n))
                return sr_fail(err, SR_LIMIT, "tokenizer: the vocabulary does not fit in memory or in %d nodes",
                               SR_TRIE_MAX);
            n = 0;
        }
        if (id == t->vocab.n) break;
        const sr_piece *p = t->encode == sr_longest ? &t->bytes[id] : &t->vocab.piece[id];
        if (!p->n || t->flags[id] & (SR_TOKEN_SPECIAL | SR_TOKEN_UNSPOKEN)) continue;
        if (p->n > SR_MAX_PIECE_LEN)
            return sr_fail(err, SR_LIMIT, "tokenizer: token %d has %u bytes, the limit is %d", id, p->n,
                           SR_MAX_PIECE_LEN);
        batch[n] = *p;
        ids[n++] = id;
    }
    t->tail = SR_TRIE_ROOT;
    for (size_t i = 0; i < t->n_prefix; i++) t->tail = sr_trie_step(&t->pieces, t->tail, (uint8_t)t->prefix[i]);
    return SR_OK;
}

static void offer(const sr_tokenizer *t, sr_node *node, size_t from, size_t end, double score, int32_t id) {
    score += node[from].score;
    if (t->single_precision) score = (float)score;
    if (node[end].from != UINT32_MAX && score <= node[end].score) return;
    node[end].score = score;
    node[end].from = (uint32_t)from;
    node[end].id = id;
}

static bool is_known(const sr_tokenizer *t, int32_t id) {
    return id >= 0 && id != t->unk;
}

/* Unknown characters in a row: their own token, or the bytes they consist of where the vocabulary has them all, or the
 * unknown token, once. */
static void emit_unknown(sr_work *w, const char *s, size_t n) {
    const sr_tokenizer *t = w->t;
    int32_t id = sr_vocab_find(&t->vocab, s, n);
    bool bytes = t->byte_fallback;
    if (id >= 0 && !(t->flags[id] & (SR_TOKEN_SPECIAL | SR_TOKEN_UNSPOKEN))) {
        sr_emit(w, id);
        return;
    }
    for (size_t i = 0; i < n && bytes; i++) bytes = t->byte_id[(uint8_t)s[i]] >= 0;
    for (size_t i = 0; i < n && bytes; i++) sr_emit(w, t->byte_id[(uint8_t)s[i]]);
    if (!bytes && t->unk >= 0) sr_emit(w, t->unk);
}

/* Viterbi: the best way to a place comes from the best ways to the places before it. A character that is no piece may
 * be unknown at a price. */
sr_status sr_unigram(sr_work *w, const char *s, size_t n) {
    const sr_tokenizer *t = w->t;
    if (w->cap_nodes < n + 1) {
        size_t cap = n + n / 2 + 64;
        sr_node *more = realloc(w->node, cap * sizeof *more);
        if (!more) return sr_fail(w->err, SR_NOMEM, "tokenizer: out of memory");
        w->node = more;
        w->cap_nodes = cap;
    }
    sr_node *node = w->node;
    for (size_t i = 0; i <= n; i++) node[i] = (sr_node){.from = UINT32_MAX};
    for (size_t i = 0, step; i < n; i += step) {
        uint32_t cp, at = SR_TRIE_ROOT;
        bool whole = false;
        step = sr_utf8_get(s + i, &cp);
        for (size_t end = i; end < n && (at = sr_trie_step(&t->pieces, at, (uint8_t)s[end])) != 0;) {
            int32_t id = sr_trie_value(&t->pieces, at);
            end++;
            if (id < 0) continue;
            offer(t, node, i, end, t->score[id], id);
            whole |= end - i == step;
        }
        if (!whole) offer(t, node, i, i + step, t->unk_score, -1);
    }
    for (size_t end = n; end > 0; end = node[end].from) node[node[end].from].next = (uint32_t)end;
    for (size_t i = 0, end; i < n; i = end) {
        end = node[i].next;
        if (is_known(t, node[end].id)) {
            sr_emit(w, node[end].id);
            continue;
        }
        while (end < n && !is_known(t, node[node[end].next].id)) end = node[end].next;
        emit_unknown(w, s + i, end - i);
    }
    return SR_OK;
}

/* The longest piece at each place; behind the first, pieces are spelled with the prefix. A word that does not end with
 * a piece is unknown as a whole. */
sr_status sr_wordpiece(sr_work *w, const char *word, size_t n) {
    const sr_tokenizer *t = w->t;
    size_t before = w->n, chars = 0, len;
    for (size_t i = 0; i < n; i++) chars += ((uint8_t)word[i] & 0xC0) != 0x80;
    for (size_t i = 0; i < n; i += len) {
        int32_t id = chars > t->max_word_chars
                         ? -1
                         : sr_trie_longest(&t->pieces, i ? t->tail : SR_TRIE_ROOT, word + i, n - i, &len);
        if (id < 0) {
            w->n = before;
            if (t->unk >= 0) sr_emit(w, t->unk);
            return SR_OK;
        }
        sr_emit(w, id);
    }
    return SR_OK;
}

sr_status sr_word(sr_work *w, const char *word, size_t n) {
    const sr_tokenizer *t = w->t;
    int32_t id = sr_vocab_find(&t->vocab, word, n);
    if (id < 0 || t->flags[id] & SR_TOKEN_SPECIAL) id = t->unk;
    if (id >= 0) sr_emit(w, id);
    return SR_OK;
}

/* A byte that begins no piece is unknown. */
sr_status sr_longest(sr_work *w, const char *s, size_t n) {
    const sr_tokenizer *t = w->t;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t id = sr_trie_longest(&t->pieces, SR_TRIE_ROOT, s + i, n - i, &len);
        if (id < 0) {
            id = t->unk;
            len = 1;
        }
        if (id >= 0) sr_emit(w, id);
    }
    return SR_OK;
}
