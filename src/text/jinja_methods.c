/* Methods of str, list and dict, the attributes of a loop, and the global functions. There is no way from here to
 * anything but values: no attribute is ever looked up in the program. */
#include <stdio.h>
#include <time.h>

#include "text/jinja.h"
#include "text/unicode.h"

static bool given(const jargs *a, int i) {
    return a->slot[i].kind != J_ABSENT && a->slot[i].kind != J_NONE;
}

static int64_t whole(jenv *e, const jargs *a, int i, int64_t otherwise) {
    int64_t v;
    if (!given(a, i)) return otherwise;
    if (!sr_j_whole(a->slot[i], &v))
        sr_j_fail(e, SR_INVALID, "found an argument of type '%s', expected a whole number", sr_j_type(a->slot[i]));
    return v;
}

static jvalue string(jenv *e, const jargs *a, int i) {
    if (a->slot[i].kind != J_STRING)
        sr_j_fail(e, SR_INVALID, "found an argument of type '%s', expected a string", sr_j_type(a->slot[i]));
    return a->slot[i];
}

static jvalue like(jvalue text, jvalue self) {
    text.safe = self.safe;
    return text;
}

/* ---------------------------------------------------------------- str: case and classes */

static jvalue s_upper(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_case(e, self, J_UPPER);
}
static jvalue s_lower(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_case(e, self, J_LOWER);
}
static jvalue s_title(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_case(e, self, J_TITLE);
}

static jvalue s_capitalize(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_capitalize(e, self);
}

static jvalue s_swapcase(jenv *e, jvalue self, jargs *a) {
    size_t from = e->out.n;
    (void)a;
    for (size_t i = 0; i < self.n;) {
        uint32_t cp;
        unsigned len = sr_utf8_get(self.u.s + i, &cp);
        bool is_upper = sr_j_is_case(sr_j_part(self, i, i + len), J_UPPER);
        sr_j_put_case(e, cp, is_upper ? J_LOWER : J_UPPER);
        i += len;
    }
    return like(sr_j_take(e, from), self);
}

static bool is_superscript(uint32_t cp) { /* digits for Python beside the decimal ones, of those in use */
    return cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || (cp >= 0x2070 && cp <= 0x2089) || (cp >= 0x2460 && cp <= 0x2468);
}
static bool is_digit(uint32_t cp) {
    return sr_char_is_decimal(cp) || is_superscript(cp);
}
static bool is_alpha(uint32_t cp) {
    return sr_j_is_alnum(cp) && !sr_char_is_number(cp);
}
static bool is_ascii(uint32_t cp) {
    return cp < 0x80;
}

static jvalue all(jvalue self, bool (*is)(uint32_t cp), bool empty) {
    for (size_t i = 0; i < self.n;) {
        uint32_t cp;
        i += sr_utf8_get(self.u.s + i, &cp);
        if (!is(cp)) return sr_j_bool(false);
    }
    return sr_j_bool(self.n || empty);
}

#define CLASS(name, expression)                                                                                        \
    static jvalue s_##name(jenv *e, jvalue self, jargs *a) {                                                           \
        (void)a;                                                                                                       \
        sr_j_charge(e, self.n);                                                                                        \
        return expression;                                                                                             \
    }
CLASS(isalnum, all(self, sr_j_is_alnum, false))
CLASS(isalpha, all(self, is_alpha, false))
CLASS(isascii, all(self, is_ascii, true))
CLASS(isdecimal, all(self, sr_char_is_decimal, false))
CLASS(isdigit, all(self, is_digit, false))
CLASS(isnumeric, all(self, sr_char_is_number, false))
CLASS(isspace, all(self, sr_j_is_space, false))
CLASS(islower, sr_j_bool(sr_j_is_case(self, J_LOWER)))
CLASS(isupper, sr_j_bool(sr_j_is_case(self, J_UPPER)))

/* ---------------------------------------------------------------- str: ends and places */

