/* Values as text, the way Python prints them, and texts as Python's str methods see them. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "text/jinja.h"
#include "text/unicode.h"

/* ---------------------------------------------------------------- writing */

void sr_j_put_bytes(jenv *e, const char *s, size_t n) {
    sr_j_charge(e, n / 64);
    if (n > e->limits.output || e->out.n > e->limits.output - n)
        sr_j_fail(e, SR_LIMIT, "found more than %zu bytes of text, expected a shorter prompt", e->limits.output);
    if (!sr_buffer_add(&e->out, s, n)) sr_j_fail(e, SR_NOMEM, "no memory for the text");
}

void sr_j_put_literal(jenv *e, const char *s) {
    sr_j_put_bytes(e, s, strlen(s));
}

void sr_j_put_char(jenv *e, uint32_t cp) {
    char to[4];
    sr_j_put_bytes(e, to, sr_utf8_put(cp, to));
}

void sr_j_put_times(jenv *e, char c, int64_t n) {
    char run[64];
    memset(run, c, sizeof run);
    for (; n > 0; n -= (int64_t)sizeof run) sr_j_put_bytes(e, run, n < (int64_t)sizeof run ? (size_t)n : sizeof run);
}

/* ---------------------------------------------------------------- numbers */

void sr_j_digits(char to[J_NUMBER], const char *fmt, int precision, double d) {
    snprintf(to, J_NUMBER, fmt, precision, d);
    const char *point = localeconv()->decimal_point;
    char *at = *point && strcmp(point, ".") != 0 ? strstr(to, point) : NULL;
    if (!at) return;
    *at = '.';
    memmove(at + 1, at + strlen(point), strlen(at + strlen(point)) + 1);
}

bool sr_j_parse_float(jvalue s, double *d) {
    char copy[J_NUMBER], *end;
    size_t n = 0;
    const char *point = localeconv()->decimal_point, *p = s.u.s, *stop = s.u.s + s.n;
    while (p < stop && ((*p >= 9 && *p <= 13) || *p == ' ')) p++;
    while (stop > p && ((stop[-1] >= 9 && stop[-1] <= 13) || stop[-1] == ' ')) stop--;
    bool digit = false;
    for (const char *from = p; p < stop && n + 16 < sizeof copy; p++) {
        if (*p == '_') { /* between two digits */
            if (p == from || p + 1 == stop || p[-1] < '0' || p[-1] > '9' || p[1] < '0' || p[1] > '9') return false;
        } else if (*p == '.') {
            n += (size_t)snprintf(copy + n, 8, "%s", point);
        } else {
            digit |= *p >= '0' && *p <= '9';
            if (!*p || !strchr("0123456789+-eE", *p)) break;
            copy[n++] = *p;
        }
    }
    copy[n] = 0;
    if (p < stop) { /* "inf", "nan" */
        static const char *const words[] = {"inf", "infinity", "nan"};
        bool minus = n == 1 && copy[0] == '-';
        if (n > 1 || (n == 1 && !minus && copy[0] != '+')) return false;
        for (int i = 0; i < 3; i++) {
            size_t k = 0;
            while (k < (size_t)(stop - p) && words[i][k] && (p[k] | 32) == words[i][k]) k++;
            if (k != (size_t)(stop - p) || words[i][k]) continue;
            *d = i == 2 ? (double)NAN : minus ? -(double)INFINITY : (double)INFINITY;
            return true;
        }
        return false;
    }
    *d = strtod(copy, &end);
    return digit && end == copy + n;
}

