/* Transfers: up to four at a time in one thread, redirects followed by hand, what fails for a while tried again.
 *
 * Redirects by hand, because the token must not travel: it goes to the endpoint's own origin (scheme, host, port) and
 * nowhere else; the address of a large file's storage has its own signature.
 *
 * An attempt ends after `timeout` seconds without an answer, or at less than 1 KiB/s. Attempts that come less
 * than 1 MiB further than those before count, and there are few of them; the pauses between are 0.5, 1, 2 ... 8 s, or
 * what Retry-After says if that is at most `patience`. So the time without result is bounded, while a slow but living
 * download may take its hours. */
#include "hub/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

/* ---------------------------------------------------------------- a small answer into memory */

struct text {
    char *at;
    size_t n, cap;
};

static sr_status text_open(hub_get *g, int64_t *from, bool *busy, bool *done, sr_err *err) {
    struct text *t = g->ctx;
    (void)err;
    t->n = 0;
    *from = 0;
    *busy = *done = false;
    return SR_OK;
}

static sr_status text_clear(hub_get *g, sr_err *err) {
    (void)err;
    ((struct text *)g->ctx)->n = 0;
    return SR_OK;
}

static sr_status text_write(hub_get *g, const char *data, size_t n, sr_err *err) {
    struct text *t = g->ctx;
    if (n > HUB_TEXT_CAP - t->n)
        return sr_fail(err, SR_LIMIT, "%s: the answer has more than %d bytes", g->what, HUB_TEXT_CAP);
    if (t->cap - t->n <= n) {
        size_t cap = 2 * (t->n + n) + 4096;
        char *grown = realloc(t->at, cap);
        if (!grown) return sr_fail(err, SR_NOMEM, "%s: no memory for %zu bytes", g->what, cap);
        t->at = grown;
        t->cap = cap;
    }
    memcpy(t->at + t->n, data, n);
    t->n += n;
    t->at[t->n] = 0;
    return SR_OK;
}

static sr_status text_close(hub_get *g, bool whole, bool *again, sr_err *err) {
    *again = false;
    return whole ? text_write(g, "", 0, err) : SR_OK; /* terminates an empty one */
}

static const hub_drain text_drain = {text_open, text_clear, text_write, text_close};

sr_status sr_hub_fetch_text(hub *h, hub_get *g, char **text, size_t *n, sr_err *err) {
    struct text t = {0};
    g->hub = h;
    g->drain = &text_drain;
    g->ctx = &t;
    g->size = -1;
    sr_status s = sr_hub_fetch(h, g, 1, err);
    if (s != SR_OK) {
        free(t.at);
        t = (struct text){0};
    }
    *text = t.at;
    *n = t.n;
    return s;
}

#if !defined(SR_HAVE_CURL)

bool sr_hub_downloads(void) {
    return false;
}

sr_status sr_hub_fetch(hub *h, hub_get *get, int n, sr_err *err) {
    (void)h;
    return n == 0 ? SR_OK
                  : sr_fail(err, SR_UNSUPPORTED,
                            "%s: not in the cache, and this build cannot download: it was made without libcurl "
                            "(libcurl4-openssl-dev, libcurl-devel or curl); install it and build again",
                            get[0].what);
}

#else

#include <curl/curl.h>

bool sr_hub_downloads(void) {
    return true;
}

enum { AT_ONCE = 4, MOST_HOPS = 8, SLOW = 1024, WORTH = 1 << 20, LONGEST_PAUSE = 8 };

typedef enum stage { WAITING, RUNNING, DONE } stage;

struct state {
    hub_get *get;
    CURL *easy;
    struct curl_slist *headers;
    char *url; /* after a redirect; NULL: get->url */
    stage stage;
    double due; /* when the next attempt may begin */
    int tries, hops;
    int64_t from, got; /* bytes before this attempt, and in it */
    int64_t furthest;  /* most of both, over all attempts */
    /* of the answer */
    long status;
    int64_t length, range_from, range_of; /* -1: not said */
    double retry_after;                   /* -1: not said */
    char code[48], message[120];          /* X-Error-Code, X-Error-Message */
    bool opened, begun;                   /* the drain is open, over all attempts; this answer's body has begun */
    sr_err err;                           /* a failure inside a callback */
    char reason[CURL_ERROR_SIZE];
};

/* ---------------------------------------------------------------- addresses */

