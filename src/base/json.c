#include "base/json.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

sr_json sr_json_over(const char *text, size_t n, const char *where, sr_err *err) {
    sr_json j = {.at = text, .end = text ? text + n : text, .base = text, .where = where, .err = err};
    j.first[0] = true;
    return j;
}

/* ---------------------------------------------------------------- reading values in place */

static sr_json_kind fail(sr_json *j, const char *expected) {
    size_t offset = (size_t)(j->at - j->base);
    if (!j->failed) {
        if (j->at == j->end)
            sr_fail(j->err, SR_CORRUPT, "%s: JSON ends at byte %zu, expected %s", j->where, offset, expected);
        else if (*j->at > ' ' && *j->at < 0x7f)
            sr_fail(j->err, SR_CORRUPT, "%s: JSON byte %zu: found '%c', expected %s", j->where, offset, *j->at,
                    expected);
        else
            sr_fail(j->err, SR_CORRUPT, "%s: JSON byte %zu: found 0x%02x, expected %s", j->where, offset,
                    (unsigned)(unsigned char)*j->at, expected);
    }
    j->failed = true;
    return SR_JSON_ERROR;
}

static void space(sr_json *j) {
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\r' || *j->at == '\t')) j->at++;
}

static bool take(sr_json *j, char c) {
    if (j->at == j->end || *j->at != c) return false;
    j->at++;
    return true;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static sr_json_kind read_string(sr_json *j, sr_json_value *v) {
    *v = (sr_json_value){.kind = SR_JSON_STRING, .text = ++j->at};
    for (;;) {
        while (j->at < j->end && (unsigned char)*j->at >= ' ' && *j->at != '"' && *j->at != '\\') j->at++;
        if (j->at == j->end) return fail(j, "the end of a string");
        if (*j->at == '"') break;
        if (*j->at != '\\') return fail(j, "no bare control character in a string");
        j->at++;
        v->escaped = true;
        if (j->at == j->end || !*j->at || !strchr("\"\\/bfnrtu", *j->at)) return fail(j, "an escape letter");
        if (*j->at++ != 'u') continue;
        for (int i = 0; i < 4; i++, j->at++)
            if (j->at == j->end || hex_digit(*j->at) < 0) return fail(j, "four hexadecimal digits");
    }
    v->n = (size_t)(j->at - v->text);
    j->at++;
    return SR_JSON_STRING;
}

static bool literal(sr_json *j, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(j->end - j->at) < n || memcmp(j->at, word, n) != 0) return false;
    j->at += n;
    return true;
}

static bool digits(sr_json *j) {
    const char *from = j->at;
    while (j->at < j->end && *j->at >= '0' && *j->at <= '9') j->at++;
    return j->at > from;
}

static sr_json_kind read_number(sr_json *j, sr_json_value *v) {
    *v = (sr_json_value){.kind = SR_JSON_NUMBER, .text = j->at};
    bool minus = take(j, '-');
    if (!(minus && literal(j, "Infinity"))) {
        if (!take(j, '0') && !digits(j)) return fail(j, "a digit");
        if (take(j, '.') && !digits(j)) return fail(j, "a digit after the point");
        if (take(j, 'e') || take(j, 'E')) {
            if (!take(j, '+')) take(j, '-');
            if (!digits(j)) return fail(j, "a digit of the exponent");
        }
    }
    v->n = (size_t)(j->at - v->text);
    return SR_JSON_NUMBER;
}

