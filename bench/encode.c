/* Encoders: time and error of every writable format, on N(0,1) and Laplace rows and on a matrix of a model.
 *
 *     encode [MODEL TENSOR]       for example: encode story-6m model.layers.0.mlp.down_proj
 *
 * One thread. Times are a weight's, and beside them those of a copy of the same rows in the same run. */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/noise.h"
#include "../tests/written.h"
#include "base/map.h"
#include "fmt/fmt.h"

enum { ROWS = 1024, K = 768 };

struct data {
    const char *name;
    float *rows;
    int64_t n, k;
};

static bool real_rows(const char *model, const char *tensor, struct data *d) {
    sr_err err = {0};
    sr_file *file = NULL;
    sr_weight w;
    if (sr_file_open(model, NULL, &file, &err) != SR_OK ||
        sr_weight_bind(file, NULL, tensor, -1, -1, NULL, &w, &err) != SR_OK) {
        fprintf(stderr, "%s\n", err.msg);
        sr_file_close(file);
        return false;
    }
    *d = (struct data){"real", malloc(sizeof(float) * (size_t)(w.N * w.K)), w.N, w.K};
    for (int64_t row = 0; row < w.N; row++) w.fmt->decode(&w, row, 0, w.K, d->rows + row * w.K);
    sr_file_close(file);
    return true;
}

static double best_of(int n, void (*fn)(void *ctx), void *ctx) {
    double best = INFINITY;
    while (n--) {
        double t = sr_clock();
        fn(ctx);
        t = sr_clock() - t;
        best = t < best ? t : best;
    }
    return best;
}

struct job {
    sr_weight w;
    const struct data *d;
    float *copy;
};
static void encode(void *ctx) {
    struct job *j = ctx;
    write_weight(&j->w, j->d->rows, 0, NULL, 1);
}
static void copy(void *ctx) {
    struct job *j = ctx;
    memcpy(j->copy, j->d->rows, sizeof(float) * (size_t)(j->d->n * j->d->k));
}

int main(int argc, char **argv) {
    struct data data[3] = {{"normal", NULL, ROWS, K}, {"Laplace", NULL, ROWS, K}};
    int n_data = 2;
    noise r = {1};
    for (int d = 0; d < 2; d++) {
        data[d].rows = malloc(sizeof(float) * ROWS * K);
        for (int i = 0; i < ROWS * K; i++) data[d].rows[i] = d ? noise_laplace(&r) : noise_normal(&r);
    }
    if (argc == 3 && real_rows(argv[1], argv[2], &data[2])) n_data = 3;

    printf("format,data,rows,columns,ns_a_weight,copies,rms_error\n");
    for (int f = 0; sr_formats[f]; f++)
        for (int d = 0; d < n_data; d++) {
            sr_arena arena = {0};
            struct job j = {.d = &data[d]};
            size_t n = (size_t)(data[d].n * data[d].k);
            if (!sr_format_writable(sr_formats[f]) ||
                sr_weight_create(sr_formats[f], data[d].n, data[d].k, NULL, &arena, &j.w, NULL) != SR_OK)
                continue;
            j.copy = malloc(sizeof(float) * n);
            encode(&j);
            copy(&j);
            double t = best_of(3, encode, &j), t_copy = best_of(3, copy, &j), e = 0, p = 0;
            for (int64_t row = 0; row < data[d].n; row++)
                j.w.fmt->decode(&j.w, row, 0, data[d].k, j.copy + row * data[d].k);
            for (size_t i = 0; i < n; i++) {
                e += ((double)data[d].rows[i] - j.copy[i]) * ((double)data[d].rows[i] - j.copy[i]);
                p += (double)data[d].rows[i] * data[d].rows[i];
            }
            printf("%s,%s,%d,%d,%.2f,%.1f,%.6f\n", sr_formats[f]->name, data[d].name, (int)data[d].n, (int)data[d].k,
                   t / (double)n * 1e9, t / t_copy, sqrt(e / p));
            free(j.copy);
            sr_arena_free(&arena);
        }
    for (int d = 0; d < n_data; d++) free(data[d].rows);
    return 0;
}
