/* Values as Python has them: truth, equality, order, containers, arithmetic. */
#include <math.h>
#include <stdio.h>

#include "text/jinja.h"
#include "text/unicode.h"

const char *sr_j_type(jvalue v) {
    static const char *const names[] = {"",          "Undefined",   "NoneType", "bool",     "int",
                                        "int",       "float",       "str",      "",         "dict",
                                        "Namespace", "LoopContext", "Macro",    "function", "Cycler"};
    static const char *const flavors[] = {"list",        "tuple",      "range",    "dict_keys",
                                          "dict_values", "dict_items", "generator"};
    return v.kind == J_SEQ ? flavors[v.u.seq->flavor] : names[v.kind];
}

/* ---------------------------------------------------------------- sequences */

jseq *sr_j_seq(jenv *e, jflavor flavor, uint32_t room) {
    jseq *seq = sr_j_alloc(e, 1, sizeof *seq);
    seq->flavor = flavor;
    if (room) seq->v = sr_j_alloc(e, room, sizeof *seq->v);
    seq->cap = room;
    return seq;
}

void sr_j_push(jenv *e, jseq *seq, jvalue v) {
    if (seq->n == seq->cap) {
        uint32_t cap = seq->cap ? 2 * seq->cap : 4;
        jvalue *grown = sr_j_alloc(e, cap, sizeof *grown);
        if (seq->n) memcpy(grown, seq->v, seq->n * sizeof *grown);
        seq->v = grown;
        seq->cap = cap;
    }
    seq->v[seq->n++] = v;
}

jvalue sr_j_pair(jenv *e, jvalue a, jvalue b) {
    jseq *seq = sr_j_seq(e, J_TUPLE, 2);
    sr_j_push(e, seq, a);
    sr_j_push(e, seq, b);
    return sr_j_of_seq(seq);
}

/* ---------------------------------------------------------------- numbers */

bool sr_j_whole(jvalue v, int64_t *i) {
    if (v.kind == J_BOOL)
        *i = v.u.b;
    else if (v.kind == J_INT)
        *i = v.u.i;
    else
        return false;
    return true;
}

bool sr_j_number(jvalue v, double *d) {
    int64_t i;
    if (v.kind == J_FLOAT)
        *d = v.u.f;
    else if (sr_j_whole(v, &i))
        *d = (double)i;
    else
        return false;
    return true;
}

/* Whether a double is a whole number of 64 bits. */
static bool exact(double d, int64_t *i) {
    if (!(d >= -0x1p63 && d < 0x1p63) || d != floor(d)) return false;
    *i = (int64_t)d;
    return true;
}

