/* Translation from Oniguruma's Ruby syntax, where PCRE2 reads the same characters differently:
 *
 *   \s \S \w \W    Unicode classes spelled out: PCRE2's \s also takes U+180E, its \w leaves out marks
 *   \b \B          look-arounds over that \w
 *   \h \H          hexadecimal digits (PCRE2: horizontal space)
 *   \uHHHH         \x{HHHH}
 *   \p{Letter} \p{Han}      \p{L} \p{sc:Han} (a bare script name means script extensions since PCRE2 10.40)
 *   [a[bc]] [a&&[^b]]       union is flattened, intersection becomes a look-ahead
 *   x{1,3}+ x{,3}  (?:x{1,3})+ (no possessive interval in Ruby syntax) and x{0,3}
 *   (?m)           (?s); ^ and $ always match at line ends
 *
 * Caseless letters behave alike: (?i:'s) takes U+017F in both. Foldings of one character to several (the sharp s to ss)
 * are not followed.
 *
 * Work is bounded by counting, not by the clock. A search tries START_WINDOW start positions at a time (offset limit),
 * because the match limit counts anew for each. It sees WINDOW bytes of text; where a partial match says that it wants
 * to look further, or where it hits the small match limit, it is repeated with more, and that is charged to a budget
 * proportional to the text. Where the budget ends, SR_LIMIT. So a long run costs what it must, and a pattern that is
 * quadratic on some text fails within seconds. (Within a window the count is of match steps, and a step can be a scan
 * of the window: a pattern made for harm may still take a millisecond a position.)
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "text/unicode.h"

enum {
    START_WINDOW = 64,           /* start positions a search */
    STEPS_CHEAP = 10000,         /* match limit of the first try: enough for a run of thousands of characters */
    STEPS_MEDIUM = 200000,       /* of the second; charged */
    STEPS_BASE = 1000000,        /* of the third, plus 16 a byte of text; charged */
    WINDOW = 4096,               /* bytes a search sees at first, then WINDOW_GROWTH times as many each time; charged */
    WINDOW_GROWTH = 4,           /* with START_WINDOW, the positions that may look at them */
    BUDGET_BASE = 100000000,     /* steps or bytes a text and stage, plus BUDGET_PER_BYTE: */
    BUDGET_PER_BYTE = 640,       /* a run is charged at most 341 bytes and 170 steps a byte */
    DEPTH_LIMIT = 1000000,       /* nested backtracking points of the interpreter */
    HEAP_LIMIT_KIB = 128 * 1024, /* memory of the interpreter */
    JIT_STACK_MAX = 64 << 20,    /* bytes, reserved when a pattern needs more than the machine stack */
    PATTERN_MAX = 16384,         /* bytes of a pattern */
    LITERAL_MAX = 1024           /* bytes of a literal: naive search is then linear enough */
};

struct sr_regex {
    char *pattern; /* as given, zero-terminated */
    size_t n;
    pcre2_code *code; /* NULL for a literal */
    bool jit;
};

#define SPACE_RANGES                                                                                                   \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE_RANGES                                                                                               \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/* Oniguruma's word: letters, marks, decimal digits, letter numbers, connectors, the circled letters, and of Latin-1 the
 * superscripts and fractions (from its ISO 8859-1 table). */
#define WORD_RANGES                                                                                                    \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"    \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
#define WORD "[" WORD_RANGES "]"

bool sr_regex_is_word(uint32_t cp) { /* as WORD */
    bool joiner = cp == 0x200C || cp == 0x200D;
    return (sr_char_is_word(cp) && !joiner) || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || (cp >= 0xBC && cp <= 0xBE);
}

#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
#define ALPHABETIC "\\p{Alphabetic}"
#else
#define ALPHABETIC "\\p{L}\\p{Nl}"
#endif

typedef struct translator {
    const char *at, *end;
    sr_buffer out;
    const char *problem;
    int depth;
} translator;

static void put(translator *t, const char *s, size_t n) {
    if (!t->problem && !sr_buffer_add(&t->out, s, n)) t->problem = "out of memory";
}
static void puts_to(translator *t, const char *s) {
    put(t, s, strlen(s));
}