static jvalue strip(jenv *e, jvalue self, const jargs *a, bool left, bool right) {
    return sr_j_strip(e, self, given(a, 0) ? string(e, a, 0) : sr_j_none(), left, right);
}
static jvalue s_strip(jenv *e, jvalue self, jargs *a) {
    return strip(e, self, a, true, true);
}
static jvalue s_lstrip(jenv *e, jvalue self, jargs *a) {
    return strip(e, self, a, true, false);
}
static jvalue s_rstrip(jenv *e, jvalue self, jargs *a) {
    return strip(e, self, a, false, true);
}

static bool begins(jvalue s, jvalue with) {
    return with.n <= s.n && memcmp(s.u.s, with.u.s, with.n) == 0;
}
static bool ends(jvalue s, jvalue with) {
    return with.n <= s.n && memcmp(s.u.s + s.n - with.n, with.u.s, with.n) == 0;
}

/* The part of self between the arguments start and stop, in slots 1 and 2. */
static jvalue window(jenv *e, jvalue self, const jargs *a) {
    return given(a, 1) || given(a, 2) ? sr_j_slice(e, self, a->slot[1], a->slot[2], sr_j_none()) : self;
}

static jvalue any_end(jenv *e, jvalue self, jargs *a, bool (*is)(jvalue s, jvalue with)) {
    self = window(e, self, a);
    if (!sr_j_is_seq(a->slot[0], J_TUPLE)) return sr_j_bool(is(self, string(e, a, 0)));
    const jseq *with = a->slot[0].u.seq;
    for (uint32_t i = 0; i < with->n; i++) {
        a->slot[0] = with->v[i];
        if (is(self, string(e, a, 0))) return sr_j_bool(true);
    }
    return sr_j_bool(false);
}
static jvalue s_startswith(jenv *e, jvalue self, jargs *a) {
    return any_end(e, self, a, begins);
}
static jvalue s_endswith(jenv *e, jvalue self, jargs *a) {
    return any_end(e, self, a, ends);
}

static jvalue s_removeprefix(jenv *e, jvalue self, jargs *a) {
    jvalue with = string(e, a, 0);
    return begins(self, with) ? sr_j_part(self, with.n, self.n) : self;
}
static jvalue s_removesuffix(jenv *e, jvalue self, jargs *a) {
    jvalue with = string(e, a, 0);
    return ends(self, with) ? sr_j_part(self, 0, self.n - with.n) : self;
}

/* Position in characters, -1: none. */
static int64_t find(jenv *e, jvalue self, const jargs *a, bool last) {
    int64_t start = whole(e, a, 1, 0), n;
    jvalue in = window(e, self, a);
    int64_t at = sr_j_search(e, in, string(e, a, 0), 0, last);
    if (at < 0) return -1;
    n = sr_j_length(e, self);
    if (start > n) return -1;
    if (start < 0) start = start < -n ? 0 : start + n;
    sr_j_charge(e, (uint64_t)at / 16);
    return start + sr_j_count_chars(in.u.s, (size_t)at);
}
static jvalue s_find(jenv *e, jvalue self, jargs *a) {
    return sr_j_int(find(e, self, a, false));
}
static jvalue s_rfind(jenv *e, jvalue self, jargs *a) {
    return sr_j_int(find(e, self, a, true));
}
static jvalue found(jenv *e, int64_t at) {
    if (at < 0) sr_j_fail(e, SR_INVALID, "found no such part, expected one for index(); find() gives -1");
    return sr_j_int(at);
}
static jvalue s_index(jenv *e, jvalue self, jargs *a) {
    return found(e, find(e, self, a, false));
}
static jvalue s_rindex(jenv *e, jvalue self, jargs *a) {
    return found(e, find(e, self, a, true));
}

static jvalue s_count(jenv *e, jvalue self, jargs *a) {
    jvalue what = string(e, a, 0);
    self = window(e, self, a);
    if (!what.n) return sr_j_int((int64_t)sr_j_length(e, self) + 1);
    int64_t n = 0, at = 0;
    while ((at = sr_j_search(e, self, what, (size_t)at, false)) >= 0) {
        at += what.n;
        n++;
    }
    return sr_j_int(n);
}

/* ---------------------------------------------------------------- str: parts */

