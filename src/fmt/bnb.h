/* What bnb.c derives from the parts of a 4-bit weight, for its kernels too. */
#ifndef SR_FMT_BNB_H
#define SR_FMT_BNB_H

#include <string.h>

#include "fmt/fmt.h"

enum { SR_BNB_WEIGHT, SR_BNB_ABSMAX, SR_BNB_MAP, SR_BNB_NESTED_ABSMAX, SR_BNB_NESTED_MAP, SR_BNB_STATE };

/* sr_weight.aux */
typedef struct sr_bnb {
    int64_t N, K, block, nested_block; /* nested_block 0: absmax is plain */
    int shift, nested_shift;           /* their logarithms */
    float offset, map[16], nested_map[256];
    int8_t code[16]; /* the map in steps of unit */
    float unit;      /* a 127th of the map's largest number */
    /* The map in steps of fine, an SR_BNB_MIDDLEth of it, plus the middle: 128 * high + low. Dots are made of it. */
    uint8_t high[16], low[16];
    float fine;
} sr_bnb;
enum { SR_BNB_MIDDLE = 8191 };

/* bitsandbytes: functional.py, int8_vectorwise_dequant */
#define SR_BNB_127TH 7.874015718698502e-3f

/* The scale of a block. */
static inline float sr_bnb_absmax(const sr_weight *w, const sr_bnb *s, int64_t block) {
    float v;
    int64_t at = s->nested_block ? block >> s->nested_shift : block;
    memcpy(&v, w->plane[s->nested_block ? SR_BNB_NESTED_ABSMAX : SR_BNB_ABSMAX].data + 4 * at, 4);
    return s->nested_block ? s->nested_map[w->plane[SR_BNB_ABSMAX].data[block]] * v + s->offset : v;
}

#endif