/* Scheme, host and port of an address, as one text that can be compared; empty when it is no http(s) address. */
static void origin_of(const char *url, char *to, size_t cap) {
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    *to = 0;
    if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
        (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0)) {
        int n = snprintf(to, cap, "%s://%s:%s", scheme, host, port);
        if (n < 0 || n >= (int)cap) *to = 0;
    }
    for (; *to; to++)
        if (*to >= 'A' && *to <= 'Z') *to = (char)(*to - 'A' + 'a');
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
}

enum { ORIGIN = 300 };

static bool is_home(const hub *h, const char *url) {
    char a[ORIGIN], b[ORIGIN];
    origin_of(h->endpoint, a, sizeof a);
    origin_of(url, b, sizeof b);
    return *a && strcmp(a, b) == 0;
}

/* ---------------------------------------------------------------- callbacks */

static bool header_is(const char *line, size_t n, const char *name, const char **value, size_t *n_value) {
    size_t m = strlen(name);
    if (n <= m || line[m] != ':') return false;
    for (size_t i = 0; i < m; i++) {
        char c = line[i] >= 'A' && line[i] <= 'Z' ? (char)(line[i] - 'A' + 'a') : line[i];
        if (c != name[i]) return false;
    }
    line += m + 1;
    n -= m + 1;
    while (n > 0 && (*line == ' ' || *line == '\t')) line++, n--;
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' ')) n--;
    *value = line;
    *n_value = n;
    return true;
}

static void copy(char *to, size_t cap, const char *value, size_t n) {
    snprintf(to, cap, "%.*s", (int)(n < cap ? n : cap - 1), value);
}

/* A whole number of at most 18 digits; -1 when it is none. */
static int64_t number(const char *s, size_t n) {
    int64_t v = 0;
    if (n == 0 || n > 18) return -1;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return -1;
        v = 10 * v + (s[i] - '0');
    }
    return v;
}

/* "bytes FROM-TO/OF" */
static void read_range(struct state *s, const char *v, size_t n) {
    char text[100];
    copy(text, sizeof text, v, n);
    char *from = strncmp(text, "bytes ", 6) == 0 ? text + 6 : NULL, *dash = from ? strchr(from, '-') : NULL;
    char *slash = dash ? strchr(dash, '/') : NULL;
    if (!slash) return;
    s->range_from = number(from, (size_t)(dash - from));
    s->range_of = number(slash + 1, strlen(slash + 1));
}

/* The address in <...> that has rel="next" behind it; that of another server is not followed. */
static void read_link(struct state *s, const char *v, size_t n) {
    char text[2048];
    copy(text, sizeof text, v, n);
    char *at = text[0] == '<' ? text + 1 : NULL, *end = at ? strchr(at, '>') : NULL;
    if (!end || !strstr(end, "rel=\"next\"")) return;
    *end = 0;
    if (is_home(s->get->hub, at)) s->get->next = sr_arena_strndup(&s->get->hub->arena, at, strlen(at));
}

static void begin_answer(struct state *s) {
    s->length = s->range_from = s->range_of = -1;
    s->retry_after = -1;
    s->code[0] = s->message[0] = 0;
    s->get->next = NULL;
    s->begun = false;
}

static size_t on_header(char *line, size_t size, size_t count, void *user) {
    struct state *s = user;
    size_t n = size * count, m;
    const char *v;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) begin_answer(s); /* a proxy's or 1xx answer may come before */
    if (header_is(line, n, "content-length", &v, &m)) s->length = number(v, m);
    if (header_is(line, n, "content-range", &v, &m)) read_range(s, v, m);
    if (header_is(line, n, "retry-after", &v, &m)) s->retry_after = (double)number(v, m);
    if (header_is(line, n, "x-error-code", &v, &m)) copy(s->code, sizeof s->code, v, m);
    if (header_is(line, n, "x-error-message", &v, &m)) copy(s->message, sizeof s->message, v, m);
    if (header_is(line, n, "link", &v, &m)) read_link(s, v, m);
    return n;
}