bool sr_j_parse_int(jenv *e, jvalue s, int base, int64_t *i) {
    jvalue t = sr_j_strip(e, s, sr_j_none(), true, true);
    const char *p = t.u.s, *end = p + t.n;
    bool minus = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    char mark = end - p > 2 && *p == '0' ? (char)(p[1] | 32) : 0;
    int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked && (base == marked || base == 0)) {
        base = marked;
        p += 2;
        if (*p == '_') p++;
    }
    if (base == 0) base = 10;
    uint64_t u = 0, most = (uint64_t)INT64_MAX + minus;
    bool digit = false;
    for (; p < end; p++) {
        if (*p == '_' && digit && p + 1 < end) {
            digit = false;
            continue;
        }
        unsigned c = (uint8_t)*p, v = c >= '0' && c <= '9' ? c - '0' : (c | 32) - 'a' < 26 ? (c | 32) - 'a' + 10 : 99;
        if (v >= (unsigned)base || u > (most - v) / (unsigned)base) return false;
        u = u * (unsigned)base + v;
        digit = true;
    }
    *i = minus ? (int64_t)(0 - u) : (int64_t)u;
    return digit;
}

/* The shortest digits that read back as the same double; an exponent below -4 and from 16 on. */
static void put_float(jenv *e, double d, bool json) {
    char text[J_NUMBER], digit[32];
    if (!isfinite(d)) {
        sr_j_put_literal(e, isnan(d) ? json ? "NaN" : "nan"
                            : d < 0  ? json ? "-Infinity" : "-inf"
                            : json   ? "Infinity"
                                     : "inf");
        return;
    }
    sr_j_charge(e, 50);
    /* 15 digits survive a double, so the zeros behind a shorter number do too; not so where it is subnormal */
    for (int n = fabs(d) < 0x1p-1021 ? 1 : 15; n <= 17; n++) {
        double back;
        sr_j_digits(text, "%.*e", n - 1, d);
        if (sr_j_parse_float(sr_j_string(text, strlen(text)), &back) && back == d) break;
    }
    const char *exponent = strchr(text, 'e');
    int n = 0, at = atoi(exponent + 1);
    for (const char *p = text; p < exponent; p++)
        if (*p >= '0' && *p <= '9') digit[n++] = *p;
    while (n > 1 && digit[n - 1] == '0') n--;
    if (signbit(d)) sr_j_put_literal(e, "-");
    if (at < -4 || at >= 16) {
        sr_j_put_bytes(e, digit, 1);
        if (n > 1) sr_j_put_literal(e, ".");
        sr_j_put_bytes(e, digit + 1, (size_t)n - 1);
        snprintf(text, sizeof text, "e%c%02d", at < 0 ? '-' : '+', abs(at));
        sr_j_put_literal(e, text);
    } else if (at < 0) {
        sr_j_put_literal(e, "0.");
        sr_j_put_times(e, '0', -at - 1);
        sr_j_put_bytes(e, digit, (size_t)n);
    } else {
        int whole = n < at + 1 ? n : at + 1;
        sr_j_put_bytes(e, digit, (size_t)whole);
        sr_j_put_times(e, '0', at + 1 - whole);
        sr_j_put_literal(e, ".");
        sr_j_put_bytes(e, digit + whole, (size_t)(n - whole));
        if (n == whole) sr_j_put_literal(e, "0");
    }
}

static void put_int(jenv *e, int64_t i) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)i);
    sr_j_put_literal(e, text);
}

/* ---------------------------------------------------------------- str and repr */

static bool is_printable(uint32_t cp) {
    if (cp < 0x7F) return cp >= 0x20;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return !(c == UTF8PROC_CATEGORY_CN || (c >= UTF8PROC_CATEGORY_ZS && c <= UTF8PROC_CATEGORY_CO));
}