static jvalue s_replace(jenv *e, jvalue self, jargs *a) {
    return sr_j_replace(e, self, string(e, a, 0), string(e, a, 1), whole(e, a, 2, -1));
}

static void reverse(jseq *seq) {
    for (uint32_t i = 0, k = seq->n; i + 1 < k; i++) {
        jvalue v = seq->v[i];
        seq->v[i] = seq->v[--k];
        seq->v[k] = v;
    }
}

static void split_space(jenv *e, jvalue s, int64_t most, bool right, jseq *out) {
    for (;;) {
        s = sr_j_strip(e, s, sr_j_none(), !right, right);
        if (!s.n) return;
        if (most-- == 0) break;
        size_t at = right ? s.n : 0;
        uint32_t cp;
        for (;;) {
            if (at == (right ? 0 : s.n)) break;
            size_t to = right ? sr_utf8_before(s.u.s, at) : at;
            unsigned len = sr_utf8_get(s.u.s + to, &cp);
            if (sr_j_is_space(cp)) break;
            at = right ? to : at + len;
        }
        sr_j_charge(e, 1 + (right ? s.n - at : at) / 8);
        sr_j_push(e, out, right ? sr_j_part(s, at, s.n) : sr_j_part(s, 0, at));
        s = right ? sr_j_part(s, 0, at) : sr_j_part(s, at, s.n);
    }
    sr_j_push(e, out, s);
}

static jvalue split(jenv *e, jvalue self, const jargs *a, bool right) {
    jseq *out = sr_j_seq(e, J_LIST, 0);
    int64_t most = whole(e, a, 1, -1);
    if (!given(a, 0)) {
        split_space(e, self, most, right, out);
    } else {
        jvalue by = string(e, a, 0);
        if (!by.n) sr_j_fail(e, SR_INVALID, "found an empty separator for split(), expected some characters");
        for (; most != 0; most--) {
            int64_t at = sr_j_search(e, self, by, 0, right);
            if (at < 0) break;
            sr_j_push(e, out, right ? sr_j_part(self, (size_t)at + by.n, self.n) : sr_j_part(self, 0, (size_t)at));
            self = right ? sr_j_part(self, 0, (size_t)at) : sr_j_part(self, (size_t)at + by.n, self.n);
        }
        sr_j_push(e, out, self);
    }
    if (right) reverse(out);
    return sr_j_of_seq(out);
}
static jvalue s_split(jenv *e, jvalue self, jargs *a) {
    return split(e, self, a, false);
}
static jvalue s_rsplit(jenv *e, jvalue self, jargs *a) {
    return split(e, self, a, true);
}

static jvalue s_splitlines(jenv *e, jvalue self, jargs *a) {
    return sr_j_of_seq(sr_j_lines(e, self, given(a, 0) && sr_j_truth(a->slot[0])));
}

static jvalue partition(jenv *e, jvalue self, const jargs *a, bool right) {
    jvalue by = string(e, a, 0), none = sr_j_part(self, 0, 0);
    if (!by.n) sr_j_fail(e, SR_INVALID, "found an empty separator for partition(), expected some characters");
    int64_t at = sr_j_search(e, self, by, 0, right);
    jseq *out = sr_j_seq(e, J_TUPLE, 3);
    if (at < 0) {
        sr_j_push(e, out, right ? none : self);
        sr_j_push(e, out, none);
        sr_j_push(e, out, right ? self : none);
    } else {
        sr_j_push(e, out, sr_j_part(self, 0, (size_t)at));
        sr_j_push(e, out, by);
        sr_j_push(e, out, sr_j_part(self, (size_t)at + by.n, self.n));
    }
    return sr_j_of_seq(out);
}
static jvalue s_partition(jenv *e, jvalue self, jargs *a) {
    return partition(e, self, a, false);
}
static jvalue s_rpartition(jenv *e, jvalue self, jargs *a) {
    return partition(e, self, a, true);
}

