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

#endif
