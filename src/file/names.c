#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "file/inner.h"

/* Open addressing, at most half full. Then a run of 256 taken slots does not happen by chance (its probability falls
 * below 1e-15), so one that does marks names chosen to collide, and building stays linear. */
enum { LONGEST_RUN = 256 };

uint32_t sr_names_hash(const char *s) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a, then one xor-multiply so that the low bits depend on all */
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32);
}

static const char *name_of(const void *items, size_t stride, uint32_t i) {
    const char *name;
    memcpy(&name, (const char *)items + stride * i, sizeof name);
    return name;
}

sr_status sr_names_build(struct sr_names *t, const void *items, size_t stride, int n, int dup[2]) {
    uint32_t slots = 8;
    while (slots < 2 * (uint32_t)n) slots *= 2;
    sr_names_free(t);
    t->slot = calloc(slots, sizeof *t->slot); /* item + 1; 0: free */
    if (!t->slot) return SR_NOMEM;
    t->mask = slots - 1;
    for (uint32_t i = 0; i < (uint32_t)n; i++) {
        const char *name = name_of(items, stride, i);
        uint32_t at = sr_names_hash(name) & t->mask, run = 0;
        for (; t->slot[at]; at = (at + 1) & t->mask) {
            if (strcmp(name_of(items, stride, t->slot[at] - 1), name) == 0) {
                dup[0] = (int)t->slot[at] - 1;
                dup[1] = (int)i;
                return SR_CORRUPT;
            }
            if (++run == LONGEST_RUN) return SR_LIMIT;
        }
        t->slot[at] = i + 1;
    }
    return SR_OK;
}

int sr_names_find(const struct sr_names *t, const void *items, size_t stride, const char *name) {
    if (!t->slot) return -1;
    for (uint32_t at = sr_names_hash(name) & t->mask; t->slot[at]; at = (at + 1) & t->mask)
        if (strcmp(name_of(items, stride, t->slot[at] - 1), name) == 0) return (int)t->slot[at] - 1;
    return -1;
}

void sr_names_free(struct sr_names *t) {
    free(t->slot);
    t->slot = NULL;
    t->mask = 0;
}

sr_shown sr_show(const char *text, size_t n) {
    enum { CUT = 64 };
    sr_shown s = {{0}};
    size_t from = 0, to = 0;
    while (from < n && to < CUT) {
        unsigned step = sr_utf8_step(text + from, n - from);
        if (to + step > CUT) break;
        if (step == 0 || text[from] == 0)
            s.text[to++] = '?';
        else
            memcpy(s.text + to, text + from, step);
        if (step && text[from]) to += step;
        from += step ? step : 1;
    }
    if (from < n) memcpy(s.text + to, "...", 3);
    return s;
}

sr_shown sr_show_name(const char *name) {
    return sr_show(name, strlen(name));
}

const char *sr_show_path(const char *path) {
    enum { CUT = 64 };
    size_t n = strlen(path);
    if (n <= CUT) return path;
    const char *tail = path + n - CUT;
    while (((unsigned char)*tail & 0xc0) == 0x80) tail++;
    return tail;
}

static bool five_digits(const char *p, int *out) {
    *out = 0;
    for (int i = 0; i < 5; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        *out = *out * 10 + (p[i] - '0');
    }
    return true;
}

bool sr_split_name(const char *path, const char *suffix, size_t *prefix, int *no, int *count) {
    size_t n = strlen(path), m = strlen(suffix), tail = strlen("-00001-of-00002") + m;
    if (n <= tail || !sr_ends_with(path, suffix)) return false;
    const char *p = path + n - tail;
    *prefix = n - tail;
    return p[-1] != '/' && p[0] == '-' && five_digits(p + 1, no) && memcmp(p + 6, "-of-", 4) == 0 &&
           five_digits(p + 10, count) && *no >= 1 && *no <= *count;
}

char *sr_split_path(sr_arena *a, const char *path, size_t prefix, int no, int count, const char *suffix) {
    size_t cap = prefix + 32 + strlen(suffix);
    char *out = sr_arena_small(a, cap, 1);
    if (!out) return NULL;
    memcpy(out, path, prefix);
    snprintf(out + prefix, cap - prefix, "-%05d-of-%05d%s", no, count, suffix);
    return out;
}
