/* Names of models, and the paths and addresses that are made of them. */
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "base/path.h"
#include "hub/hub.h"

static const char default_endpoint[] = "https://huggingface.co";

/* ---------------------------------------------------------------- shapes */

static bool is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Letters, digits, '-', '_' and '.'; neither at an end '-' or '.', nor "--" or ".." (huggingface_hub:
 * utils/_validators.py). "--" separates the parts of a folder's name in the cache. */
static bool is_part(const char *s, size_t n) {
    if (n == 0 || n > 96) return false;
    for (size_t i = 0; i < n; i++) {
        bool mark = s[i] == '-' || s[i] == '.';
        if (!is_alnum(s[i]) && s[i] != '_' && !mark) return false;
        if (mark && (i == 0 || i + 1 == n || s[i + 1] == s[i])) return false;
    }
    return true;
}

/* Length of "organization/model" at the start of a text that ends there or has '@' behind; 0 when it is none. */
static size_t repo_length(const char *text) {
    size_t n = strcspn(text, "@"), org = strcspn(text, "/");
    return org < n && is_part(text, org) && is_part(text + org + 1, n - org - 1) ? n : 0;
}

bool sr_hub_is_hex(const char *text, size_t n, size_t want) {
    return n == want && strspn(text, "0123456789abcdef") >= want;
}

bool sr_hub_path_is_safe(const char *path) {
    size_t n = strlen(path);
    if (n == 0 || n > 1000) return false;
    for (const char *at = path;; at++) {
        size_t part = strcspn(at, "/");
        if (part == 0 || (at[0] == '.' && (part == 1 || (part == 2 && at[1] == '.')))) return false;
        for (size_t i = 0; i < part; i++)
            if ((unsigned char)at[i] < 0x20 || at[i] == 0x7f || at[i] == '\\') return false;
        at += part;
        if (!*at) return true;
    }
}

bool sr_hub_is_name(const char *text) {
    size_t n = text ? repo_length(text) : 0;
    return n > 0 && (text[n] == 0 || (sr_hub_path_is_safe(text + n + 1) && strlen(text + n + 1) < HUB_NAME));
}

/* ---------------------------------------------------------------- a call */

sr_status sr_hub_no_memory(const hub *h, sr_err *err) {
    return sr_fail(err, SR_NOMEM, "%s: no memory", h->repo);
}

static sr_status take_name(hub *h, const char *name, sr_err *err) {
    if (!sr_hub_is_name(name))
        return sr_fail(err, SR_INVALID,
                       "found the name \"%.100s\", expected organization/model or "
                       "organization/model@revision",
                       name);
    size_t n = repo_length(name);
    memcpy(h->repo, name, n);
    const char *revision = name[n] ? name + n + 1 : NULL;
    if (revision && h->o->revision && strcmp(revision, h->o->revision) != 0)
        return sr_fail(err, SR_INVALID, "%s: found the revisions %s and %.60s, expected one", h->repo, revision,
                       h->o->revision);
    if (!revision) revision = h->o->revision ? h->o->revision : "main";
    if (!sr_hub_path_is_safe(revision) || strlen(revision) >= sizeof h->revision)
        return sr_fail(err, SR_INVALID, "%s: found the revision \"%.60s\", expected a branch, a tag or a commit",
                       h->repo, revision);
    strcpy(h->revision, revision);
    return SR_OK;
}

/* A token goes into a header line. */
static bool is_one_word(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7f) return false;
    return true;
}

sr_status sr_hub_open(hub *h, const char *name, const sr_hub_options *o, sr_err *err) {
    *h = (hub){.o = o, .alone = o->offline};
    if (!o->cache || !*o->cache) return sr_fail(err, SR_INVALID, "found no cache folder in the hub's options");
    if (o->token && !is_one_word(o->token))
        return sr_fail(err, SR_INVALID, "the token holds white space or other characters that no token has");
    sr_status s = take_name(h, name, err);
    if (s != SR_OK) return s;
    const char *endpoint = o->endpoint && *o->endpoint ? o->endpoint : default_endpoint;
    size_t n = strlen(endpoint);
    while (n > 0 && endpoint[n - 1] == '/') n--;
    if (strncmp(endpoint, "https://", 8) != 0 && strncmp(endpoint, "http://", 7) != 0)
        return sr_fail(err, SR_INVALID, "found the endpoint \"%.100s\", expected https://HOST", endpoint);
    h->endpoint = sr_arena_strndup(&h->arena, endpoint, n);
    char folder[2 * HUB_NAME];
    size_t org = strcspn(h->repo, "/");
    snprintf(folder, sizeof folder, "models--%.*s--%s", (int)org, h->repo, h->repo + org + 1);
    h->folder = sr_path_join(&h->arena, o->cache, folder);
    return h->endpoint && h->folder ? SR_OK : sr_hub_no_memory(h, err);
}

void sr_hub_close(hub *h) {
    sr_arena_free(&h->arena);
}

bool sr_hub_tell(hub *h) {
    double now = sr_clock();
    if (h->cancelled || !h->o->progress || now - h->told < 0.1) return !h->cancelled;
    h->told = now;
    h->cancelled = !h->o->progress(h->o->user, "downloading", (double)h->fetched, (double)h->to_fetch);
    return !h->cancelled;
}

/* ---------------------------------------------------------------- texts */

const char *sr_hub_path(hub *h, const char *kind, const char *rest) {
    char *dir = sr_path_join(&h->arena, h->folder, kind);
    return dir && rest ? sr_path_join(&h->arena, dir, rest) : dir;
}

const char *sr_hub_url(hub *h, const char *before, const char *between, const char *rest, bool slashes,
                       const char *after) {
    static const char digit[] = "0123456789ABCDEF";
    size_t cap =
        strlen(h->endpoint) + strlen(before) + strlen(h->repo) + strlen(between) + 3 * strlen(rest) + strlen(after) + 1;
    char *url = sr_arena_small(&h->arena, cap, 1);
    if (!url) return NULL;
    char *to = url + snprintf(url, cap, "%s%s%s%s", h->endpoint, before, h->repo, between);
    for (; *rest; rest++) {
        unsigned char c = (unsigned char)*rest;
        if (is_alnum((char)c) || strchr("-._~", c) || (c == '/' && slashes)) {
            *to++ = (char)c;
            continue;
        }
        *to++ = '%';
        *to++ = digit[c >> 4];
        *to++ = digit[c & 15];
    }
    strcpy(to, after);
    return url;
}

const char *sr_hub_what(hub *h, const char *thing) {
    size_t n = strlen(h->repo) + strlen(thing) + 3;
    char *what = sr_arena_small(&h->arena, n, 1);
    if (what) snprintf(what, n, "%s: %s", h->repo, thing);
    return what ? what : h->repo;
}
