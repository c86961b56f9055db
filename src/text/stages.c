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
    sr_status status = sr_regex_compile(pattern, strlen(pattern), false, &stage->regex, err);
    if (status == SR_OK) sr_stage_recognize(stage);
    return status;
}

/* Published patterns that cut numbers in threes from the right, each by looking from there to the end of the number. */
static const struct sr_threes {
    const char *pattern;
    bool (*is)(uint32_t cp); /* the digits */
    bool alone;              /* only of numbers that no letter follows */
    bool between;            /* cut in front of each three alone: the digits before them are no piece of their own */
} threes[] = {{"\\d{1,3}(?=(?:\\d{3})*\\b)", sr_char_is_decimal, true, false},
              {"\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))", sr_char_is_number, false, false},
              {"(?=(\\d{3})+(?!\\d))", sr_char_is_decimal, false, true}};

void sr_stage_recognize(sr_stage *stage) {
    for (size_t i = 0; i < sizeof threes / sizeof *threes; i++) {
        if (stage->behavior != SR_SPLIT_ISOLATED || stage->invert || !sr_regex_is(stage->regex, threes[i].pattern))
            continue;
        sr_regex_free(stage->regex);
        stage->regex = NULL;
        stage->kind = SR_STAGE_THREES;
        stage->threes = &threes[i];
        return;
    }
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

static void split_threes(cutter *c) {
    const struct sr_threes *t = c->stage->threes;
    const char *text = c->w->text.at;
    uint32_t prev = c->span->at, end = c->span->at + c->span->n, cp = 0, len;
    for (uint32_t at = prev; at < end; at += len) {
        len = sr_utf8_get(text + at, &cp);
        if (!t->is(cp)) continue;
        uint32_t n = 0, behind = at;
        for (; behind < end; behind += len, n++) {
            len = sr_utf8_get(text + behind, &cp);
            if (!t->is(cp)) break;
        }
        bool skip = t->alone && behind < end && sr_regex_is_word(cp);
        for (uint32_t digit = 0, from = at; !skip && digit < n; digit++) {
            len = sr_utf8_get(text + at, &cp);
            at += len;
            if (t->between && (n - digit) % 3 == 0) {
                if (prev < at - len) cut_event(c, prev, at - len, false);
                cut_event(c, at - len, at - len, true);
                prev = at - len;
            } else if (!t->between && (n - digit) % 3 == 1) {
                if (prev < from) cut_event(c, prev, from, false);
                cut_event(c, from, at, true);
                prev = from = at;
            }
        }
        at = behind;
        len = 0;
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
        if (stage->kind == SR_STAGE_THREES)
            split_threes(&c);
        else if (stage->regex)
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

static bool strip_marks(const char *s, size_t n, bool (*is)(uint32_t cp), sr_buffer *out) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        unsigned len = sr_utf8_get(s + i, &cp);
        if (!is(cp) && !sr_buffer_add(out, s + i, len)) return false;
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

static bool is_chinese(uint32_t cp) { /* 0x2B920: as the package has it; the block begins at 0x2B820 */
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) || (cp >= 0x20000 && cp <= 0x2A6DF) ||
           (cp >= 0x2A700 && cp <= 0x2B73F) || (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

/* normalizers/bert.rs: cleaning, then spaces around Chinese characters, then accents, then case. */
static bool bert(const sr_stage *stage, const char *s, size_t n, sr_buffer *out) {
    sr_buffer clean = {0}, plain = {0};
    bool ok = sr_buffer_reserve(&clean, n);
    for (size_t i = 0; i < n && ok;) {
        uint32_t cp;
        unsigned len = sr_utf8_get(s + i, &cp);
        if (stage->clean && sr_char_is_space(cp) && !(cp == 0x85 || cp == 11 || cp == 12)) {
            ok = sr_buffer_add(&clean, " ", 1);
        } else if (stage->clean && (cp == 0 || cp == 0xFFFD || sr_char_is_control(cp))) {
        } else if (stage->chinese && is_chinese(cp)) {
            ok = sr_buffer_add(&clean, " ", 1) && sr_buffer_add(&clean, s + i, len) && sr_buffer_add(&clean, " ", 1);
        } else {
            ok = sr_buffer_add(&clean, s + i, len);
        }
        i += len;
    }
    if (ok && stage->accents) {
        sr_buffer apart = {0};
        ok = sr_normalize(clean.at ? clean.at : "", clean.n, SR_NFD, &apart) &&
             strip_marks(apart.at ? apart.at : "", apart.n, sr_char_is_nonspacing, &plain);
        sr_buffer_free(&apart);
        sr_buffer_free(&clean);
        clean = plain;
    }
    const char *text = clean.at ? clean.at : "";
    ok = ok && (stage->lower ? sr_lowercase(text, clean.n, out) : sr_buffer_add(out, text, clean.n));
    sr_buffer_free(&clean);
    return ok;
}

/* normalizers/unicode.rs, Nmt */
static bool nmt(const char *s, size_t n, sr_buffer *out) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        unsigned len = sr_utf8_get(s + i, &cp);
        bool space = cp == 9 || cp == 10 || cp == 12 || cp == 13 || cp == 0x1680 || (cp >= 0x200B && cp <= 0x200F) ||
                     cp == 0x2028 || cp == 0x2029 || cp == 0x2581 || cp == 0xFEFF || cp == 0xFFFD;
        bool gone =
            (cp >= 1 && cp <= 8) || cp == 11 || (cp >= 14 && cp <= 31) || cp == 0x7F || cp == 0x8F || cp == 0x9F;
        if (!gone && !sr_buffer_add(out, space ? " " : s + i, space ? 1 : len)) return false;
        i += len;
    }
    return true;
}

/* The next piece of SentencePiece's normalized text: what the map makes of the characters at s, else a space, or all
 * up to the next space (with a map: one character). *used: bytes of s. */
static const char *sentence_piece(const sr_stage *stage, const char *s, size_t n, size_t *len, size_t *used) {
    const char *to = stage->map ? sr_charsmap_find(stage->map, s, n, false, used) : NULL;
    uint32_t cp;
    if (to) {
        *len = strlen(to);
        return to;
    }
    const char *space = stage->map || s[0] == ' ' ? NULL : memchr(s, ' ', n);
    *used = space ? (size_t)(space - s) : stage->map || s[0] == ' ' ? sr_utf8_get(s, &cp) : n;
    *len = *used;
    return s;
}

/* sentencepiece src/normalizer.cc, Normalizer::Normalize, at v0.2.0 */
static bool sentence(const sr_stage *stage, const char *s, size_t n, bool first, sr_buffer *out) {
    const char *mark = stage->escape ? SR_SPACE : " ";
    size_t n_mark = strlen(mark), len, used, start = out->n;
    bool add = stage->scheme == SR_PREPEND_ALWAYS || (stage->scheme == SR_PREPEND_FIRST && first);
    while (stage->strip && n) {
        const char *p = sentence_piece(stage, s, n, &len, &used);
        if (len != 1 || p[0] != ' ') break;
        s += used;
        n -= used;
    }
    if (!n) return true;
    if (add && !stage->suffix && !sr_buffer_add(out, mark, n_mark)) return false;
    bool behind_space = stage->strip;
    while (n) {
        const char *p = sentence_piece(stage, s, n, &len, &used);
        s += used;
        n -= used;
        for (; behind_space && len && p[0] == ' '; p++) len--;
        if (len) behind_space = stage->strip && p[len - 1] == ' ';
        for (size_t i = 0; i < len;) {
            const char *space = memchr(p + i, ' ', len - i);
            size_t run = space ? (size_t)(space - p) - i : len - i;
            if (!sr_buffer_add(out, p + i, run) || (space && !sr_buffer_add(out, mark, n_mark))) return false;
            i += run + (space ? 1 : 0);
        }
    }
    while (stage->strip && out->n - start >= n_mark && !memcmp(out->at + out->n - n_mark, mark, n_mark))
        out->n -= n_mark;
    return !add || !stage->suffix || sr_buffer_add(out, mark, n_mark);
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
                ok = strip_marks(s, n, sr_char_is_mark, out);
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
            case SR_STAGE_BERT:
                ok = bert(stage, s, n, out);
                break;
            case SR_STAGE_NMT:
                ok = nmt(s, n, out);
                break;
            case SR_STAGE_CHARSMAP:
                ok = sr_charsmap_graphemes(stage->map, s, n, out);
                break;
            case SR_STAGE_SENTENCE:
                ok = sentence(stage, s, n, span->first, out);
                break;
            case SR_STAGE_SPACE_FIRST:
                ok = (n && s[0] == ' ' ? true : sr_buffer_add(out, " ", 1)) && sr_buffer_add(out, s, n);
                break;
            case SR_STAGE_METASPACE:
                ok = metaspace(stage, s, n, span->first, out);
                break;
            case SR_STAGE_SPLIT:
            case SR_STAGE_CHARS:
            case SR_STAGE_THREES:
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
    bool splits = stage->kind == SR_STAGE_SPLIT || stage->kind == SR_STAGE_CHARS || stage->kind == SR_STAGE_THREES;
    if (splits) return run_split(w, stage);
    return run_rewrite(w, stage);
}