static const char *const long_names[][2] = {{"letter", "L"},
                                            {"uppercase_letter", "Lu"},
                                            {"lowercase_letter", "Ll"},
                                            {"titlecase_letter", "Lt"},
                                            {"modifier_letter", "Lm"},
                                            {"other_letter", "Lo"},
                                            {"mark", "M"},
                                            {"nonspacing_mark", "Mn"},
                                            {"spacing_mark", "Mc"},
                                            {"enclosing_mark", "Me"},
                                            {"number", "N"},
                                            {"decimal_number", "Nd"},
                                            {"letter_number", "Nl"},
                                            {"other_number", "No"},
                                            {"punctuation", "P"},
                                            {"punct", "P"},
                                            {"symbol", "S"},
                                            {"separator", "Z"},
                                            {"other", "C"},
                                            {"control", "Cc"},
                                            {"digit", "Nd"},
                                            {"cntrl", "Cc"},
                                            {"upper", "Uppercase"},
                                            {"lower", "Lowercase"},
                                            {"alpha", "Alphabetic"},
                                            {"space", "White_Space"},
                                            {"math_symbol", "Sm"},
                                            {"currency_symbol", "Sc"}};
/* Of Unicode 9, as the package knows them; the most frequent ones first. */
static const char *const scripts[] = {"Latin",
                                      "Common",
                                      "Han",
                                      "Hiragana",
                                      "Katakana",
                                      "Adlam",
                                      "Ahom",
                                      "Anatolian_Hieroglyphs",
                                      "Arabic",
                                      "Armenian",
                                      "Avestan",
                                      "Balinese",
                                      "Bamum",
                                      "Bassa_Vah",
                                      "Batak",
                                      "Bengali",
                                      "Bhaiksuki",
                                      "Bopomofo",
                                      "Brahmi",
                                      "Braille",
                                      "Buginese",
                                      "Buhid",
                                      "Canadian_Aboriginal",
                                      "Carian",
                                      "Caucasian_Albanian",
                                      "Chakma",
                                      "Cham",
                                      "Cherokee",
                                      "Coptic",
                                      "Cuneiform",
                                      "Cypriot",
                                      "Cyrillic",
                                      "Deseret",
                                      "Devanagari",
                                      "Duployan",
                                      "Egyptian_Hieroglyphs",
                                      "Elbasan",
                                      "Ethiopic",
                                      "Georgian",
                                      "Glagolitic",
                                      "Gothic",
                                      "Grantha",
                                      "Greek",
                                      "Gujarati",
                                      "Gurmukhi",
                                      "Hangul",
                                      "Hanunoo",
                                      "Hatran",
                                      "Hebrew",
                                      "Imperial_Aramaic",
                                      "Inherited",
                                      "Inscriptional_Pahlavi",
                                      "Inscriptional_Parthian",
                                      "Javanese",
                                      "Kaithi",
                                      "Kannada",
                                      "Kayah_Li",
                                      "Kharoshthi",
                                      "Khmer",
                                      "Khojki",
                                      "Khudawadi",
                                      "Lao",
                                      "Lepcha",
                                      "Limbu",
                                      "Linear_A",
                                      "Linear_B",
                                      "Lisu",
                                      "Lycian",
                                      "Lydian",
                                      "Mahajani",
                                      "Malayalam",
                                      "Mandaic",
                                      "Manichaean",
                                      "Marchen",
                                      "Meetei_Mayek",
                                      "Mende_Kikakui",
                                      "Meroitic_Cursive",
                                      "Meroitic_Hieroglyphs",
                                      "Miao",
                                      "Modi",
                                      "Mongolian",
                                      "Mro",
                                      "Multani",
                                      "Myanmar",
                                      "Nabataean",
                                      "New_Tai_Lue",
                                      "Newa",
                                      "Nko",
                                      "Ogham",
                                      "Ol_Chiki",
                                      "Old_Hungarian",
                                      "Old_Italic",
                                      "Old_North_Arabian",
                                      "Old_Permic",
                                      "Old_Persian",
                                      "Old_South_Arabian",
                                      "Old_Turkic",
                                      "Oriya",
                                      "Osage",
                                      "Osmanya",
                                      "Pahawh_Hmong",
                                      "Palmyrene",
                                      "Pau_Cin_Hau",
                                      "Phags_Pa",
                                      "Phoenician",
                                      "Psalter_Pahlavi",
                                      "Rejang",
                                      "Runic",
                                      "Samaritan",
                                      "Saurashtra",
                                      "Sharada",
                                      "Shavian",
                                      "Siddham",
                                      "SignWriting",
                                      "Sinhala",
                                      "Sora_Sompeng",
                                      "Sundanese",
                                      "Syloti_Nagri",
                                      "Syriac",
                                      "Tagalog",
                                      "Tagbanwa",
                                      "Tai_Le",
                                      "Tai_Tham",
                                      "Tai_Viet",
                                      "Takri",
                                      "Tamil",
                                      "Tangut",
                                      "Telugu",
                                      "Thaana",
                                      "Thai",
                                      "Tibetan",
                                      "Tifinagh",
                                      "Tirhuta",
                                      "Ugaritic",
                                      "Vai",
                                      "Warang_Citi",
                                      "Yi"};

