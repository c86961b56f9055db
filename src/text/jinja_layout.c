/* Filters that lay text out in lines: wordwrap (Python's textwrap) and pprint (Python's pprint). */
#include "text/jinja.h"
#include "text/unicode.h"

/* ---------------------------------------------------------------- wordwrap */

typedef struct chars {
    const char *s;
    uint32_t *cp, *at; /* code points, and where each begins; at[n] is the end */
    size_t n;
} chars;

static chars decode(jenv *e, jvalue s) {
    chars c = {s.u.s, sr_j_alloc(e, (size_t)s.n + 1, sizeof *c.cp), sr_j_alloc(e, (size_t)s.n + 1, sizeof *c.at), 0};
    size_t at = 0;
    while (at < s.n) {
        c.at[c.n] = (uint32_t)at;
        at += sr_utf8_get(s.u.s + at, &c.cp[c.n++]);
    }
    c.at[c.n] = s.n;
    sr_j_charge(e, s.n);
    return c;
}

static bool is_blank(uint32_t cp) {
    return cp == ' ' || (cp >= 9 && cp <= 13);
}
static bool is_word(uint32_t cp) {
    return cp == '_' || sr_j_is_alnum(cp);
}
static bool is_letter(uint32_t cp) {
    return is_word(cp) && !sr_char_is_decimal(cp);
}
static bool is_word_mark(uint32_t cp) {
    return is_word(cp) || (cp < 0x80 && cp && strchr("!\"'&.,?", (int)cp));
}

/* Behind the dashes of "word--word" at i; i when they are none. */
static size_t dashes(const chars *c, size_t i) {
    size_t end = i;
    if (!i || !is_word_mark(c->cp[i - 1])) return i;
    while (end < c->n && c->cp[end] == '-') end++;
    return end >= i + 2 && end < c->n && is_word(c->cp[end]) ? end : i;
}

/* Whether a word may be broken behind the hyphen at i: "ab-cd", "a-b-cd", not "-a", "a-b", "1-2". */
static bool breaks_behind(const chars *c, size_t i) {
    const uint32_t *p = c->cp;
    bool before = i >= 2 && is_letter(p[i - 1]) && is_letter(p[i - 2]);
    before |= i >= 3 && is_word_mark(p[i - 1]) && p[i - 2] == '-' && is_letter(p[i - 3]);
    if (!before || i + 2 >= c->n || !is_letter(p[i + 1])) return false;
    return is_letter(p[i + 2]) || (p[i + 2] == '-' && i + 3 < c->n && is_letter(p[i + 3]));
}

/* End of the piece that begins at i and stays in one line if it can: white space, dashes, a word or a part of one. */
static size_t piece(const chars *c, size_t i, bool hyphens) {
    size_t end = i;
    if (is_blank(c->cp[i])) {
        while (end < c->n && is_blank(c->cp[end])) end++;
        return end;
    }
    if (hyphens && (end = dashes(c, i)) > i) return end;
    for (end = i + 1; end < c->n && !is_blank(c->cp[end]); end++) {
        if (!hyphens || c->cp[end] != '-') continue;
        if (breaks_behind(c, end)) return end + 1;
        if (dashes(c, end) > end) break;
    }
    return end;
}

/* Where to break a piece [from, end) too long for a line, of which `room` characters fit. */
static size_t forced(const chars *c, size_t from, size_t room, bool hyphens) {
    bool other = false;
    size_t best = from + room;
    for (size_t i = from; hyphens && i < from + room; i++) {
        if (c->cp[i] == '-' && other) best = i + 1;
        other |= c->cp[i] != '-';
    }
    return best;
}

static bool is_space(const chars *c, size_t from, size_t to) {
    while (from < to && sr_j_is_space(c->cp[from])) from++;
    return from == to;
}