static jvalue s_join(jenv *e, jvalue self, jargs *a) {
    uint32_t n;
    const jvalue *v = sr_j_iterate(e, a->slot[0], &n);
    size_t from = e->out.n;
    for (uint32_t i = 0; i < n; i++) {
        if (v[i].kind != J_STRING)
            sr_j_fail(e, SR_INVALID, "found an item of type '%s' to join, expected strings", sr_j_type(v[i]));
        jvalue item = self.safe ? sr_j_escape(e, v[i]) : v[i];
        if (i) sr_j_put_bytes(e, self.u.s, self.n);
        sr_j_put_bytes(e, item.u.s, item.n);
    }
    sr_j_charge(e, n);
    return like(sr_j_take(e, from), self);
}

/* Padding on both sides, in characters. */
static jvalue pad(jenv *e, jvalue self, const jargs *a, int64_t left, int64_t right) {
    jvalue fill = given(a, 1) ? string(e, a, 1) : sr_j_string(" ", 1);
    if (sr_j_count_chars(fill.u.s, fill.n) != 1)
        sr_j_fail(e, SR_INVALID, "found a fill of several characters, expected one");
    size_t from = e->out.n;
    for (int64_t i = 0; i < left; i++) sr_j_put_bytes(e, fill.u.s, fill.n);
    sr_j_put_bytes(e, self.u.s, self.n);
    for (int64_t i = 0; i < right; i++) sr_j_put_bytes(e, fill.u.s, fill.n);
    return like(sr_j_take(e, from), self);
}

static int64_t missing(jenv *e, jvalue self, const jargs *a) {
    int64_t width = whole(e, a, 0, 0), n = sr_j_length(e, self);
    return width > n ? width - n : 0;
}
static jvalue s_ljust(jenv *e, jvalue self, jargs *a) {
    return pad(e, self, a, 0, missing(e, self, a));
}
static jvalue s_rjust(jenv *e, jvalue self, jargs *a) {
    return pad(e, self, a, missing(e, self, a), 0);
}
static jvalue s_center(jenv *e, jvalue self, jargs *a) {
    int64_t n = missing(e, self, a), left = n / 2 + (n & whole(e, a, 0, 0) & 1);
    return pad(e, self, a, left, n - left);
}
static jvalue s_zfill(jenv *e, jvalue self, jargs *a) {
    int64_t n = missing(e, self, a);
    size_t from = e->out.n, sign = self.n && (self.u.s[0] == '-' || self.u.s[0] == '+');
    sr_j_put_bytes(e, self.u.s, sign);
    for (; n > 0; n--) sr_j_put_literal(e, "0");
    sr_j_put_bytes(e, self.u.s + sign, self.n - sign);
    return like(sr_j_take(e, from), self);
}

static const jbuiltin of_str[] = {{"capitalize", "", 0, s_capitalize},
                                  {"center", "WIDTH FILLCHAR", 1, s_center},
                                  {"count", "SUB START END", 1, s_count},
                                  {"endswith", "SUFFIX START END", 1, s_endswith},
                                  {"find", "SUB START END", 1, s_find},
                                  {"format", "*", 0, sr_j_str_format},
                                  {"index", "SUB START END", 1, s_index},
                                  {"isalnum", "", 0, s_isalnum},
                                  {"isalpha", "", 0, s_isalpha},
                                  {"isascii", "", 0, s_isascii},
                                  {"isdecimal", "", 0, s_isdecimal},
                                  {"isdigit", "", 0, s_isdigit},
                                  {"islower", "", 0, s_islower},
                                  {"isnumeric", "", 0, s_isnumeric},
                                  {"isspace", "", 0, s_isspace},
                                  {"isupper", "", 0, s_isupper},
                                  {"join", "ITERABLE", 1, s_join},
                                  {"ljust", "WIDTH FILLCHAR", 1, s_ljust},
                                  {"lower", "", 0, s_lower},
                                  {"lstrip", "CHARS", 0, s_lstrip},
                                  {"partition", "SEP", 1, s_partition},
                                  {"removeprefix", "PREFIX", 1, s_removeprefix},
                                  {"removesuffix", "SUFFIX", 1, s_removesuffix},
                                  {"replace", "OLD NEW COUNT", 2, s_replace},
                                  {"rfind", "SUB START END", 1, s_rfind},
                                  {"rindex", "SUB START END", 1, s_rindex},
                                  {"rjust", "WIDTH FILLCHAR", 1, s_rjust},
                                  {"rpartition", "SEP", 1, s_rpartition},
                                  {"rsplit", "sep maxsplit", 0, s_rsplit},
                                  {"rstrip", "CHARS", 0, s_rstrip},
                                  {"split", "sep maxsplit", 0, s_split},
                                  {"splitlines", "keepends", 0, s_splitlines},
                                  {"startswith", "PREFIX START END", 1, s_startswith},
                                  {"strip", "CHARS", 0, s_strip},
                                  {"swapcase", "", 0, s_swapcase},
                                  {"title", "", 0, s_title},
                                  {"upper", "", 0, s_upper},
                                  {"zfill", "WIDTH", 1, s_zfill},
                                  {0}};