static char folded(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c == ' ' ? '_' : c;
}

static bool same_name(const char *a, size_t n, const char *b) {
    size_t i = 0;
    for (; i < n && b[i]; i++) {
        if (folded(a[i]) != folded(b[i])) return false;
    }
    return i == n && !b[i];
}

/* \p{...} or \P{...}; at stands behind the p. */
static void property(translator *t, char letter) {
    char head[3] = {'\\', letter, 0};
    if (t->at == t->end || *t->at != '{') {
        puts_to(t, head);
        return; /* \pL */
    }
    const char *close = memchr(t->at, '}', (size_t)(t->end - t->at));
    if (!close) {
        t->problem = "a property name without its closing brace";
        return;
    }
    const char *name = t->at + 1;
    t->at = close + 1;
    puts_to(t, head);
    puts_to(t, "{");
    if (name < close && *name == '^') {
        puts_to(t, "^");
        name++;
    }
    size_t n = (size_t)(close - name);
    const char *given = NULL;
    for (size_t i = 0; i < sizeof long_names / sizeof *long_names; i++)
        if (same_name(name, n, long_names[i][0])) given = long_names[i][1];
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        if (same_name(name, n, scripts[i])) puts_to(t, "sc:");
#else
    (void)scripts;
#endif
    if (given)
        puts_to(t, given);
    else
        put(t, name, n);
    puts_to(t, "}");
}

/* The escape whose letter stands at t->at. */
static void escape(translator *t, bool in_class) {
    if (t->at == t->end) {
        t->problem = "a backslash at the end";
        return;
    }
    char c = *t->at++;
    switch (c) {
    case 's':
        puts_to(t, in_class ? SPACE_RANGES : "[" SPACE_RANGES "]");
        return;
    case 'S':
        puts_to(t, in_class ? NOT_SPACE_RANGES : "[^" SPACE_RANGES "]");
        return;
    case 'w':
        puts_to(t, in_class ? WORD_RANGES : WORD);
        return;
    case 'W':
        if (in_class)
            t->problem = "\\W in a class";
        else
            puts_to(t, "[^" WORD_RANGES "]");
        return;
    case 'b':
    case 'B':
        if (in_class)
            puts_to(t, c == 'b' ? "\\x{8}" : "B");
        else
            puts_to(t, c == 'b' ? "(?:(?<=" WORD ")(?!" WORD ")|(?<!" WORD ")(?=" WORD "))"
                                : "(?:(?<=" WORD ")(?=" WORD ")|(?<!" WORD ")(?!" WORD "))");
        return;
    case 'h':
        puts_to(t, in_class ? "0-9a-fA-F" : "[0-9a-fA-F]");
        return;
    case 'H':
        if (in_class)
            t->problem = "\\H in a class";
        else
            puts_to(t, "[^0-9a-fA-F]");
        return;
    case 'u':
        if (t->end - t->at < 4) {
            t->problem = "\\u without four digits";
            return;
        }
        puts_to(t, "\\x{");
        put(t, t->at, 4);
        puts_to(t, "}");
        t->at += 4;
        return;
    case 'x':
    case 'o': { /* with its braces, which are no interval */
        const char *close = t->at < t->end && *t->at == '{' ? memchr(t->at, '}', (size_t)(t->end - t->at)) : NULL;
        put(t, t->at - 2, 2);
        if (close) put(t, t->at, (size_t)(close + 1 - t->at));
        if (close) t->at = close + 1;
        return;
    }
    case 'p':
    case 'P':
        property(t, c);
        return;
    case 'C':
    case 'M':
    case 'K':
    case 'G':
    case 'y':
    case 'Y':
        t->problem = "an escape of Oniguruma alone";
        return;
    default: {
        char pair[2] = {'\\', c};
        put(t, pair, 2);
        /* the other bytes of a character follow as they are */
    }
    }
}

