#include "text/vocab.h"

#include <stdlib.h>

/* The last n < 8 bytes as a number, with loads of fixed sizes: pieces are short, and calls cost more than comparing. */
static inline uint64_t tail(const char *s, size_t n) {
    uint32_t first, last;
    if (n >= 4) {
        memcpy(&first, s, 4);
        memcpy(&last, s + n - 4, 4);
        return (uint64_t)last << 32 | first;
    }
    return n ? (uint64_t)(uint8_t)s[0] | (uint64_t)(uint8_t)s[n / 2] << 8 | (uint64_t)(uint8_t)s[n - 1] << 16 : 0;
}

uint64_t sr_vocab_hash(const sr_vocab *v, const char *s, size_t n) {
    uint64_t h = sr_mix(n, v->seed), x;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&x, s, 8);
        h = sr_mix(h, x) ^ h >> 29;
    }
    if (n) h = sr_mix(h, tail(s, n));
    return h ^ h >> 31;
}

static inline bool same(const char *a, const char *b, size_t n) {
    uint64_t x, y;
    for (; n >= 8; n -= 8, a += 8, b += 8) {
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        if (x != y) return false;
    }
    return tail(a, n) == tail(b, n);
}

/* Slots for n entries at a load of at most 1/2, or 2/3. */
static uint32_t slots_for(size_t n, bool dense) {
    uint32_t slots = 16;
    while (slots < (dense ? n + n / 2 : 2 * n)) slots *= 2;
    return slots;
}

bool sr_vocab_init(sr_vocab *v, int32_t n, sr_arena *a) {
    uint32_t slots = slots_for((size_t)n, false);
    v->piece = sr_arena_alloc(a, (size_t)n + 1, sizeof *v->piece);
    v->slot = sr_arena_alloc(a, slots, sizeof *v->slot);
    v->mask = slots - 1;
    v->n = n;
    v->max_len = 0;
    v->seed = (uint64_t)(uintptr_t)v->slot;
    return v->piece && v->slot;
}

int32_t sr_vocab_add(sr_vocab *v, int32_t id, const char *text, uint32_t n, bool replace) {
    v->piece[id] = (sr_piece){text, n};
    if (n > v->max_len) v->max_len = n;
    uint64_t h = sr_vocab_hash(v, text, n), upper = h & 0xFFFFFFFF00000000u;
    for (uint32_t i = (uint32_t)h & v->mask;; i = (i + 1) & v->mask) {
        if (!v->slot[i]) {
            v->slot[i] = upper | ((uint32_t)id + 1);
            return -1;
        }
        if ((v->slot[i] & 0xFFFFFFFF00000000u) != upper) continue;
        sr_piece *p = &v->piece[(uint32_t)v->slot[i] - 1];
        if (p->n == n && same(p->text, text, n)) {
            int32_t known = (int32_t)(uint32_t)v->slot[i] - 1;
            if (replace) v->slot[i] = upper | ((uint32_t)id + 1);
            return known;
        }
    }
}

int32_t sr_vocab_find_hashed(const sr_vocab *v, const char *text, size_t n, uint64_t h) {
    uint64_t upper = h & 0xFFFFFFFF00000000u;
    for (uint32_t i = (uint32_t)h & v->mask; v->slot[i]; i = (i + 1) & v->mask) {
        if ((v->slot[i] & 0xFFFFFFFF00000000u) != upper) continue;
        const sr_piece *p = &v->piece[(uint32_t)v->slot[i] - 1];
        if (p->n == n && same(p->text, text, n)) return (int32_t)(uint32_t)v->slot[i] - 1;
    }
    return -1;
}

bool sr_merges_init(sr_merges *m, size_t n, sr_arena *a) {
    if (n > 1u << 28) return false;
    uint32_t slots = slots_for(n, true); /* large, and memory is what it costs to fill and to search */
    m->slot = sr_arena_alloc(a, slots, sizeof *m->slot);
    m->mask = slots - 1;
    m->seed = (uint64_t)(uintptr_t)m->slot;
    if (!m->slot) return false;
    for (uint32_t i = 0; i < slots; i++) m->slot[i].pair = UINT64_MAX;
    return true;
}

void sr_merges_add(sr_merges *m, const sr_merge *merge, bool replace) {
    for (uint32_t i = sr_merges_slot(m, merge->pair);; i = (i + 1) & m->mask) {
        uint64_t pair = m->slot[i].pair;
        if (pair != UINT64_MAX && pair != merge->pair) continue;
        if (pair == UINT64_MAX || replace) m->slot[i] = *merge;
        return;
    }
}