/* Before the first byte: is it the part that was asked for? */
static sr_status begin_body(struct state *s) {
    hub_get *g = s->get;
    s->begun = true;
    if (s->status == 206 && (s->range_from != s->from || (s->range_of >= 0 && g->size >= 0 && s->range_of != g->size)))
        return sr_fail(&s->err, SR_CORRUPT, "%s: the server sends another part than was asked for", g->what);
    if (s->status == 200 && s->from > 0) { /* it does not do ranges: from the start */
        sr_status status = g->drain->clear(g, &s->err);
        if (status != SR_OK) return status;
        s->from = 0;
    }
    return SR_OK;
}

static size_t on_body(char *data, size_t size, size_t count, void *user) {
    struct state *s = user;
    hub_get *g = s->get;
    size_t n = size * count;
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &s->status);
    if (s->status != 200 && s->status != 206) return n; /* the page of an error: its headers say enough */
    if (!s->begun && begin_body(s) != SR_OK) return 0;
    if (g->size >= 0 && (int64_t)n > g->size - s->from - s->got) {
        sr_fail(&s->err, SR_CORRUPT, "%s: the server sends more than the %lld bytes it lists", g->what,
                (long long)g->size);
        return 0;
    }
    if (g->drain->write(g, data, n, &s->err) != SR_OK) return 0;
    s->got += (int64_t)n;
    return n;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    struct state *s = user;
    (void)a, (void)b, (void)c, (void)d;
    return sr_hub_tell(s->get->hub) ? 0 : 1;
}

/* ---------------------------------------------------------------- an attempt */

static bool add_header(struct state *s, const char *line) {
    struct curl_slist *grown = curl_slist_append(s->headers, line);
    if (grown) s->headers = grown;
    return grown != NULL;
}

static bool configure(struct state *s) {
    const sr_hub_options *o = s->get->hub->o;
    const char *url = s->url ? s->url : s->get->url;
    long timeout = o->timeout >= 1 ? (long)o->timeout : 10;
    bool fine = true;
    CURL *e = s->easy;
    curl_easy_reset(e);
    curl_slist_free_all(s->headers);
    s->headers = NULL;
    if (o->token && is_home(s->get->hub, url)) {
        size_t n = strlen(o->token) + 32;
        char *line = malloc(n);
        if (line) snprintf(line, n, "Authorization: Bearer %s", o->token);
        fine = line && add_header(s, line);
        free(line);
    }
    if (s->from > 0) {
        char range[32];
        snprintf(range, sizeof range, "%lld-", (long long)s->from);
        fine = fine && curl_easy_setopt(e, CURLOPT_RANGE, range) == CURLE_OK;
    }
    /* Contents are compared with sizes and hashes: no transport compression. */
    fine = fine && add_header(s, "Accept-Encoding: identity") && curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK;
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, s->headers);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "sirocco/" SR_VERSION);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(e, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, timeout);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, timeout);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, s->reason);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, s);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(e, CURLOPT_XFERINFODATA, s);
    curl_easy_setopt(e, CURLOPT_PRIVATE, s);
    return fine;
}

/* *again: wants another attempt, from the start. */
static sr_status close_drain(struct state *s, bool whole, bool *again, sr_err *err) {
    *again = false;
    if (!s->opened) return SR_OK;
    s->opened = false;
    return s->get->drain->close(s->get, whole, again, err);
}

static sr_status start(CURLM *multi, struct state *s, double now, sr_err *err) {
    enum { LOCK_PAUSE_MS = 200 };
    hub_get *g = s->get;
    sr_status status = SR_OK;
    if (!s->opened) {
        bool busy, done;
        status = g->drain->open(g, &s->from, &busy, &done, err);
        if (status != SR_OK) return status;
        if (busy) s->due = now + LOCK_PAUSE_MS / 1e3;
        if (done) s->stage = DONE;
        if (busy || done) return SR_OK;
        s->opened = true;
    }
    s->got = 0;
    s->status = 0;
    s->reason[0] = 0;
    begin_answer(s);
    if (g->size > 0 && s->from == g->size) { /* all was there but its name */
        bool again;
        status = close_drain(s, true, &again, err);
        if (!again) s->stage = DONE;
        return status;
    }
    if (!s->easy) s->easy = curl_easy_init();
    if (!s->easy || !configure(s) || curl_multi_add_handle(multi, s->easy) != CURLM_OK)
        return sr_fail(err, SR_NOMEM, "%s: no memory for a transfer", g->what);
    s->stage = RUNNING;
    return SR_OK;
}

/* ---------------------------------------------------------------- what came of it */

