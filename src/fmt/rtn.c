/* Round to nearest: one row at a time, no activations, every writable format. */
#include "fmt/fmt.h"

bool sr_format_writable(const sr_format *fmt) {
    return fmt->encode || (fmt->fit && fmt->snap && fmt->store);
}

/* Mean square in double; what is not finite counts as the encoders take it (fmt.h). */
static float mean_square(const float *w, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = sr_weight_finite(w[i]);
        sum += v * v;
    }
    return (float)(sum / (double)n);
}

void sr_rtn_rows(sr_weight *w, int64_t row0, int64_t n, const float *src, const float *importance) {
    const sr_format *fmt = w->fmt;
    int8_t code[SR_KC];
    float back[SR_KC];
    sr_grid grid;
    for (int64_t row = row0; row < row0 + n; row++, src += w->K) {
        if (fmt->encode && (!importance || !fmt->fit)) {
            fmt->encode(w, row, src, importance);
            continue;
        }
        float row_ms = mean_square(src, w->K);
        for (int64_t k = 0; k < w->K; k += fmt->block) {
            fmt->fit(src + k, importance ? importance + k : NULL, row_ms, &grid);
            fmt->snap(&grid, 0, fmt->block, src + k, code, back);
            fmt->store(w, row, k, &grid, code);
        }
    }
}

/* Shared slot: codes are evenly spaced, so the nearest is a division away. */
void sr_snap_affine(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    for (int i = i0; i < i0 + n; i++, w++, code++, back++) {
        float scale = grid->scale[i / grid->group], min = grid->min[i / grid->group];
        float q = scale != 0 ? (sr_weight_finite(*w) + min) / scale : 0;
        q = q > (float)grid->lo ? q : (float)grid->lo;
        q = q < (float)grid->hi ? q : (float)grid->hi;
        q = q + 0x1.8p23f - 0x1.8p23f; /* to nearest, halves to even */
        *code = (int8_t)q;
        *back = scale * q - min;
    }
}