/* Without rounding: -1, 0, 1, or 2 for NaN. */
static int order_mixed(int64_t i, double d) {
    if (isnan(d)) return 2;
    if (d >= 0x1p63) return -1;
    if (d < -0x1p63) return 1;
    int64_t whole = (int64_t)d;
    if (i != whole) return i < whole ? -1 : 1;
    double rest = d - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

static bool is_number(jvalue v) {
    return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT;
}

static int order_numbers(jvalue a, jvalue b) {
    int64_t i, k;
    if (sr_j_whole(a, &i)) {
        if (sr_j_whole(b, &k)) return i < k ? -1 : i > k;
        return order_mixed(i, b.u.f);
    }
    if (sr_j_whole(b, &k)) {
        int c = order_mixed(k, a.u.f);
        return c == 2 ? 2 : -c;
    }
    if (isnan(a.u.f) || isnan(b.u.f)) return 2;
    return a.u.f < b.u.f ? -1 : a.u.f > b.u.f;
}

/* ---------------------------------------------------------------- dicts */

enum { INDEX_FROM = 8 };

static uint64_t mix(uint64_t h) {
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

bool sr_j_hashable(jvalue key) {
    if (key.kind == J_DICT) return false;
    if (key.kind != J_SEQ) return true;
    if (key.u.seq->flavor == J_LIST || key.u.seq->flavor == J_KEYS || key.u.seq->flavor == J_ITEMS) return false;
    if (key.u.seq->flavor == J_TUPLE)
        for (uint32_t i = 0; i < key.u.seq->n; i++)
            if (key.u.seq->v[i].kind == J_SEQ || key.u.seq->v[i].kind == J_DICT) return false;
    return true;
}

static uint64_t hash(jenv *e, jvalue key) {
    int64_t i;
    uint64_t h = 14695981039346656037u;
    switch (key.kind) {
    case J_BOOL:
    case J_INT:
        sr_j_whole(key, &i);
        return mix((uint64_t)i);
    case J_FLOAT: /* 1.0 is the key 1 */
        if (!exact(key.u.f, &i)) memcpy(&i, &key.u.f, sizeof i);
        return mix((uint64_t)i);
    case J_STRING:
    case J_BIG:
        sr_j_charge(e, key.n / 16);
        for (uint32_t k = 0; k < key.n; k++) h = (h ^ (uint8_t)key.u.s[k]) * 1099511628211u;
        return mix(h);
    case J_SEQ:
        for (uint32_t k = 0; k < key.u.seq->n; k++) h = mix(h + hash(e, key.u.seq->v[k]));
        return h;
    default:
        return key.kind;
    }
}

static void index_pair(jenv *e, jdict *d, uint32_t i) {
    uint32_t at = (uint32_t)hash(e, d->at[i].key) & (d->n_slots - 1);
    for (; d->slot[at]; at = (at + 1) & (d->n_slots - 1)) sr_j_charge(e, 1);
    d->slot[at] = i + 1;
}

static void reindex(jenv *e, jdict *d) {
    uint32_t n = 4 * INDEX_FROM;
    while (n < 2 * d->cap) n *= 2;
    if (n != d->n_slots)
        d->slot = sr_j_alloc(e, n, sizeof *d->slot);
    else
        memset(d->slot, 0, n * sizeof *d->slot);
    d->n_slots = n;
    sr_j_charge(e, n / 8);
    for (uint32_t i = 0; i < d->n; i++) index_pair(e, d, i);
}

jdict *sr_j_dict(jenv *e) {
    return sr_j_alloc(e, 1, sizeof(jdict));
}

jpair *sr_j_find(jenv *e, const jdict *d, jvalue key) {
    if (!sr_j_hashable(key))
        sr_j_fail(e, SR_INVALID, "found a key of type '%s', expected one that cannot change", sr_j_type(key));
    if (!d->n_slots) {
        for (uint32_t i = 0; i < d->n; i++)
            if (sr_j_equal(e, d->at[i].key, key)) return &d->at[i];
        return NULL;
    }
    for (uint32_t at = (uint32_t)hash(e, key) & (d->n_slots - 1); d->slot[at]; at = (at + 1) & (d->n_slots - 1)) {
        sr_j_charge(e, 1);
        if (sr_j_equal(e, d->at[d->slot[at] - 1].key, key)) return &d->at[d->slot[at] - 1];
    }
    return NULL;
}

void sr_j_put(jenv *e, jdict *d, jvalue key, jvalue value) {
    jpair *p = sr_j_find(e, d, key);
    if (p) {
        p->value = value;
        return;
    }
    if (d->n == d->cap) {
        uint32_t cap = d->cap ? 2 * d->cap : 4;
        jpair *grown = sr_j_alloc(e, cap, sizeof *grown);
        if (d->n) memcpy(grown, d->at, d->n * sizeof *grown);
        d->at = grown;
        d->cap = cap;
        if (d->n >= INDEX_FROM) reindex(e, d);
    }
    d->at[d->n++] = (jpair){key, value};
    if (d->n_slots) index_pair(e, d, d->n - 1);
}

void sr_j_remove(jenv *e, jdict *d, jpair *p) {
    uint32_t i = (uint32_t)(p - d->at);
    sr_j_charge(e, d->n / 4);
    memmove(p, p + 1, (d->n - i - 1) * sizeof *p);
    d->n--;
    if (d->n_slots) reindex(e, d);
}

/* ---------------------------------------------------------------- truth, equality, order */

bool sr_j_truth(jvalue v) {
    switch (v.kind) {
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v.u.b;
    case J_INT:
        return v.u.i != 0;
    case J_FLOAT:
        return v.u.f != 0;
    case J_STRING:
        return v.n != 0;
    case J_SEQ:
        return v.u.seq->flavor == J_GENERATOR || v.u.seq->n != 0;
    case J_DICT:
        return v.u.dict->n != 0;
    default:
        return true;
    }
}

bool sr_j_equal(jenv *e, jvalue a, jvalue b) {
    sr_j_charge(e, 1);
    if (is_number(a) && is_number(b)) return order_numbers(a, b) == 0;
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case J_STRING:
    case J_BIG:
        if (a.n != b.n) return false;
        sr_j_charge(e, a.n / 64);
        return a.u.s == b.u.s || memcmp(a.u.s, b.u.s, a.n) == 0;
    case J_SEQ: {
        const jseq *x = a.u.seq, *y = b.u.seq;
        if (x == y) return true;
        if (x->flavor != y->flavor || x->n != y->n || x->flavor == J_GENERATOR || x->flavor == J_VALUES) return false;
        sr_j_enter(e);
        bool same = true;
        for (uint32_t i = 0; i < x->n && i < y->n && same; i++) same = sr_j_equal(e, x->v[i], y->v[i]);
        sr_j_leave(e);
        return same;
    }
    case J_DICT: {
        const jdict *x = a.u.dict, *y = b.u.dict;
        if (x == y) return true;
        if (x->n != y->n) return false;
        sr_j_enter(e);
        bool same = true;
        for (uint32_t i = 0; i < x->n && same; i++) {
            const jpair *p = sr_j_find(e, y, x->at[i].key);
            same = p && sr_j_equal(e, x->at[i].value, p->value);
        }
        sr_j_leave(e);
        return same;
    }
    case J_NAMESPACE:
        return a.u.dict == b.u.dict;
    case J_LOOP:
        return a.u.loop == b.u.loop;
    case J_MACRO:
        return a.u.macro == b.u.macro;
    case J_CALLABLE:
        return a.u.callee == b.u.callee;
    case J_CYCLER:
        return a.u.seq == b.u.seq;
    default: /* None, undefined */
        return true;
    }
}

static _Noreturn void fail_undefined(jenv *e, jvalue v) {
    if (!v.u.s) sr_j_fail(e, SR_INVALID, "found an undefined value, expected one to work with");
    sr_j_fail(e, SR_INVALID, "'%s' is undefined, expected a value to work with", sr_j_shown(v.u.s, v.n));
}

int sr_j_compare(jenv *e, jvalue a, jvalue b, const char *op) {
    sr_j_charge(e, 1);
    if (is_number(a) && is_number(b)) return order_numbers(a, b);
    if (a.kind == J_STRING && b.kind == J_STRING) { /* UTF-8 sorts as its code points do */
        uint32_t n = a.n < b.n ? a.n : b.n;
        sr_j_charge(e, n / 64);
        int c = n ? memcmp(a.u.s, b.u.s, n) : 0;
        if (!c) return a.n < b.n ? -1 : a.n > b.n;
        return c < 0 ? -1 : 1;
    }
    if (a.kind == J_SEQ && b.kind == J_SEQ && a.u.seq->flavor == b.u.seq->flavor && a.u.seq->flavor <= J_TUPLE) {
        const jseq *x = a.u.seq, *y = b.u.seq;
        int c = 0;
        sr_j_enter(e);
        for (uint32_t i = 0; i < x->n && i < y->n && !c; i++)
            if (!sr_j_equal(e, x->v[i], y->v[i])) {
                c = sr_j_compare(e, x->v[i], y->v[i], op);
                if (!c) c = 2;
            }
        sr_j_leave(e);
        return c ? c : x->n < y->n ? -1 : x->n > y->n;
    }
    if (a.kind == J_UNDEFINED) fail_undefined(e, a);
    if (b.kind == J_UNDEFINED) fail_undefined(e, b);
    sr_j_fail(e, SR_INVALID, "found '%s' and '%s' for %s, expected two numbers, strings or lists", sr_j_type(a),
              sr_j_type(b), op);
}

bool sr_j_contains(jenv *e, jvalue container, jvalue item) {
    if (container.kind == J_STRING) {
        if (item.kind != J_STRING)
            sr_j_fail(e, SR_INVALID, "found a '%s' to look for in a string, expected a string", sr_j_type(item));
        return sr_j_search(e, container, item, 0, false) >= 0;
    }
    if (container.kind == J_DICT) return sr_j_find(e, container.u.dict, item) != NULL;
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, container, &n);
    for (uint32_t i = 0; i < n; i++)
        if (sr_j_equal(e, v[i], item)) return true;
    return false;
}

