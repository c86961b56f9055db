/* What Python's str does with characters: white space, case, searching, lines. */
#include <utf8proc.h>

#include "text/jinja.h"
#include "text/unicode.h"

bool sr_j_is_alnum(uint32_t cp) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) || sr_char_is_number(cp);
}

bool sr_j_is_space(uint32_t cp) {
    return sr_char_is_space(cp) || (cp >= 0x1C && cp <= 0x1F);
}

/* ---------------------------------------------------------------- case */

/* Characters whose capital is more than one, of those in use: SpecialCasing.txt of Unicode. */
static const struct {
    uint32_t cp;
    const char *upper, *title;
} several[] = {{0xDF, "SS", "Ss"},
               {0x149, "\xCA\xBCN", "\xCA\xBCN"},
               {0x1F0, "J\xCC\x8C", "J\xCC\x8C"},
               {0x587, "\xD4\xB5\xD5\x92", "\xD4\xB5\xD6\x82"},
               {0xFB00, "FF", "Ff"},
               {0xFB01, "FI", "Fi"},
               {0xFB02, "FL", "Fl"},
               {0xFB03, "FFI", "Ffi"},
               {0xFB04, "FFL", "Ffl"},
               {0xFB05, "ST", "St"},
               {0xFB06, "ST", "St"}};

void sr_j_put_case(jenv *e, uint32_t cp, jcase to) {
    if (cp < 0x80) {
        char c = (char)cp;
        if (to == J_LOWER ? c >= 'A' && c <= 'Z' : c >= 'a' && c <= 'z') c = (char)(c ^ 32);
        sr_j_put_bytes(e, &c, 1);
        return;
    }
    if (to == J_LOWER) {
        if (cp == 0x130)
            sr_j_put_literal(e, "i\xCC\x87");
        else
            sr_j_put_char(e, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
        return;
    }
    for (size_t i = 0; i < sizeof several / sizeof *several; i++)
        if (several[i].cp == cp) {
            sr_j_put_literal(e, to == J_UPPER ? several[i].upper : several[i].title);
            return;
        }
    sr_j_put_char(e, (uint32_t)(to == J_UPPER ? utf8proc_toupper : utf8proc_totitle)((utf8proc_int32_t)cp));
}

static bool is_cased(uint32_t cp) {
    if (cp < 0x80) return (cp | 32) - 'a' < 26;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT ||
           utf8proc_toupper((utf8proc_int32_t)cp) != (utf8proc_int32_t)cp ||
           utf8proc_tolower((utf8proc_int32_t)cp) != (utf8proc_int32_t)cp;
}

bool sr_j_is_case(jvalue s, jcase of) {
    bool any = false;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        i += sr_utf8_get(s.u.s + i, &cp);
        if (!is_cased(cp)) continue;
        utf8proc_int32_t c = (utf8proc_int32_t)cp;
        if ((of == J_UPPER ? utf8proc_toupper(c) : utf8proc_tolower(c)) != c) return false;
        any = true;
    }
    return any;
}

jvalue sr_j_case(jenv *e, jvalue s, jcase to) {
    size_t from = e->out.n;
    bool inside = false; /* of a word */
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        i += sr_utf8_get(s.u.s + i, &cp);
        sr_j_put_case(e, cp, to == J_TITLE && inside ? J_LOWER : to);
        inside = is_cased(cp);
    }
    sr_j_charge(e, s.n);
    jvalue text = sr_j_take(e, from);
    text.safe = s.safe;
    return text;
}

jvalue sr_j_capitalize(jenv *e, jvalue s) {
    size_t from = e->out.n;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        unsigned len = sr_utf8_get(s.u.s + i, &cp);
        sr_j_put_case(e, cp, i ? J_LOWER : J_TITLE);
        i += len;
    }
    sr_j_charge(e, s.n);
    jvalue text = sr_j_take(e, from);
    text.safe = s.safe;
    return text;
}

/* ---------------------------------------------------------------- stripping and searching */

static bool strips(jenv *e, jvalue chars, const char *s, unsigned len, uint32_t cp) {
    if (chars.kind != J_STRING) return sr_j_is_space(cp);
    sr_j_charge(e, chars.n / 64);
    for (size_t i = 0; i + len <= chars.n; i++)
        if (memcmp(chars.u.s + i, s, len) == 0) return true; /* the first byte of a character is none inside of one */
    return false;
}

