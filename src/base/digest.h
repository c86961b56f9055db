/* SHA-256 and SHA-1 (FIPS 180-4), in pieces: they tell whether a download is what was asked for. SHA-1 serves git's
 * names of small files and guards against damage only, not against forgery. */
#ifndef SR_BASE_DIGEST_H
#define SR_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { SR_DIGEST_BLOCK = 64, SR_DIGEST_HEX = 65 };

typedef struct sr_digest {
    uint32_t h[8];
    int words; /* of h: 8 for SHA-256, 5 for SHA-1 */
    void (*mix)(uint32_t *h, const uint8_t *data, size_t blocks);
    uint64_t n; /* bytes so far */
    uint8_t block[SR_DIGEST_BLOCK];
} sr_digest;

sr_digest sr_sha256(void);
sr_digest sr_sha1(void);
void sr_digest_add(sr_digest *d, const void *data, size_t n);
/* Ends the message and writes its digest in lower-case hexadecimal, zero-terminated: 64 or 40 characters. */
void sr_digest_hex(sr_digest *d, char hex[SR_DIGEST_HEX]);

#endif
