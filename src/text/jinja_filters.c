/* Filters and tests: Jinja's, those that chat templates have a use for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/jinja.h"
#include "text/unicode.h"

/* ---------------------------------------------------------------- arguments */

static bool given(const jargs *a, int i) {
    return a->slot[i].kind != J_ABSENT;
}

static bool flag(const jargs *a, int i) {
    return given(a, i) && sr_j_truth(a->slot[i]);
}

static int64_t whole(jenv *e, const jargs *a, int i, int64_t otherwise) {
    int64_t v;
    if (!given(a, i)) return otherwise;
    if (!sr_j_whole(a->slot[i], &v))
        sr_j_fail(e, SR_INVALID, "found an argument of type '%s', expected a whole number", sr_j_type(a->slot[i]));
    return v;
}

/* item.a.0.b for "a.0.b"; a missing step takes the default. */
static jvalue follow(jenv *e, jvalue item, jvalue path, jvalue otherwise) {
    bool named = path.kind == J_STRING, instead = otherwise.kind != J_ABSENT && otherwise.kind != J_NONE;
    if (path.kind == J_NONE || path.kind == J_ABSENT) return item;
    for (size_t from = 0, to = 0; from <= (named ? path.n : 0); from = to + 1) {
        jvalue part = path;
        if (named) {
            const char *dot = memchr(path.u.s + from, '.', path.n - from);
            int64_t i;
            to = dot ? (size_t)(dot - path.u.s) : path.n;
            part = sr_j_part(path, from, to);
            bool digits = part.n > 0;
            for (size_t k = from; k < to; k++) digits &= path.u.s[k] >= '0' && path.u.s[k] <= '9';
            if (digits && sr_j_parse_int(e, part, 10, &i)) part = sr_j_int(i);
        }
        item = sr_j_item(e, item, part);
        if (item.kind == J_UNDEFINED && instead) item = otherwise;
    }
    return item;
}

static const jvalue absent = {.kind = J_ABSENT};

static jvalue fold(jenv *e, jvalue v, bool case_sensitive) {
    return v.kind == J_STRING && !case_sensitive ? sr_j_case(e, v, J_LOWER) : v;
}

/* What sort() compares: one value, or a list of them for "a,b". */
static jvalue sort_key(jenv *e, jvalue item, jvalue path, bool case_sensitive) {
    if (path.kind != J_STRING || !memchr(path.u.s, ',', path.n))
        return fold(e, follow(e, item, path, absent), case_sensitive);
    jseq *key = sr_j_seq(e, J_LIST, 0);
    for (size_t from = 0; from <= path.n;) {
        const char *comma = memchr(path.u.s + from, ',', path.n - from);
        size_t to = comma ? (size_t)(comma - path.u.s) : path.n;
        sr_j_push(e, key, fold(e, follow(e, item, sr_j_part(path, from, to), absent), case_sensitive));
        from = to + 1;
    }
    return sr_j_of_seq(key);
}

/* ---------------------------------------------------------------- sorting */

void sr_j_sort(jenv *e, void *at, size_t n, size_t size, int (*order)(const void *a, const void *b, void *env)) {
    char *from = at, *to = sr_j_alloc(e, n, size);
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t k = 0; k < n; k += 2 * run) {
            size_t a = k, mid = k + run < n ? k + run : n, b = mid, end = k + 2 * run < n ? k + 2 * run : n;
            for (size_t out = k; out < end; out++) {
                bool left = b == end || (a < mid && order(from + b * size, from + a * size, e) >= 0);
                memcpy(to + out * size, from + (left ? a++ : b++) * size, size);
            }
        }
        sr_j_charge(e, n);
        char *swap = from;
        from = to;
        to = swap;
    }
    if (from != (char *)at) memcpy(at, from, n * size);
}

static int up(const void *a, const void *b, void *env) {
    int c = sr_j_compare(env, ((const jpair *)a)->key, ((const jpair *)b)->key, "sorting");
    return c == 2 ? 0 : c;
}
static int down(const void *a, const void *b, void *env) {
    return -up(a, b, env);
}

/* pair[n].value in the order of pair[n].key. */
static jvalue sorted(jenv *e, jpair *pair, uint32_t n, bool reverse) {
    jseq *out = sr_j_seq(e, J_LIST, n);
    sr_j_sort(e, pair, n, sizeof *pair, reverse ? down : up);
    for (uint32_t i = 0; i < n; i++) sr_j_push(e, out, pair[i].value);
    return sr_j_of_seq(out);
}

