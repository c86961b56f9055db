/* Jinja's tokens. White space around tags is settled here, as with trim_blocks and lstrip_blocks: a block or comment
 * takes the newline behind it and the blanks in front of it on its line; '-' at a tag takes all white space on that
 * side, '+' nothing. */
#include <stdio.h>

#include "text/jinja.h"
#include "text/unicode.h"

typedef struct jname {
    struct jname *next;
    uint32_t hash, n;
    char s[];
} jname;

enum { NAME_TABLE = 1024 };

jvalue sr_j_intern(jlexer *l, const char *s, size_t n) {
    jenv *e = l->e;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < n; i++) hash = (hash ^ (uint8_t)s[i]) * 16777619u;
    if (!l->names) l->names = sr_j_alloc(e, NAME_TABLE, sizeof *l->names);
    jname **at = &l->names[hash % NAME_TABLE];
    for (; *at; at = &(*at)->next) {
        sr_j_charge(e, 1);
        if ((*at)->hash == hash && (*at)->n == n && memcmp((*at)->s, s, n) == 0) return sr_j_string((*at)->s, n);
    }
    jname *made = sr_j_alloc(e, 1, sizeof *made + n + 1);
    made->hash = hash;
    made->n = (uint32_t)n;
    memcpy(made->s, s, n);
    *at = made;
    return sr_j_string(made->s, n);
}

static const char *const token_names[] = {
    "the end of the template",
    "text",
    "'{{'",
    "'}}'",
    "'{%'",
    "'%}'",
    "a name",
    "a string",
    "a number",
    "'+'",
    "'-'",
    "'*'",
    "'/'",
    "'//'",
    "'%'",
    "'**'",
    "'~'",
    "'=='",
    "'!='",
    "'<'",
    "'<='",
    "'>'",
    "'>='",
    "'='",
    "'.'",
    "','",
    "':'",
    "'|'",
    "';'",
    "'('",
    "')'",
    "'['",
    "']'",
    "'{'",
    "'}'",
    "'in'",
    "'not in'",
};

const char *sr_j_token_name(jtoken_kind kind) {
    return token_names[kind];
}

/* ---------------------------------------------------------------- characters */

static bool at(const jlexer *l, size_t i, const char *what) {
    size_t n = strlen(what);
    return i <= l->n && n <= l->n - i && memcmp(l->s + i, what, n) == 0;
}

static size_t skip_space(const jlexer *l, size_t i) {
    uint32_t cp;
    while (i < l->n) {
        unsigned len = sr_utf8_get(l->s + i, &cp);
        if (!sr_j_is_space(cp)) break;
        i += len;
    }
    return i;
}

