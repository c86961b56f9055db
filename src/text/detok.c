/* Streaming detokenization: bytes of tokens -> complete characters -> what no stop string can take back.
 * Every buffer is sized when the object is created, so a push allocates nothing. */
#include "text/tokenizer.h"

typedef struct stop {
    char *text;
    size_t n;
    size_t *fallback; /* [n] Knuth-Morris-Pratt: length of the longest proper prefix that ends here too */
    size_t state;     /* bytes of it that the text so far ends with */
} stop;

struct sr_detok {
    const sr_tokenizer *t;
    stop *stops;
    int n_stops;
    char raw[4]; /* bytes that may become a character */
    size_t n_raw;
    char *held; /* complete characters that a stop string may begin in, then new ones */
    size_t n_held;
    char *out;
    size_t cap; /* of held and out */
    bool first, stopped;
    bool space; /* one that waits for the next token */
    int32_t latest;
    int lead_left;
};

sr_status sr_detok_create(const sr_tokenizer *t, const char *const *stops, int n_stops, sr_detok **out, sr_err *err) {
    *out = NULL;
    if (n_stops < 0 || (n_stops && !stops)) return sr_fail(err, SR_INVALID, "detok: found %d stop strings", n_stops);
    sr_detok *d = calloc(1, sizeof *d);
    if (!d) return sr_fail(err, SR_NOMEM, "detok: out of memory");
    d->t = t;
    size_t longest = 0, longest_stop = 0;
    for (int32_t i = 0; i < t->vocab.n; i++) {
        if (t->bytes[i].n > longest) longest = t->bytes[i].n;
        if (t->vocab.piece[i].n > longest) longest = t->vocab.piece[i].n;
    }
    d->stops = calloc((size_t)n_stops + 1, sizeof *d->stops);
    sr_status status = d->stops ? SR_OK : sr_fail(err, SR_NOMEM, "detok: out of memory");
    for (int i = 0; i < n_stops && status == SR_OK; i++) {
        stop *s = &d->stops[d->n_stops++];
        s->n = stops[i] ? strlen(stops[i]) : 0;
        if (!s->n || !sr_utf8_valid(stops[i], s->n)) {
            status = sr_fail(err, SR_INVALID, "detok: stop string %d is %s", i, s->n ? "not UTF-8" : "empty");
            break;
        }
        s->text = malloc(s->n + 1);
        s->fallback = malloc(s->n * sizeof *s->fallback);
        if (!s->text || !s->fallback) {
            status = sr_fail(err, SR_NOMEM, "detok: out of memory");
            break;
        }
        memcpy(s->text, stops[i], s->n + 1);
        s->fallback[0] = 0;
        for (size_t k = 1, len = 0; k < s->n; k++) {
            while (len && s->text[k] != s->text[len]) len = s->fallback[len - 1];
            if (s->text[k] == s->text[len]) len++;
            s->fallback[k] = len;
        }
        if (s->n > longest_stop) longest_stop = s->n;
    }
    /* one token and the bytes before it, each at worst U+FFFD */
    d->cap = longest_stop + 3 * (longest + sizeof d->raw) + 1;
    if (status == SR_OK && (!(d->held = malloc(d->cap)) || !(d->out = malloc(d->cap))))
        status = sr_fail(err, SR_NOMEM, "detok: out of memory");
    if (status != SR_OK) {
        sr_detok_free(d);
        return status;
    }
    sr_detok_reset(d, true);
    *out = d;
    return SR_OK;
}

void sr_detok_free(sr_detok *d) {
    if (!d) return;
    for (int i = 0; i < d->n_stops; i++) {
        free(d->stops[i].text);
        free(d->stops[i].fallback);
    }
    free(d->stops);
    free(d->held);
    free(d->out);
    free(d);
}

void sr_detok_reset(sr_detok *d, bool at_start) {
    d->n_raw = d->n_held = 0;
    d->first = at_start;
    d->stopped = d->space = false;
    d->latest = -1;
    d->lead_left = at_start && d->t->lead == SR_LEAD_STRIP ? d->t->lead_n : 0;
    for (int i = 0; i < d->n_stops; i++) d->stops[i].state = 0;
}

/* One complete character enters the text. */
static void character(sr_detok *d, const char *s, size_t n) {
    if (d->lead_left > 0) {
        if (n == d->t->lead_len && !memcmp(s, d->t->lead_text, n)) {
            d->lead_left--;
            return;
        }
        d->lead_left = 0;
    }
    for (size_t i = 0; i < n && !d->stopped; i++) {
        size_t found = 0;
        d->held[d->n_held++] = s[i];
        for (int k = 0; k < d->n_stops; k++) {
            stop *p = &d->stops[k];
            while (p->state && p->text[p->state] != s[i]) p->state = p->fallback[p->state - 1];
            if (p->text[p->state] == s[i]) p->state++;
            if (p->state == p->n) {
                if (p->n > found) found = p->n;
                p->state = p->fallback[p->n - 1];
            }
        }
        if (found) {
            d->stopped = true;
            d->n_held -= found;
        }
    }
}