static jvalue f_sort(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, self, &n);
    jpair *pair = sr_j_alloc(e, n, sizeof *pair);
    for (uint32_t i = 0; i < n; i++) pair[i] = (jpair){sort_key(e, v[i], a->slot[2], flag(a, 1)), v[i]};
    return sorted(e, pair, n, flag(a, 0));
}

static jdict *dict_of(jenv *e, jvalue v, const char *who) {
    if (v.kind != J_DICT)
        sr_j_fail(e, SR_INVALID, "found a value of type '%s' for %s, expected a dict", sr_j_type(v), who);
    return v.u.dict;
}

static jvalue f_dictsort(jenv *e, jvalue self, jargs *a) {
    const jdict *d = dict_of(e, self, "dictsort");
    bool by_value = given(a, 1) && sr_j_is(a->slot[1], "value");
    if (given(a, 1) && !by_value && !sr_j_is(a->slot[1], "key"))
        sr_j_fail(e, SR_INVALID, "found another 'by' for dictsort than 'key' and 'value'");
    jpair *pair = sr_j_alloc(e, d->n, sizeof *pair);
    for (uint32_t i = 0; i < d->n; i++)
        pair[i] = (jpair){fold(e, by_value ? d->at[i].value : d->at[i].key, flag(a, 0)),
                          sr_j_pair(e, d->at[i].key, d->at[i].value)};
    return sorted(e, pair, d->n, flag(a, 2));
}

static jvalue extreme(jenv *e, jvalue self, jargs *a, int sign) {
    uint32_t n, best = 0;
    const jvalue *v = sr_j_iterate(e, self, &n);
    if (!n) return sr_j_undefined(sr_j_none());
    jvalue key = sort_key(e, v[0], a->slot[1], flag(a, 0));
    for (uint32_t i = 1; i < n; i++) {
        jvalue k = sort_key(e, v[i], a->slot[1], flag(a, 0));
        if (sr_j_compare(e, k, key, sign < 0 ? "min" : "max") != sign) continue;
        key = k;
        best = i;
    }
    return v[best];
}
static jvalue f_min(jenv *e, jvalue self, jargs *a) {
    return extreme(e, self, a, -1);
}
static jvalue f_max(jenv *e, jvalue self, jargs *a) {
    return extreme(e, self, a, 1);
}

static jvalue f_unique(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, self, &n);
    jseq *out = sr_j_seq(e, J_GENERATOR, 0);
    jdict *seen = sr_j_dict(e);
    for (uint32_t i = 0; i < n; i++) {
        jvalue key = sort_key(e, v[i], a->slot[1], flag(a, 0));
        if (sr_j_find(e, seen, key)) continue;
        sr_j_put(e, seen, key, sr_j_none());
        sr_j_push(e, out, v[i]);
    }
    return sr_j_of_seq(out);
}

/* ---------------------------------------------------------------- sequences */

static jvalue copy(jenv *e, jvalue v, jflavor flavor, bool backwards) {
    uint32_t n;
    const jvalue *at = sr_j_iterate(e, v, &n);
    jseq *out = sr_j_seq(e, flavor, n);
    sr_j_charge(e, n / 4);
    for (uint32_t i = 0; i < n; i++) sr_j_push(e, out, at[backwards ? n - 1 - i : i]);
    return sr_j_of_seq(out);
}

static jvalue f_list(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return copy(e, self, J_LIST, false);
}

static jvalue f_reverse(jenv *e, jvalue self, jargs *a) {
    (void)a;
    if (self.kind == J_STRING) return sr_j_slice(e, self, absent, absent, sr_j_int(-1));
    return copy(e, self, sr_j_is_seq(self, J_GENERATOR) ? J_LIST : J_GENERATOR, true);
}

static jvalue f_first(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, self, &n);
    (void)a;
    return n ? v[0] : sr_j_undefined(sr_j_none());
}

static jvalue f_last(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    if (sr_j_is_seq(self, J_GENERATOR))
        sr_j_fail(e, SR_INVALID, "found a generator for last, expected a list; put 'list' between");
    const jvalue *v = sr_j_iterate(e, self, &n);
    (void)a;
    return n ? v[n - 1] : sr_j_undefined(sr_j_none());
}

static jvalue f_length(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_int(sr_j_length(e, self));
}