/* End of s[from..to) without the white space in front of `to`. */
static size_t strip_behind(const jlexer *l, size_t from, size_t to) {
    uint32_t cp;
    while (to > from) {
        size_t before = sr_utf8_before(l->s, to);
        sr_utf8_get(l->s + before, &cp);
        if (!sr_j_is_space(cp)) break;
        to = before;
    }
    return to;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_name(const jlexer *l, size_t i, unsigned *len) {
    uint32_t cp;
    if (i >= l->n) return false;
    *len = sr_utf8_get(l->s + i, &cp);
    if (cp < 0x80) return is_digit((char)cp) || (cp | 32) - 'a' < 26u || cp == '_';
    return sr_char_is_word(cp);
}

/* Where the text s[from..to) in front of a tag with this sign ends. */
static size_t trimmed(const jlexer *l, size_t from, size_t to, char sign, bool lstrip) {
    if (sign == '-') return strip_behind(l, from, to);
    if (sign == '+' || !lstrip) return to;
    size_t line = to;
    while (line > from && l->s[line - 1] != '\n') line--;
    if (line == from && !l->line_starting) return to;
    return skip_space(l, line) >= to ? line : to;
}

/* The end of a block or comment at i: "%}" or "#}" behind an optional sign. 0: not there; else where the text goes on.
 */
static size_t end_of_tag(const jlexer *l, size_t i, const char *close) {
    if (at(l, i, "-") && at(l, i + 1, close)) return skip_space(l, i + 3);
    if (at(l, i, "+") && at(l, i + 1, close)) return i + 3;
    if (!at(l, i, close)) return 0;
    return at(l, i + 2, "\n") ? i + 3 : i + 2;
}

static void move_to(jlexer *l, size_t i) {
    l->pos = (uint32_t)i;
    l->line_starting = i > 0 && l->s[i - 1] == '\n';
}

/* ---------------------------------------------------------------- text between tags */

/* The next "{%", "{{" or "{#". */
static size_t find_tag(const jlexer *l, size_t i) {
    for (; i + 1 < l->n; i++) {
        const char *brace = memchr(l->s + i, '{', l->n - 1 - i);
        if (!brace) break;
        i = (size_t)(brace - l->s);
        if (brace[1] == '%' || brace[1] == '{' || brace[1] == '#') return i;
    }
    return l->n;
}

static char sign_at(const jlexer *l, size_t i) {
    return i < l->n && (l->s[i] == '-' || l->s[i] == '+') ? l->s[i] : 0;
}

/* A tag that is one word: "{% raw %}". Returns where its end stands, 0: it is another one. */
static size_t one_word(const jlexer *l, size_t tag, const char *word) {
    size_t i = skip_space(l, tag + 2 + (sign_at(l, tag + 2) != 0));
    if (!at(l, i, word)) return 0;
    i = skip_space(l, i + strlen(word));
    return at(l, i, "%}") || at(l, i, "-%}") || (at(l, i, "+%}") && strcmp(word, "endraw") == 0) ? i : 0;
}

static jtoken data(const jlexer *l, size_t from, size_t to) {
    return (jtoken){T_DATA, (uint32_t)from, (uint32_t)(to - from), sr_j_string(l->s + from, to - from)};
}

/* From behind "{% raw %}" on. */
static jtoken lex_raw(jlexer *l, size_t tag, size_t end) {
    size_t from = at(l, end, "-") ? skip_space(l, end + 3) : end + 2, close = from, stop;
    move_to(l, from);
    for (;; close++) {
        close = find_tag(l, close);
        if (close >= l->n) {
            l->e->at = (uint32_t)tag;
            sr_j_fail(l->e, SR_CORRUPT, "found 'raw' without an end, expected '{%% endraw %%}'");
        }
        if (l->s[close + 1] == '%' && (stop = one_word(l, close, "endraw"))) break;
    }
    jtoken t = data(l, from, trimmed(l, from, close, sign_at(l, close + 2), true));
    move_to(l, end_of_tag(l, stop, "%}"));
    return t;
}

static void skip_comment(jlexer *l, size_t tag) {
    size_t from = tag + 2 + (sign_at(l, tag + 2) != 0), i = from;
    while (i < l->n && !at(l, i, "#}")) i++;
    if (i >= l->n) {
        l->e->at = (uint32_t)tag;
        sr_j_fail(l->e, SR_CORRUPT, "found a comment without an end, expected '#}'");
    }
    move_to(l, end_of_tag(l, i > from && sign_at(l, i - 1) ? i - 1 : i, "#}"));
}

static jtoken lex_data(jlexer *l) {
    for (;;) {
        if (l->pending) {
            l->pending = false;
            l->mode = l->pending_kind == T_PRINT ? J_IN_PRINT : J_IN_BLOCK;
            return (jtoken){.kind = l->pending_kind, .at = l->pending_at, .n = 2};
        }
        if (l->pos >= l->n) return (jtoken){.kind = T_END, .at = l->n};
        size_t from = l->pos, tag = find_tag(l, from), end;
        if (tag == l->n) {
            l->pos = l->n;
            return data(l, from, tag);
        }
        char sign = sign_at(l, tag + 2), kind = l->s[tag + 1];
        jtoken t = data(l, from, trimmed(l, from, tag, sign, kind != '{'));
        if (kind == '%' && (end = one_word(l, tag, "raw"))) {
            if (t.n) { /* the tag comes once more, without text in front */
                l->pos = (uint32_t)tag;
                return t;
            }
            t = lex_raw(l, tag, end);
        } else if (kind == '#') {
            skip_comment(l, tag);
        } else {
            l->pending = true;
            l->pending_kind = kind == '{' ? T_PRINT : T_BLOCK;
            l->pending_at = (uint32_t)tag;
            l->pos = (uint32_t)(tag + 2 + (sign != 0));
        }
        if (t.n) return t;
    }
}

/* ---------------------------------------------------------------- inside of tags */

static unsigned hex_digits(const jlexer *l, size_t i, size_t end, unsigned most, uint32_t *v) {
    unsigned k = 0;
    *v = 0;
    for (; k < most && i + k < end; k++) {
        char c = l->s[i + k];
        unsigned digit = is_digit(c) ? (unsigned)(c - '0') : ((unsigned)c | 32) - 'a' + 10;
        if (digit > 15 || (!is_digit(c) && digit < 10)) break;
        *v = *v << 4 | digit;
    }
    return k;
}

/* The escape behind the backslash at i; returns where the text goes on. */
static size_t unescape(jlexer *l, size_t i, size_t end) {
    static const char letters[] = "\\'\"abfnrtv", meant[] = "\\'\"\a\b\f\n\r\t\v";
    jenv *e = l->e;
    char c = l->s[i + 1];
    const char *letter = c ? strchr(letters, c) : NULL;
    if (letter) {
        sr_j_put_bytes(e, meant + (letter - letters), 1);
        return i + 2;
    }
    if (c == '\n') return i + 2;
    uint32_t v = 0;
    if (c >= '0' && c <= '7') {
        size_t k = i + 1;
        for (; k < end && k < i + 4 && l->s[k] >= '0' && l->s[k] <= '7'; k++) v = v * 8 + (uint32_t)(l->s[k] - '0');
        sr_j_put_char(e, v);
        return k;
    }
    unsigned want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (want) {
        if (hex_digits(l, i + 2, end, want, &v) != want || v > 0x10FFFF) {
            e->at = (uint32_t)i;
            sr_j_fail(e, SR_CORRUPT, "found a broken \\%c escape, expected %u hexadecimal digits", c, want);
        }
        sr_j_put_char(e, v);
        return i + 2 + want;
    }
    sr_j_put_bytes(e, "\\", 1); /* no escape: the backslash stays */
    return i + 1;
}

static jtoken lex_string(jlexer *l, size_t from) {
    char quote = l->s[from];
    size_t end = from + 1;
    bool escaped = false;
    while (end < l->n && l->s[end] != quote) {
        bool slash = l->s[end] == '\\';
        escaped |= slash;
        end += 1 + slash;
    }
    if (end >= l->n) sr_j_fail(l->e, SR_CORRUPT, "found a string without an end, expected %c", quote);
    jtoken t = {T_STRING, (uint32_t)from, (uint32_t)(end + 1 - from), sr_j_string(l->s + from + 1, end - from - 1)};
    if (escaped) {
        size_t start = l->e->out.n;
        for (size_t i = from + 1; i < end;) {
            if (l->s[i] == '\\') {
                i = unescape(l, i, end);
                continue;
            }
            const char *slash = memchr(l->s + i, '\\', end - i);
            size_t stop = slash ? (size_t)(slash - l->s) : end;
            sr_j_put_bytes(l->e, l->s + i, stop - i);
            i = stop;
        }
        t.v = sr_j_take(l->e, start);
    }
    return t;
}

/* Digits with single underscores between them. */
static size_t digits(const jlexer *l, size_t i) {
    while (i < l->n &&
           (is_digit(l->s[i]) || (l->s[i] == '_' && is_digit(l->s[i - 1]) && i + 1 < l->n && is_digit(l->s[i + 1]))))
        i++;
    return i;
}

static jtoken lex_number(jlexer *l, size_t from) {
    size_t end = digits(l, from), whole = end;
    bool real = false;
    int base = 10;
    if (from == 0 || l->s[from - 1] != '.') {
        if (at(l, end, ".") && end + 1 < l->n && is_digit(l->s[end + 1])) {
            end = digits(l, end + 1);
            real = true;
        }
        size_t e = end + 1 + (sign_at(l, end + 1) != 0);
        if (end < l->n && (l->s[end] | 32) == 'e' && e < l->n && is_digit(l->s[e])) {
            end = digits(l, e);
            real = true;
        }
    }
    char mark = whole == from + 1 && l->s[from] == '0' && from + 2 < l->n ? (char)(l->s[from + 1] | 32) : 0;
    if (!real && (mark == 'x' || mark == 'o' || mark == 'b')) {
        uint32_t v;
        base = mark == 'x' ? 16 : mark == 'o' ? 8 : 2;
        end = from + 2;
        while (end < l->n && (l->s[end] == '_' || hex_digits(l, end, l->n, 1, &v))) end++;
    } else if (!real && l->s[from] == '0') { /* no other digit follows a zero */
        for (end = from; end < whole && (l->s[end] == '0' || l->s[end] == '_');) end++;
    }
    jtoken t = {T_NUMBER, (uint32_t)from, (uint32_t)(end - from), {0}};
    jvalue text = sr_j_string(l->s + from, end - from);
    int64_t i;
    double d;
    if (real && sr_j_parse_float(text, &d))
        t.v = sr_j_float(d);
    else if (!real && sr_j_parse_int(l->e, text, base, &i))
        t.v = sr_j_int(i);
    else
        sr_j_fail(l->e, SR_CORRUPT, "found the number %s, expected one of 64 bits", sr_j_shown(text.u.s, text.n));
    return t;
}

static jtoken lex_operator(jlexer *l, size_t i) {
    static const struct {
        char text[3];
        uint8_t kind;
    } operators[] = {{"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {"<=", T_LE},
                     {">=", T_GE},       {"+", T_ADD},    {"-", T_SUB},      {"*", T_MUL},      {"/", T_DIV},
                     {"%", T_MOD},       {"~", T_TILDE},  {"<", T_LT},       {">", T_GT},       {"=", T_ASSIGN},
                     {".", T_DOT},       {",", T_COMMA},  {":", T_COLON},    {"|", T_PIPE},     {";", T_SEMICOLON},
                     {"(", T_LPAREN},    {")", T_RPAREN}, {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"{", T_LBRACE},
                     {"}", T_RBRACE}};
    for (size_t k = 0; k < sizeof operators / sizeof *operators; k++) {
        if (!at(l, i, operators[k].text)) continue;
        jtoken t = {.kind = operators[k].kind, .at = (uint32_t)i, .n = (uint32_t)strlen(operators[k].text)};
        char c = operators[k].text[0];
        if (c == '(' || c == '[' || c == '{') {
            if (l->n_brackets == J_BRACKETS)
                sr_j_fail(l->e, SR_LIMIT, "found brackets nested deeper than %d", J_BRACKETS);
            l->bracket[l->n_brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (!l->n_brackets) sr_j_fail(l->e, SR_CORRUPT, "found '%c' without an opening bracket", c);
            char want = l->bracket[--l->n_brackets];
            if (want != c) sr_j_fail(l->e, SR_CORRUPT, "found '%c', expected '%c'", c, want);
        }
        return t;
    }
    uint32_t cp;
    unsigned n = sr_utf8_get(l->s + i, &cp);
    sr_j_fail(l->e, SR_CORRUPT, "found \"%s\", expected an expression", sr_j_shown(l->s + i, n));
}

jtoken sr_j_lex(jlexer *l) {
    if (l->mode == J_IN_DATA) return lex_data(l);
    size_t i = skip_space(l, l->pos), end = 0;
    unsigned len;
    jtoken t = {.at = (uint32_t)i};
    l->e->at = (uint32_t)i;
    if (!l->n_brackets) { /* else "}}" closes two dicts */
        if (l->mode == J_IN_BLOCK)
            end = end_of_tag(l, i, "%}");
        else if (at(l, i, "}}"))
            end = i + 2;
        else if (at(l, i, "-}}"))
            end = skip_space(l, i + 3);
    }
    if (end) {
        t.kind = l->mode == J_IN_BLOCK ? T_BLOCK_END : T_PRINT_END;
        t.n = 2;
        move_to(l, end);
        l->mode = J_IN_DATA;
        return t;
    }
    if (i >= l->n) {
        l->pos = l->n;
        t.kind = T_END;
        return t;
    }
    if (is_digit(l->s[i])) {
        t = lex_number(l, i);
    } else if (is_name(l, i, &len)) {
        for (end = i; is_name(l, end, &len);) end += len;
        t.kind = T_NAME;
        t.n = (uint32_t)(end - i);
        t.v = sr_j_intern(l, l->s + i, t.n);
    } else if (l->s[i] == '\'' || l->s[i] == '"') {
        t = lex_string(l, i);
    } else {
        t = lex_operator(l, i);
    }
    l->pos = t.at + t.n;
    return t;
}
