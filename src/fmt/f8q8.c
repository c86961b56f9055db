/* F8Q8, mistral.rs's own: blocks of 32 with an 8-bit float as scale.
 *     0        1                    33
 *     | E4M3 d | int8 code[32]      |     w = code * (d / 448), in f32
 * Source: mistral.rs: mistralrs-quant/src/f8q8/mod.rs (BlockF8Q8, to_float). */
#include <string.h>

#include "fmt/fmt.h"
#include "fmt/fp8_bits.h"
#include "fmt/shrink.h"

enum { BLOCK = 32, BYTES = 33 };

static void unpack_f8q8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = w->plane[0].data + row * w->plane[0].stride + k0 / BLOCK * BYTES;
    (void)min;
    for (int64_t i = 0; i < n; i += BLOCK, b += BYTES) {
        *scale++ = sr_e4m3_to_f32(b[0]) / 448;
        memcpy(code + i, b + 1, BLOCK);
    }
}

static float scale_of(const sr_weight *w, int byte) {
    (void)w;
    return sr_e4m3_to_f32((uint8_t)byte) / 448;
}

/* The least scale that reaches the largest weight: a lower one would cut it by up to 6 %. mistral.rs rounds the scale
 * to nearest, and takes codes by what it was before. */
static void fit_f8q8(const sr_fit *in, sr_grid *grid) {
    const float most = sr_fit_most(in) / 127 * 448;
    int byte = sr_f32_to_e4m3(most < 448 ? most : 448);
    byte += sr_e4m3_to_f32((uint8_t)byte) < most && byte < 0x7e;
    grid->lo = -127;
    grid->hi = 127;
    grid->min[0] = 0;
    sr_fit_byte(in, grid, byte, 0, 0x7e, 3, scale_of);
}
static void store_f8q8(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    uint8_t *b = w->plane[0].data + row * w->plane[0].stride + k0 / BLOCK * BYTES;
    b[0] = grid->sc[0];
    memcpy(b + 1, code, (size_t)n);
}

const sr_format sr_fmt_f8q8 = {
    .name = "f8q8",
    .reference = "mistralrs 0.9.5, packer",
    .container = "UQFF",
    .block = BLOCK,
    .group = BLOCK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_f8q8,
    .fit = fit_f8q8,
    .snap = sr_snap_affine,
    .store = store_f8q8,
    .rtn_err = 0.0058f,
};