static jvalue f_join(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, self, &n);
    jvalue between = given(a, 0) ? sr_j_text(e, a->slot[0]) : sr_j_string("", 0);
    size_t from = e->out.n;
    for (uint32_t i = 0; i < n; i++) {
        if (i) sr_j_put_bytes(e, between.u.s, between.n);
        jvalue item = sr_j_text(e, follow(e, v[i], a->slot[1], absent));
        sr_j_put_bytes(e, item.u.s, item.n);
    }
    sr_j_charge(e, n);
    return sr_j_take(e, from);
}

static jvalue f_sum(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, self, &n);
    jvalue sum = given(a, 1) ? a->slot[1] : sr_j_int(0);
    if (sum.kind == J_STRING)
        sr_j_fail(e, SR_INVALID, "found strings to sum, expected numbers; 'join' puts strings together");
    for (uint32_t i = 0; i < n; i++) sum = sr_j_binary(e, T_ADD, sum, follow(e, v[i], a->slot[0], absent));
    return sum;
}

static jvalue f_items(jenv *e, jvalue self, jargs *a) {
    jseq *out = sr_j_seq(e, J_GENERATOR, 0);
    (void)a;
    if (self.kind == J_UNDEFINED) return sr_j_of_seq(out);
    const jdict *d = dict_of(e, self, "items");
    for (uint32_t i = 0; i < d->n; i++) sr_j_push(e, out, sr_j_pair(e, d->at[i].key, d->at[i].value));
    return sr_j_of_seq(out);
}

static jvalue f_batch(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, self, &n);
    jseq *out = sr_j_seq(e, J_GENERATOR, 0), *line = NULL;
    int64_t size = whole(e, a, 0, 1);
    if (size < 1) sr_j_fail(e, SR_INVALID, "found %lld items a batch, expected at least one", (long long)size);
    for (uint32_t i = 0; i < n; i++) {
        if (!line || line->n == size) {
            line = sr_j_seq(e, J_LIST, 0);
            sr_j_push(e, out, sr_j_of_seq(line));
        }
        sr_j_push(e, line, v[i]);
    }
    while (line && line->n < size && given(a, 1) && a->slot[1].kind != J_NONE) sr_j_push(e, line, a->slot[1]);
    return sr_j_of_seq(out);
}

/* Equal keys in the order of the sorted keys; the key that is shown is the first one as it is spelled. */
static jvalue f_groupby(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, self, &n);
    jpair *pair = sr_j_alloc(e, n, sizeof *pair);
    jseq *out = sr_j_seq(e, J_LIST, 0), *group = NULL;
    for (uint32_t i = 0; i < n; i++)
        pair[i] = (jpair){fold(e, follow(e, v[i], a->slot[0], a->slot[1]), flag(a, 2)), v[i]};
    sr_j_sort(e, pair, n, sizeof *pair, up);
    for (uint32_t i = 0; i < n; i++) {
        if (!i || !sr_j_equal(e, pair[i].key, pair[i - 1].key)) {
            group = sr_j_seq(e, J_LIST, 0);
            jvalue both = sr_j_pair(e, follow(e, pair[i].value, a->slot[0], a->slot[1]), sr_j_of_seq(group));
            both.u.seq->group = true;
            sr_j_push(e, out, both);
        }
        sr_j_push(e, group, pair[i].value);
    }
    return sr_j_of_seq(out);
}

static jvalue f_slice(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, self, &n);
    int64_t slices = whole(e, a, 0, 1);
    jseq *out = sr_j_seq(e, J_GENERATOR, 0);
    if (!slices) sr_j_fail(e, SR_INVALID, "found 0 slices, expected at least one");
    for (int64_t k = 0, at = 0; k < slices; k++) {
        bool one_more = k < n % slices;
        jseq *part = sr_j_seq(e, J_LIST, 0);
        sr_j_charge(e, 1);
        for (int64_t i = n / slices + one_more; i > 0; i--) sr_j_push(e, part, v[at++]);
        if (given(a, 1) && a->slot[1].kind != J_NONE && !one_more) sr_j_push(e, part, a->slot[1]);
        sr_j_push(e, out, sr_j_of_seq(part));
    }
    return sr_j_of_seq(out);
}

/* The arguments behind the first `n`, for the filter or test that a filter calls. */
static jargs rest(const jargs *a, uint32_t n) {
    return (jargs){.at = a->at + n, .n = a->n - n, .keyword = a->keyword, .n_keywords = a->n_keywords};
}