/* [:name:] inside a class, whose first colon stands at t->at. Those that PCRE2 sees otherwise are spelled out. */
static bool posix_class(translator *t) {
    static const char *const differ[][2] = {
        {":punct:]", "\\p{P}\\p{S}"}, {":space:]", SPACE_RANGES}, {":word:]", WORD_RANGES}, {":alpha:]", ALPHABETIC}};
    size_t left = (size_t)(t->end - t->at);
    for (size_t i = 0; i < sizeof differ / sizeof *differ; i++) {
        size_t n = strlen(differ[i][0]);
        if (left >= n && !memcmp(t->at, differ[i][0], n)) {
            puts_to(t, differ[i][1]);
            t->at += n;
            return true;
        }
    }
    const char *close = t->at + 1;
    while (close + 1 < t->end && !(close[0] == ':' && close[1] == ']')) close++;
    if (close + 1 >= t->end) return false;
    put(t, t->at - 1, (size_t)(close + 2 - (t->at - 1)));
    t->at = close + 2;
    return true;
}

static void class_body(translator *t, bool negated);

/* A class whose '[' was just read. */
static void class_open(translator *t) {
    bool negated = t->at < t->end && *t->at == '^';
    if (negated) t->at++;
    if (++t->depth > 32) {
        t->problem = "classes nested too deep";
        return;
    }
    class_body(t, negated);
    t->depth--;
}

/* Writes [..] for the members up to the closing bracket; intersections become (?:(?=[a])[b]). */
static void class_body(translator *t, bool negated) {
    sr_buffer outer = t->out;
    t->out = (sr_buffer){0};
    size_t n_operands = 1;
    bool first = true, closed = false, whole_negated = false;
    sr_buffer operands = {0}; /* finished operands of &&, each as a look-ahead */
    while (!t->problem && t->at < t->end) {
        char c = *t->at++;
        if (c == ']' && !first) {
            closed = true;
            break;
        }
        first = false;
        if (c == '\\') {
            escape(t, true);
        } else if (c == '[') {
            if (t->at < t->end && *t->at == ':' && posix_class(t)) continue;
            bool whole = !t->out.n, inner_negated = t->at < t->end && *t->at == '^';
            sr_buffer mine = t->out;
            t->out = (sr_buffer){0};
            class_open(t);
            sr_buffer inner = t->out;
            t->out = mine;
            bool plain = inner.n > 2 && inner.at && inner.at[0] == '[';
            if (!t->problem && plain && !inner_negated) {
                put(t, inner.at + 1, inner.n - 2);
            } else if (!t->problem && plain && whole &&
                       (t->at == t->end || *t->at == ']' ||
                        (t->end - t->at > 1 && t->at[0] == '&' && t->at[1] == '&'))) {
                /* the operand is one negated class: keep its caret, the brackets come below */
                put(t, inner.at + 1, inner.n - 2);
                whole_negated = true;
            } else if (!t->problem) {
                t->problem = "a negated class inside a class";
            }
            sr_buffer_free(&inner);
        } else if (c == '&' && t->at < t->end && *t->at == '&') {
            t->at++;
            sr_buffer done = t->out;
            t->out = operands;
            puts_to(t, "(?=[");
            put(t, done.at ? done.at : "", done.n);
            puts_to(t, "])");
            operands = t->out;
            sr_buffer_free(&done);
            t->out = (sr_buffer){0};
            n_operands++;
        } else {
            put(t, &c, 1);
        }
    }
    if (!closed && !t->problem) t->problem = "a class without its closing bracket";
    sr_buffer last = t->out;
    t->out = outer;
    if (negated && (n_operands > 1 || whole_negated) && !t->problem) t->problem = "a negated class of classes";
    if (n_operands == 1) {
        puts_to(t, negated ? "[^" : "[");
        put(t, last.at ? last.at : "", last.n);
        puts_to(t, "]");
    } else {
        puts_to(t, "(?:");
        put(t, operands.at ? operands.at : "", operands.n);
        puts_to(t, "[");
        put(t, last.at ? last.at : "", last.n);
        puts_to(t, "])");
    }
    sr_buffer_free(&last);
    sr_buffer_free(&operands);
}

