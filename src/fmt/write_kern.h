/* What the encoders of GGUF's types share. Bodies of *_write_kern.h are plain C and lanes (lanes.h): a format's own .c
 * includes them for any machine, cpu/<isa>_write.c for an instruction set; the results are the same to the bit. */
#ifndef SR_FMT_WRITE_KERN_H
#define SR_FMT_WRITE_KERN_H

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/half.h"
#include "fmt/fmt.h"
#include "fmt/search_kern.h"

enum { N16 = 16, N32 = 32, N256 = 256 };

/* The block of `block` columns and `bytes` that holds column k0. */
static inline uint8_t *block_to_write(const sr_weight *w, int64_t row, int64_t k0, int block, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / block * bytes;
}

/* sr_weight_finite of x[n], n a multiple of 8. */
static inline void finite_values(const float *w, int n, float *x) {
    for (int j = 0; j < n; j += LANES) {
        const lf v = lf_load(w + j), in = lf_clamp(v, lf_set1(-65504), lf_set1(65504));
        lf_store(x + j, (lf)((li)in & (v == v)));
    }
}
static inline float mean_square(const float *x, int n) {
    float part[8] = {0}, sum = 0;
    for (int j = 0; j < n; j += 8)
        for (int i = 0; i < 8; i++) part[i] += x[j + i] * x[j + i];
    for (int i = 0; i < 8; i++) sum += part[i];
    return sum / (float)n;
}
/* The objective with an importance: it counts a weight's error by importance * sqrt(ms + w^2), ms a mean square. */
static inline void importance_weights(const float *x, const float *importance, float ms, int n, float *weight) {
    for (int j = 0; j < n; j += LANES) {
        const lf v = lf_load(x + j), zero = lf_set1(0);
        lf by = lf_load(importance + j);
        by = lf_select(by > zero, lf_min(by, lf_set1(1e12f)), zero);
        lf_store(weight + j, by * lf_sqrt(ms + v * v));
    }
}
static inline float sum_of(const float *x, int n) {
    float sum = 0;
    for (int j = 0; j < n; j++) sum += x[j];
    return sum;
}

/* Codes are evenly spaced: the nearest is a division away. A grid without scale has the code nearest 0, which decodes
 * to -min. Sixteen columns of one group. */
static inline void snap_16(float scale, float min, float lo, float hi, const float *w, int8_t *code, float *back) {
    float x[16], b[16];
    int8_t c[16];
    finite_values(w, 16, x);
    for (int i = 0; i < 16; i += LANES) {
        const lf by = lf_set1(scale != 0 ? scale : INFINITY);
        const lf q = lf_round(lf_clamp((lf_load(x + i) + min) / by, lf_set1(lo), lf_set1(hi)));
        lf_store(x + i, q);
        lf_store(b + i, scale * q - min);
    }
    for (int i = 0; i < 16; i++) c[i] = (int8_t)x[i];
    memcpy(code, c, sizeof c);
    memcpy(back, b, sizeof b);
}
static inline void snap_affine(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    float x[16], b[16];
    int8_t c[16];
    for (int i = i0, end = i0 + n; i < end;) {
        int g = i / grid->group, stop = (g + 1) * grid->group, part = (stop < end ? stop : end) - i;
        float scale = grid->scale[g], min = grid->min[g], lo = (float)grid->lo, hi = (float)grid->hi;
        if (part >= 16) {
            part = 16;
            snap_16(scale, min, lo, hi, w, code, back);
        } else {
            memset(x, 0, sizeof x);
            memcpy(x, w, (size_t)part * sizeof *w);
            snap_16(scale, min, lo, hi, x, c, b);
            memcpy(code, c, (size_t)part);
            memcpy(back, b, (size_t)part * sizeof *b);
        }
        i += part, w += part, code += part, back += part;
    }
}

/* The nearest codes of a table. A grid without scale has the code nearest 0. */
L_INLINE void snap_table(const code_table *t, const sr_grid *grid, int i0, int n, const float *w, int8_t *code,
                         float *back) {
    for (int i = 0; i < n; i += 8) {
        const int m = n - i < 8 ? n - i : 8;
        float x[8] = {0}, scale[8], q[8];
        memcpy(x, w + i, (size_t)m * sizeof *x);
        finite_values(x, 8, x);
        for (int j = 0; j < 8; j++) scale[j] = grid->scale[(i0 + i + (j < m ? j : 0)) / grid->group];
        for (int j = 0; j < 8; j += LANES) {
            const lf s = lf_load(scale + j), none = lf_set1(INFINITY);
            lf_store(q + j, code_near((code_set){0, 0, t}, lf_load(x + j) / lf_select(s != 0, s, none)));
        }
        for (int j = 0; j < m; j++) {
            code[i + j] = (int8_t)q[j];
            back[i + j] = scale[j] * q[j];
        }
    }
}
/* Codes j and j + apart as nibbles of byte j: their places among value[16], the first of equals. */
typedef struct places {
    uint8_t of[256];
} places;
static inline places places_of(const int8_t *value) {
    places p = {{0}};
    for (int k = 15; k >= 0; k--) p.of[(uint8_t)value[k]] = (uint8_t)k;
    return p;
}
static inline void put_places(uint8_t *qs, const places *p, const int8_t *code, int apart) {
    for (int j = 0; j < apart; j++) qs[j] = (uint8_t)(p->of[(uint8_t)code[j]] | p->of[(uint8_t)code[j + apart]] << 4);
}

#endif