/* TextWrapper._wrap_chunks of Python 3.11. */
static void wrap_line(jenv *e, const chars *c, size_t width, bool break_long, bool hyphens, jvalue newline) {
    size_t i = 0, end = 0; /* the next piece; the same: it is not looked for yet */
    bool first = true;
    while (i < c->n) {
        if (end == i) end = piece(c, i, hyphens);
        if (!first && is_space(c, i, end)) i = end;
        size_t from = i, last = i; /* of the line, and of its latest piece */
        while (i < c->n) {
            if (end == i) end = piece(c, i, hyphens);
            if (end - from > width) break;
            last = i;
            i = end;
        }
        if (i < c->n && end - i > width && (break_long || i == from)) {
            last = i;
            i = break_long ? forced(c, i, width - (i - from), hyphens) : end;
        }
        size_t keep = is_space(c, last, i) ? last : i;
        sr_j_charge(e, 1);
        if (keep == from) continue;
        if (!first) sr_j_put_bytes(e, newline.u.s, newline.n);
        first = false;
        sr_j_put_bytes(e, c->s + c->at[from], c->at[keep] - c->at[from]);
    }
}

static bool truth(const jargs *a, int i, bool otherwise) {
    return a->slot[i].kind == J_ABSENT ? otherwise : sr_j_truth(a->slot[i]);
}

jvalue sr_j_wordwrap(jenv *e, jvalue self, jargs *a) {
    int64_t width = 79;
    jvalue newline = sr_j_string("\n", 1);
    if (self.kind != J_STRING)
        sr_j_fail(e, SR_INVALID, "found a value of type '%s' for wordwrap, expected a string", sr_j_type(self));
    if (a->slot[0].kind != J_ABSENT && (!sr_j_whole(a->slot[0], &width) || width < 1))
        sr_j_fail(e, SR_INVALID, "found another width for wordwrap than a whole number from 1 on");
    if (a->slot[2].kind == J_STRING) newline = a->slot[2];
    const jseq *lines = sr_j_lines(e, self, false);
    size_t from = e->out.n;
    for (uint32_t i = 0; i < lines->n; i++) {
        chars c = decode(e, lines->v[i]);
        if (i) sr_j_put_bytes(e, newline.u.s, newline.n);
        wrap_line(e, &c, (size_t)width, truth(a, 1, true), truth(a, 3, true), newline);
    }
    return sr_j_take(e, from);
}

/* ---------------------------------------------------------------- pprint */

enum { LINE = 80 };

static bool is_plain(jvalue v, jflavor flavor) {
    return sr_j_is_seq(v, flavor) && !v.u.seq->group;
}

/* Keys that have no order stand by their types. */
static int by_key(const void *a, const void *b, void *env) {
    jvalue x = ((const jpair *)a)->key, y = ((const jpair *)b)->key;
    bool numbers = x.kind >= J_BOOL && x.kind <= J_FLOAT && y.kind >= J_BOOL && y.kind <= J_FLOAT;
    if (!numbers && (x.kind != J_STRING || y.kind != J_STRING)) return strcmp(sr_j_type(x), sr_j_type(y));
    return sr_j_compare(env, x, y, "sorting");
}

static jpair *sorted(jenv *e, const jdict *d) {
    jpair *at = sr_j_alloc(e, (size_t)d->n + 1, sizeof *at);
    if (d->n) memcpy(at, d->at, d->n * sizeof *at);
    sr_j_sort(e, at, d->n, sizeof *at, by_key);
    return at;
}

/* repr(v), with dicts in the order of their keys. */
static void put_repr(jenv *e, jvalue v) {
    sr_j_enter(e);
    sr_j_charge(e, 1);
    if (v.kind == J_DICT) {
        const jpair *at = sorted(e, v.u.dict);
        sr_j_put_literal(e, "{");
        for (uint32_t i = 0; i < v.u.dict->n; i++) {
            if (i) sr_j_put_literal(e, ", ");
            put_repr(e, at[i].key);
            sr_j_put_literal(e, ": ");
            put_repr(e, at[i].value);
        }
        sr_j_put_literal(e, "}");
    } else if (is_plain(v, J_LIST) || is_plain(v, J_TUPLE)) {
        bool list = sr_j_is_seq(v, J_LIST);
        sr_j_put_literal(e, list ? "[" : "(");
        for (uint32_t i = 0; i < v.u.seq->n; i++) {
            if (i) sr_j_put_literal(e, ", ");
            put_repr(e, v.u.seq->v[i]);
        }
        sr_j_put_literal(e, list ? "]" : v.u.seq->n == 1 ? ",)" : ")");
    } else {
        sr_j_repr(e, v);
    }
    sr_j_leave(e);
}

static jvalue repr_of(jenv *e, jvalue v) {
    size_t from = e->out.n;
    put_repr(e, v);
    return sr_j_take(e, from);
}