static bool wrap_atom(translator *t, size_t atom) {
    if (!sr_buffer_reserve(&t->out, 4)) {
        t->problem = "out of memory";
        return false;
    }
    memmove(t->out.at + atom + 3, t->out.at + atom, t->out.n - atom);
    memcpy(t->out.at + atom, "(?:", 3);
    t->out.n += 3;
    puts_to(t, ")");
    return true;
}

static void translate(translator *t) {
    enum { GROUPS = 128 };
    size_t group[GROUPS], atom = 0; /* where the last atom begins in out, for interval repeats */
    int n_groups = 0;
    while (!t->problem && t->at < t->end) {
        char c = *t->at++;
        switch (c) {
        case '\\':
            atom = t->out.n;
            escape(t, false);
            break;
        case '[':
            atom = t->out.n;
            class_open(t);
            break;
        case '(':
            if (n_groups == GROUPS) {
                t->problem = "groups nested too deep";
                break;
            }
            group[n_groups++] = t->out.n;
            puts_to(t, "(");
            if (t->at < t->end && *t->at == '?') {
                puts_to(t, "?");
                t->at++;
                while (t->at < t->end && strchr("imx-", *t->at)) {
                    put(t, *t->at == 'm' ? "s" : t->at, 1);
                    t->at++;
                }
                while (t->at < t->end && strchr(":=!<>#|)", *t->at) && *t->at != ')') {
                    put(t, t->at, 1);
                    t->at++;
                    if (t->at[-1] != '<') break;
                }
            }
            break;
        case ')':
            puts_to(t, ")");
            if (n_groups) atom = group[--n_groups];
            break;
        case '{': {
            const char *p = t->at;
            while (p < t->end && ((*p >= '0' && *p <= '9') || *p == ',')) p++;
            if (p == t->end || *p != '}' || p == t->at || (p == t->at + 1 && *t->at == ',')) {
                atom = t->out.n;
                puts_to(t, "\\{"); /* not an interval: the character itself */
                break;
            }
            puts_to(t, *t->at == ',' ? "{0" : "{");
            put(t, t->at, (size_t)(p + 1 - t->at));
            t->at = p + 1;
            if (t->at < t->end && *t->at == '+' && wrap_atom(t, atom)) {
                t->at++;
                puts_to(t, "+");
            }
            break;
        }
        case '*':
        case '+':
        case '?':
            put(t, &c, 1);
            break;
        default:
            if (((uint8_t)c & 0xC0) != 0x80) atom = t->out.n;
            put(t, &c, 1);
        }
    }
}