static jvalue keyword(const jargs *a, const char *name) {
    for (uint32_t i = 0; i < a->n_keywords; i++)
        if (sr_j_is(a->keyword[i].name, name)) return a->keyword[i].value;
    return absent;
}

void sr_j_no_such(jenv *e, const char *what, jvalue name) {
    static const char *const jinjas[] = {"random", "urlize", "filesizeformat", "striptags", "urlencode", "xmlattr"};
    for (size_t i = 0; i < sizeof jinjas / sizeof *jinjas; i++)
        if (sr_j_is(name, jinjas[i]))
            sr_j_fail(e, SR_UNSUPPORTED, "found the %s '%s', which Jinja has but prompts do without: not supported",
                      what, jinjas[i]);
    sr_j_fail(e, SR_UNSUPPORTED, "found the %s '%s', which does not exist here", what,
              name.kind == J_STRING ? sr_j_shown(name.u.s, name.n) : sr_j_type(name));
}

static const jbuiltin *row_of(jenv *e, jvalue name, const jbuiltin *(*find)(jvalue name), const char *what) {
    const jbuiltin *b = name.kind == J_STRING ? find(name) : NULL;
    if (!b) sr_j_no_such(e, what, name);
    return b;
}

static jvalue f_map(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, self, &n);
    jseq *out = sr_j_seq(e, J_GENERATOR, n);
    jvalue attribute = keyword(a, "attribute"), otherwise = keyword(a, "default");
    if (!a->n && attribute.kind == J_ABSENT)
        sr_j_fail(e, SR_INVALID, "found map without arguments, expected a filter or attribute=");
    for (uint32_t i = 0; i < n; i++) {
        sr_j_charge(e, 1);
        if (a->n) {
            jargs inner = rest(a, 1);
            sr_j_push(e, out, sr_j_call_builtin(e, row_of(e, a->at[0], sr_j_filter, "filter"), v[i], &inner));
        } else {
            sr_j_push(e, out, follow(e, v[i], attribute, otherwise));
        }
    }
    return sr_j_of_seq(out);
}

static jvalue pick(jenv *e, jvalue self, const jargs *a, bool want, bool by_attribute) {
    uint32_t n, used = by_attribute;
    const jvalue *v = sr_j_iterate(e, self, &n);
    jseq *out = sr_j_seq(e, J_GENERATOR, 0);
    if (a->n < used) sr_j_fail(e, SR_INVALID, "found no attribute, expected its name");
    for (uint32_t i = 0; i < n; i++) {
        sr_j_charge(e, 1);
        jvalue item = by_attribute ? follow(e, v[i], a->at[0], absent) : v[i];
        bool is = false;
        if (a->n > used) {
            jargs inner = rest(a, used + 1);
            is = sr_j_truth(sr_j_call_builtin(e, row_of(e, a->at[used], sr_j_test, "test"), item, &inner));
        } else {
            is = sr_j_truth(item);
        }
        if (is == want) sr_j_push(e, out, v[i]);
    }
    return sr_j_of_seq(out);
}
static jvalue f_select(jenv *e, jvalue self, jargs *a) {
    return pick(e, self, a, true, false);
}
static jvalue f_reject(jenv *e, jvalue self, jargs *a) {
    return pick(e, self, a, false, false);
}
static jvalue f_selectattr(jenv *e, jvalue self, jargs *a) {
    return pick(e, self, a, true, true);
}
static jvalue f_rejectattr(jenv *e, jvalue self, jargs *a) {
    return pick(e, self, a, false, true);
}

/* ---------------------------------------------------------------- texts */

static jvalue f_upper(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_case(e, sr_j_text(e, self), J_UPPER);
}
static jvalue f_lower(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_case(e, sr_j_text(e, self), J_LOWER);
}

static jvalue f_capitalize(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_capitalize(e, sr_j_text(e, self));
}

/* Words begin behind white space and opening brackets: not as str.title(). */
static jvalue f_title(jenv *e, jvalue self, jargs *a) {
    jvalue s = sr_j_text(e, self);
    size_t from = e->out.n;
    bool inside = false;
    (void)a;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        i += sr_utf8_get(s.u.s + i, &cp);
        sr_j_put_case(e, cp, inside ? J_LOWER : J_UPPER);
        inside = !(sr_j_is_space(cp) || cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<');
    }
    sr_j_charge(e, s.n);
    return sr_j_take(e, from);
}

