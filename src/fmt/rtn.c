/* Round to nearest: one row at a time, no activations, every writable format. */
#include <math.h>
#include <string.h>

#include "fmt/fmt.h"
#include "fmt/search.h"

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

int64_t sr_weight_unit(const sr_weight *w) {
    int64_t group = w->spec.group < 0 ? w->K : w->spec.group;
    return group > w->fmt->block ? group : w->fmt->block;
}

void sr_rtn_rows(sr_weight *w, int64_t row0, int64_t n, const float *src, const float *importance) {
    const sr_format *fmt = w->fmt;
    const int64_t unit = sr_weight_unit(w), piece = SR_KC / fmt->block * fmt->block;
    int8_t code[SR_KC];
    float back[SR_KC];
    sr_grid grid;
    for (int64_t row = row0; row < row0 + n; row++, src += w->K) {
        if (fmt->encode && (!importance || !fmt->fit)) {
            fmt->encode(w, row, src, importance);
            continue;
        }
        float row_ms = mean_square(src, w->K);
        for (int64_t k0 = 0; k0 < w->K; k0 += unit) {
            int64_t cols = w->K - k0 < unit ? w->K - k0 : unit;
            sr_fit in = {w, row, k0, (int)cols, src + k0, importance ? importance + k0 : NULL, row_ms};
            fmt->fit(&in, &grid);
            for (int64_t i = 0; i < cols; i += piece) {
                int m = (int)(cols - i < piece ? cols - i : piece);
                fmt->snap(&grid, (int)i, m, src + k0 + i, code, back);
                fmt->store(w, row, k0 + i, m, &grid, code);
            }
        }
    }
}

/* Shared slot: codes are evenly spaced, so the nearest is a division away. A grid without scale has the code nearest 0,
 * which decodes to -min. */
static void snap_16(float scale, float min, float lo, float hi, const float *w, int8_t *code, float *back) {
    float by = scale != 0 ? scale : INFINITY, b[16];
    int8_t c[16];
    for (int i = 0; i < 16; i++) {
        float q = sr_nearest(sr_clamp((sr_weight_finite(w[i]) + min) / by, lo, hi));
        c[i] = (int8_t)q;
        b[i] = scale * q - min;
    }
    memcpy(code, c, sizeof c);
    memcpy(back, b, sizeof b);
}

void sr_snap_affine(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
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