static void repr_string(jenv *e, jvalue s) {
    char quote = s.n && memchr(s.u.s, '\'', s.n) && !memchr(s.u.s, '"', s.n) ? '"' : '\'', text[16];
    if (s.safe) sr_j_put_literal(e, "Markup(");
    sr_j_put_bytes(e, &quote, 1);
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        unsigned len = sr_utf8_get(s.u.s + i, &cp);
        if (cp == (uint32_t)quote || cp == '\\') {
            sr_j_put_literal(e, "\\");
            sr_j_put_bytes(e, s.u.s + i, 1);
        } else if (is_printable(cp)) {
            sr_j_put_bytes(e, s.u.s + i, len);
        } else if (cp == '\n' || cp == '\r' || cp == '\t') {
            sr_j_put_literal(e, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        } else {
            snprintf(text, sizeof text, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
            sr_j_put_literal(e, text);
        }
        i += len;
    }
    sr_j_charge(e, s.n / 8);
    sr_j_put_bytes(e, &quote, 1);
    if (s.safe) sr_j_put_literal(e, ")");
}

static void repr_pairs(jenv *e, const jdict *d) {
    sr_j_put_literal(e, "{");
    for (uint32_t i = 0; i < d->n; i++) {
        if (i) sr_j_put_literal(e, ", ");
        sr_j_repr(e, d->at[i].key);
        sr_j_put_literal(e, ": ");
        sr_j_repr(e, d->at[i].value);
    }
    sr_j_put_literal(e, "}");
}

static void repr_seq(jenv *e, const jseq *seq) {
    static const char *const open[] = {"[", "(", "", "dict_keys([", "dict_values([", "dict_items([", ""};
    static const char *const close[] = {"]", ")", "", "])", "])", "])", ""};
    if (seq->flavor == J_GENERATOR) {
        sr_j_put_literal(e, "<generator object>");
        return;
    }
    if (seq->flavor == J_RANGE) {
        char text[80];
        int n = snprintf(text, sizeof text, "range(%lld, %lld", (long long)seq->start, (long long)seq->stop);
        if (seq->step != 1) snprintf(text + n, sizeof text - (size_t)n, ", %lld", (long long)seq->step);
        sr_j_put_literal(e, text);
        sr_j_put_literal(e, ")");
        return;
    }
    sr_j_put_literal(e, open[seq->flavor]);
    for (uint32_t i = 0; i < seq->n; i++) {
        if (i) sr_j_put_literal(e, ", ");
        sr_j_repr(e, seq->v[i]);
    }
    if (seq->flavor == J_TUPLE && seq->n == 1) sr_j_put_literal(e, ",");
    sr_j_put_literal(e, close[seq->flavor]);
}

void sr_j_repr(jenv *e, jvalue v) {
    char text[48];
    sr_j_charge(e, 1);
    sr_j_enter(e);
    switch (v.kind) {
    case J_UNDEFINED:
        sr_j_put_literal(e, "Undefined");
        break;
    case J_NONE:
        sr_j_put_literal(e, "None");
        break;
    case J_BOOL:
        sr_j_put_literal(e, v.u.b ? "True" : "False");
        break;
    case J_INT:
        put_int(e, v.u.i);
        break;
    case J_BIG:
        sr_j_put_bytes(e, v.u.s, v.n);
        break;
    case J_FLOAT:
        put_float(e, v.u.f, false);
        break;
    case J_STRING:
        repr_string(e, v);
        break;
    case J_SEQ:
        repr_seq(e, v.u.seq);
        break;
    case J_DICT:
        repr_pairs(e, v.u.dict);
        break;
    case J_NAMESPACE:
        sr_j_put_literal(e, "<Namespace ");
        repr_pairs(e, v.u.dict);
        sr_j_put_literal(e, ">");
        break;
    case J_LOOP:
        snprintf(text, sizeof text, "<LoopContext %u/%u>", v.u.loop->i + 1, v.u.loop->n);
        sr_j_put_literal(e, text);
        break;
    case J_MACRO:
        sr_j_put_literal(e, "<Macro ");
        repr_string(e, v.u.macro->node->v);
        sr_j_put_literal(e, ">");
        break;
    case J_CYCLER:
        sr_j_put_literal(e, "<Cycler>");
        break;
    default:
        sr_j_put_literal(e, "<function ");
        sr_j_put_literal(e, v.u.callee->builtin->name);
        sr_j_put_literal(e, ">");
    }
    sr_j_leave(e);
}

void sr_j_print(jenv *e, jvalue v) {
    if (v.kind == J_STRING)
        sr_j_put_bytes(e, v.u.s, v.n);
    else if (v.kind != J_UNDEFINED)
        sr_j_repr(e, v);
}

jvalue sr_j_text(jenv *e, jvalue v) {
    if (v.kind == J_STRING) return v;
    size_t from = e->out.n;
    sr_j_print(e, v);
    return sr_j_take(e, from);
}

jvalue sr_j_escape(jenv *e, jvalue v) {
    static const char marks[] = "&<>'\"", *const entity[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    jvalue s = sr_j_text(e, v);
    if (s.safe) return s;
    size_t from = e->out.n, start = 0;
    for (size_t i = 0; i < s.n; i++) {
        const char *mark = s.u.s[i] ? strchr(marks, s.u.s[i]) : NULL;
        if (!mark) continue;
        sr_j_put_bytes(e, s.u.s + start, i - start);
        sr_j_put_literal(e, entity[mark - marks]);
        start = i + 1;
    }
    if (start) {
        sr_j_put_bytes(e, s.u.s + start, s.n - start);
        s = sr_j_take(e, from);
    }
    sr_j_charge(e, s.n / 16);
    s.safe = true;
    return s;
}

/* ---------------------------------------------------------------- JSON */

struct dumps {
    jenv *e;
    bool ascii, sorted, lines;
    jvalue indent, comma, colon; /* J_STRING */
};

static void json_string(struct dumps *d, jvalue s) {
    static const char marks[] = "\"\\\n\r\t\f\b", *const escape[] = {"\\\"", "\\\\", "\\n", "\\r", "\\t", "\\f", "\\b"};
    jenv *e = d->e;
    char text[16];
    size_t start = 0;
    sr_j_put_literal(e, "\"");
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = (uint8_t)s.u.s[i];
        unsigned len = 1;
        const char *mark = cp ? strchr(marks, (int)cp) : NULL;
        if (cp < 0x80 ? cp >= 0x20 && !mark : !d->ascii) {
            i++;
            continue;
        }
        sr_j_put_bytes(e, s.u.s + start, i - start);
        if (cp >= 0x80) len = sr_utf8_get(s.u.s + i, &cp);
        if (mark && cp < 0x80) {
            sr_j_put_literal(e, escape[mark - marks]);
        } else {
            if (cp < 0x10000)
                snprintf(text, sizeof text, "\\u%04x", cp);
            else
                snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10), 0xDC00 + (cp & 0x3FF));
            sr_j_put_literal(e, text);
        }
        i += len;
        start = i;
    }
    sr_j_charge(e, s.n / 16);
    sr_j_put_bytes(e, s.u.s + start, s.n - start);
    sr_j_put_literal(e, "\"");
}