static jvalue f_trim(jenv *e, jvalue self, jargs *a) {
    return sr_j_strip(e, sr_j_text(e, self), a->slot[0], true, true);
}

static jvalue f_replace(jenv *e, jvalue self, jargs *a) {
    int64_t count = given(a, 2) && a->slot[2].kind != J_NONE ? whole(e, a, 2, -1) : -1;
    return sr_j_replace(e, sr_j_text(e, self), sr_j_text(e, a->slot[0]), sr_j_text(e, a->slot[1]), count);
}

static jvalue f_indent(jenv *e, jvalue self, jargs *a) {
    jvalue s = sr_j_text(e, self), by = a->slot[0];
    if (by.kind != J_STRING) by = sr_j_binary(e, T_MUL, sr_j_string(" ", 1), sr_j_int(whole(e, a, 0, 4)));
    const jseq *lines = sr_j_lines(e, s, false);
    size_t from = e->out.n;
    bool safe = s.safe, newline = s.n && (s.u.s[s.n - 1] == '\n' || s.u.s[s.n - 1] == '\r');
    uint32_t n = lines->n + (newline || !lines->n); /* an empty last line counts */
    for (uint32_t i = 0; i < n; i++) {
        jvalue line = i < lines->n ? lines->v[i] : sr_j_string("", 0);
        if (i) sr_j_put_literal(e, "\n");
        if (i ? line.n || flag(a, 2) : flag(a, 1)) sr_j_put_bytes(e, by.u.s, by.n);
        sr_j_put_bytes(e, line.u.s, line.n);
    }
    jvalue text = sr_j_take(e, from);
    text.safe = safe;
    return text;
}

static jvalue f_center(jenv *e, jvalue self, jargs *a) {
    jvalue text = sr_j_text(e, self), width = sr_j_int(whole(e, a, 0, 80));
    return sr_j_call_builtin(e, sr_j_method(text, sr_j_string("center", 6)), text, &(jargs){.at = &width, .n = 1});
}

static jvalue f_truncate(jenv *e, jvalue self, jargs *a) {
    int64_t most = whole(e, a, 0, 255), leeway = given(a, 3) && a->slot[3].kind != J_NONE ? whole(e, a, 3, 5) : 5;
    jvalue end = given(a, 2) ? sr_j_text(e, a->slot[2]) : sr_j_string("...", 3);
    int64_t n = sr_j_length(e, self), kept = most - sr_j_length(e, end);
    if (kept < 0 || leeway < 0)
        sr_j_fail(e, SR_INVALID, "found the length %lld for truncate, expected room for the end '%s' and leeway >= 0",
                  (long long)most, sr_j_shown(end.u.s, end.n));
    if (n <= most + leeway) return self;
    if (self.kind != J_STRING)
        sr_j_fail(e, SR_INVALID, "found a value of type '%s' for truncate, expected a string", sr_j_type(self));
    jvalue text = sr_j_slice(e, self, absent, sr_j_int(kept), absent);
    int64_t space = flag(a, 1) ? -1 : sr_j_search(e, text, sr_j_string(" ", 1), 0, true);
    return sr_j_binary(e, T_ADD, space < 0 ? text : sr_j_part(text, 0, (size_t)space), end);
}

static jvalue f_wordcount(jenv *e, jvalue self, jargs *a) {
    jvalue s = sr_j_text(e, self);
    int64_t n = 0;
    bool inside = false;
    (void)a;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        i += sr_utf8_get(s.u.s + i, &cp);
        bool word = cp == '_' || sr_j_is_alnum(cp);
        n += word && !inside;
        inside = word;
    }
    sr_j_charge(e, s.n);
    return sr_j_int(n);
}

static jvalue f_string(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_text(e, self);
}

static jvalue f_safe(jenv *e, jvalue self, jargs *a) {
    jvalue s = sr_j_text(e, self);
    (void)a;
    s.safe = true;
    return s;
}

static jvalue f_escape(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_escape(e, self);
}

static jvalue f_forceescape(jenv *e, jvalue self, jargs *a) {
    jvalue s = sr_j_text(e, self);
    (void)a;
    s.safe = false;
    return sr_j_escape(e, s);
}