/* ---------------------------------------------------------------- list and dict */

static jvalue l_count(jenv *e, jvalue self, jargs *a) {
    int64_t n = 0;
    for (uint32_t i = 0; i < self.u.seq->n; i++) n += sr_j_equal(e, self.u.seq->v[i], a->slot[0]);
    return sr_j_int(n);
}
static jvalue l_index(jenv *e, jvalue self, jargs *a) {
    for (uint32_t i = 0; i < self.u.seq->n; i++)
        if (sr_j_equal(e, self.u.seq->v[i], a->slot[0])) return sr_j_int(i);
    return found(e, -1);
}
static jvalue l_copy(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return sr_j_slice(e, self, sr_j_none(), sr_j_none(), sr_j_none());
}
/* Jinja's sandbox refuses what changes a list or dict; templates for other interpreters use these two. */
static jvalue l_append(jenv *e, jvalue self, jargs *a) {
    sr_j_push(e, self.u.seq, a->slot[0]);
    return sr_j_none();
}
static jvalue l_pop(jenv *e, jvalue self, jargs *a) {
    jseq *seq = self.u.seq;
    int64_t i = whole(e, a, 0, -1);
    if (i < 0) i += seq->n;
    if (i < 0 || i >= seq->n) sr_j_fail(e, SR_INVALID, "found a list of %u items, expected one for pop()", seq->n);
    jvalue v = seq->v[i];
    sr_j_charge(e, seq->n / 8);
    memmove(seq->v + i, seq->v + i + 1, (size_t)(seq->n - 1 - i) * sizeof v);
    seq->n--;
    return v;
}

static const jbuiltin of_list[] = {{"append", "OBJECT", 1, l_append}, {"copy", "", 0, l_copy},
                                   {"count", "VALUE", 1, l_count},    {"index", "VALUE", 1, l_index},
                                   {"pop", "INDEX", 0, l_pop},        {0}};
static const jbuiltin of_tuple[] = {{"count", "VALUE", 1, l_count}, {"index", "VALUE", 1, l_index}, {0}};

static jvalue d_get(jenv *e, jvalue self, jargs *a) {
    const jpair *p = sr_j_find(e, self.u.dict, a->slot[0]);
    if (p) return p->value;
    return a->slot[1].kind == J_ABSENT ? sr_j_none() : a->slot[1];
}

static jvalue view(jenv *e, jvalue self, jflavor flavor) {
    const jdict *d = self.u.dict;
    jseq *out = sr_j_seq(e, flavor, d->n);
    for (uint32_t i = 0; i < d->n; i++)
        sr_j_push(e, out,
                  flavor == J_KEYS     ? d->at[i].key
                  : flavor == J_VALUES ? d->at[i].value
                                       : sr_j_pair(e, d->at[i].key, d->at[i].value));
    sr_j_charge(e, d->n / 4);
    return sr_j_of_seq(out);
}
static jvalue d_keys(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return view(e, self, J_KEYS);
}
static jvalue d_values(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return view(e, self, J_VALUES);
}
static jvalue d_items(jenv *e, jvalue self, jargs *a) {
    (void)a;
    return view(e, self, J_ITEMS);
}