static void json_line(struct dumps *d, int depth) {
    if (!d->lines) return;
    sr_j_put_literal(d->e, "\n");
    for (int i = 0; i < depth; i++) sr_j_put_bytes(d->e, d->indent.u.s, d->indent.n);
}

/* None, True, False and numbers; false: v is none of these. */
static bool json_plain(jenv *e, jvalue v) {
    if (v.kind == J_NONE)
        sr_j_put_literal(e, "null");
    else if (v.kind == J_BOOL)
        sr_j_put_literal(e, v.u.b ? "true" : "false");
    else if (v.kind == J_FLOAT)
        put_float(e, v.u.f, true);
    else if (v.kind == J_INT || v.kind == J_BIG)
        sr_j_repr(e, v);
    else
        return false;
    return true;
}

static int by_key(const void *a, const void *b, void *env) {
    return sr_j_compare(env, ((const jpair *)a)->key, ((const jpair *)b)->key, "sorting keys");
}

static void json(struct dumps *d, jvalue v, int depth);

static void json_dict(struct dumps *d, const jdict *dict, int depth) {
    jenv *e = d->e;
    jpair *at = dict->at;
    if (d->sorted && dict->n) {
        at = sr_j_alloc(e, dict->n, sizeof *at);
        memcpy(at, dict->at, dict->n * sizeof *at);
        sr_j_sort(e, at, dict->n, sizeof *at, by_key);
    }
    sr_j_put_literal(e, "{");
    for (uint32_t i = 0; i < dict->n; i++) {
        if (i) sr_j_put_bytes(e, d->comma.u.s, d->comma.n);
        json_line(d, depth + 1);
        if (at[i].key.kind == J_STRING) {
            json_string(d, at[i].key);
        } else {
            sr_j_put_literal(e, "\"");
            if (!json_plain(e, at[i].key))
                sr_j_fail(e, SR_INVALID, "found a key of type '%s' for tojson, expected a string",
                          sr_j_type(at[i].key));
            sr_j_put_literal(e, "\"");
        }
        sr_j_put_bytes(e, d->colon.u.s, d->colon.n);
        json(d, at[i].value, depth + 1);
    }
    if (dict->n) json_line(d, depth);
    sr_j_put_literal(e, "}");
}