static jvalue f_format(jenv *e, jvalue self, jargs *a) {
    if (a->n && a->n_keywords)
        sr_j_fail(e, SR_INVALID, "found values by name and by place for format, expected one kind");
    jvalue values;
    if (a->n_keywords) {
        values = sr_j_of_dict(sr_j_dict(e));
        for (uint32_t i = 0; i < a->n_keywords; i++)
            sr_j_put(e, values.u.dict, a->keyword[i].name, a->keyword[i].value);
    } else {
        jseq *seq = sr_j_seq(e, J_TUPLE, a->n);
        for (uint32_t i = 0; i < a->n; i++) sr_j_push(e, seq, a->at[i]);
        values = sr_j_of_seq(seq);
    }
    return sr_j_format(e, sr_j_text(e, self), values);
}

static jvalue f_from_json(jenv *e, jvalue self, jargs *a) {
    (void)a;
    if (self.kind != J_STRING)
        sr_j_fail(e, SR_INVALID, "found a value of type '%s' for from_json, expected a string", sr_j_type(self));
    return sr_j_from_json(e, self.u.s, self.n, "from_json");
}

/* ---------------------------------------------------------------- numbers and the rest */

static jvalue f_abs(jenv *e, jvalue self, jargs *a) {
    int64_t i;
    (void)a;
    if (self.kind == J_FLOAT) return sr_j_float(fabs(self.u.f));
    if (!sr_j_whole(self, &i))
        sr_j_fail(e, SR_INVALID, "found a value of type '%s' for abs, expected a number", sr_j_type(self));
    return i < 0 ? sr_j_binary(e, T_SUB, sr_j_int(0), self) : sr_j_int(i);
}

static jvalue truncated(jenv *e, double d) {
    if (!(d > -0x1p63 && d < 0x1p63)) sr_j_fail(e, SR_LIMIT, "found the number %g, expected one of 64 bits", d);
    return sr_j_int((int64_t)d);
}

static jvalue f_int(jenv *e, jvalue self, jargs *a) {
    int64_t i;
    double d;
    if (self.kind == J_UNDEFINED) return sr_j_attr(e, self, sr_j_string("int", 3)); /* says what is undefined */
    if (sr_j_whole(self, &i)) return sr_j_int(i);
    if (self.kind == J_FLOAT && !isnan(self.u.f)) return truncated(e, self.u.f);
    if (self.kind == J_BIG) return self;
    if (self.kind == J_STRING && sr_j_parse_int(e, self, (int)whole(e, a, 1, 10), &i)) return sr_j_int(i);
    if (self.kind == J_STRING && sr_j_parse_float(self, &d) && isfinite(d)) return truncated(e, d);
    return given(a, 0) ? a->slot[0] : sr_j_int(0);
}

static jvalue f_float(jenv *e, jvalue self, jargs *a) {
    double d;
    if (self.kind == J_UNDEFINED) return sr_j_attr(e, self, sr_j_string("float", 5));
    if (sr_j_number(self, &d)) return sr_j_float(d);
    if ((self.kind == J_STRING || self.kind == J_BIG) && sr_j_parse_float(self, &d)) return sr_j_float(d);
    return given(a, 0) ? a->slot[0] : sr_j_float(0);
}

static jvalue f_round(jenv *e, jvalue self, jargs *a) {
    double d;
    char text[512];
    int64_t precision = whole(e, a, 0, 0);
    bool common = !given(a, 1) || sr_j_is(a->slot[1], "common"), ceiling = given(a, 1) && sr_j_is(a->slot[1], "ceil");
    if (!common && !ceiling && !sr_j_is(a->slot[1], "floor"))
        sr_j_fail(e, SR_INVALID, "found another method for round than 'common', 'ceil' and 'floor'");
    if (!sr_j_number(self, &d))
        sr_j_fail(e, SR_INVALID, "found a value of type '%s' for round, expected a number", sr_j_type(self));
    precision = precision > 330 ? 330 : precision < -330 ? -330 : precision;
    double unit = pow(10, (double)precision);
    if (!common) return sr_j_float((ceiling ? ceil(d * unit) : floor(d * unit)) / unit);
    if (self.kind != J_FLOAT && precision >= 0) return self;
    if (precision < 0) {
        d = nearbyint(d / pow(10, (double)-precision)) * pow(10, (double)-precision);
        return self.kind == J_FLOAT ? sr_j_float(d) : truncated(e, d);
    }
    if (!isfinite(d) || precision > 100 || fabs(d) >= 0x1p53) return self;
    snprintf(text, sizeof text, "%.*f", (int)precision, d); /* as exact as Python's, ties included */
    return sr_j_float(strtod(text, NULL));
}