static void put_all(jenv *e, jdict *to, const jdict *from) {
    for (uint32_t i = 0; i < from->n; i++) sr_j_put(e, to, from->at[i].key, from->at[i].value);
}

static jvalue d_copy(jenv *e, jvalue self, jargs *a) {
    jdict *d = sr_j_dict(e);
    (void)a;
    put_all(e, d, self.u.dict);
    return sr_j_of_dict(d);
}
static jvalue d_pop(jenv *e, jvalue self, jargs *a) {
    jpair *p = sr_j_find(e, self.u.dict, a->slot[0]);
    if (!p) {
        if (a->slot[1].kind == J_ABSENT)
            sr_j_fail(e, SR_INVALID, "found no such key for pop(), expected one that is there");
        return a->slot[1];
    }
    jvalue v = p->value;
    sr_j_remove(e, self.u.dict, p);
    return v;
}

static const jbuiltin of_dict[] = {{"copy", "", 0, d_copy},
                                   {"get", "KEY DEFAULT", 1, d_get},
                                   {"items", "", 0, d_items},
                                   {"keys", "", 0, d_keys},
                                   {"pop", "KEY DEFAULT", 1, d_pop},
                                   {"values", "", 0, d_values},
                                   {0}};

/* ---------------------------------------------------------------- loop */

static jvalue loop_cycle(jenv *e, jvalue self, jargs *a) {
    if (!a->n) sr_j_fail(e, SR_INVALID, "found no values for loop.cycle(), expected some");
    return a->at[self.u.loop->i % a->n];
}

static jvalue loop_changed(jenv *e, jvalue self, jargs *a) {
    jseq *now = sr_j_seq(e, J_TUPLE, a->n);
    for (uint32_t i = 0; i < a->n; i++) sr_j_push(e, now, a->at[i]);
    jvalue v = sr_j_of_seq(now), *last = &self.u.loop->changed;
    if (last->kind != J_ABSENT && sr_j_equal(e, *last, v)) return sr_j_bool(false);
    *last = v;
    return sr_j_bool(true);
}

static const jbuiltin of_loop[] = {{"cycle", "*", 0, loop_cycle}, {"changed", "*", 0, loop_changed}, {0}};

jvalue sr_j_loop_attr(jenv *e, jloop *loop, jvalue name) {
    int64_t i = loop->i, n = loop->n;
    (void)e;
    if (sr_j_is(name, "index")) return sr_j_int(i + 1);
    if (sr_j_is(name, "index0")) return sr_j_int(i);
    if (sr_j_is(name, "revindex")) return sr_j_int(n - i);
    if (sr_j_is(name, "revindex0")) return sr_j_int(n - i - 1);
    if (sr_j_is(name, "first")) return sr_j_bool(i == 0);
    if (sr_j_is(name, "last")) return sr_j_bool(i == n - 1);
    if (sr_j_is(name, "length")) return sr_j_int(n);
    if (sr_j_is(name, "depth")) return sr_j_int(loop->depth + 1);
    if (sr_j_is(name, "depth0")) return sr_j_int(loop->depth);
    if (sr_j_is(name, "previtem")) return i > 0 ? loop->at[i - 1] : sr_j_undefined(name);
    if (sr_j_is(name, "nextitem")) return i + 1 < n ? loop->at[i + 1] : sr_j_undefined(name);
    return (jvalue){.kind = J_ABSENT};
}

/* ---------------------------------------------------------------- cycler, joiner */

static jvalue cycler_next(jenv *e, jvalue self, jargs *a) {
    jseq *items = self.u.seq;
    (void)e;
    (void)a;
    jvalue v = items->v[items->start];
    items->start = (items->start + 1) % items->n;
    return v;
}
static jvalue cycler_reset(jenv *e, jvalue self, jargs *a) {
    (void)e;
    (void)a;
    self.u.seq->start = 0;
    return sr_j_none();
}

static const jbuiltin of_cycler[] = {{"next", "", 0, cycler_next}, {"reset", "", 0, cycler_reset}, {0}};