static int64_t width_of(jvalue text) {
    return sr_j_count_chars(text.u.s, text.n);
}

static void put_line(jenv *e, int64_t indent) {
    sr_j_put_literal(e, "\n");
    sr_j_put_times(e, ' ', indent);
}

/* The pieces of a string that is too long for its line: whole lines, or words with the white space behind them. */
static void put_string(jenv *e, jvalue s, int64_t indent, int64_t allowance, bool top) {
    const jseq *lines = sr_j_lines(e, s, true);
    jseq *pieces = sr_j_seq(e, J_LIST, 0);
    jvalue whole = s;
    indent += top;
    allowance += top;
    for (uint32_t i = 0; i < lines->n; i++) {
        jvalue line = lines->v[i];
        bool last = i + 1 == lines->n;
        int64_t width = LINE - indent;
        whole = repr_of(e, line);
        if (width_of(whole) <= width - (last ? allowance : 0)) {
            sr_j_push(e, pieces, whole);
            continue;
        }
        size_t from = 0, end = 0;
        while (end < line.n) {
            size_t next = end;
            for (int space = 0; space < 2; space++)
                while (next < line.n) {
                    uint32_t cp;
                    unsigned len = sr_utf8_get(line.u.s + next, &cp);
                    if (sr_j_is_space(cp) != (space == 1)) break;
                    next += len;
                }
            if (next == line.n && last) width -= allowance;
            if (end > from && width_of(repr_of(e, sr_j_part(line, from, next))) > width) {
                sr_j_push(e, pieces, repr_of(e, sr_j_part(line, from, end)));
                from = end;
            }
            end = next;
        }
        sr_j_push(e, pieces, repr_of(e, sr_j_part(line, from, end)));
    }
    if (pieces->n == 1) {
        sr_j_put_bytes(e, whole.u.s, whole.n);
        return;
    }
    if (top) sr_j_put_literal(e, "(");
    for (uint32_t i = 0; i < pieces->n; i++) {
        if (i) put_line(e, indent);
        sr_j_put_bytes(e, pieces->v[i].u.s, pieces->v[i].n);
    }
    if (top) sr_j_put_literal(e, ")");
}

/* PrettyPrinter._format of Python 3.11: what does not fit in the line, with `allowance` characters behind it, goes to
 * lines of its own. */
static void put_pretty(jenv *e, jvalue v, int64_t indent, int64_t allowance, bool top) {
    jvalue text = repr_of(e, v);
    bool fits = width_of(text) <= LINE - indent - allowance, list = is_plain(v, J_LIST), tuple = is_plain(v, J_TUPLE);
    sr_j_enter(e);
    if (!fits && v.kind == J_DICT) {
        const jpair *at = sorted(e, v.u.dict);
        sr_j_put_literal(e, "{");
        for (uint32_t i = 0; i < v.u.dict->n; i++) {
            jvalue key = repr_of(e, at[i].key);
            if (i) sr_j_put_literal(e, ",");
            if (i) put_line(e, indent + 1);
            sr_j_put_bytes(e, key.u.s, key.n);
            sr_j_put_literal(e, ": ");
            put_pretty(e, at[i].value, indent + 1 + width_of(key) + 2, i + 1 < v.u.dict->n ? 1 : allowance + 1, false);
        }
        sr_j_put_literal(e, "}");
    } else if (!fits && (list || tuple)) {
        const char *close = list ? "]" : v.u.seq->n == 1 ? ",)" : ")";
        sr_j_put_literal(e, list ? "[" : "(");
        for (uint32_t i = 0; i < v.u.seq->n; i++) {
            if (i) sr_j_put_literal(e, ",");
            if (i) put_line(e, indent + 1);
            put_pretty(e, v.u.seq->v[i], indent + 1, i + 1 < v.u.seq->n ? 1 : allowance + (int64_t)strlen(close),
                       false);
        }
        sr_j_put_literal(e, close);
    } else if (!fits && v.kind == J_STRING && !v.safe) {
        put_string(e, v, indent, allowance, top);
    } else {
        sr_j_put_bytes(e, text.u.s, text.n);
    }
    sr_j_leave(e);
}

jvalue sr_j_pprint(jenv *e, jvalue self, jargs *a) {
    size_t from = e->out.n;
    (void)a;
    put_pretty(e, self, 0, 0, true);
    return sr_j_take(e, from);
}