/* ---------------------------------------------------------------- walking and indexing */

uint32_t sr_j_count_chars(const char *s, size_t n) {
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((uint8_t)s[i] & 0xC0) != 0x80;
    return count;
}

jvalue *sr_j_iterate(jenv *e, jvalue v, uint32_t *n) {
    jvalue *at = NULL;
    uint32_t cp;
    *n = 0;
    switch (v.kind) {
    case J_UNDEFINED:
        return NULL;
    case J_SEQ:
        *n = v.u.seq->n;
        if (v.u.seq->flavor == J_GENERATOR) v.u.seq->n = 0;
        return v.u.seq->v;
    case J_DICT:
        at = sr_j_alloc(e, v.u.dict->n, sizeof *at);
        for (uint32_t i = 0; i < v.u.dict->n; i++) at[(*n)++] = v.u.dict->at[i].key;
        break;
    case J_STRING:
        at = sr_j_alloc(e, sr_j_count_chars(v.u.s, v.n), sizeof *at);
        for (uint32_t i = 0; i < v.n;) {
            unsigned len = sr_utf8_get(v.u.s + i, &cp);
            at[(*n)++] = sr_j_string(v.u.s + i, len);
            i += len;
        }
        break;
    default:
        sr_j_fail(e, SR_INVALID, "found a '%s', expected something to iterate over", sr_j_type(v));
    }
    sr_j_charge(e, *n / 4);
    return at;
}