static sr_json_kind read_value(sr_json *j, sr_json_value *v) {
    static const struct {
        const char *word;
        sr_json_kind kind;
    } words[] = {{"null", SR_JSON_NULL},
                 {"true", SR_JSON_BOOL},
                 {"false", SR_JSON_BOOL},
                 {"NaN", SR_JSON_NUMBER},
                 {"Infinity", SR_JSON_NUMBER}};
    space(j);
    if (j->at == j->end) return fail(j, "a value");
    char c = *j->at;
    if (c == '"') return read_string(j, v);
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(j, v);
    if (c == '[' || c == '{') {
        if (j->depth == SR_JSON_DEPTH) {
            sr_fail(j->err, SR_LIMIT, "%s: JSON byte %zu: found nesting deeper than %d", j->where,
                    (size_t)(j->at - j->base), SR_JSON_DEPTH);
            j->failed = true;
            return SR_JSON_ERROR;
        }
        j->open[j->depth++] = (uint8_t)c;
        j->first[j->depth] = true;
        *v = (sr_json_value){.kind = c == '[' ? SR_JSON_ARRAY : SR_JSON_OBJECT, .text = j->at++, .n = 1};
        return v->kind;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (literal(j, words[i].word)) {
            size_t n = strlen(words[i].word);
            *v = (sr_json_value){.kind = words[i].kind, .text = j->at - n, .n = n};
            return v->kind;
        }
    return fail(j, "a value");
}

/* Steps over the comma, or out of the container at its closing bracket. False: END or ERROR is in *kind. */
static bool more(sr_json *j, char open, char close, sr_json_kind *kind) {
    *kind = SR_JSON_ERROR;
    if (j->failed) return false;
    if (j->depth == 0 || j->open[j->depth - 1] != (uint8_t)open) {
        fail(j, open == '[' ? "to be inside an array" : "to be inside an object");
        return false;
    }
    space(j);
    if (take(j, close)) {
        j->depth--;
        *kind = SR_JSON_END;
        return false;
    }
    if (!j->first[j->depth] && !take(j, ',')) {
        fail(j, close == ']' ? "',' or ']'" : "',' or '}'");
        return false;
    }
    j->first[j->depth] = false;
    return true;
}

sr_json_kind sr_json_next(sr_json *j, sr_json_value *v) {
    sr_json_kind kind;
    *v = (sr_json_value){.kind = SR_JSON_END};
    if (j->depth == 0 && !j->failed) {
        if (!j->first[0]) return sr_json_at_end(j) ? SR_JSON_END : fail(j, "the end of the text");
        j->first[0] = false;
        return read_value(j, v);
    }
    return more(j, '[', ']', &kind) ? read_value(j, v) : kind;
}

sr_json_kind sr_json_next_pair(sr_json *j, sr_json_value *key, sr_json_value *v) {
    sr_json_kind kind;
    *key = *v = (sr_json_value){.kind = SR_JSON_END};
    if (!more(j, '{', '}', &kind)) return kind;
    space(j);
    if (j->at == j->end || *j->at != '"') return fail(j, "a key in quotes");
    if (read_string(j, key) == SR_JSON_ERROR) return SR_JSON_ERROR;
    space(j);
    if (!take(j, ':')) return fail(j, "':'");
    return read_value(j, v);
}

void sr_json_leave(sr_json *j) {
    sr_json_value key, v;
    int inside = j->depth; /* iterative: nested values are walked as part of this one */
    while (!j->failed && j->depth >= inside && j->depth > 0) {
        if (j->open[j->depth - 1] == '{')
            sr_json_next_pair(j, &key, &v);
        else
            sr_json_next(j, &v);
    }
}

void sr_json_skip(sr_json *j, const sr_json_value *v) {
    if (v->kind == SR_JSON_ARRAY || v->kind == SR_JSON_OBJECT) sr_json_leave(j);
}

bool sr_json_at_end(sr_json *j) {
    if (j->failed) return false;
    space(j);
    return j->depth == 0 && j->at == j->end;
}

/* ---------------------------------------------------------------- converting them */

static uint32_t hex4(const char *p) {
    uint32_t u = 0;
    for (int i = 0; i < 4; i++) u = u << 4 | (uint32_t)hex_digit(p[i]);
    return u;
}

/* Decodes the escape at *at (behind its backslash); read_string has checked its form. */
static unsigned unescape_one(const char **at, const char *end, char out[4]) {
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *p = *at;
    if (*p != 'u') {
        out[0] = meant[strchr(letters, *p) - letters];
        *at = p + 1;
        return 1;
    }
    uint32_t c = hex4(p + 1);
    p += 5;
    if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
        uint32_t low = hex4(p + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
    }
    *at = p;
    return sr_utf8_put(c, out);
}

bool sr_json_unescape(sr_json *j, const sr_json_value *v, char *out, size_t *n) {
    const char *p = v->text, *end = p + v->n;
    char *to = out;
    *n = 0;
    out[0] = 0;
    if (v->kind != SR_JSON_STRING) return false;
    while (p < end) {
        const char *slash = v->escaped ? memchr(p, '\\', (size_t)(end - p)) : NULL;
        size_t plain = (size_t)((slash ? slash : end) - p);
        memcpy(to, p, plain);
        to += plain;
        p += plain;
        if (!slash) break;
        char one[4];
        p++;
        unsigned len = unescape_one(&p, end, one);
        memcpy(to, one, len);
        to += len;
    }
    *to = 0;
    *n = (size_t)(to - out);
    if (sr_utf8_valid(out, *n)) return true;
    if (!j->failed)
        sr_fail(j->err, SR_CORRUPT, "%s: JSON byte %zu: found a string that is not UTF-8", j->where,
                (size_t)(v->text - j->base));
    j->failed = true;
    return false;
}

char *sr_json_string(sr_json *j, const sr_json_value *v, sr_arena *a, size_t *n) {
    *n = 0;
    if (v->kind != SR_JSON_STRING) return NULL;
    char *out = sr_arena_small(a, v->n + 1, 1);
    if (!out) {
        sr_fail(j->err, SR_NOMEM, "%s: no memory for a string of %zu bytes", j->where, v->n);
        j->failed = true;
        return NULL;
    }
    return sr_json_unescape(j, v, out, n) ? out : NULL;
}

bool sr_json_equals(const sr_json_value *v, const char *text) {
    size_t left = strlen(text);
    if (v->kind != SR_JSON_STRING) return false;
    if (!v->escaped) return left == v->n && memcmp(v->text, text, left) == 0;
    for (const char *p = v->text, *end = p + v->n; p < end;) {
        char one[4];
        unsigned len = 1;
        one[0] = *p++;
        if (one[0] == '\\') len = unescape_one(&p, end, one);
        if (left < len || memcmp(text, one, len) != 0) return false;
        text += len;
        left -= len;
    }
    return left == 0;
}

bool sr_json_int64(const sr_json_value *v, int64_t *out) {
    if (v->kind != SR_JSON_NUMBER) return false;
    bool minus = v->text[0] == '-';
    uint64_t u = 0, most = (uint64_t)INT64_MAX + minus;
    for (size_t i = minus; i < v->n; i++) {
        if (v->text[i] < '0' || v->text[i] > '9') return false;
        unsigned digit = (unsigned)(v->text[i] - '0');
        if (u > (most - digit) / 10) return false;
        u = u * 10 + digit;
    }
    if (minus && u == 0) return false;
    *out = minus ? -(int64_t)(u - 1) - 1 : (int64_t)u;
    return true;
}

/* strtod on a copy: it wants a zero at the end, and the decimal point of the program's locale. */
bool sr_json_double(const sr_json_value *v, double *out) {
    char copy[512 + 8], *end;
    if (v->kind != SR_JSON_NUMBER || v->n > 500) return false;
    if (v->text[v->n - 1] > '9') return false; /* NaN, Infinity */
    const char *point = localeconv()->decimal_point;
    size_t n = 0, point_n = strlen(point);
    for (size_t i = 0; i < v->n; i++) {
        if (v->text[i] != '.') {
            copy[n++] = v->text[i];
            continue;
        }
        if (point_n == 0 || point_n > 8) return false;
        memcpy(copy + n, point, point_n);
        n += point_n;
    }
    copy[n] = 0;
    double d = strtod(copy, &end);
    if (end != copy + n || !isfinite(d)) return false;
    *out = d;
    return true;
}

bool sr_json_bool(const sr_json_value *v, bool *out) {
    if (v->kind != SR_JSON_BOOL) return false;
    *out = v->text[0] == 't';
    return true;
}
