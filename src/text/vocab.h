/* The vocabulary: pieces by id and ids by piece; the merges of byte pair encoding; and tries, which find every piece
 * that begins at a place of a text. */
#ifndef SR_TEXT_VOCAB_H
#define SR_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"

typedef struct sr_piece {
    const char *text; /* zero-terminated, n bytes; NULL: no token has this id */
    uint32_t n;
} sr_piece;

#if defined(__GNUC__)
#define SR_PREFETCH(p) __builtin_prefetch(p)
#else
#define SR_PREFETCH(p) ((void)(p))
#endif

typedef struct sr_vocab {
    sr_piece *piece; /* [n] */
    int32_t n;
    uint32_t max_len; /* of a piece, in bytes */
    uint64_t *slot;   /* open addressing: upper half of the hash, id + 1; 0 is free */
    uint32_t mask;
    uint64_t seed;
} sr_vocab;

typedef struct sr_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX is free */
    uint32_t rank;
    int32_t id; /* of the merged token */
} sr_merge;

typedef struct sr_merges {
    sr_merge *slot;
    uint32_t mask;
    uint64_t seed;
} sr_merges;

/* Tables for n ids, n < 2^28; all pieces are empty. The seed of the hash is the table's address: files cannot aim at
 * it. False: out of memory. */
bool sr_vocab_init(sr_vocab *v, int32_t n, sr_arena *a);
/* Gives `id` its piece (borrowed). If the text is known already, its id is returned and changes when `replace`; else
 * -1. */
int32_t sr_vocab_add(sr_vocab *v, int32_t id, const char *text, uint32_t n, bool replace);
/* Id of a text, -1 when it is none. The halves of a search are there for loaders: nearly all of its time is waiting for
 * the slot, then the piece, then its text, so they hash and prefetch a batch first. */
uint64_t sr_vocab_hash(const sr_vocab *v, const char *text, size_t n);
static inline void sr_vocab_prefetch(const sr_vocab *v, uint64_t hash, bool text) {
    uint64_t slot = v->slot[(uint32_t)hash & v->mask];
    if (!slot) return;
    const sr_piece *p = &v->piece[(uint32_t)slot - 1];
    SR_PREFETCH(text ? (const void *)p->text : (const void *)p);
}
int32_t sr_vocab_find_hashed(const sr_vocab *v, const char *text, size_t n, uint64_t hash);
static inline int32_t sr_vocab_find(const sr_vocab *v, const char *text, size_t n) {
    return sr_vocab_find_hashed(v, text, n, sr_vocab_hash(v, text, n));
}

bool sr_merges_init(sr_merges *m, size_t n, sr_arena *a);
/* A pair that is there already is overwritten when `replace`. */
void sr_merges_add(sr_merges *m, const sr_merge *merge, bool replace);
/* All of them by rank, owned by the caller; NULL when there are none, or no memory (then *n is not 0). */
sr_merge *sr_merges_sorted(const sr_merges *m, size_t *n);

static inline uint64_t sr_mix(uint64_t a, uint64_t b) {
    uint64_t h = (a ^ b) * 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio, odd */
    h ^= h >> 32;
    return h * 0xD6E8FEB86659FD93u; /* an odd constant with even bit statistics */
}

static inline uint32_t sr_merges_slot(const sr_merges *m, uint64_t pair) {
    return (uint32_t)(sr_mix(pair, m->seed) >> 32) & m->mask;
}

static inline const sr_merge *sr_merges_find(const sr_merges *m, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint32_t i = sr_merges_slot(m, pair);; i = (i + 1) & m->mask) {
        if (m->slot[i].pair == pair) return &m->slot[i];
        if (m->slot[i].pair == UINT64_MAX) return NULL;
    }
}

/* A trie whose edges lie in one table: (node, byte) -> node. Nodes are numbered from SR_TRIE_ROOT; 0 is none. */
enum { SR_TRIE_ROOT = 1, SR_TRIE_MAX = 1 << 24 /* nodes: an edge's key has 32 bits */ };

typedef struct sr_trie_edge {
    uint32_t key, node; /* from << 8 | byte; node 0: free */
} sr_trie_edge;

typedef struct sr_trie {
    sr_trie_edge *edge;
    int32_t *value; /* [cap_nodes] of a node: what ends there + 1, 0: nothing */
    uint32_t n, cap_nodes, mask;
    uint64_t seed;
} sr_trie;

static inline uint32_t sr_trie_slot(const sr_trie *t, uint32_t key) {
    return (uint32_t)(sr_mix(key, t->seed) >> 32) & t->mask;
}

/* The node behind `node` by this byte, 0: none. An empty trie has none. */
static inline uint32_t sr_trie_step(const sr_trie *t, uint32_t node, uint8_t byte) {
    uint32_t key = node << 8 | byte;
    if (!t->n) return 0;
    for (uint32_t i = sr_trie_slot(t, key); t->edge[i].node; i = (i + 1) & t->mask)
        if (t->edge[i].key == key) return t->edge[i].node;
    return 0;
}
/* What ends at a node, -1: nothing. */
static inline int32_t sr_trie_value(const sr_trie *t, uint32_t node) {
    return t->value[node] - 1;
}
/* Makes room ahead: a hint. False: out of memory. */
bool sr_trie_reserve(sr_trie *t, uint64_t nodes);
/* Gives a text (n > 0 bytes) its value; one that has a value keeps it. False: out of memory, or more than SR_TRIE_MAX
 * nodes. Zero the trie before the first. */
bool sr_trie_add(sr_trie *t, const char *text, size_t n, int32_t value);
/* The same for up to SR_TRIE_BATCH texts side by side, which waits less for memory. The last of equal texts counts. */
enum { SR_TRIE_BATCH = 32 };
bool sr_trie_add_batch(sr_trie *t, const sr_piece *text, const int32_t *value, int n);
/* Longest text that s[0..n) begins with: its value, or -1, and its length. */
int32_t sr_trie_longest(const sr_trie *t, uint32_t from, const char *s, size_t n, size_t *len);
void sr_trie_free(sr_trie *t);

#endif
