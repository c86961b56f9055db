#include "text/unicode.h"

#include <utf8proc.h>

bool sr_utf8_sanitize(const char *text, size_t n, sr_buffer *out) {
    size_t from = 0;
    if (!sr_buffer_reserve(out, n)) return false;
    for (size_t i = 0; i < n;) {
        unsigned len = sr_utf8_step(text + i, n - i);
        if (!len) {
            if (!sr_buffer_add(out, text + from, i - from) || !sr_buffer_add(out, SR_UTF8_REPLACEMENT, 3)) return false;
            from = i + 1;
            len = 1;
        }
        i += len;
    }
    return sr_buffer_add(out, text + from, n - from);
}

bool sr_char_is_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static utf8proc_category_t category(uint32_t cp) {
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool sr_char_is_number(uint32_t cp) {
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool sr_char_is_punct(uint32_t cp) {
    if (cp < 0x80)
        return (cp >= 33 && cp <= 47) || (cp >= 58 && cp <= 64) || (cp >= 91 && cp <= 96) || (cp >= 123 && cp <= 126);
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool sr_char_is_decimal(uint32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_ND;
}

bool sr_char_is_mark(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME;
}

bool sr_char_is_nonspacing(uint32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_MN;
}

bool sr_char_is_control(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CO;
}

bool sr_char_is_word(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    if ((c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) ||
        (c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME))
        return true;
    if (c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_PC) return true;
    /* Other_Alphabetic outside M*: circled and squared letters; Join_Control */
    return (cp >= 0x24B6 && cp <= 0x24E9) || (cp >= 0x1F130 && cp <= 0x1F149) || (cp >= 0x1F150 && cp <= 0x1F169) ||
           (cp >= 0x1F170 && cp <= 0x1F189) || cp == 0x200C || cp == 0x200D;
}

uint32_t sr_byte_to_char(uint8_t b) {
    if ((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174) return b;
    if (b <= 32) return 256u + b;        /* 33 of them */
    if (b <= 160) return 256u + b - 94u; /* 127..160 follow as number 33..66 */
    return 256u + 67u;                   /* 173 */
}

int sr_char_to_byte(uint32_t cp) {
    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 172) || (cp >= 174 && cp <= 255)) return (int)cp;
    if (cp < 256 || cp > 323) return -1;
    if (cp <= 288) return (int)cp - 256;
    return cp == 323 ? 173 : (int)cp - 256 + 94;
}

/* Canonical order: stable by combining class within each run of characters whose class is not 0. The run can be as long
 * as the text, so a long one is counted out instead of inserted. */
static bool reorder(utf8proc_int32_t *c, size_t n) {
    utf8proc_int32_t *copy = NULL;
    for (size_t i = 0; i < n;) {
        if (c[i] < 0x300 || !utf8proc_get_property(c[i])->combining_class) {
            i++;
            continue;
        }
        size_t end = i;
        while (end < n && utf8proc_get_property(c[end])->combining_class) end++;
        size_t run = end - i;
        if (run <= 32) {
            for (size_t a = i + 1; a < end; a++) {
                utf8proc_int32_t x = c[a];
                int class = utf8proc_get_property(x)->combining_class;
                size_t b = a;
                for (; b > i && utf8proc_get_property(c[b - 1])->combining_class > class; b--) c[b] = c[b - 1];
                c[b] = x;
            }
        } else {
            size_t start[257] = {0};
            if (!copy) copy = malloc(n * sizeof *copy);
            if (!copy) return false;
            for (size_t a = i; a < end; a++) start[(utf8proc_get_property(c[a])->combining_class & 255) + 1]++;
            for (int k = 0; k < 256; k++) start[k + 1] += start[k];
            for (size_t a = i; a < end; a++) copy[start[utf8proc_get_property(c[a])->combining_class & 255]++] = c[a];
            memcpy(c + i, copy, run * sizeof *copy);
        }
        i = end;
    }
    free(copy);
    return true;
}

bool sr_normalize(const char *text, size_t n, sr_normal_form form, sr_buffer *out) {
    /* Nothing below U+0300 changes in NFC, nothing below U+0080 in any form. */
    size_t i = 0;
    uint8_t first_changed = form == SR_NFC ? 0xCC : 0x80;
    while (i < n && (uint8_t)text[i] < first_changed) i++;
    if (i == n) return sr_buffer_add(out, text, n);

    bool compat = form == SR_NFKC || form == SR_NFKD, compose = form == SR_NFC || form == SR_NFKC;
    utf8proc_option_t options =
        UTF8PROC_STABLE | (compat ? UTF8PROC_COMPAT : 0) | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
    utf8proc_option_t decompose = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    size_t cap = n + 64, len = 0;
    utf8proc_int32_t *c = malloc(cap * sizeof *c);
    if (!c) return false;
    for (i = 0; i < n;) {
        uint32_t cp;
        i += sr_utf8_get(text + i, &cp);
        for (;;) {
            int class = 0;
            utf8proc_ssize_t got = utf8proc_decompose_char((utf8proc_int32_t)cp, c + len, (utf8proc_ssize_t)(cap - len),
                                                           decompose, &class);
            if (got >= 0 && (size_t)got <= cap - len) {
                len += (size_t)got;
                break;
            }
            if (got < 0) { /* a code point that the library refuses stays as it is */
                if (len < cap) {
                    c[len++] = (utf8proc_int32_t)cp;
                    break;
                }
                got = 1;
            }
            size_t more = cap + cap / 2 + (size_t)got;
            utf8proc_int32_t *grown = realloc(c, more * sizeof *c);
            if (!grown) {
                free(c);
                return false;
            }
            c = grown;
            cap = more;
        }
    }
    if (!reorder(c, len)) {
        free(c);
        return false;
    }
    if (compose) {
        utf8proc_ssize_t got = utf8proc_normalize_utf32(c, (utf8proc_ssize_t)len, options);
        if (got >= 0) len = (size_t)got;
    }
    bool ok = sr_buffer_reserve(out, 4 * len);
    if (ok)
        for (i = 0; i < len; i++) out->n += sr_utf8_put((uint32_t)c[i], out->at + out->n);
    free(c);
    return ok;
}

bool sr_lowercase(const char *text, size_t n, sr_buffer *out) {
    if (!sr_buffer_reserve(out, n)) return false;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += sr_utf8_get(text + i, &cp);
        if (!sr_buffer_reserve(out, 8)) return false;
        if (cp == 0x130) { /* the only character whose lower case is two: i with dot above */
            memcpy(out->at + out->n, "i\xCC\x87", 3);
            out->n += 3;
            continue;
        }
        if (cp < 0x80)
            cp += cp >= 'A' && cp <= 'Z' ? 32 : 0;
        else
            cp = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
        out->n += sr_utf8_put(cp, out->at + out->n);
    }
    return true;
}
