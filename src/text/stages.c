/* Normalizers and pre-tokenizers as stages over a list of spans. A stage either refines the spans of the same text or
 * writes a new text with the same spans. Spans of added tokens pass through untouched. Behaviour follows
 * tokenizers/src/{normalizers,pre_tokenizers} and tokenizer/normalizer.rs (split) at 3ba8ad00. */
#include "text/tokenizer.h"

sr_stage *sr_stages_add(sr_stages *s, sr_err *err) {
    if (s->n == SR_MAX_STAGES) {
        sr_fail(err, SR_LIMIT, "tokenizer: more than %d normalizers or pre-tokenizers", SR_MAX_STAGES);
        return NULL;
    }
    s->v[s->n] = (sr_stage){0};
    return &s->v[s->n++];
}

sr_status sr_stages_add_regex(sr_stages *s, const char *pattern, sr_err *err) {
    sr_stage *stage = sr_stages_add(s, err);
    if (!stage) return SR_LIMIT;
    stage->kind = SR_STAGE_SPLIT;
    stage->behavior = SR_SPLIT_ISOLATED;
    return sr_regex_compile(pattern, strlen(pattern), false, &stage->regex, err);
}

bool sr_spans_add(sr_spans *s, uint32_t at, uint32_t n, int32_t id, bool first) {
    if (s->n == s->cap) {
        size_t cap = s->cap + s->cap / 2 + 64;
        sr_span *v = realloc(s->v, cap * sizeof *v);
        if (!v) return false;
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = (sr_span){at, n, id, first};
    return true;
}

/* Cuts one span into pieces while matches and gaps arrive in order. A gap of length 0 does not occur; a match may. */
typedef struct cutter {
    sr_work *w;
    const sr_span *span;
    const sr_stage *stage;
    bool open, previous_match; /* a piece that may still grow; whether the last event was a match */
    uint32_t at, end;          /* of that piece */
    bool ok;
} cutter;

static void cut_close(cutter *c) {
    if (c->open && c->end > c->at)
        c->ok &= sr_spans_add(&c->w->other_spans, c->at, c->end - c->at, -1, c->span->first && c->at == c->span->at);
    c->open = false;
}

static void cut_event(cutter *c, uint32_t at, uint32_t end, bool match) {
    match ^= c->stage->invert;
    bool grow = false;
    switch (c->stage->behavior) {
    case SR_SPLIT_REMOVED:
        break;
    case SR_SPLIT_ISOLATED:
        break;
    case SR_SPLIT_CONTIGUOUS:
        grow = match == c->previous_match;
        break;
    case SR_SPLIT_WITH_PREVIOUS:
        grow = match && !c->previous_match;
        break;
    /* from the right: a match joins what follows it unless that is a match too */
    case SR_SPLIT_WITH_NEXT:
        grow = !match && c->previous_match;
        break;
    }
    if (!grow || !c->open) {
        cut_close(c);
        c->at = at;
        c->open = true;
    }
    c->end = end;
    if (c->stage->behavior == SR_SPLIT_REMOVED && match) c->open = false;
    c->previous_match = match;
}

static sr_status split_regex(cutter *c, sr_err *err) {
    const char *text = c->w->text.at + c->span->at;
    size_t n = c->span->n, from = 0, prev = 0, last_end = SIZE_MAX;
    while (from <= n) {
        size_t s = 0, e = 0;
        bool found;
        sr_status status = sr_regex_find(c->stage->regex, &c->w->scan, text, n, from, &s, &e, &found, err);
        if (status != SR_OK) return status;
        if (!found) break;
        if (s == e && e == last_end) { /* no empty match right behind a match */
            if (from == n) break;
            uint32_t cp;
            from += sr_utf8_get(text + from, &cp);
            continue;
        }
        from = last_end = e;
        if (prev < s) cut_event(c, c->span->at + (uint32_t)prev, c->span->at + (uint32_t)s, false);
        cut_event(c, c->span->at + (uint32_t)s, c->span->at + (uint32_t)e, true);
        prev = e;
    }
    if (prev < n) cut_event(c, c->span->at + (uint32_t)prev, c->span->at + (uint32_t)n, false);
    return SR_OK;
}

static void split_chars(cutter *c) {
    const char *text = c->w->text.at;
    uint32_t prev = c->span->at, end = c->span->at + c->span->n;
    for (uint32_t i = prev, len; i < end; i += len) {
        uint32_t cp;
        len = sr_utf8_get(text + i, &cp);
        if (!c->stage->is(cp)) continue;
        if (prev < i) cut_event(c, prev, i, false);
        cut_event(c, i, i + len, true);
        prev = i + len;
    }
    if (prev < end) cut_event(c, prev, end, false);
}

static sr_status run_split(sr_work *w, const sr_stage *stage) {
    w->other_spans.n = 0;
    for (size_t i = 0; i < w->spans.n; i++) {
        const sr_span *span = &w->spans.v[i];
        if (span->id >= 0) {
            if (!sr_spans_add(&w->other_spans, span->at, span->n, span->id, span->first)) goto nomem;
            continue;
        }
        /* SR_SPLIT_WITH_NEXT and _PREVIOUS begin as after a gap; so does _CONTIGUOUS, which then opens a piece anyway
         */
        cutter c = {.w = w, .span = span, .stage = stage, .ok = true};
        sr_status status = SR_OK;
        if (stage->regex)
            status = split_regex(&c, w->err);
        else
            split_chars(&c);
        cut_close(&c);
        if (status != SR_OK) return status;
        if (!c.ok) goto nomem;
    }
    sr_spans swap = w->spans;
    w->spans = w->other_spans;
    w->other_spans = swap;
    return SR_OK;
nomem:
    return sr_fail(w->err, SR_NOMEM, "tokenizer: out of memory");
}

static bool replace(sr_work *w, const sr_stage *stage, const char *s, size_t n, sr_status *status) {
    size_t from = 0, prev = 0, last_end = SIZE_MAX;
    while (from <= n) {
        size_t a = 0, b = 0;
        bool found;
        *status = sr_regex_find(stage->regex, &w->scan, s, n, from, &a, &b, &found, w->err);
        if (*status != SR_OK) return true;
        if (!found) break;
        if (a == b && b == last_end) {
            if (from == n) break;
            uint32_t cp;
            from += sr_utf8_get(s + from, &cp);
            continue;
        }
        from = last_end = b;
        if (!sr_buffer_add(&w->other, s + prev, a - prev) || !sr_buffer_add(&w->other, stage->text, stage->n))
            return false;
        prev = b;
    }
    return sr_buffer_add(&w->other, s + prev, n - prev);
}

static bool strip_accents(const char *s, size_t n, sr_buffer *out) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        unsigned len = sr_utf8_get(s + i, &cp);
        if (!sr_char_is_mark(cp) && !sr_buffer_add(out, s + i, len)) return false;
        i += len;
    }
    return true;
}

