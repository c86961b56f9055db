/* Random weights of about N(0, 0.02) in any format, the same for the same seed: for tests, and for checkpoints of any
 * size to measure with (tools/synthetic.c). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/random.h"
#include "fmt/fmt.h"

/* Blocks that describe themselves: random bytes are tried until they decode to weights of the wanted size, and such
 * blocks, POOL of them, are then drawn at random. */
enum { POOL = 64, TRIES = 4096, MOST_BYTES = 512, MOST_BLOCK = 256 };

static bool plausible(const sr_weight *w, const uint8_t *block, int bytes) {
    float v[MOST_BLOCK];
    double power = 0;
    sr_weight one = *w;
    one.N = 1;
    one.K = w->fmt->block;
    one.plane[0].data = (uint8_t *)(uintptr_t)block;
    one.plane[0].stride = one.plane[0].bytes = bytes;
    w->fmt->decode(&one, 0, 0, one.K, v);
    for (int i = 0; i < one.K; i++) power += (double)v[i] * (double)v[i];
    double rms = sqrt(power / (double)one.K);
    return rms > 0.01 && rms < 0.04; /* not where something is not finite */
}

static void sample_blocks(sr_weight *w, uint64_t seed) {
    static const uint8_t zero[MOST_BYTES];
    const sr_stored *type = w->plane[0].type;
    uint8_t pool[POOL][MOST_BYTES];
    for (int p = 0; p < POOL; p++) {
        bool found = false;
        for (int t = 0; t < TRIES && !found; t++) {
            for (int i = 0; i < type->bytes; i++) pool[p][i] = (uint8_t)sr_random(&seed);
            found = plausible(w, pool[p], type->bytes);
        }
        if (!found) memcpy(pool[p], p ? pool[0] : zero, type->bytes);
    }
    for (int64_t i = 0; i < w->plane[0].bytes; i += type->bytes)
        memcpy(w->plane[0].data + i, pool[sr_random(&seed) % POOL], type->bytes);
}

static void put_float(uint8_t *p, const char *type, float v) {
    uint32_t b = sr_bits_from_f32(v);
    uint16_t half = !strcmp(type, "f16") ? sr_f32_to_f16(v) : sr_f32_to_bf16(v);
    if (!strcmp(type, "f32"))
        memcpy(p, &b, 4);
    else
        memcpy(p, &half, 2);
}

static bool is_float(const sr_stored *type) {
    return !strcmp(type->name, "f32") || !strcmp(type->name, "f16") || !strcmp(type->name, "bf16");
}

/* Codes of b bits around their middle have a standard deviation of 2^b / sqrt(12): scales make 0.02 of it. */
void sr_sample_planes(sr_weight *w, uint64_t seed) {
    float size = 0.02f * 3.46f / (float)(1 << (w->spec.bits ? w->spec.bits : 8));
    for (int p = 0; p < SR_MAX_PLANES; p++) {
        const sr_stored *type = w->plane[p].type;
        if (!w->plane[p].data) continue;
        int step = is_float(type) ? type->bytes : 8;
        for (int64_t i = 0; i < w->plane[p].bytes; i += step) {
            uint64_t r = sr_random(&seed);
            size_t n = w->plane[p].bytes - i < step ? (size_t)(w->plane[p].bytes - i) : (size_t)step;
            if (is_float(type))
                put_float(w->plane[p].data + i, type->name, size * (0.75f + (float)(r >> 40) * 0x1p-25f));
            else
                memcpy(w->plane[p].data + i, &r, n);
        }
    }
}

/* Plain types: a sum of four uniform numbers, of standard deviation 0.02. */
static void sample_plain(sr_weight *w, uint64_t seed) {
    const sr_stored *type = w->plane[0].type;
    for (int64_t i = 0; i < w->plane[0].bytes; i += type->bytes) {
        uint64_t r = sr_random(&seed);
        int sum = 0;
        for (int k = 0; k < 4; k++) sum += (int)(r >> 16 * k & 65535) - 32768;
        put_float(w->plane[0].data + i, type->name, (float)sum * (0.02f / 37837.0f));
    }
}

void sr_weight_sample(sr_weight *w, uint64_t seed) {
    if (w->fmt->sample)
        w->fmt->sample(w, seed);
    else if (w->plane[1].data || w->fmt->spec.method)
        sr_sample_planes(w, seed);
    else if (w->plane[0].type->block > 1 && w->plane[0].type->bytes <= MOST_BYTES && w->fmt->block <= MOST_BLOCK)
        sample_blocks(w, seed);
    else if (is_float(w->plane[0].type))
        sample_plain(w, seed);
    else
        sr_sample_planes(w, seed);
}