static jvalue f_default(jenv *e, jvalue self, jargs *a) {
    (void)e;
    if (self.kind != J_UNDEFINED && !(flag(a, 1) && !sr_j_truth(self))) return self;
    return given(a, 0) ? a->slot[0] : sr_j_string("", 0);
}

static jvalue f_attr(jenv *e, jvalue self, jargs *a) {
    jvalue name = a->slot[0];
    if (self.kind == J_UNDEFINED || name.kind != J_STRING || self.kind == J_DICT) return sr_j_undefined(name);
    return sr_j_attr(e, self, name);
}

static const jbuiltin filters[] = {{"abs", "", 0, f_abs},
                                   {"attr", "name", 1, f_attr},
                                   {"batch", "linecount fill_with", 1, f_batch},
                                   {"capitalize", "", 0, f_capitalize},
                                   {"center", "width", 0, f_center},
                                   {"count", "", 0, f_length},
                                   {"d", "default_value boolean", 0, f_default},
                                   {"default", "default_value boolean", 0, f_default},
                                   {"dictsort", "case_sensitive by reverse", 0, f_dictsort},
                                   {"e", "", 0, f_escape},
                                   {"escape", "", 0, f_escape},
                                   {"first", "", 0, f_first},
                                   {"float", "default", 0, f_float},
                                   {"forceescape", "", 0, f_forceescape},
                                   {"format", "*", 0, f_format},
                                   {"from_json", "", 0, f_from_json},
                                   {"groupby", "attribute default case_sensitive", 1, f_groupby},
                                   {"indent", "width first blank", 0, f_indent},
                                   {"int", "default base", 0, f_int},
                                   {"items", "", 0, f_items},
                                   {"join", "d attribute", 0, f_join},
                                   {"last", "", 0, f_last},
                                   {"length", "", 0, f_length},
                                   {"list", "", 0, f_list},
                                   {"lower", "", 0, f_lower},
                                   {"map", "*", 0, f_map},
                                   {"max", "case_sensitive attribute", 0, f_max},
                                   {"min", "case_sensitive attribute", 0, f_min},
                                   {"pprint", "", 0, sr_j_pprint},
                                   {"reject", "*", 0, f_reject},
                                   {"rejectattr", "*", 0, f_rejectattr},
                                   {"replace", "old new count", 2, f_replace},
                                   {"reverse", "", 0, f_reverse},
                                   {"round", "precision method", 0, f_round},
                                   {"safe", "", 0, f_safe},
                                   {"select", "*", 0, f_select},
                                   {"selectattr", "*", 0, f_selectattr},
                                   {"slice", "slices fill_with", 1, f_slice},
                                   {"sort", "reverse case_sensitive attribute", 0, f_sort},
                                   {"string", "", 0, f_string},
                                   {"sum", "attribute start", 0, f_sum},
                                   {"title", "", 0, f_title},
                                   {"tojson", "ensure_ascii indent separators sort_keys", 0, sr_j_tojson},
                                   {"trim", "chars", 0, f_trim},
                                   {"truncate", "length killwords end leeway", 0, f_truncate},
                                   {"unique", "case_sensitive attribute", 0, f_unique},
                                   {"upper", "", 0, f_upper},
                                   {"wordcount", "", 0, f_wordcount},
                                   {"wordwrap", "width break_long_words wrapstring break_on_hyphens", 0, sr_j_wordwrap},
                                   {0}};

/* ---------------------------------------------------------------- tests */

#define TEST(name, expression)                                                                                         \
    static jvalue t_##name(jenv *e, jvalue self, jargs *a) {                                                           \
        (void)e;                                                                                                       \
        (void)a;                                                                                                       \
        return sr_j_bool(expression);                                                                                  \
    }

static bool is_container(jvalue v) {
    return v.kind == J_SEQ || v.kind == J_DICT;
}

static bool is_multiple(jenv *e, jvalue v, jvalue of, int64_t remainder) {
    return sr_j_equal(e, sr_j_binary(e, T_MOD, v, of), sr_j_int(remainder));
}

