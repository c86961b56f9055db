#include "base/digest.h"

#include <string.h>

static uint32_t left(uint32_t x, int n) {
    return x << n | x >> (32 - n);
}

static uint32_t load_be(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---------------------------------------------------------------- SHA-256: FIPS 180-4, sections 4.1.2, 4.2.2, 6.2.2 */

static const uint32_t k256[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static void mix256(uint32_t *h, const uint8_t *data, size_t blocks) {
    for (; blocks; blocks--, data += SR_DIGEST_BLOCK) {
        uint32_t w[64], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], s = h[7];
        for (int t = 0; t < 16; t++) w[t] = load_be(data + 4 * t);
        for (int t = 16; t < 64; t++) {
            uint32_t x = w[t - 15], y = w[t - 2];
            w[t] = w[t - 16] + (left(x, 25) ^ left(x, 14) ^ x >> 3) + w[t - 7] + (left(y, 15) ^ left(y, 13) ^ y >> 10);
        }
        for (int t = 0; t < 64; t++) {
            uint32_t t1 = s + (left(e, 26) ^ left(e, 21) ^ left(e, 7)) + ((e & f) ^ (~e & g)) + k256[t] + w[t];
            uint32_t t2 = (left(a, 30) ^ left(a, 19) ^ left(a, 10)) + ((a & b) ^ (a & c) ^ (b & c));
            s = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += s;
    }
}

sr_digest sr_sha256(void) {
    return (sr_digest){
        .h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
        .words = 8,
        .mix = mix256};
}

/* ---------------------------------------------------------------- SHA-1: FIPS 180-4, sections 4.1.1, 4.2.1, 6.1.2 */

static void mix1(uint32_t *h, const uint8_t *data, size_t blocks) {
    for (; blocks; blocks--, data += SR_DIGEST_BLOCK) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int t = 0; t < 16; t++) w[t] = load_be(data + 4 * t);
        for (int t = 16; t < 80; t++) w[t] = left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
        for (int t = 0; t < 80; t++) {
            uint32_t f = t < 20   ? ((b & c) ^ (~b & d)) + 0x5a827999
                         : t < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                         : t < 60 ? ((b & c) ^ (b & d) ^ (c & d)) + 0x8f1bbcdc
                                  : (b ^ c ^ d) + 0xca62c1d6;
            uint32_t next = left(a, 5) + f + e + w[t];
            e = d, d = c, c = left(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
}

sr_digest sr_sha1(void) {
    return (sr_digest){.h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, .words = 5, .mix = mix1};
}

/* ---------------------------------------------------------------- the message in pieces */

void sr_digest_add(sr_digest *d, const void *data, size_t n) {
    const uint8_t *p = data;
    size_t held = (size_t)(d->n % SR_DIGEST_BLOCK);
    if (n == 0) return;
    d->n += n;
    if (held) {
        size_t take = SR_DIGEST_BLOCK - held < n ? SR_DIGEST_BLOCK - held : n;
        memcpy(d->block + held, p, take);
        p += take;
        n -= take;
        if (held + take < SR_DIGEST_BLOCK) return;
        d->mix(d->h, d->block, 1);
    }
    d->mix(d->h, p, n / SR_DIGEST_BLOCK);
    size_t rest = n % SR_DIGEST_BLOCK;
    if (rest) memcpy(d->block, p + (n - rest), rest);
}

void sr_digest_hex(sr_digest *d, char hex[SR_DIGEST_HEX]) {
    static const char digit[] = "0123456789abcdef";
    uint8_t end[2 * SR_DIGEST_BLOCK] = {0x80}; /* a one bit, zeros, and the length in bits as the last eight bytes */
    uint64_t bits = d->n * 8;
    size_t held = (size_t)(d->n % SR_DIGEST_BLOCK);
    size_t pad = (held < SR_DIGEST_BLOCK - 8 ? SR_DIGEST_BLOCK : 2 * SR_DIGEST_BLOCK) - held;
    for (int i = 0; i < 8; i++) end[pad - 1 - (size_t)i] = (uint8_t)(bits >> 8 * i);
    sr_digest_add(d, end, pad);
    int n = 0;
    for (int i = 0; i < d->words; i++)
        for (int shift = 28; shift >= 0; shift -= 4) hex[n++] = digit[d->h[i] >> shift & 15];
    hex[n] = 0;
}
