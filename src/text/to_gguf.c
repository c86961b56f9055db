/* A tokenizer as GGUF's tokenizer.ggml.* keys hold it. */
#include <stdio.h>
#include <stdlib.h>

#include "text/load.h"

static void put_text(sr_buffer *b, const char *text, size_t n) {
    sr_buffer_uint(b, n, 8);
    sr_buffer_add(b, text, n);
}

static const sr_added *added_of(const sr_tokenizer *t, int32_t id) {
    for (int32_t i = 0; i < t->n_added; i++)
        if (t->added[i].id == id) return &t->added[i];
    return NULL;
}

/* Spelling and type of each id; ids that no token has are filled up, as converters do. */
static void put_tokens(const sr_tokenizer *t, int32_t n, bool bytes, sr_gguf_vocab *v) {
    const sr_added **added = calloc((size_t)n, sizeof *added);
    v->tokens.failed = v->tokens.failed || !added;
    for (int32_t i = 0; added && i < t->n_added; i++)
        if (t->added[i].id >= 0 && t->added[i].id < n) added[t->added[i].id] = added_of(t, t->added[i].id);
    for (int32_t id = 0; added && id < n; id++) {
        const sr_piece *p = id < t->vocab.n ? &t->vocab.piece[id] : NULL;
        uint32_t type = SR_PIECE_NORMAL;
        char pad[32];
        if (added[id]) {
            put_text(&v->tokens, added[id]->text, added[id]->n);
            type = added[id]->special ? SR_PIECE_CONTROL : SR_PIECE_USER_DEFINED;
        } else if (p && p->text) {
            put_text(&v->tokens, p->text, p->n);
            if (t->flags[id] & SR_TOKEN_SPECIAL) type = SR_PIECE_CONTROL;
            if (bytes && sr_byte_token(p->text, p->n) >= 0) type = SR_PIECE_BYTE;
        } else {
            const int m = snprintf(pad, sizeof pad, "[PAD%d]", (int)id);
            put_text(&v->tokens, pad, (size_t)m);
            type = SR_PIECE_UNUSED;
        }
        if (bytes && id == t->unk) type = SR_PIECE_UNKNOWN;
        sr_buffer_uint(&v->types, type, 4);
    }
    free(added);
}

/* A piece's score is minus the rank of the merge that gives it: SentencePiece merges the best first. */
static void put_scores(const sr_tokenizer *t, int32_t n, const sr_merge *m, size_t n_merges, sr_gguf_vocab *v) {
    float *score = malloc((size_t)n * sizeof *score);
    v->scores.failed = v->scores.failed || !score;
    for (int32_t id = 0; score && id < n; id++)
        score[id] = t->score                           ? (float)t->score[id < t->vocab.n ? id : 0]
                    : t->score_rank && id < t->vocab.n ? -(float)t->score_rank[id]
                                                       : -(float)n_merges;
    for (size_t i = n_merges; score && i-- > 0;)
        if (m[i].id < n) score[m[i].id] = -(float)i;
    for (int32_t id = 0; score && id < n; id++) sr_buffer_add(&v->scores, &score[id], sizeof score[id]);
    free(score);
}

static void put_merges(const sr_tokenizer *t, const sr_merge *m, size_t n, sr_gguf_vocab *v) {
    for (size_t i = 0; i < n; i++) {
        const sr_piece *left = &t->vocab.piece[m[i].pair >> 32], *right = &t->vocab.piece[(uint32_t)m[i].pair];
        sr_buffer_uint(&v->merges, (uint64_t)left->n + 1 + right->n, 8);
        sr_buffer_add(&v->merges, left->text, left->n);
        sr_buffer_add(&v->merges, " ", 1);
        sr_buffer_add(&v->merges, right->text, right->n);
        v->n_merges++;
    }
}

/* Whether a space is put in front of a text. */
static bool has_space_prefix(const sr_tokenizer *t) {
    const sr_stages *lists[] = {&t->normalizers, &t->pre_tokenizers};
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < lists[l]->n; i++) {
            const sr_stage *s = &lists[l]->v[i];
            if (s->kind == SR_STAGE_PREPEND) return true;
            if ((s->kind == SR_STAGE_SENTENCE || s->kind == SR_STAGE_METASPACE) && s->scheme != SR_PREPEND_NEVER)
                return true;
        }
    return false;
}

sr_status sr_tokenizer_to_gguf(const sr_tokenizer *t, int32_t n_vocab, sr_gguf_vocab *v, sr_err *err) {
    *v = (sr_gguf_vocab){.n = n_vocab, .bos = t->bos, .eos = t->eos, .unk = t->unk};
    const bool spm = t->encode == sr_spm || (t->encode == sr_bpe && t->byte_fallback && !sr_is_byte_level(t));
    const bool bpe = t->encode == sr_bpe && !spm;
    if (!spm && !bpe && t->encode != sr_unigram)
        return sr_fail(err, SR_UNSUPPORTED,
                       "its tokenizer is of a kind that is not written to GGUF yet: byte pair "
                       "encoding, SentencePiece and Unigram are");
    size_t n_merges;
    sr_merge *m = sr_merges_sorted(&t->merges, &n_merges);
    if (!m && n_merges) return sr_fail(err, SR_NOMEM, "no memory for %zu merges", n_merges);
    v->model = bpe ? "gpt2" : spm ? "llama" : "t5";
    put_tokens(t, n_vocab, !bpe, v);
    if (bpe) {
        v->pre = sr_split_called(t, &v->n_pre);
        put_merges(t, m, n_merges, v);
    } else
        put_scores(t, n_vocab, m, n_merges, v);
    free(m);
    v->space_prefix = !bpe && has_space_prefix(t);
    v->add_bos = t->n_front > 0 && t->front[0] == t->bos;
    v->add_eos = t->n_back > 0 && t->back[t->n_back - 1] == t->eos;
    if (v->tokens.failed || v->types.failed || v->scores.failed || v->merges.failed) {
        sr_gguf_vocab_free(v);
        return sr_fail(err, SR_NOMEM, "no memory for the vocabulary");
    }
    return SR_OK;
}

void sr_gguf_vocab_free(sr_gguf_vocab *v) {
    sr_buffer_free(&v->tokens);
    sr_buffer_free(&v->types);
    sr_buffer_free(&v->scores);
    sr_buffer_free(&v->merges);
}
