/* Texts with places for values: "%d of %s" % (...) and "{:>8} of {name}".format(...). */
#include <math.h>
#include <stdio.h>

#include "text/jinja.h"
#include "text/unicode.h"

/* ---------------------------------------------------------------- "%d of %s" % (...) */

struct spec {
    bool left, plus, blank, alternate, zero;
    int64_t width, precision; /* -1: none */
};

static void put_padded(jenv *e, const struct spec *s, jvalue text, bool number) {
    int64_t pad = s->width - sr_j_count_chars(text.u.s, text.n);
    size_t sign = number && text.n && strchr("+- ", text.u.s[0]) ? 1 : 0;
    if (!s->left && !s->zero) sr_j_put_times(e, ' ', pad);
    sr_j_put_bytes(e, text.u.s, sign);
    if (!s->left && s->zero) sr_j_put_times(e, number ? '0' : ' ', pad);
    sr_j_put_bytes(e, text.u.s + sign, text.n - sign);
    if (s->left) sr_j_put_times(e, ' ', pad);
}

/* Halves of surrogate pairs are no characters. */
static void put_code(jenv *e, int64_t cp) {
    if (cp < 0 || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        sr_j_fail(e, SR_INVALID, "found %lld for a character, expected a code point", (long long)cp);
    sr_j_put_char(e, (uint32_t)cp);
}

static void put_whole(jenv *e, const struct spec *s, jvalue v, char letter) {
    int64_t i;
    char digits[32], sign[4] = "";
    if (v.kind == J_FLOAT && strchr("diu", letter) && v.u.f > -0x1p63 && v.u.f < 0x1p63) v = sr_j_int((int64_t)v.u.f);
    if (!sr_j_whole(v, &i))
        sr_j_fail(e, SR_INVALID, "found a '%s' for %%%c, expected a whole number", sr_j_type(v), letter);
    unsigned long long u = i < 0 ? 0 - (unsigned long long)i : (unsigned long long)i;
    snprintf(sign, sizeof sign, "%s%s", i < 0 ? "-" : s->plus ? "+" : s->blank ? " " : "", "");
    snprintf(digits, sizeof digits,
             letter == 'x'   ? "%llx"
             : letter == 'X' ? "%llX"
             : letter == 'o' ? "%llo"
                             : "%llu",
             u);
    size_t from = e->out.n;
    sr_j_put_literal(e, sign);
    if (s->alternate && strchr("xXo", letter)) sr_j_put_literal(e, letter == 'x' ? "0x" : letter == 'X' ? "0X" : "0o");
    sr_j_put_times(e, '0', s->precision - (int64_t)strlen(digits));
    sr_j_put_literal(e, digits);
    put_padded(e, s, sr_j_take(e, from), true);
}

static void put_real(jenv *e, const struct spec *s, jvalue v, char letter) {
    double d;
    char text[J_NUMBER], fmt[8] = {'%'}, *at = fmt + 1;
    if (!sr_j_number(v, &d)) sr_j_fail(e, SR_INVALID, "found a '%s' for %%%c, expected a number", sr_j_type(v), letter);
    if (s->precision > 100)
        sr_j_fail(e, SR_LIMIT, "found a precision of %lld, expected at most 100", (long long)s->precision);
    if (s->plus) *at++ = '+';
    if (s->blank) *at++ = ' ';
    if (s->alternate) *at++ = '#';
    memcpy(at, (char[]){'.', '*', letter, 0}, 4);
    sr_j_digits(text, fmt, s->precision < 0 ? 6 : (int)s->precision, d);
    struct spec pad = *s;
    pad.zero = pad.zero && isfinite(d);
    put_padded(e, &pad, sr_j_string(text, strlen(text)), true);
}

static void put_converted(jenv *e, const struct spec *s, jvalue v, char letter, bool escape) {
    size_t from = e->out.n;
    jvalue text = v;
    if (letter == 's') {
        text = sr_j_text(e, v);
    } else {
        sr_j_repr(e, v);
        text = sr_j_take(e, from);
    }
    if (escape) text = sr_j_escape(e, text);
    if (s->precision >= 0 && s->precision < (int64_t)text.n)
        text = sr_j_slice(e, text, sr_j_none(), sr_j_int(s->precision), sr_j_none());
    put_padded(e, s, text, false);
}

struct formats {
    jvalue args;
    const jvalue *at; /* [n]: of a tuple, else the one value */
    uint32_t n, used;
    bool escape;
};

static jvalue next_arg(jenv *e, struct formats *f) {
    if (f->used >= f->n) sr_j_fail(e, SR_INVALID, "found %u values for a format, expected more", f->n);
    return f->at[f->used++];
}

static int64_t read_size(jenv *e, struct formats *f, const char **p, const char *end) {
    int64_t v = 0;
    if (*p < end && **p == '*') {
        ++*p;
        if (!sr_j_whole(next_arg(e, f), &v)) sr_j_fail(e, SR_INVALID, "found no whole number for '*' of a format");
    }
    for (; *p < end && **p >= '0' && **p <= '9'; ++*p) v = v < INT32_MAX ? v * 10 + (**p - '0') : v;
    return v;
}

static void put_spec(jenv *e, struct formats *f, const char **at, const char *end) {
    struct spec s = {.precision = -1};
    const char *p = *at;
    jvalue v = {.kind = J_ABSENT};
    if (p < end && *p == '(') {
        const char *close = memchr(p, ')', (size_t)(end - p));
        if (!close || f->args.kind != J_DICT)
            sr_j_fail(e, SR_INVALID, "found %%(name) in a format, expected a dict of values");
        jpair *pair = sr_j_find(e, f->args.u.dict, sr_j_string(p + 1, (size_t)(close - p - 1)));
        if (!pair) sr_j_fail(e, SR_INVALID, "found no value for %%(%s)", sr_j_shown(p + 1, (size_t)(close - p - 1)));
        v = pair->value;
        p = close + 1;
    }
    for (; p < end && *p && strchr("-+ #0", *p); p++) {
        s.left |= *p == '-';
        s.plus |= *p == '+';
        s.blank |= *p == ' ';
        s.alternate |= *p == '#';
        s.zero |= *p == '0';
    }
    s.width = read_size(e, f, &p, end);
    if (s.width < 0) {
        s.left = true;
        s.width = -s.width;
    }
    if (p < end && *p == '.') {
        p++;
        s.precision = read_size(e, f, &p, end);
    }
    char letter = p < end ? *p : 0;
    if (!letter || !strchr("sraduixXoeEfFgGc%", letter))
        sr_j_fail(e, SR_INVALID, "found a format with '%%%c', expected one of s r d i f e g x o c",
                  letter ? letter : ' ');
    *at = p + 1;
    if (letter == '%') {
        sr_j_put_literal(e, "%");
        return;
    }
    if (v.kind == J_ABSENT) v = next_arg(e, f);
    int64_t cp;
    if (letter == 'c' && sr_j_whole(v, &cp)) {
        size_t from = e->out.n;
        put_code(e, cp);
        put_padded(e, &s, sr_j_take(e, from), false);
    } else if (strchr("srac", letter)) {
        put_converted(e, &s, v, letter == 'c' ? 's' : letter, f->escape);
    } else if (strchr("duixXo", letter)) {
        put_whole(e, &s, v, letter);
    } else {
        put_real(e, &s, v, letter);
    }
}

jvalue sr_j_format(jenv *e, jvalue format, jvalue args) {
    struct formats f = {.args = args, .at = &args, .n = 1, .escape = format.safe};
    if (sr_j_is_seq(args, J_TUPLE)) {
        f.at = args.u.seq->v;
        f.n = args.u.seq->n;
    }
    size_t from = e->out.n;
    const char *p = format.u.s, *end = p + format.n;
    while (p < end) {
        const char *percent = memchr(p, '%', (size_t)(end - p));
        sr_j_put_bytes(e, p, (size_t)((percent ? percent : end) - p));
        if (!percent) break;
        p = percent + 1;
        sr_j_charge(e, 1);
        put_spec(e, &f, &p, end);
    }
    if (f.used < f.n && args.kind != J_DICT && args.kind != J_SEQ)
        sr_j_fail(e, SR_INVALID, "found more values than a format has places for");
    if (f.used < f.n && sr_j_is_seq(args, J_TUPLE))
        sr_j_fail(e, SR_INVALID, "found %u values for a format, expected %u", f.n, f.used);
    jvalue text = sr_j_take(e, from);
    text.safe = format.safe;
    return text;
}

/* ---------------------------------------------------------------- "{:>8}".format(...) */

/* [[fill]align][sign][#][0][width][,|_][.precision][letter] */
struct layout {
    uint32_t fill;
    char align, sign, group, letter; /* 0: not given */
    bool alternate;
    int64_t width, precision; /* precision -1: none */
};

static bool one_of(char c, const char *set) {
    return c && strchr(set, c);
}

static int64_t read_number(const char **p, const char *end) {
    int64_t v = 0;
    for (; *p < end && **p >= '0' && **p <= '9'; ++*p) v = v < INT32_MAX ? v * 10 + (**p - '0') : v;
    return v;
}

static struct layout read_layout(jenv *e, jvalue spec, bool number) {
    struct layout l = {.fill = ' ', .precision = -1};
    const char *p = spec.u.s, *end = p + spec.n;
    uint32_t cp = 0;
    unsigned len = spec.n ? sr_utf8_get(p, &cp) : 0;
    if (p + len < end && one_of(p[len], "<>=^")) {
        l.fill = cp;
        l.align = p[len];
        p += len + 1;
    } else if (p < end && one_of(*p, "<>=^")) {
        l.align = *p++;
    }
    if (p < end && one_of(*p, "+- ")) l.sign = *p++;
    if (p < end && *p == '#') l.alternate = *p++;
    if (p < end && *p == '0') {
        p++;
        if (!l.align) l.fill = '0';
        if (!l.align && number) l.align = '=';
    }
    l.width = read_number(&p, end);
    if (l.width > (int64_t)e->limits.output)
        sr_j_fail(e, SR_LIMIT, "found a width of %lld, expected at most %zu", (long long)l.width, e->limits.output);
    if (p < end && one_of(*p, ",_")) l.group = *p++;
    if (p < end && *p == '.') {
        const char *from = ++p;
        l.precision = read_number(&p, end);
        if (p == from) sr_j_fail(e, SR_INVALID, "found a format without digits behind its '.', expected some");
    }
    if (p < end) l.letter = *p++;
    if (p != end)
        sr_j_fail(e, SR_INVALID,
                  "found the format '%s', expected [[fill]align][sign][#][0][width][,][.precision][type]",
                  sr_j_shown(spec.u.s, spec.n));
    return l;
}

static _Noreturn void bad_letter(jenv *e, const struct layout *l, jvalue v) {
    sr_j_fail(e, SR_INVALID, "found the format '%c' for a value of type '%s', expected one that fits it",
              l->letter ? l->letter : ' ', sr_j_type(v));
}

static void put_fill(jenv *e, const struct layout *l, int64_t n) {
    if (l->fill < 0x80) {
        sr_j_put_times(e, (char)l->fill, n);
        return;
    }
    for (; n > 0; n--) sr_j_put_char(e, l->fill);
}

static void put_aligned(jenv *e, const struct layout *l, char align, const char *head, jvalue text) {
    int64_t pad = l->width - sr_j_count_chars(text.u.s, text.n) - (int64_t)strlen(head);
    if (pad < 0) pad = 0;
    int64_t left = align == '>' || align == '=' ? pad : align == '^' ? pad / 2 : 0;
    if (align != '=') put_fill(e, l, left);
    sr_j_put_literal(e, head);
    if (align == '=') put_fill(e, l, left);
    sr_j_put_bytes(e, text.u.s, text.n);
    put_fill(e, l, pad - left);
}

/* The digits of [s, n), which begin the text of a number, in groups; zeros in front where they fill the width. */
static void put_grouped(jenv *e, const struct layout *l, const char *s, int64_t n, int64_t behind, size_t head) {
    int64_t every = one_of(l->letter, "bxXo") ? 4 : 3, digits = n;
    if (l->align == '=' && l->fill == '0')
        while (digits + 1 + (l->group ? digits / every : 0) + behind + (int64_t)head <= l->width) digits++;
    /* a separator never stands in front: one more zero takes its place */
    if (digits > n && l->group && digits + (digits - 1) / every + behind + (int64_t)head < l->width) digits++;
    for (int64_t i = digits; i > 0; i--) {
        sr_j_put_bytes(e, i > n ? "0" : s + (n - i), 1);
        if (l->group && i > 1 && (i - 1) % every == 0) sr_j_put_bytes(e, &l->group, 1);
    }
}

/* A number whose digits are written: sign and prefix, the part to be grouped, the rest. */
static void put_digits(jenv *e, const struct layout *l, bool minus, const char *prefix, const char *digits) {
    char head[8];
    size_t n = strspn(digits, one_of(l->letter, "xX") ? "0123456789abcdefABCDEF" : "0123456789");
    snprintf(head, sizeof head, "%s%s", minus ? "-" : l->sign == '+' ? "+" : l->sign == ' ' ? " " : "", prefix);
    size_t from = e->out.n;
    if (n) put_grouped(e, l, digits, (int64_t)n, (int64_t)strlen(digits + n), strlen(head));
    sr_j_put_literal(e, digits + n);
    put_aligned(e, l, l->align ? l->align : '>', head, sr_j_take(e, from));
}

static void put_integer(jenv *e, const struct layout *l, jvalue v) {
    int64_t i = 0;
    char digits[72], *at = digits + sizeof digits;
    if (l->precision >= 0) sr_j_fail(e, SR_INVALID, "found a precision for a whole number, expected none");
    sr_j_whole(v, &i);
    if (l->letter == 'c') {
        size_t from = e->out.n;
        put_code(e, i);
        put_aligned(e, l, l->align ? l->align : '>', "", sr_j_take(e, from));
        return;
    }
    unsigned base = l->letter == 'b' ? 2 : l->letter == 'o' ? 8 : one_of(l->letter, "xX") ? 16 : 10;
    if (base != 10 && l->group == ',') sr_j_fail(e, SR_INVALID, "found ',' with '%c', expected '_'", l->letter);
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    const char *set = l->letter == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    *--at = 0;
    do *--at = set[u % base];
    while (u /= base);
    char prefix[3] = {'0', l->letter, 0};
    put_digits(e, l, i < 0, l->alternate && base != 10 ? prefix : "", at);
}

/* Without zeros at the end of the digits. */
static void with_exponent(char text[J_NUMBER], int precision, double d) {
    sr_j_digits(text, "%.*e", precision - 1, d);
    char *exponent = strchr(text, 'e'), *end = exponent;
    if (!memchr(text, '.', (size_t)(exponent - text))) return;
    while (end[-1] == '0') end--;
    if (end[-1] == '.') end--;
    memmove(end, exponent, strlen(exponent) + 1);
}

static void put_float_as(jenv *e, const struct layout *l, jvalue v) {
    char text[J_NUMBER], fmt[8] = {'%'}, *at = fmt + 1, letter = l->letter;
    double d = 0;
    sr_j_number(v, &d);
    if (l->precision > 100)
        sr_j_fail(e, SR_LIMIT, "found a precision of %lld, expected at most 100", (long long)l->precision);
    bool minus = signbit(d) && !isnan(d), percent = letter == '%', shortest = !letter && l->precision < 0;
    d = fabs(d) * (percent ? 100 : 1);
    if (shortest) {
        jvalue s = sr_j_text(e, sr_j_float(d));
        snprintf(text, sizeof text, "%.*s", (int)s.n, s.u.s);
    } else {
        int precision = l->precision < 0 ? 6 : (int)l->precision;
        if (l->alternate) *at++ = '#';
        memcpy(at, (char[]){'.', '*', !letter || letter == 'n' ? 'g' : percent ? 'f' : letter, 0}, 4);
        sr_j_digits(text, fmt, precision, d);
        if (!letter && isfinite(d) && !strpbrk(text, ".e")) { /* a digit behind the point, or an exponent */
            if (precision < 1) precision = 1;
            if ((int)strlen(text) < precision)
                strcat(text, ".0");
            else
                with_exponent(text, precision, d);
        }
        if (percent) strcat(text, "%");
    }
    put_digits(e, l, minus, "", text);
}

/* format(v, spec) */
static void put_laid_out(jenv *e, jvalue v, jvalue spec) {
    if (!spec.n) {
        sr_j_print(e, v);
        return;
    }
    bool number = v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT;
    struct layout l = read_layout(e, spec, number);
    if (v.kind == J_STRING) {
        if ((l.letter && l.letter != 's') || l.sign || l.alternate || l.group || l.align == '=') bad_letter(e, &l, v);
        if (l.precision >= 0) v = sr_j_slice(e, v, sr_j_none(), sr_j_int(l.precision), sr_j_none());
        put_aligned(e, &l, l.align ? l.align : '<', "", v);
    } else if ((v.kind == J_BOOL || v.kind == J_INT) && (!l.letter || one_of(l.letter, "bcdoxXn"))) {
        put_integer(e, &l, v);
    } else if (number && (!l.letter || one_of(l.letter, "eEfFgGn%"))) {
        put_float_as(e, &l, v);
    } else {
        bad_letter(e, &l, v);
    }
}

struct fields {
    jvalue self;
    const jargs *args;
    int64_t next; /* number of the next "{}"; -1 after a "{0}" */
};

static jvalue keyword_of(jenv *e, const struct fields *f, jvalue name) {
    for (uint32_t i = 0; i < f->args->n_keywords; i++)
        if (sr_j_equal(e, f->args->keyword[i].name, name)) return f->args->keyword[i].value;
    sr_j_fail(e, SR_INVALID, "found no value for {%s}", sr_j_shown(name.u.s, name.n));
}

/* A number where the text is one, else the text. */
static jvalue index_of(jenv *e, jvalue text) {
    int64_t i;
    for (uint32_t k = 0; k < text.n; k++)
        if (text.u.s[k] < '0' || text.u.s[k] > '9') return text;
    return text.n && sr_j_parse_int(e, text, 10, &i) ? sr_j_int(i) : text;
}

/* The value of "0.name[key]" */
static jvalue field_value(jenv *e, struct fields *f, jvalue name) {
    size_t end = 0;
    while (end < name.n && name.u.s[end] != '.' && name.u.s[end] != '[') end++;
    jvalue first = index_of(e, sr_j_part(name, 0, end)), v;
    if (!end || first.kind == J_INT) {
        if ((!end && f->next < 0) || (end && f->next > 0))
            sr_j_fail(e, SR_INVALID, "found {} and {0} in one format, expected one kind");
        int64_t i = end ? first.u.i : f->next;
        f->next = end ? -1 : i + 1;
        if (i >= f->args->n) sr_j_fail(e, SR_INVALID, "found %u values for a format, expected more", f->args->n);
        v = f->args->at[i];
    } else {
        v = keyword_of(e, f, first);
    }
    while (end < name.n) {
        bool item = name.u.s[end] == '[';
        size_t from = ++end;
        while (end < name.n && (item ? name.u.s[end] != ']' : name.u.s[end] != '.' && name.u.s[end] != '[')) end++;
        jvalue part = sr_j_part(name, from, end);
        if (!part.n || (item && end == name.n))
            sr_j_fail(e, SR_INVALID, "found '{%s}', expected a name behind '.' and in brackets",
                      sr_j_shown(name.u.s, name.n));
        end += item;
        if (item && end < name.n && name.u.s[end] != '.' && name.u.s[end] != '[')
            sr_j_fail(e, SR_INVALID, "found '{%s}', expected '.' or '[' behind ']'", sr_j_shown(name.u.s, name.n));
        v = item ? sr_j_item(e, v, index_of(e, part)) : sr_j_attr(e, v, part);
    }
    return v;
}

static void put_fields(jenv *e, struct fields *f, jvalue text, int depth);

/* "name!r:spec", what stands between the braces */
static void put_field(jenv *e, struct fields *f, jvalue text, int depth) {
    size_t end = 0, brackets = 0, from = e->out.n;
    for (; end < text.n && (brackets || !one_of(text.u.s[end], "!:")); end++)
        brackets = text.u.s[end] == '[' ? 1 : text.u.s[end] == ']' ? 0 : brackets;
    jvalue v = field_value(e, f, sr_j_part(text, 0, end)), spec = sr_j_string("", 0);
    if (end < text.n && text.u.s[end] == '!') {
        char letter = end + 1 < text.n ? text.u.s[end + 1] : 0;
        end += 2;
        if (!one_of(letter, "sra") || (end < text.n && text.u.s[end] != ':'))
            sr_j_fail(e, SR_INVALID, "found another conversion behind '!' than s, r and a");
        if (letter == 's')
            sr_j_print(e, v);
        else
            sr_j_repr(e, v);
        v = sr_j_take(e, from);
    }
    if (end < text.n) {
        put_fields(e, f, sr_j_part(text, end + 1, text.n), depth + 1);
        spec = sr_j_take(e, from);
    }
    if (f->self.safe && spec.n && v.kind == J_STRING && v.safe)
        sr_j_fail(e, SR_INVALID, "found the format '%s' for safe text, expected none", sr_j_shown(spec.u.s, spec.n));
    put_laid_out(e, v, spec);
    if (!f->self.safe) return;
    jvalue shown = sr_j_take(e, from);
    shown.safe = v.kind == J_STRING && v.safe;
    shown = sr_j_escape(e, shown);
    sr_j_put_bytes(e, shown.u.s, shown.n);
}

static void put_fields(jenv *e, struct fields *f, jvalue text, int depth) {
    const char *s = text.u.s;
    if (depth > 1) sr_j_fail(e, SR_INVALID, "found a format in the format of a format, expected at most two levels");
    for (size_t i = 0; i < text.n;) {
        size_t to = i;
        while (to < text.n && s[to] != '{' && s[to] != '}') to++;
        sr_j_put_bytes(e, s + i, to - i);
        if ((i = to) == text.n) return;
        sr_j_charge(e, 1);
        if (i + 1 < text.n && s[i] == s[i + 1] && !depth) { /* "{{" */
            sr_j_put_bytes(e, s + i, 1);
            i += 2;
            continue;
        }
        size_t end = i + 1, open = 1;
        for (; end < text.n && open; end++) open = s[end] == '{' ? open + 1 : s[end] == '}' ? open - 1 : open;
        if (s[i] == '}' || open) sr_j_fail(e, SR_INVALID, "found a single '%c' in a format, expected two", s[i]);
        put_field(e, f, sr_j_part(text, i + 1, end - 1), depth);
        i = end;
    }
}

jvalue sr_j_str_format(jenv *e, jvalue self, jargs *a) {
    struct fields f = {.self = self, .args = a};
    size_t from = e->out.n;
    put_fields(e, &f, self, 0);
    jvalue text = sr_j_take(e, from);
    text.safe = self.safe;
    return text;
}