static sr_status refuse(struct state *s, sr_err *err) {
    const hub *h = s->get->hub;
    const char *what = s->get->what;
    bool denied = s->status == 401 || s->status == 403;
    if (strcmp(s->code, "GatedRepo") == 0)
        return sr_fail(err, SR_INVALID, "%s: its authors ask for consent: accept the terms at %.60s/%s, then %s", what,
                       h->endpoint, h->repo,
                       h->o->token ? "try again with that account's token" : "set HF_TOKEN to that account's token");
    if (strcmp(s->code, "RevisionNotFound") == 0)
        return sr_fail(err, SR_INVALID, "%s: the hub has no revision %s; check it, or leave it out", h->repo,
                       h->revision);
    if (strcmp(s->code, "EntryNotFound") == 0)
        return sr_fail(err, SR_INVALID, "%s: the hub lists this file but has it no more; try again later", what);
    if (denied && h->o->token)
        return sr_fail(err, SR_INVALID,
                       "%s: the hub refuses (%ld): check the name, and whether the token (HF_TOKEN) is "
                       "valid and may read it",
                       what, s->status);
    if (denied)
        return sr_fail(err, SR_INVALID,
                       "%s: not found, or private (%ld): check the name; a private model needs a token "
                       "in HF_TOKEN",
                       what, s->status);
    if (s->status == 404)
        return sr_fail(err, SR_INVALID, "%s: not found (404) at %.80s; check the spelling", what, h->endpoint);
    return sr_fail(err, SR_IO, "%s: the hub answers %ld%s%s; try again later", what, s->status,
                   s->message[0] ? ": " : "", s->message);
}

static sr_status follow(struct state *s, sr_err *err) {
    char *to = NULL, from[ORIGIN], origin[ORIGIN];
    const char *what = s->get->what;
    curl_easy_getinfo(s->easy, CURLINFO_REDIRECT_URL, &to);
    origin_of(s->url ? s->url : s->get->url, from, sizeof from);
    origin_of(to ? to : "", origin, sizeof origin);
    if (!*origin) return sr_fail(err, SR_IO, "%s: a redirect (%ld) leads to no http address", what, s->status);
    if (strncmp(from, "https:", 6) == 0 && strncmp(origin, "https:", 6) != 0)
        return sr_fail(err, SR_IO, "%s: a redirect leaves https for %.100s; refused", what, origin);
    if (++s->hops > MOST_HOPS)
        return sr_fail(err, SR_IO, "%s: more than %d redirects in a row, the last to %.80s", what, MOST_HOPS, origin);
    char *url = strdup(to);
    if (!url) return sr_fail(err, SR_NOMEM, "%s: no memory", what);
    free(s->url);
    s->url = url;
    s->stage = WAITING;
    s->due = 0;
    return SR_OK;
}

/* Another attempt after a pause, or the error that there was none too many. */
static sr_status retry(struct state *s, const char *reason, double now, sr_err *err) {
    hub_get *g = s->get;
    double patience = g->hub->o->patience > 0 ? g->hub->o->patience : 60, pause = 0.5;
    int64_t at = s->from + s->got;
    s->tries = at >= s->furthest + WORTH ? 1 : s->tries + 1;
    if (at > s->furthest) s->furthest = at;
    if (s->tries >= g->attempts)
        return sr_fail(err, SR_IO, "%s: %s; gave up after %d attempts%s", g->what, reason, s->tries,
                       s->from + s->got > 0 && g->size > 0 ? ", what came is kept for the next one" : "");
    if (s->retry_after > patience)
        return sr_fail(err, SR_IO, "%s: %s, and asks to wait %.0f s; try again then", g->what, reason, s->retry_after);
    for (int i = 1; i < s->tries && pause < LONGEST_PAUSE; i++) pause *= 2;
    if (pause > patience) pause = patience;
    s->due = now + (s->retry_after >= 0 ? s->retry_after : pause);
    /* From the start: an address with a signature may be good no more. */
    free(s->url);
    s->url = NULL;
    s->hops = 0;
    s->from += s->got; /* the drain stays open, and with it lock and hash */
    s->got = 0;
    if (g->size < 0) s->from = 0; /* a text, which cannot be continued */
    if (g->size < 0 && s->opened) g->drain->clear(g, NULL);
    s->stage = WAITING;
    return SR_OK;
}

static bool passes(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
        return true;
    default:
        return false;
    }
}

