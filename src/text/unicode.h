/* Characters: the classes and normal forms that tokenizers ask for, and GPT-2's alphabet for bytes. */
#ifndef SR_TEXT_UNICODE_H
#define SR_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/utf8.h"

#define SR_UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Length and code point of the first character of well-formed text: no checks. */
static inline unsigned sr_utf8_get(const char *text, uint32_t *cp) {
    const uint8_t *s = (const uint8_t *)text;
    if (s[0] < 0x80) return *cp = s[0], 1;
    if (s[0] < 0xE0) return *cp = (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu), 2;
    if (s[0] < 0xF0) return *cp = (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu), 3;
    return *cp = (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu), 4;
}

/* Start of the character that ends at text[at], at > 0, in well-formed text. */
static inline size_t sr_utf8_before(const char *text, size_t at) {
    do at--;
    while (at > 0 && ((uint8_t)text[at] & 0xC0) == 0x80);
    return at;
}

/* Appends `text` to `out`, each byte that is not part of a well-formed character as U+FFFD. False: out of memory. */
bool sr_utf8_sanitize(const char *text, size_t n, sr_buffer *out);

bool sr_char_is_space(uint32_t cp);      /* property White_Space */
bool sr_char_is_number(uint32_t cp);     /* categories Nd, Nl, No */
bool sr_char_is_decimal(uint32_t cp);    /* category Nd */
bool sr_char_is_punct(uint32_t cp);      /* categories P*, and all ASCII punctuation */
bool sr_char_is_mark(uint32_t cp);       /* categories M* */
bool sr_char_is_nonspacing(uint32_t cp); /* category Mn */
bool sr_char_is_control(uint32_t cp);    /* categories Cc, Cf, Co */
bool sr_char_is_word(uint32_t cp);       /* \w of UTS 18: Alphabetic, M*, Nd, Pc, Join_Control */

/* GPT-2's printable alphabet for bytes: 33..126, 161..172 and 174..255 stand for themselves, the other 68 bytes for
 * U+0100 and up, in order. */
uint32_t sr_byte_to_char(uint8_t byte);
int sr_char_to_byte(uint32_t cp); /* -1: not in the alphabet */

typedef enum sr_normal_form { SR_NFC, SR_NFD, SR_NFKC, SR_NFKD } sr_normal_form;
/* Appends a normal form of well-formed text to `out`, in linear time. False: out of memory. */
bool sr_normalize(const char *text, size_t n, sr_normal_form form, sr_buffer *out);
/* Appends the lower case (full mapping of single characters, no context rules). */
bool sr_lowercase(const char *text, size_t n, sr_buffer *out);

#endif