static int by_rank(const void *a, const void *b) {
    const sr_merge *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

sr_merge *sr_merges_sorted(const sr_merges *m, size_t *n) {
    *n = 0;
    for (size_t i = 0; m->slot && i <= m->mask; i++) *n += m->slot[i].pair != UINT64_MAX;
    sr_merge *out = *n ? malloc(*n * sizeof *out) : NULL;
    if (!out) return NULL;
    for (size_t i = 0, at = 0; i <= m->mask; i++)
        if (m->slot[i].pair != UINT64_MAX) out[at++] = m->slot[i];
    qsort(out, *n, sizeof *out, by_rank);
    return out;
}

/* Tables for so many nodes, a power of two; that of edges stays at most half full. */
static bool resize(sr_trie *t, uint32_t cap) {
    int32_t *value = cap > 2 * (uint32_t)SR_TRIE_MAX ? NULL : realloc(t->value, cap * sizeof *value);
    if (!value) return false;
    memset(value + t->cap_nodes, 0, (cap - t->cap_nodes) * sizeof *value);
    t->value = value;
    uint32_t slots = 2 * cap, old = t->edge ? t->mask + 1 : 0;
    sr_trie_edge *edge = calloc(slots, sizeof *edge), *from = t->edge;
    if (!edge) return false;
    t->cap_nodes = cap;
    t->edge = edge;
    t->mask = slots - 1;
    t->seed = (uint64_t)(uintptr_t)edge;
    for (uint32_t i = 0; i < old; i++) {
        if (!from[i].node) continue;
        uint32_t k = sr_trie_slot(t, from[i].key);
        while (edge[k].node) k = (k + 1) & t->mask;
        edge[k] = from[i];
    }
    free(from);
    if (!t->n) t->n = SR_TRIE_ROOT;
    return true;
}

bool sr_trie_reserve(sr_trie *t, uint64_t nodes) {
    uint32_t cap = 256;
    while (cap < nodes && cap < SR_TRIE_MAX) cap *= 2;
    return cap <= t->cap_nodes || resize(t, cap);
}

static bool grow(sr_trie *t) {
    if (t->n + 1 >= t->cap_nodes && !resize(t, t->cap_nodes ? 2 * t->cap_nodes : 256)) return false;
    return t->n < SR_TRIE_MAX - 1;
}

/* The node behind `node`, made if need be; 0: no room. */
static uint32_t step_or_make(sr_trie *t, uint32_t node, uint8_t byte) {
    if (!grow(t)) return 0;
    uint32_t key = node << 8 | byte, k = sr_trie_slot(t, key);
    while (t->edge[k].node && t->edge[k].key != key) k = (k + 1) & t->mask;
    if (!t->edge[k].node) t->edge[k] = (sr_trie_edge){key, ++t->n};
    return t->edge[k].node;
}

bool sr_trie_add(sr_trie *t, const char *text, size_t n, int32_t value) {
    uint32_t node = SR_TRIE_ROOT;
    for (size_t i = 0; i < n && node; i++) node = step_or_make(t, node, (uint8_t)text[i]);
    if (!node) return false;
    if (!t->value[node]) t->value[node] = value + 1;
    return true;
}

bool sr_trie_add_batch(sr_trie *t, const sr_piece *text, const int32_t *value, int n) {
    uint32_t node[SR_TRIE_BATCH];
    int left = n;
    for (int i = 0; i < n; i++) node[i] = SR_TRIE_ROOT;
    for (uint32_t at = 0; left; at++)
        for (int i = left = 0; i < n; i++) {
            if (at >= text[i].n) continue;
            node[i] = step_or_make(t, node[i], (uint8_t)text[i].text[at]);
            if (!node[i]) return false;
            if (at + 1 == text[i].n) {
                t->value[node[i]] = value[i] + 1;
                continue;
            }
            left++;
            SR_PREFETCH(&t->edge[sr_trie_slot(t, node[i] << 8 | (uint8_t)text[i].text[at + 1])]);
        }
    return true;
}

int32_t sr_trie_longest(const sr_trie *t, uint32_t from, const char *s, size_t n, size_t *len) {
    int32_t found = -1;
    uint32_t node = from;
    for (size_t i = 0; i < n && (node = sr_trie_step(t, node, (uint8_t)s[i])) != 0;) {
        i++;
        if (!t->value[node]) continue;
        found = sr_trie_value(t, node);
        *len = i;
    }
    return found;
}

void sr_trie_free(sr_trie *t) {
    free(t->edge);
    free(t->value);
    *t = (sr_trie){0};
}
