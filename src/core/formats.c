/* The public view of the table of formats. */
#include <string.h>

#include "core/core.h"

static double bits_of(const sr_format *fmt) {
    enum { SIDE = 4096 };
    sr_planes planes = {0};
    sr_qspec spec = fmt->spec;
    if (spec.group < 0) spec.group = SIDE;
    if (fmt->layout(fmt, SIDE, SIDE, &spec, &planes, NULL) != SR_OK) return 0;
    double bits = 0;
    for (int i = 0; i < planes.n; i++) {
        int64_t bytes = sr_plane_bytes(&planes, i, sr_plane_stored(&planes, i, NULL));
        if (sr_plane_created(&planes, i) && bytes > 0) bits += 8 * (double)bytes;
    }
    return bits / SIDE / SIDE;
}

bool sr_format_at(int i, sr_format_info *info) {
    static const char *const tiles[] = {[SR_TILE_I8] = "int8", [SR_TILE_BF16] = "bf16", [SR_TILE_F32] = "f32"};
    for (int k = 0; k <= i; k++)
        if (!sr_formats[k]) return false;
    const sr_format *fmt = sr_formats[i];
    const sr_stored *stored = sr_stored_by_name(fmt->name);
    *info = (sr_format_info){
        .name = fmt->name,
        .alias = fmt->alias,
        .found_in = fmt->spec.method                 ? fmt->spec.method
                    : stored && stored->st_id        ? "GGUF, safetensors"
                    : stored && stored->gguf_id >= 0 ? "GGUF"
                    : fmt->container                 ? fmt->container
                                                     : "GGML",
        .bits_per_weight = bits_of(fmt),
        .group = fmt->group ? fmt->group : fmt->spec.group,
        .variable_group = fmt->group == 0 && fmt->spec.group != 0,
        .writes = sr_isq_takes(fmt),
        .fast = sr_devices[0]->has_kernels(fmt),
        .tile = tiles[fmt->tile],
        .reference = fmt->reference,
    };
    return true;
}
