#include "text/vocab.h"

#include <stdlib.h>

uint64_t sr_vocab_hash(const sr_vocab *v, const char *s, size_t n) {
    uint64_t h = sr_mix(n, v->seed), x;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&x, s, 8);
        h = sr_mix(h, x) ^ h >> 29;
    }
    if (n) {
        x = 0;
        memcpy(&x, s, n);
        h = sr_mix(h, x);
    }
    return h ^ h >> 31;
}

/* Slots for n entries at a load of at most 1/2. */
static uint32_t slots_for(size_t n) {
    uint32_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    return slots;
}

bool sr_vocab_init(sr_vocab *v, int32_t n, sr_arena *a) {
    uint32_t slots = slots_for((size_t)n);
    v->piece = sr_arena_alloc(a, (size_t)n + 1, sizeof *v->piece);
    v->slot = sr_arena_alloc(a, slots, sizeof *v->slot);
    v->mask = slots - 1;
    v->n = n;
    v->max_len = 0;
    v->seed = (uint64_t)(uintptr_t)v->slot;
    return v->piece && v->slot;
}

void sr_vocab_add(sr_vocab *v, int32_t id, const char *text, uint32_t n, bool replace) {
    v->piece[id] = (sr_piece){text, n};
    if (n > v->max_len) v->max_len = n;
    uint64_t h = sr_vocab_hash(v, text, n), upper = h & 0xFFFFFFFF00000000u;
    for (uint32_t i = (uint32_t)h & v->mask;; i = (i + 1) & v->mask) {
        if (!v->slot[i]) {
            v->slot[i] = upper | ((uint32_t)id + 1);
            return;
        }
        if ((v->slot[i] & 0xFFFFFFFF00000000u) != upper) continue;
        sr_piece *p = &v->piece[(uint32_t)v->slot[i] - 1];
        if (p->n == n && !memcmp(p->text, text, n)) {
            if (replace) v->slot[i] = upper | ((uint32_t)id + 1);
            return;
        }
    }
}

int32_t sr_vocab_find_hashed(const sr_vocab *v, const char *text, size_t n, uint64_t h) {
    uint64_t upper = h & 0xFFFFFFFF00000000u;
    for (uint32_t i = (uint32_t)h & v->mask; v->slot[i]; i = (i + 1) & v->mask) {
        if ((v->slot[i] & 0xFFFFFFFF00000000u) != upper) continue;
        const sr_piece *p = &v->piece[(uint32_t)v->slot[i] - 1];
        if (p->n == n && !memcmp(p->text, text, n)) return (int32_t)(uint32_t)v->slot[i] - 1;
    }
    return -1;
}

bool sr_merges_init(sr_merges *m, size_t n, sr_arena *a) {
    if (n > 1u << 28) return false;
    uint32_t slots = slots_for(n);
    m->slot = sr_arena_alloc(a, slots, sizeof *m->slot);
    m->mask = slots - 1;
    m->seed = (uint64_t)(uintptr_t)m->slot;
    if (!m->slot) return false;
    for (uint32_t i = 0; i < slots; i++) m->slot[i].pair = UINT64_MAX;
    return true;
}

void sr_merges_add(sr_merges *m, int32_t left, int32_t right, uint32_t rank, int32_t id, bool replace) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint32_t i = sr_merges_slot(m, left, right);; i = (i + 1) & m->mask) {
        if (m->slot[i].pair != UINT64_MAX && m->slot[i].pair != pair) continue;
        if (m->slot[i].pair == UINT64_MAX || replace) m->slot[i] = (sr_merge){pair, rank, id};
        return;
    }
}

/* Room for one more node; the table of edges stays at most half full. */
static bool grow(sr_trie *t) {
    if (t->n + 1 >= t->cap_nodes) {
        uint32_t cap = t->cap_nodes ? 2 * t->cap_nodes : 256;
        int32_t *value = cap > 2 * (uint32_t)SR_TRIE_MAX ? NULL : realloc(t->value, cap * sizeof *value);
        if (!value) return false;
        memset(value + t->cap_nodes, 0, (cap - t->cap_nodes) * sizeof *value);
        t->value = value;
        t->cap_nodes = cap;
        uint32_t slots = 2 * cap, old = t->edge ? t->mask + 1 : 0;
        sr_trie_edge *edge = calloc(slots, sizeof *edge);
        if (!edge) return false;
        sr_trie_edge *from = t->edge;
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
    }
    return t->n < SR_TRIE_MAX - 1;
}

bool sr_trie_add(sr_trie *t, const char *text, size_t n, int32_t value, bool replace) {
    uint32_t node = SR_TRIE_ROOT;
    for (size_t i = 0; i < n; i++) {
        if (!grow(t)) return false;
        uint32_t key = node << 8 | (uint8_t)text[i], k = sr_trie_slot(t, key);
        while (t->edge[k].node && t->edge[k].key != key) k = (k + 1) & t->mask;
        if (!t->edge[k].node) t->edge[k] = (sr_trie_edge){key, ++t->n};
        node = t->edge[k].node;
    }
    if (replace || !t->value[node]) t->value[node] = value + 1;
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