TEST(defined, self.kind != J_UNDEFINED)
TEST(undefined, self.kind == J_UNDEFINED)
TEST(none, self.kind == J_NONE)
TEST(boolean, self.kind == J_BOOL)
TEST(true, self.kind == J_BOOL && self.u.b)
TEST(false, self.kind == J_BOOL && !self.u.b)
TEST(integer, self.kind == J_INT || self.kind == J_BIG)
TEST(float, self.kind == J_FLOAT)
TEST(number, self.kind >= J_BOOL && self.kind <= J_FLOAT)
TEST(string, self.kind == J_STRING)
TEST(mapping, self.kind == J_DICT)
TEST(sequence, self.kind == J_STRING || self.kind == J_DICT || self.kind == J_UNDEFINED ||
                   (self.kind == J_SEQ && self.u.seq->flavor <= J_RANGE))
TEST(iterable, self.kind == J_STRING || is_container(self) || self.kind == J_UNDEFINED || self.kind == J_LOOP)
TEST(callable, self.kind == J_CALLABLE || self.kind == J_MACRO)
TEST(escaped, self.kind == J_STRING && self.safe)
TEST(sameas, self.kind == a->slot[0].kind &&
                 (is_container(self) ? self.u.seq == a->slot[0].u.seq : sr_j_equal(e, self, a->slot[0])))
TEST(in, sr_j_contains(e, a->slot[0], self))
TEST(eq, sr_j_equal(e, self, a->slot[0]))
TEST(ne, !sr_j_equal(e, self, a->slot[0]))
TEST(lt, sr_j_compare(e, self, a->slot[0], "<") == -1)
TEST(le, sr_j_compare(e, self, a->slot[0], "<=") <= 0)
TEST(gt, sr_j_compare(e, self, a->slot[0], ">") == 1)
TEST(ge, sr_j_compare(e, a->slot[0], self, ">=") <= 0)
TEST(odd, is_multiple(e, self, sr_j_int(2), 1))
TEST(even, is_multiple(e, self, sr_j_int(2), 0))
TEST(divisibleby, is_multiple(e, self, a->slot[0], 0))
TEST(lower, sr_j_is_case(sr_j_text(e, self), J_LOWER))
TEST(upper, sr_j_is_case(sr_j_text(e, self), J_UPPER))
TEST(filter, self.kind == J_STRING && sr_j_filter(self) != NULL)
TEST(test, self.kind == J_STRING && sr_j_test(self) != NULL)

static const jbuiltin tests[] = {{"boolean", "", 0, t_boolean},
                                 {"callable", "", 0, t_callable},
                                 {"defined", "", 0, t_defined},
                                 {"divisibleby", "num", 1, t_divisibleby},
                                 {"eq", "b", 1, t_eq},
                                 {"equalto", "b", 1, t_eq},
                                 {"==", "b", 1, t_eq},
                                 {"escaped", "", 0, t_escaped},
                                 {"even", "", 0, t_even},
                                 {"false", "", 0, t_false},
                                 {"filter", "", 0, t_filter},
                                 {"float", "", 0, t_float},
                                 {"ge", "b", 1, t_ge},
                                 {">=", "b", 1, t_ge},
                                 {"greaterthan", "b", 1, t_gt},
                                 {"gt", "b", 1, t_gt},
                                 {">", "b", 1, t_gt},
                                 {"in", "seq", 1, t_in},
                                 {"integer", "", 0, t_integer},
                                 {"iterable", "", 0, t_iterable},
                                 {"le", "b", 1, t_le},
                                 {"<=", "b", 1, t_le},
                                 {"lessthan", "b", 1, t_lt},
                                 {"lower", "", 0, t_lower},
                                 {"lt", "b", 1, t_lt},
                                 {"<", "b", 1, t_lt},
                                 {"mapping", "", 0, t_mapping},
                                 {"ne", "b", 1, t_ne},
                                 {"!=", "b", 1, t_ne},
                                 {"none", "", 0, t_none},
                                 {"number", "", 0, t_number},
                                 {"odd", "", 0, t_odd},
                                 {"sameas", "other", 1, t_sameas},
                                 {"sequence", "", 0, t_sequence},
                                 {"string", "", 0, t_string},
                                 {"test", "", 0, t_test},
                                 {"true", "", 0, t_true},
                                 {"undefined", "", 0, t_undefined},
                                 {"upper", "", 0, t_upper},
                                 {0}};

const jbuiltin *sr_j_row(const jbuiltin *table, jvalue name) {
    for (; table->name; table++)
        if (sr_j_is(name, table->name)) return table;
    return NULL;
}
const jbuiltin *sr_j_filter(jvalue name) {
    return sr_j_row(filters, name);
}
const jbuiltin *sr_j_test(jvalue name) {
    return sr_j_row(tests, name);
}
