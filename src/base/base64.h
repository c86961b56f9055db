/* Base64 as RFC 4648 defines it, with padding and without line breaks. */
#ifndef SR_BASE_BASE64_H
#define SR_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Value of a digit, -1: none. */
static inline int sr_base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes text[0..n) into `out`, which has room for 3 bytes for every 4 characters and may be the text itself. False:
 * it is no base64. Bits that padding cuts off are not looked at, as in Python's module. */
static inline bool sr_base64_decode(const char *text, size_t n, uint8_t *out, size_t *n_out) {
    *n_out = 0;
    if (n % 4) return false;
    for (size_t i = 0; i < n; i += 4) {
        bool last = i + 4 == n;
        int pad = last && text[i + 3] == '=' ? (text[i + 2] == '=' ? 2 : 1) : 0;
        uint32_t bits = 0;
        for (int k = 0; k < 4; k++) {
            int digit = k >= 4 - pad ? 0 : sr_base64_digit(text[i + (size_t)k]);
            if (digit < 0) return false;
            bits = bits << 6 | (uint32_t)digit;
        }
        for (int k = 0; k < 3 - pad; k++) out[(*n_out)++] = (uint8_t)(bits >> (16 - 8 * k));
    }
    return true;
}

/* Encodes n bytes into `out`, which has room for 4 characters for every 3 bytes begun; how many it wrote. */
static inline size_t sr_base64_encode(const uint8_t *data, size_t n, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n_out = 0;
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t b1 = i + 1 < n ? data[i + 1] : 0, b2 = i + 2 < n ? data[i + 2] : 0;
        const uint32_t bits = (uint32_t)data[i] << 16 | b1 << 8 | b2;
        for (int k = 0; k < 4; k++) out[n_out++] = i + (size_t)k > n ? '=' : digits[bits >> (18 - 6 * k) & 63];
    }
    return n_out;
}

#endif
