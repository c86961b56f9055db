/* Round to nearest: one row at a time, no activations, every writable format. */
#include <math.h>
#include <string.h>

#include "fmt/fmt.h"
#include "fmt/write_kern.h"

bool sr_format_writable(const sr_format *fmt) {
    return fmt->encode || (fmt->fit && fmt->snap && fmt->store);
}

/* Mean square in double; what is not finite counts as the encoders take it (fmt.h). */
static float row_mean_square(const float *w, int64_t n) {
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

sr_encoder sr_weight_encoder(const sr_weight *w) {
    const sr_format *f = w->fmt;
    sr_encoder e = w->encoder ? *w->encoder : (sr_encoder){0};
    if (!e.fit) e.fit = f->fit;
    if (!e.snap) e.snap = f->snap;
    if (!e.store) e.store = f->store;
    if (!e.encode) e.encode = f->encode;
    return e;
}

void sr_rtn_rows(sr_weight *w, int64_t row0, int64_t n, const float *src, const float *importance) {
    const sr_encoder by = sr_weight_encoder(w);
    const int64_t unit = sr_weight_unit(w), piece = SR_KC / w->fmt->block * w->fmt->block;
    int8_t code[SR_KC];
    float back[SR_KC];
    sr_grid grid;
    for (int64_t row = row0; row < row0 + n; row++, src += w->K) {
        if (by.encode && (!importance || !by.fit)) {
            by.encode(w, row, src, importance);
            continue;
        }
        float row_ms = row_mean_square(src, w->K);
        for (int64_t k0 = 0; k0 < w->K; k0 += unit) {
            int64_t cols = w->K - k0 < unit ? w->K - k0 : unit;
            sr_fit in = {w, row, k0, (int)cols, src + k0, importance ? importance + k0 : NULL, row_ms};
            by.fit(&in, &grid);
            for (int64_t i = 0; i < cols; i += piece) {
                int m = (int)(cols - i < piece ? cols - i : piece);
                by.snap(&grid, (int)i, m, src + k0 + i, code, back);
                by.store(w, row, k0 + i, m, &grid, code);
            }
        }
    }
}

/* Shared slot: codes are evenly spaced. */
void sr_snap_affine(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    snap_affine(grid, i0, n, w, code, back);
}