bool sr_j_has_length(jvalue v) {
    return v.kind == J_STRING || v.kind == J_DICT || v.kind == J_UNDEFINED || v.kind == J_LOOP ||
           (v.kind == J_SEQ && v.u.seq->flavor != J_GENERATOR);
}

uint32_t sr_j_length(jenv *e, jvalue v) {
    if (!sr_j_has_length(v)) sr_j_fail(e, SR_INVALID, "found a '%s', expected something with a length", sr_j_type(v));
    if (v.kind == J_UNDEFINED) return 0;
    if (v.kind == J_DICT) return v.u.dict->n;
    if (v.kind == J_LOOP) return v.u.loop->n;
    if (v.kind == J_SEQ) return v.u.seq->n;
    sr_j_charge(e, v.n / 16);
    return sr_j_count_chars(v.u.s, v.n);
}

static size_t next_char(const char *s, size_t at) {
    uint32_t cp;
    return at + sr_utf8_get(s + at, &cp);
}

/* Byte of the character number `i`, 0 <= i <= length. */
static size_t char_at(jenv *e, jvalue s, int64_t i) {
    size_t at = 0;
    sr_j_charge(e, (uint64_t)i / 16);
    while (i-- > 0) at = next_char(s.u.s, at);
    return at;
}

static bool is_indexable(jvalue v) {
    return v.kind == J_STRING || (v.kind == J_SEQ && v.u.seq->flavor <= J_RANGE);
}

/* v[key] without any fallback; false: LookupError or TypeError. */
static bool subscript(jenv *e, jvalue v, jvalue key, jvalue *out) {
    int64_t i;
    if (v.kind == J_DICT) {
        const jpair *p = sr_j_hashable(key) ? sr_j_find(e, v.u.dict, key) : NULL;
        if (p) *out = p->value;
        return p != NULL;
    }
    if (!is_indexable(v) || !sr_j_whole(key, &i)) return false;
    int64_t n = sr_j_length(e, v);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return false;
    if (v.kind == J_SEQ) {
        *out = v.u.seq->v[i];
    } else {
        size_t at = char_at(e, v, i);
        *out = sr_j_part(v, at, next_char(v.u.s, at));
    }
    return true;
}