static void json(struct dumps *d, jvalue v, int depth) {
    jenv *e = d->e;
    sr_j_charge(e, 1);
    if (json_plain(e, v)) return;
    sr_j_enter(e);
    if (v.kind == J_STRING) {
        json_string(d, v);
    } else if (v.kind == J_DICT) {
        json_dict(d, v.u.dict, depth);
    } else if (sr_j_is_seq(v, J_LIST) || sr_j_is_seq(v, J_TUPLE)) {
        sr_j_put_literal(e, "[");
        for (uint32_t i = 0; i < v.u.seq->n; i++) {
            if (i) sr_j_put_bytes(e, d->comma.u.s, d->comma.n);
            json_line(d, depth + 1);
            json(d, v.u.seq->v[i], depth + 1);
        }
        if (v.u.seq->n) json_line(d, depth);
        sr_j_put_literal(e, "]");
    } else {
        sr_j_fail(e, SR_INVALID, "found a value of type '%s' for tojson, expected one that JSON has", sr_j_type(v));
    }
    sr_j_leave(e);
}

/* json.dumps(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False), as transformers sets it up: no
 * entities for '<' and its like. */
jvalue sr_j_tojson(jenv *e, jvalue self, jargs *a) {
    struct dumps d = {.e = e,
                      .ascii = a->slot[0].kind != J_ABSENT && sr_j_truth(a->slot[0]),
                      .sorted = a->slot[3].kind != J_ABSENT && sr_j_truth(a->slot[3])};
    jvalue indent = a->slot[1], separators = a->slot[2];
    int64_t width;
    d.lines = indent.kind != J_ABSENT && indent.kind != J_NONE;
    d.indent = sr_j_string("", 0);
    if (indent.kind == J_STRING)
        d.indent = indent;
    else if (d.lines && sr_j_whole(indent, &width))
        d.indent = sr_j_binary(e, T_MUL, sr_j_string(" ", 1), sr_j_int(width));
    else if (d.lines)
        sr_j_fail(e, SR_INVALID, "found an indent of type '%s', expected a number or a string", sr_j_type(indent));
    d.comma = d.lines ? sr_j_string(",", 1) : sr_j_string(", ", 2);
    d.colon = sr_j_string(": ", 2);
    if (separators.kind != J_ABSENT && separators.kind != J_NONE) {
        uint32_t n;
        const jvalue *v = sr_j_iterate(e, separators, &n);
        if (n != 2 || v[0].kind != J_STRING || v[1].kind != J_STRING)
            sr_j_fail(e, SR_INVALID, "found %u separators, expected two strings", n);
        d.comma = v[0];
        d.colon = v[1];
    }
    size_t from = e->out.n;
    json(&d, self, 0);
    return sr_j_take(e, from);
}