/* Bytes of raw[0..n) that cannot become a character: the longest start of one (Unicode 15, section 3.9, best practice
 * for U+FFFD), or a single byte. *may_grow: they are all there is and could still be completed. */
static size_t broken(const char *raw, size_t n, bool *may_grow) {
    const uint8_t *s = (const uint8_t *)raw;
    size_t len = s[0] < 0xC2 || s[0] > 0xF4 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    size_t i = 1;
    *may_grow = false;
    if (len > 1 && n > 1) {
        uint8_t lo = s[0] == 0xE0   ? 0xA0
                     : s[0] == 0xF0 ? 0x90
                                    : 0x80,
                hi = s[0] == 0xED   ? 0x9F
                     : s[0] == 0xF4 ? 0x8F
                                    : 0xBF;
        if (s[1] < lo || s[1] > hi) return 1;
        for (i = 2; i < n && i < len && (s[i] & 0xC0) == 0x80;) i++;
    }
    *may_grow = i == n && i < len;
    return i;
}

/* Turns raw bytes into characters. `last`: nothing more can complete what is incomplete. */
static void drain(sr_detok *d, bool last) {
    size_t at = 0;
    while (at < d->n_raw) {
        size_t left = d->n_raw - at;
        unsigned len = sr_utf8_step(d->raw + at, left);
        if (len) {
            character(d, d->raw + at, len);
            at += len;
            continue;
        }
        bool may_grow;
        size_t bad = broken(d->raw + at, left, &may_grow);
        if (may_grow && !last) break;
        for (size_t i = 0; i < (d->t->fffd_per_byte ? bad : 1); i++) character(d, SR_UTF8_REPLACEMENT, 3);
        at += bad;
    }
    memmove(d->raw, d->raw + at, d->n_raw - at);
    d->n_raw -= at;
}

static void release(sr_detok *d, bool all, const char **text, size_t *n) {
    size_t keep = 0;
    if (!all && !d->stopped)
        for (int i = 0; i < d->n_stops; i++)
            if (d->stops[i].state > keep) keep = d->stops[i].state;
    size_t ready = d->n_held - keep;
    memcpy(d->out, d->held, ready);
    d->out[ready] = 0;
    memmove(d->held, d->held + ready, keep);
    d->n_held = keep;
    *text = d->out;
    *n = ready;
}

bool sr_detok_push(sr_detok *d, int32_t id, const char **text, size_t *n) {
    const sr_tokenizer *t = d->t;
    bool silent = id < 0 || id >= t->vocab.n || t->flags[id] & SR_TOKEN_SPECIAL;
    if (d->stopped || silent || (t->repeats_merge && id == d->latest)) {
        d->out[0] = 0;
        *text = d->out;
        *n = 0;
        return d->stopped;
    }
    const sr_piece *p = &t->bytes[id];
    bool drop = d->first && t->lead == SR_LEAD_METASPACE;
    if (drop || (d->first && t->lead == SR_LEAD_PIECE)) p = &t->vocab.piece[id];
    d->first = false;
    d->latest = id;
    if (d->space) character(d, " ", 1);
    d->space = t->space_between && p->n && p->text[p->n - 1] == ' ';
    /* bytes of byte tokens never join those of text */
    if (t->fffd_per_byte && !(t->flags[id] & SR_TOKEN_BYTE)) drain(d, true);
    uint32_t n_bytes = p->n - d->space;
    for (uint32_t i = 0; i < n_bytes && !d->stopped;) {
        if (drop && p->n - i >= t->lead_len && !memcmp(p->text + i, t->lead_text, t->lead_len)) {
            i += (uint32_t)t->lead_len;
            continue;
        }
        d->raw[d->n_raw++] = p->text[i++];
        drain(d, false);
    }
    if (t->fffd_per_byte && !(t->flags[id] & SR_TOKEN_BYTE)) drain(d, true);
    release(d, false, text, n);
    return d->stopped;
}

void sr_detok_flush(sr_detok *d, const char **text, size_t *n) {
    if (!d->stopped) drain(d, true);
    d->n_raw = 0;
    release(d, true, text, n);
    for (int i = 0; i < d->n_stops; i++) d->stops[i].state = 0;
}