static sr_status settle(struct state *s, CURLcode code, double now, sr_err *err) {
    hub_get *g = s->get;
    sr_status status = SR_OK;
    bool again = false;
    char reason[CURL_ERROR_SIZE];
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &s->status);
    bool body = s->status == 200 || s->status == 206;
    if (code == CURLE_OK && body && !s->begun) status = begin_body(s); /* an empty one */
    if (g->hub->cancelled)
        return sr_fail(err, SR_CANCELLED, "%s: cancelled; what came is kept for the next time", g->what);
    if (s->err.code != SR_OK) return sr_fail(err, s->err.code, "%s", s->err.msg);
    if (status != SR_OK) return sr_fail(err, status, "%s: no memory", g->what);
    if (code != CURLE_OK) {
        snprintf(reason, sizeof reason, "%s", s->reason[0] ? s->reason : curl_easy_strerror(code));
        return passes(code) ? retry(s, reason, now, err) : sr_fail(err, SR_IO, "%s: %s", g->what, reason);
    }
    if (body && g->size >= 0 && s->from + s->got != g->size) {
        snprintf(reason, sizeof reason, "found %lld bytes, expected %lld", (long long)(s->from + s->got),
                 (long long)g->size);
        return retry(s, reason, now, err);
    }
    if (body) {
        status = close_drain(s, true, &again, err);
        if (status == SR_OK && again) return retry(s, "what came was damaged", now, err);
        s->stage = DONE;
        return status;
    }
    switch (s->status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return follow(s, err);
    case 416: /* it has less than we have: ours is something else */
        if (s->from > 0) status = g->drain->clear(g, err);
        s->from = 0;
        return status == SR_OK ? retry(s, "the server refuses to continue (416)", now, err) : status;
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        snprintf(reason, sizeof reason, "the hub answers %ld%s%s", s->status, s->message[0] ? ": " : "", s->message);
        return retry(s, reason, now, err);
    default:
        return refuse(s, err);
    }
}

/* ---------------------------------------------------------------- all of them */

static sr_status run(CURLM *multi, hub *h, struct state *state, int n, sr_err *err) {
    for (;;) {
        int running = 0, open = 0, left;
        sr_status s = SR_OK;
        double now = sr_clock();
        for (int i = 0; i < n; i++) running += state[i].stage == RUNNING;
        for (int i = 0; i < n && s == SR_OK; i++) {
            if (state[i].stage == WAITING && running < AT_ONCE && state[i].due <= now) {
                s = start(multi, &state[i], now, err);
                running += state[i].stage == RUNNING;
            }
            open += state[i].stage != DONE;
        }
        if (s != SR_OK || open == 0) return s;
        if (!sr_hub_tell(h))
            return sr_fail(err, SR_CANCELLED, "%s: cancelled; what came is kept for the next time", h->repo);
        curl_multi_perform(multi, &left);
        int settled = 0;
        for (CURLMsg *m; s == SR_OK && (m = curl_multi_info_read(multi, &left));) {
            struct state *one;
            CURLcode code = m->data.result;
            if (m->msg != CURLMSG_DONE) continue;
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &one);
            curl_multi_remove_handle(multi, one->easy);
            s = settle(one, code, sr_clock(), err);
            settled++;
        }
        if (s != SR_OK) return s;
        if (!settled) curl_multi_poll(multi, NULL, 0, 100, NULL);
    }
}

sr_status sr_hub_fetch(hub *h, hub_get *get, int n, sr_err *err) {
    if (n == 0) return SR_OK;
    struct state *state = calloc((size_t)n, sizeof *state);
    CURLM *multi = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_multi_init() : NULL;
    sr_status s = state && multi ? SR_OK : sr_hub_no_memory(h, err);
    for (int i = 0; i < n && s == SR_OK; i++) state[i].get = &get[i];
    if (s == SR_OK) s = run(multi, h, state, n, err);
    for (int i = 0; i < n && state; i++) {
        bool again;
        if (state[i].stage == RUNNING && state[i].easy) curl_multi_remove_handle(multi, state[i].easy);
        close_drain(&state[i], false, &again, NULL);
        curl_easy_cleanup(state[i].easy);
        curl_slist_free_all(state[i].headers);
        free(state[i].url);
    }
    if (multi) curl_multi_cleanup(multi);
    free(state);
    return s;
}

#endif