static bool strip(const sr_stage *stage, const char *s, size_t n, sr_buffer *out) {
    size_t from = 0, end = n;
    uint32_t cp;
    while (stage->left && from < end) {
        unsigned len = sr_utf8_get(s + from, &cp);
        if (!sr_char_is_space(cp)) break;
        from += len;
    }
    while (stage->right && end > from) {
        size_t before = sr_utf8_before(s, end);
        sr_utf8_get(s + before, &cp);
        if (!sr_char_is_space(cp)) break;
        end = before;
    }
    return sr_buffer_add(out, s + from, end - from);
}

static bool to_alphabet(const char *s, size_t n, sr_buffer *out) {
    if (!sr_buffer_reserve(out, 2 * n)) return false;
    char *p = out->at + out->n;
    for (size_t i = 0; i < n; i++) p += sr_utf8_put(sr_byte_to_char((uint8_t)s[i]), p);
    out->n = (size_t)(p - out->at);
    return true;
}

static bool metaspace(const sr_stage *stage, const char *s, size_t n, bool first, sr_buffer *out) {
    bool has = (n >= stage->n && !memcmp(s, stage->text, stage->n)) || (n && s[0] == ' ');
    if (!has && (stage->scheme == SR_PREPEND_ALWAYS || (stage->scheme == SR_PREPEND_FIRST && first)))
        if (!sr_buffer_add(out, stage->text, stage->n)) return false;
    for (size_t i = 0; i < n;) {
        const char *space = memchr(s + i, ' ', n - i);
        size_t run = space ? (size_t)(space - s) - i : n - i;
        if (!sr_buffer_add(out, s + i, run)) return false;
        i += run;
        if (!space) break;
        if (!sr_buffer_add(out, stage->text, stage->n)) return false;
        i++;
    }
    return true;
}

/* Stages that write a new text. */
static sr_status run_rewrite(sr_work *w, const sr_stage *stage) {
    sr_status status = SR_OK;
    bool ok = true;
    w->other.n = 0;
    for (size_t i = 0; i < w->spans.n && ok && status == SR_OK; i++) {
        sr_span *span = &w->spans.v[i];
        const char *s = w->text.at + span->at;
        size_t n = span->n, at = w->other.n;
        sr_buffer *out = &w->other;
        if (span->id >= 0) {
            ok = sr_buffer_add(out, s, n);
        } else {
            switch (stage->kind) {
            case SR_STAGE_NORMAL_FORM:
                ok = sr_normalize(s, n, stage->form, out);
                break;
            case SR_STAGE_LOWERCASE:
                ok = sr_lowercase(s, n, out);
                break;
            case SR_STAGE_STRIP:
                ok = strip(stage, s, n, out);
                break;
            case SR_STAGE_STRIP_ACCENTS:
                ok = strip_accents(s, n, out);
                break;
            case SR_STAGE_REPLACE:
                ok = replace(w, stage, s, n, &status);
                break;
            case SR_STAGE_PREPEND:
                ok = (!n || sr_buffer_add(out, stage->text, stage->n)) && sr_buffer_add(out, s, n);
                break;
            case SR_STAGE_BYTES:
                ok = to_alphabet(s, n, out);
                break;
            case SR_STAGE_SPACE_FIRST:
                ok = (n && s[0] == ' ' ? true : sr_buffer_add(out, " ", 1)) && sr_buffer_add(out, s, n);
                break;
            case SR_STAGE_METASPACE:
                ok = metaspace(stage, s, n, span->first, out);
                break;
            case SR_STAGE_SPLIT:
            case SR_STAGE_CHARS:
                break;
            }
        }
        if (out->n > UINT32_MAX) return sr_fail(w->err, SR_LIMIT, "tokenizer: the normalized text exceeds 4 GiB");
        span->at = (uint32_t)at;
        span->n = (uint32_t)(out->n - at);
    }
    if (!ok) return sr_fail(w->err, SR_NOMEM, "tokenizer: out of memory");
    if (status != SR_OK) return status;
    sr_buffer swap = w->text;
    w->text = w->other;
    w->other = swap;
    return SR_OK;
}

sr_status sr_stage_run(sr_work *w, const sr_stage *stage) {
    sr_scan_refill(&w->scan);
    if (stage->kind == SR_STAGE_SPLIT || stage->kind == SR_STAGE_CHARS) return run_split(w, stage);
    return run_rewrite(w, stage);
}