sr_status sr_regex_compile(const char *pattern, size_t n, bool literal, sr_regex **out, sr_err *err) {
    *out = NULL;
    if (n > (size_t)(literal ? LITERAL_MAX : PATTERN_MAX))
        return sr_fail(err, SR_LIMIT, "tokenizer: a pattern of %zu bytes, the limit is %d", n,
                       literal ? LITERAL_MAX : PATTERN_MAX);
    sr_regex *re = calloc(1, sizeof *re);
    if (!re || !(re->pattern = malloc(n + 1))) {
        free(re);
        return sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
    }
    if (n) memcpy(re->pattern, pattern, n);
    re->pattern[n] = 0;
    re->n = n;
    if (literal) {
        *out = re;
        return SR_OK;
    }
    translator t = {pattern, pattern + n, {0}, NULL, 0};
    translate(&t);
    if (t.problem) {
        sr_fail(err, SR_UNSUPPORTED, "tokenizer: pattern %.120s: %s is not supported", re->pattern, t.problem);
        sr_buffer_free(&t.out);
        sr_regex_free(re);
        return SR_UNSUPPORTED;
    }
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
        pcre2_set_parens_nest_limit(context, 200);
        re->code = pcre2_compile((PCRE2_SPTR)(t.out.at ? t.out.at : ""), t.out.n,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
                                     PCRE2_NO_UTF_CHECK | PCRE2_USE_OFFSET_LIMIT,
                                 &code, &at, context);
        pcre2_compile_context_free(context);
    }
    sr_buffer_free(&t.out);
    if (!re->code) {
        char why[128] = "out of memory";
        if (code) pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        sr_fail(err, SR_UNSUPPORTED, "tokenizer: pattern %.120s: %s", re->pattern, why);
        sr_regex_free(re);
        return SR_UNSUPPORTED;
    }
    re->jit = pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) ==
              0; /* without JIT the interpreter does the same */
    *out = re;
    return SR_OK;
}

sr_status sr_regex_compile_scripts(sr_regex **out, sr_err *err) {
    static const char any[] = "[ \\p{Cn}\\p{Co}]";
    sr_buffer b = {0};
    bool ok = true;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts && ok; i++) {
        char set[128], text[512];
        if (!strcmp(scripts[i], "Hiragana") || !strcmp(scripts[i], "Katakana")) continue;
        snprintf(set, sizeof set,
                 !strcmp(scripts[i], "Han")      ? "[\\p{%s}\\p{Hiragana}\\p{Katakana}\\x{30fc}]"
                 : !strcmp(scripts[i], "Common") ? "[\\p{%s}&&[^ \\x{30fc}]]"
                                                 : "\\p{%s}",
                 scripts[i]);
        int n = snprintf(text, sizeof text, "%s%s(?:%s|%s)*+", i ? "|" : "", set, set, any);
        ok = sr_buffer_add(&b, text, (size_t)n);
    }
    sr_status status =
        ok ? sr_regex_compile(b.at, b.n, false, out, err) : sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
    sr_buffer_free(&b);
    return status;
}

void sr_regex_free(sr_regex *re) {
    if (!re) return;
    pcre2_code_free(re->code);
    free(re->pattern);
    free(re);
}

bool sr_regex_is(const sr_regex *re, const char *pattern) {
    return re->code && re->n == strlen(pattern) && !memcmp(re->pattern, pattern, re->n);
}

const char *sr_regex_pattern(const sr_regex *re, bool *literal) {
    *literal = !re->code;
    return re->pattern;
}