/* Methods and the attributes of Jinja's own objects; nothing here has attributes of Python's. */
static bool attribute(jenv *e, jvalue v, jvalue name, jvalue *out) {
    if (v.kind == J_NAMESPACE) {
        const jpair *p = sr_j_find(e, v.u.dict, name);
        if (p) *out = p->value;
        return p != NULL;
    }
    if (v.kind == J_LOOP) {
        *out = sr_j_loop_attr(e, v.u.loop, name);
        if (out->kind != J_ABSENT) return true;
    }
    if (v.kind == J_CYCLER && sr_j_is(name, "current")) {
        *out = v.u.seq->v[v.u.seq->start];
        return true;
    }
    if (v.kind == J_SEQ && v.u.seq->group && (sr_j_is(name, "grouper") || sr_j_is(name, "list"))) {
        *out = v.u.seq->v[sr_j_is(name, "list")];
        return true;
    }
    if (v.kind == J_MACRO && sr_j_is(name, "name")) {
        *out = v.u.macro->node->v;
        return true;
    }
    const jbuiltin *method = sr_j_method(v, name);
    if (!method) return false;
    jcallable *c = sr_j_alloc(e, 1, sizeof *c);
    *c = (jcallable){method, v};
    *out = (jvalue){.kind = J_CALLABLE, .u.callee = c};
    return true;
}

jvalue sr_j_attr(jenv *e, jvalue v, jvalue name) {
    jvalue out;
    if (v.kind == J_UNDEFINED) fail_undefined(e, v);
    return attribute(e, v, name, &out) || subscript(e, v, name, &out) ? out : sr_j_undefined(name);
}

jvalue sr_j_item(jenv *e, jvalue v, jvalue key) {
    jvalue out;
    if (v.kind == J_UNDEFINED) fail_undefined(e, v);
    return subscript(e, v, key, &out) || (key.kind == J_STRING && attribute(e, v, key, &out)) ? out
                                                                                              : sr_j_undefined(key);
}

/* One bound of a slice; `absent` where it is not given. */
static bool bound(jvalue v, int64_t n, int64_t least, int64_t most, int64_t absent, int64_t *out) {
    int64_t i;
    if (v.kind == J_ABSENT || v.kind == J_NONE) {
        *out = absent;
        return true;
    }
    if (!sr_j_whole(v, &i)) return false;
    if (i < 0) i = i < -n ? -1 : i + n;
    *out = i < least ? least : i > most ? most : i;
    return true;
}

jvalue sr_j_slice(jenv *e, jvalue v, jvalue start, jvalue stop, jvalue step) {
    int64_t by = 1, from = 0, to = 0;
    if (v.kind == J_UNDEFINED) fail_undefined(e, v);
    if (!is_indexable(v)) sr_j_fail(e, SR_INVALID, "found a '%s' to slice, expected a string or a list", sr_j_type(v));
    bool whole = step.kind == J_ABSENT || step.kind == J_NONE || sr_j_whole(step, &by);
    if (!by) sr_j_fail(e, SR_INVALID, "found a slice with step 0, expected another one");
    int64_t n = sr_j_length(e, v);
    int64_t least = by < 0 ? -1 : 0, most = by < 0 ? n - 1 : n;
    whole &= bound(start, n, least, most, by < 0 ? n - 1 : 0, &from);
    whole &= bound(stop, n, least, most, by < 0 ? -1 : n, &to);
    if (!whole) sr_j_fail(e, SR_INVALID, "found a slice with other bounds than whole numbers");
    if (by < -n) by = -n - 1; /* one item either way */
    if (by > n) by = n + 1;
    if (v.kind == J_STRING && by == 1) {
        if (from >= to) return sr_j_part(v, 0, 0);
        size_t a = char_at(e, v, from), b = a;
        sr_j_charge(e, (uint64_t)(to - from) / 16);
        for (int64_t i = from; i < to; i++) b = next_char(v.u.s, b);
        return sr_j_part(v, a, b);
    }
    uint32_t count;
    const jvalue *at = sr_j_iterate(e, v, &count);
    jseq *seq = sr_j_seq(e, sr_j_is_seq(v, J_TUPLE) ? J_TUPLE : J_LIST, 0);
    sr_j_charge(e, (uint64_t)n / 4);
    if (v.kind == J_STRING) {
        size_t mark = e->out.n;
        for (int64_t i = from; by > 0 ? i < to : i > to; i += by) sr_j_put_bytes(e, at[i].u.s, at[i].n);
        jvalue text = sr_j_take(e, mark);
        text.safe = v.safe;
        return text;
    }
    for (int64_t i = from; by > 0 ? i < to : i > to; i += by) sr_j_push(e, seq, at[i]);
    return sr_j_of_seq(seq);
}