static jvalue g_cycler(jenv *e, jvalue self, jargs *a) {
    (void)self;
    if (!a->n || a->n_keywords) sr_j_fail(e, SR_INVALID, "found no values for cycler(), expected some");
    jseq *items = sr_j_seq(e, J_LIST, a->n);
    for (uint32_t i = 0; i < a->n; i++) sr_j_push(e, items, a->at[i]);
    return (jvalue){.kind = J_CYCLER, .u.seq = items};
}

/* self: the text, and once it was asked for the text again. */
static jvalue joiner_next(jenv *e, jvalue self, jargs *a) {
    jseq *text = self.u.seq;
    (void)a;
    if (text->n == 2) return text->v[1];
    sr_j_push(e, text, text->v[0]);
    return sr_j_string("", 0);
}

static jvalue g_joiner(jenv *e, jvalue self, jargs *a) {
    static const jbuiltin next = {"joiner", "", 0, joiner_next};
    jseq *text = sr_j_seq(e, J_LIST, 2);
    jcallable *c = sr_j_alloc(e, 1, sizeof *c);
    (void)self;
    sr_j_push(e, text, a->slot[0].kind == J_ABSENT ? sr_j_string(", ", 2) : a->slot[0]);
    *c = (jcallable){&next, sr_j_of_seq(text)};
    return (jvalue){.kind = J_CALLABLE, .u.callee = c};
}

const jbuiltin *sr_j_method(jvalue self, jvalue name) {
    switch (self.kind) {
    case J_CYCLER:
        return sr_j_row(of_cycler, name);
    case J_STRING:
        return sr_j_row(of_str, name);
    case J_DICT:
        return sr_j_row(of_dict, name);
    case J_LOOP:
        return sr_j_row(of_loop, name);
    case J_SEQ:
        return self.u.seq->flavor <= J_RANGE ? sr_j_row(self.u.seq->flavor == J_LIST ? of_list : of_tuple, name) : NULL;
    default:
        return NULL;
    }
}

/* ---------------------------------------------------------------- global functions */

void sr_j_namespace_put(jenv *e, jvalue ns, jvalue name, jvalue v) {
    if (name.kind != J_STRING || (name.n && name.u.s[0] == '_'))
        sr_j_fail(e, SR_INVALID, "found the attribute '%s' for a namespace, expected a name without '_' in front",
                  name.kind == J_STRING ? sr_j_shown(name.u.s, name.n) : sr_j_type(name));
    sr_j_put(e, ns.u.dict, name, v);
}

/* dict(...) of a dict or of pairs, and of arguments by name. */
static jdict *make_dict(jenv *e, const jargs *a) {
    jdict *d = sr_j_dict(e);
    uint32_t n, two;
    if (a->n > 1) sr_j_fail(e, SR_INVALID, "found %u values for a dict, expected one at most", a->n);
    if (a->n && a->at[0].kind == J_DICT) {
        put_all(e, d, a->at[0].u.dict);
    } else if (a->n) {
        const jvalue *v = sr_j_iterate(e, a->at[0], &n);
        for (uint32_t i = 0; i < n; i++) {
            const jvalue *pair = sr_j_iterate(e, v[i], &two);
            if (two != 2) sr_j_fail(e, SR_INVALID, "found an item of %u values for a dict, expected pairs", two);
            sr_j_put(e, d, pair[0], pair[1]);
        }
    }
    for (uint32_t i = 0; i < a->n_keywords; i++) sr_j_put(e, d, a->keyword[i].name, a->keyword[i].value);
    return d;
}

static jvalue g_dict(jenv *e, jvalue self, jargs *a) {
    (void)self;
    return sr_j_of_dict(make_dict(e, a));
}

static jvalue g_namespace(jenv *e, jvalue self, jargs *a) {
    const jdict *d = make_dict(e, a);
    jvalue ns = {.kind = J_NAMESPACE, .u.dict = sr_j_dict(e)};
    (void)self;
    for (uint32_t i = 0; i < d->n; i++) sr_j_namespace_put(e, ns, d->at[i].key, d->at[i].value);
    return ns;
}

enum { LONGEST_RANGE = 100000 }; /* as Jinja's sandbox */

