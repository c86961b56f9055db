/* Numbers as files hold them: least byte first, at any address. */
#ifndef SR_BASE_BYTES_H
#define SR_BASE_BYTES_H

#include <stdint.h>

static inline uint32_t sr_get_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline void sr_put_u16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
/* Bits shift .. shift + bits of the little-endian number at p become v. Touches only the bytes they lie in. */
static inline void sr_put_bits(uint8_t *p, int shift, int bits, uint32_t v) {
    for (p += shift / 8, shift %= 8; bits > 0; p++, shift = 0) {
        int n = 8 - shift < bits ? 8 - shift : bits;
        unsigned mask = ((1u << n) - 1) << shift;
        *p = (uint8_t)((*p & ~mask) | (v << shift & mask));
        v >>= n;
        bits -= n;
    }
}
static inline void sr_put_u32(uint8_t *p, uint32_t v) {
    sr_put_u16(p, (uint16_t)v);
    sr_put_u16(p + 2, (uint16_t)(v >> 16));
}

#endif