/* ---------------------------------------------------------------- arithmetic */

static char *room(jenv *e, size_t n) {
    if ((size_t)(e->tip_end - e->tip) < n) {
        size_t cap = n < (16 << 10) ? 32 << 10 : 2 * n, left = e->limits.bytes - e->arena.used;
        if (cap > left || cap < n) cap = n;
        e->tip = sr_j_alloc(e, cap, 1);
        e->tip_end = e->tip + cap;
    }
    char *at = e->tip;
    e->tip += n;
    return at;
}

/* A text that grows at its end, as most do in a loop, is not copied: what lies in front of the tip is never written
 * again. */
jvalue sr_j_concat(jenv *e, jvalue a, jvalue b) {
    sr_j_charge(e, b.n / 64);
    if (!a.n || !b.n) return a.n ? a : b;
    if (a.u.s + a.n == e->tip && (size_t)(e->tip_end - e->tip) >= b.n) {
        memcpy(e->tip, b.u.s, b.n);
        e->tip += b.n;
        return sr_j_string(a.u.s, (size_t)a.n + b.n);
    }
    sr_j_charge(e, a.n / 64);
    char *at = room(e, (size_t)a.n + b.n);
    memcpy(at, a.u.s, a.n);
    memcpy(at + a.n, b.u.s, b.n);
    return sr_j_string(at, (size_t)a.n + b.n);
}

jvalue sr_j_take(jenv *e, size_t from) {
    size_t n = e->out.n - from;
    if (!n) return sr_j_string("", 0);
    char *at = room(e, n);
    memcpy(at, e->out.at + from, n);
    e->out.n = from;
    return sr_j_string(at, n);
}

static _Noreturn void fail_overflow(jenv *e) {
    sr_j_fail(e, SR_LIMIT, "found a whole number past 64 bits, expected one between -2^63 and 2^63 - 1");
}

static jvalue power(jenv *e, int64_t base, int64_t exponent) {
    if (exponent < 0) {
        if (!base) sr_j_fail(e, SR_INVALID, "found 0 to a negative power, expected another base");
        return sr_j_float(pow((double)base, (double)exponent));
    }
    int64_t result = 1;
    for (uint64_t n = (uint64_t)exponent; n; n >>= 1) {
        if ((n & 1) && __builtin_mul_overflow(result, base, &result)) fail_overflow(e);
        if (n > 1 && __builtin_mul_overflow(base, base, &base)) fail_overflow(e);
    }
    return sr_j_int(result);
}

static jvalue whole_binary(jenv *e, jtoken_kind op, int64_t a, int64_t b) {
    int64_t r = 0;
    bool overflow = false;
    switch (op) {
    case T_ADD:
        overflow = __builtin_add_overflow(a, b, &r);
        break;
    case T_SUB:
        overflow = __builtin_sub_overflow(a, b, &r);
        break;
    case T_MUL:
        overflow = __builtin_mul_overflow(a, b, &r);
        break;
    case T_POW:
        return power(e, a, b);
    default:
        if (!b) sr_j_fail(e, SR_INVALID, "found a division by zero");
        if (op == T_DIV) return sr_j_float((double)a / (double)b);
        if (b == -1) { /* INT64_MIN / -1 */
            overflow = op == T_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &r);
            break;
        }
        r = a % b; /* rounds towards zero, Python towards minus infinity */
        bool down = r && (r < 0) != (b < 0);
        r = op == T_MOD ? r + (down ? b : 0) : a / b - down;
    }
    if (overflow) fail_overflow(e);
    return sr_j_int(r);
}