static jvalue g_range(jenv *e, jvalue self, jargs *a) {
    int64_t start = 0, stop, step = 1;
    (void)self;
    for (int i = 0; i < 3; i++)
        if (a->slot[i].kind != J_ABSENT && !sr_j_whole(a->slot[i], &stop))
            sr_j_fail(e, SR_INVALID, "found an argument of type '%s' for range, expected whole numbers",
                      sr_j_type(a->slot[i]));
    sr_j_whole(a->slot[0], &stop);
    if (a->slot[1].kind != J_ABSENT) {
        start = stop;
        sr_j_whole(a->slot[1], &stop);
    }
    if (a->slot[2].kind != J_ABSENT) sr_j_whole(a->slot[2], &step);
    if (!step) sr_j_fail(e, SR_INVALID, "found a range with step 0, expected another one");
    uint64_t n = 0;
    if (step > 0 ? start < stop : start > stop) {
        uint64_t way = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
        uint64_t by = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
        n = (way - 1) / by + 1;
    }
    if (n > LONGEST_RANGE)
        sr_j_fail(e, SR_LIMIT, "found a range of %llu numbers, expected at most %d", (unsigned long long)n,
                  LONGEST_RANGE);
    jseq *seq = sr_j_seq(e, J_RANGE, (uint32_t)n);
    for (uint64_t i = 0; i < n; i++) sr_j_push(e, seq, sr_j_int((int64_t)((uint64_t)start + i * (uint64_t)step)));
    sr_j_charge(e, n / 4);
    seq->start = start;
    seq->stop = stop;
    seq->step = step;
    return sr_j_of_seq(seq);
}

static jvalue g_raise(jenv *e, jvalue self, jargs *a) {
    jvalue s = sr_j_text(e, a->slot[0]);
    (void)self;
    sr_j_fail(e, SR_INVALID, "the template refuses: %.*s", s.n < 160 ? (int)s.n : 160, s.u.s);
}

/* What strftime may be asked for: nothing of it is undefined in C or needs another locale's rules. */
static jvalue g_strftime(jenv *e, jvalue self, jargs *a) {
    jvalue format = string(e, a, 0);
    time_t now = e->now ? (time_t)e->now : time(NULL);
    struct tm local;
    char one[8], text[256];
    (void)self;
    if (!localtime_r(&now, &local)) sr_j_fail(e, SR_IO, "the clock cannot be read");
    size_t from = e->out.n;
    for (uint32_t i = 0; i < format.n;) {
        const char *percent = memchr(format.u.s + i, '%', format.n - i);
        uint32_t to = percent ? (uint32_t)(percent - format.u.s) : format.n;
        sr_j_put_bytes(e, format.u.s + i, to - i);
        if (!percent) break;
        uint32_t flag = to + 1 < format.n && strchr("-_", format.u.s[to + 1]) && format.u.s[to + 1] ? 1 : 0;
        char letter = to + 1 + flag < format.n ? format.u.s[to + 1 + flag] : 0;
        if (!letter || !strchr("aAbBcCdDeFgGhHIjmMnprRSstTuUVwWxXyYzZklP%", letter))
            sr_j_fail(e, SR_INVALID, "found '%%%c' in the format of strftime_now, expected one of C's letters",
                      letter ? letter : ' ');
        one[0] = '%';
        one[1] = format.u.s[to + 1];
        one[1 + flag] = letter;
        one[2 + flag] = 0;
        sr_j_put_bytes(e, text, strftime(text, sizeof text, one, &local));
        i = to + 2 + flag;
    }
    return sr_j_take(e, from);
}

static const jbuiltin globals[] = {{"cycler", "*", 0, g_cycler},
                                   {"dict", "*", 0, g_dict},
                                   {"joiner", "sep", 0, g_joiner},
                                   {"namespace", "*", 0, g_namespace},
                                   {"raise_exception", "message", 1, g_raise},
                                   {"range", "start stop step", 1, g_range},
                                   {"strftime_now", "format", 1, g_strftime},
                                   {0}};

const jbuiltin *sr_j_global(jvalue name) {
    return sr_j_row(globals, name);
}