static bool start(sr_scan *scan) {
    if (scan->started) return true;
    scan->match = pcre2_match_data_create(1, NULL);
    scan->context = pcre2_match_context_create(NULL);
    if (!scan->match || !scan->context) return false;
    pcre2_set_depth_limit(scan->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(scan->context, HEAP_LIMIT_KIB);
    sr_scan_refill(scan);
    scan->started = true;
    return true;
}

void sr_scan_refill(sr_scan *scan) {
    scan->budget = BUDGET_BASE + BUDGET_PER_BYTE * scan->text_bytes;
}

void sr_scan_free(sr_scan *scan) {
    pcre2_match_data_free(scan->match);
    pcre2_match_context_free(scan->context);
    pcre2_jit_stack_free(scan->stack);
    *scan = (sr_scan){0};
}

static bool charge(sr_scan *scan, uint64_t work) {
    if (scan->budget < work) return false;
    scan->budget -= work;
    return true;
}

/* One search among the start positions from..last in text[0..n), with as many steps as it needs and the budget allows.
 * `cut`: the text goes on behind n, and PCRE2_ERROR_PARTIAL says that the answer depends on it. */
static int search(const sr_regex *re, sr_scan *scan, const char *text, size_t n, size_t from, size_t last, bool cut) {
    uint64_t most = STEPS_BASE + 16 * scan->text_bytes;
    uint64_t steps[3] = {STEPS_CHEAP, STEPS_MEDIUM, most > UINT32_MAX / 2 ? UINT32_MAX / 2 : most};
    uint32_t options = PCRE2_NO_UTF_CHECK | (cut ? PCRE2_PARTIAL_HARD : 0);
    int code = PCRE2_ERROR_MATCHLIMIT;
    pcre2_set_offset_limit(scan->context, last);
    for (int i = 0; i < 3;) {
        pcre2_set_match_limit(scan->context, (uint32_t)steps[i]);
        code = pcre2_match(re->code, (PCRE2_SPTR)text, n, from, options, scan->match, scan->context);
        if (code == PCRE2_ERROR_JIT_STACKLIMIT) {
            if (!scan->stack && (scan->stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_MAX, NULL)) != NULL)
                pcre2_jit_stack_assign(scan->context, NULL, scan->stack);
            else
                options |= PCRE2_NO_JIT;
            continue;
        }
        if (code != PCRE2_ERROR_MATCHLIMIT) return code;
        if (++i < 3 && !charge(scan, steps[i])) return code;
    }
    return code;
}

static bool find_literal(const sr_regex *re, const char *text, size_t n, size_t from, size_t *at) {
    if (!re->n) {
        *at = from;
        return from <= n;
    }
    while (n - from >= re->n) {
        const char *p = memchr(text + from, re->pattern[0], n - from - re->n + 1);
        if (!p) return false;
        if (!memcmp(p, re->pattern, re->n)) {
            *at = (size_t)(p - text);
            return true;
        }
        from = (size_t)(p - text) + 1;
    }
    return false;
}

sr_status sr_regex_find(const sr_regex *re, sr_scan *scan, const char *text, size_t n, size_t from, size_t *s,
                        size_t *e, bool *found, sr_err *err) {
    *found = false;
    if (!re->code) {
        *found = find_literal(re, text, n, from, s);
        if (*found) *e = *s + re->n;
        return SR_OK;
    }
    if (!start(scan)) return sr_fail(err, SR_NOMEM, "tokenizer: out of memory");
    for (;;) {
        size_t last = n - from > START_WINDOW ? from + START_WINDOW : n, window = WINDOW;
        while (last < n && ((uint8_t)text[last] & 0xC0) == 0x80) last++;
        int code;
        for (;;) {
            size_t seen = n - last > window ? last + window : n;
            while (seen < n && ((uint8_t)text[seen] & 0xC0) == 0x80) seen++;
            code = search(re, scan, text, seen, from, last, seen < n);
            if (code != PCRE2_ERROR_PARTIAL) break;
            window *= WINDOW_GROWTH;
            if (!charge(scan, (uint64_t)START_WINDOW * (window < n ? window : n))) {
                code = PCRE2_ERROR_MATCHLIMIT;
                break;
            }
        }
        if (code >= 0) {
            const PCRE2_SIZE *o = pcre2_get_ovector_pointer(scan->match);
            if (o[1] < o[0] || o[1] < from) return SR_OK; /* \K is refused; nothing else can do this */
            *s = o[0];
            *e = o[1];
            *found = true;
            return SR_OK;
        }
        if (code != PCRE2_ERROR_NOMATCH) {
            char why[128] = "";
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            return sr_fail(err, code == PCRE2_ERROR_NOMEMORY ? SR_NOMEM : SR_LIMIT,
                           "tokenizer: %s at byte %zu of a piece of %zu bytes, pattern %.120s", why, from, n,
                           re->pattern);
        }
        if (last >= n) return SR_OK;
        from = last + 1;
        while (from < n && ((uint8_t)text[from] & 0xC0) == 0x80) from++;
    }
}