static jvalue real_binary(jenv *e, jtoken_kind op, double a, double b) {
    switch (op) {
    case T_ADD:
        return sr_j_float(a + b);
    case T_SUB:
        return sr_j_float(a - b);
    case T_MUL:
        return sr_j_float(a * b);
    case T_POW: {
        double r = pow(a, b);
        bool finite = isfinite(a) && isfinite(b);
        if (finite && a == 0 && b < 0) sr_j_fail(e, SR_INVALID, "found 0.0 to a negative power, expected another base");
        if (finite && !isfinite(r)) sr_j_fail(e, SR_INVALID, "found a power that is not a real number of 64 bits");
        return sr_j_float(r);
    }
    default:
        break;
    }
    if (b == 0) sr_j_fail(e, SR_INVALID, "found a division by zero");
    if (op == T_DIV) return sr_j_float(a / b);
    double mod = fmod(a, b);
    double quotient = (a - mod) / b;
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            quotient -= 1;
        }
    } else {
        mod = copysign(0, b);
    }
    if (op == T_MOD) return sr_j_float(mod);
    if (quotient == 0) return sr_j_float(copysign(0, a / b));
    double down = floor(quotient);
    return sr_j_float(quotient - down > 0.5 ? down + 1 : down);
}

static jvalue repeat(jenv *e, jvalue v, int64_t times) {
    uint64_t n = v.kind == J_STRING ? v.n : v.u.seq->n, k = times > 0 ? (uint64_t)times : 0;
    if (!n || !k) return v.kind == J_STRING ? sr_j_part(v, 0, 0) : sr_j_of_seq(sr_j_seq(e, v.u.seq->flavor, 0));
    if (k > e->limits.bytes / n) sr_j_out_of_memory(e);
    sr_j_charge(e, v.kind == J_STRING ? n * k / 64 : n * k / 4);
    if (v.kind == J_STRING) {
        char *at = room(e, n * k);
        for (uint64_t i = 0; i < k; i++) memcpy(at + i * n, v.u.s, n);
        jvalue text = sr_j_string(at, n * k);
        text.safe = v.safe;
        return text;
    }
    jseq *seq = sr_j_seq(e, v.u.seq->flavor, (uint32_t)(n * k));
    for (uint64_t i = 0; i < k; i++) memcpy(seq->v + i * n, v.u.seq->v, n * sizeof *seq->v);
    seq->n = (uint32_t)(n * k);
    return sr_j_of_seq(seq);
}

static bool repeatable(jvalue v) {
    return v.kind == J_STRING || sr_j_is_seq(v, J_LIST) || sr_j_is_seq(v, J_TUPLE);
}

jvalue sr_j_binary(jenv *e, jtoken_kind op, jvalue a, jvalue b) {
    int64_t i, k;
    double x, y;
    if (sr_j_whole(a, &i) && sr_j_whole(b, &k)) return whole_binary(e, op, i, k);
    if (sr_j_number(a, &x) && sr_j_number(b, &y)) return real_binary(e, op, x, y);
    if (op == T_ADD && a.kind == J_STRING && b.kind == J_STRING) {
        bool safe = a.safe || b.safe;
        jvalue text = safe ? sr_j_concat(e, sr_j_escape(e, a), sr_j_escape(e, b)) : sr_j_concat(e, a, b);
        text.safe = safe;
        return text;
    }
    if (op == T_ADD && a.kind == J_SEQ && repeatable(a) && repeatable(b) && b.kind == J_SEQ &&
        a.u.seq->flavor == b.u.seq->flavor) {
        const jseq *p = a.u.seq, *q = b.u.seq;
        sr_j_charge(e, ((uint64_t)p->n + q->n) / 4);
        jseq *seq = sr_j_seq(e, p->flavor, p->n + q->n);
        if (p->n) memcpy(seq->v, p->v, p->n * sizeof *seq->v);
        if (q->n) memcpy(seq->v + p->n, q->v, q->n * sizeof *seq->v);
        seq->n = p->n + q->n;
        return sr_j_of_seq(seq);
    }
    if (op == T_MUL && repeatable(a) && sr_j_whole(b, &k)) return repeat(e, a, k);
    if (op == T_MUL && repeatable(b) && sr_j_whole(a, &i)) return repeat(e, b, i);
    if (op == T_MOD && a.kind == J_STRING) return sr_j_format(e, a, b);
    if (a.kind == J_UNDEFINED) fail_undefined(e, a);
    if (b.kind == J_UNDEFINED) fail_undefined(e, b);
    if (a.kind == J_BIG || b.kind == J_BIG) fail_overflow(e);
    sr_j_fail(e, SR_INVALID, "found '%s' and '%s' for %s, expected two numbers, strings or lists", sr_j_type(a),
              sr_j_type(b), sr_j_token_name(op));
}
