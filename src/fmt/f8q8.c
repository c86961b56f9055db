/* F8Q8, mistral.rs's own: blocks of 32 with an 8-bit float as scale. Read only.
 *     0        1                    33
 *     | E4M3 d | int8 code[32]      |     w = code * (d / 448), in f32
 * Source: mistral.rs: mistralrs-quant/src/f8q8/mod.rs (BlockF8Q8, to_float). */
#include <string.h>

#include "fmt/fmt.h"
#include "fmt/fp8_bits.h"

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

const sr_format sr_fmt_f8q8 = {
    .name = "f8q8",
    .reference = "mistralrs 0.9.5, packer",
    .block = BLOCK,
    .group = BLOCK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_f8q8,
};