jvalue sr_j_strip(jenv *e, jvalue s, jvalue chars, bool left, bool right) {
    size_t from = 0, to = s.n;
    uint32_t cp;
    while (left && from < to) {
        unsigned len = sr_utf8_get(s.u.s + from, &cp);
        if (!strips(e, chars, s.u.s + from, len, cp)) break;
        from += len;
    }
    while (right && to > from) {
        size_t before = sr_utf8_before(s.u.s, to);
        unsigned len = sr_utf8_get(s.u.s + before, &cp);
        if (!strips(e, chars, s.u.s + before, len, cp)) break;
        to = before;
    }
    sr_j_charge(e, (s.n - (to - from)) / 8);
    return sr_j_part(s, from, to);
}

int64_t sr_j_search(jenv *e, jvalue s, jvalue what, size_t from, bool last) {
    if (from > s.n || what.n > s.n - from) return -1;
    if (!what.n) return (int64_t)(last ? s.n : from);
    size_t end = s.n - what.n; /* of the places to look at */
    if (last) {
        for (size_t i = end + 1; i-- > from;) {
            if (s.u.s[i] != what.u.s[0]) continue;
            sr_j_charge(e, 1 + what.n / 64);
            if (memcmp(s.u.s + i, what.u.s, what.n) == 0) return (int64_t)i;
        }
        sr_j_charge(e, (end - from) / 16);
        return -1;
    }
    for (size_t i = from; i <= end; i++) {
        const char *first = memchr(s.u.s + i, what.u.s[0], end - i + 1);
        size_t at = first ? (size_t)(first - s.u.s) : end;
        sr_j_charge(e, 1 + (at - i) / 64 + what.n / 64);
        if (!first) break;
        i = at;
        if (memcmp(s.u.s + i, what.u.s, what.n) == 0) return (int64_t)i;
    }
    return -1;
}

jvalue sr_j_replace(jenv *e, jvalue s, jvalue old, jvalue by, int64_t most) {
    size_t mark = e->out.n, from = 0, at = 0;
    uint32_t cp;
    if (s.safe) by = sr_j_escape(e, by);
    for (; most != 0; most -= most > 0) {
        sr_j_charge(e, 1);
        if (!old.n) { /* in front of each character, and behind the last */
            if (at > s.n) break;
            sr_j_put_bytes(e, s.u.s + from, at - from);
            sr_j_put_bytes(e, by.u.s, by.n);
            from = at;
            at += at < s.n ? sr_utf8_get(s.u.s + at, &cp) : 1;
            continue;
        }
        int64_t found = sr_j_search(e, s, old, from, false);
        if (found < 0) break;
        sr_j_put_bytes(e, s.u.s + from, (size_t)found - from);
        sr_j_put_bytes(e, by.u.s, by.n);
        from = (size_t)found + old.n;
    }
    sr_j_put_bytes(e, s.u.s + from, s.n - from);
    jvalue text = sr_j_take(e, mark);
    text.safe = s.safe;
    return text;
}

/* Length of the line break at s[i], 0: there is none. */
static unsigned line_break(jvalue s, size_t i) {
    uint32_t cp;
    unsigned len = sr_utf8_get(s.u.s + i, &cp);
    if (cp == '\r' && i + 1 < s.n && s.u.s[i + 1] == '\n') return 2;
    bool is = (cp >= 10 && cp <= 13) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
    return is ? len : 0;
}

jseq *sr_j_lines(jenv *e, jvalue s, bool keep_ends) {
    jseq *lines = sr_j_seq(e, J_LIST, 0);
    size_t from = 0;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        unsigned ends = line_break(s, i);
        if (ends) {
            sr_j_push(e, lines, sr_j_part(s, from, keep_ends ? i + ends : i));
            from = i += ends;
        } else {
            i += sr_utf8_get(s.u.s + i, &cp);
        }
    }
    if (from < s.n) sr_j_push(e, lines, sr_j_part(s, from, s.n));
    sr_j_charge(e, s.n / 4);
    return lines;
}
