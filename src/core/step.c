/* One step: the pending tokens of some sessions through the model. Nothing here allocates. */
#include <math.h>
#include <string.h>

#include "core/core.h"

/* Rows beyond the tokenizer are padding of the matrix: never to be chosen. */
static void mask_padding(const sr_model *m, float *logits) {
    if (!m->tokenizer) return;
    for (int32_t i = sr_tokenizer_n_vocab(m->tokenizer); i < m->dec.h.n_vocab; i++) logits[i] = -INFINITY;
}

/* Logits of the states of rows first .. first+n, a few at a time, to the session's callback. */
static void every_logit(sr_session *s, int first, int n, int32_t pos0) {
    sr_model *m = s->model;
    sr_engine *e = m->engine;
    const sr_device *ops = e->dev->ops;
    size_t d = (size_t)m->dec.h.d_model, V = (size_t)m->dec.h.n_vocab;
    int at_once = sr_engine_logits_rows(e, m->dec.h.n_vocab);
    for (int i = 0; i < n; i += at_once) {
        int rows = n - i < at_once ? n - i : at_once;
        ops->read(e->dev, e->scratch.x + (size_t)(first + i) * d, e->rows, (size_t)rows * d * sizeof(float));
        sr_decoder_logits(&m->dec, e->dev, e->rows, rows, e->logits);
        for (int r = 0; r < rows; r++) {
            float *logits = e->logits + (size_t)r * V;
            mask_padding(m, logits);
            s->on_logits(s->user, s, pos0 + i + r, logits);
        }
    }
}

sr_status sr_step(sr_session *const *s, int n, sr_err *err) {
    if (n < 1) return sr_fail(err, SR_INVALID, "a step needs a session");
    sr_model *m = s[0]->model;
    sr_engine *e = m->engine;
    const sr_device *ops = e->dev->ops;
    size_t d = (size_t)m->dec.h.d_model, V = (size_t)m->dec.h.n_vocab;
    int T = 0, n_span = 0;
    for (int i = 0; i < n && T < e->batch; i++) {
        if (s[i]->model != m) return sr_fail(err, SR_INVALID, "the sessions of a step belong to different models");
        for (int j = 0; j < i; j++)
            if (s[j] == s[i]) return sr_fail(err, SR_INVALID, "a session appears twice in a step");
        int32_t take = sr_session_n_pending(s[i]);
        if (take > e->batch - T) take = e->batch - T;
        if (take == 0) continue;
        e->span[n_span++] = (sr_span){T, take, s[i]->n_done, s[i]->kv};
        for (int32_t t = 0; t < take; t++, T++) {
            e->ids[T] = s[i]->tokens[s[i]->n_done + t];
            e->pos[T] = s[i]->n_done + t;
            e->rope_table[T] = s[i]->rope_table;
        }
    }
    if (T == 0) return SR_OK;
    sr_step_view view = {T, e->ids, e->pos, e->rope_table, e->span, n_span, &e->cancel};
    ops->begin(e->dev);
    if (sr_decoder_forward(&m->dec, e->dev, &e->scratch, &view) == SR_CANCELLED) {
        ops->end(e->dev, NULL);
        return sr_fail(err, SR_CANCELLED, "the step was cancelled");
    }
    int n_ready =
        0; /* sessions with nothing pending: their last states, gathered, share multiplications with the head */
    for (int i = 0, k = 0; k < n_span; i++) {
        if (e->span[k].kv != s[i]->kv) continue;
        const sr_span *span = &e->span[k++];
        if (s[i]->on_logits) every_logit(s[i], span->first, span->n, span->pos0);
        s[i]->n_done += span->n;
        if (s[i]->n_done == s[i]->n_tokens) e->ready[n_ready++] = (struct sr_ready){s[i], span->first + span->n - 1};
    }
    int at_once = sr_engine_logits_rows(e, m->dec.h.n_vocab);
    for (int i = 0; i < n_ready; i += at_once) {
        int rows = n_ready - i < at_once ? n_ready - i : at_once;
        for (int r = 0; r < rows; r++)
            ops->read(e->dev, e->scratch.x + (size_t)e->ready[i + r].row * d, e->rows + (size_t)r * d,
                      d * sizeof(float));
        sr_decoder_logits(&m->dec, e->dev, e->rows, rows, e->logits);
        for (int r = 0; r < rows; r++) {
            sr_session *to = e->ready[i + r].session;
            ops->read(e->dev, e->logits + (size_t)r * V, to->logits, V * sizeof(float));
            mask_padding(m, to->logits);
            to->has_logits = true;
        }
    }
    return ops->end(e->dev, err);
}
