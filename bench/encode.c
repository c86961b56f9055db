/* Encoders: time and error of every format that can be written, on N(0,1) and Laplace rows and on a matrix of a model,
 * with and without an importance (log-normal over the columns).
 *
 *     [THREADS=2] [PEER=libggml-base.so] [TYPES=q4_k,iq4_xs] encode [MODEL TENSOR]
 *
 * for example: encode models/story-6m model.layers.0.mlp.down_proj. Times are nanoseconds a weight, the best of some,
 * and beside them those of a copy of the same rows in the same run. A PEER is a library with ggml_quantize_chunk; it
 * takes turns with us, and error_ratio is our squared error, weighted by the importance, divided by its. */
#define _DEFAULT_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/noise.h"
#include "../tests/written.h"
#include "base/map.h"
#include "base/pool.h"
#include "cpu/kern.h"
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

typedef size_t (*quantize_chunk)(int type, const float *src, void *dst, int64_t start, int64_t n_rows, int64_t K,
                                 const float *importance, const void *user);
typedef bool (*needs_importance)(int type);
enum { PIECE = 8 }; /* rows a thread gives the peer at once */

struct job {
    sr_weight w;
    const struct data *d;
    const float *importance;
    int threads;
    uint8_t *peer; /* bytes that the peer writes */
    quantize_chunk quantize;
    float *copy;
};

static void encode(struct job *j) {
    if (!write_weight(&j->w, j->d->rows, 0, j->importance, j->threads)) abort();
}
static void peer_rows(void *ctx, int item, int thread) {
    struct job *j = ctx;
    const int64_t row = (int64_t)item * PIECE, n = j->d->n - row < PIECE ? j->d->n - row : PIECE;
    (void)thread;
    j->quantize(j->w.plane[0].type->gguf_id, j->d->rows, j->peer, row * j->d->k, n, j->d->k, j->importance, NULL);
}
static void peer_encode(struct job *j) {
    sr_pool_for(j->threads, (int)((j->d->n + PIECE - 1) / PIECE), peer_rows, j);
}
static void copy(struct job *j) {
    memcpy(j->copy, j->d->rows, sizeof(float) * (size_t)(j->d->n * j->d->k));
}
static void keep_best(double *best, void (*fn)(struct job *), struct job *j) {
    double t = sr_clock();
    fn(j);
    t = sr_clock() - t;
    *best = t < *best ? t : *best;
}

/* Squared error and energy, both weighted. */
static double error_of(const struct job *j, double *energy) {
    double e = 0;
    *energy = 0;
    for (int64_t row = 0; row < j->d->n; row++) {
        const float *x = j->d->rows + row * j->d->k;
        j->w.fmt->decode(&j->w, row, 0, j->d->k, j->copy);
        for (int64_t i = 0; i < j->d->k; i++) {
            const double by = j->importance ? (double)j->importance[i] : 1, off = (double)x[i] - j->copy[i];
            e += by * off * off;
            *energy += by * x[i] * x[i];
        }
    }
    return e;
}

static bool listed(const char *list, const char *name) {
    const size_t n = strlen(name);
    for (const char *at = list; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, name, n) && (at[n] == ',' || !at[n])) return true;
    return !list;
}

int main(int argc, char **argv) {
    struct data data[3] = {{"normal", NULL, ROWS, K}, {"Laplace", NULL, ROWS, K}};
    const char *peer = getenv("PEER"), *threads = getenv("THREADS");
    void *library = peer ? dlopen(peer, RTLD_NOW | RTLD_LOCAL) : NULL;
    quantize_chunk quantize = NULL;
    needs_importance needs = NULL;
    int n_data = 2;
    noise r = {1};
    if (peer && !library) fprintf(stderr, "%s\n", dlerror());
    if (library) {
        *(void **)&quantize = dlsym(library, "ggml_quantize_chunk");
        *(void **)&needs = dlsym(library, "ggml_quantize_requires_imatrix");
    }
    for (int d = 0; d < 2; d++) {
        data[d].rows = malloc(sizeof(float) * ROWS * K);
        for (int i = 0; i < ROWS * K; i++) data[d].rows[i] = d ? noise_laplace(&r) : noise_normal(&r);
    }
    if (argc == 3 && real_rows(argv[1], argv[2], &data[2])) n_data = 3;
    const sr_kern *kern = sr_kerns[0];
    for (int i = 0; !kern->usable(); i++) kern = sr_kerns[i + 1];

    printf("format,data,importance,ns_a_weight,copies,rms_error,peer_ns,time_ratio,error_ratio\n");
    for (int f = 0; sr_formats[f]; f++)
        for (int at = 0; at < 2 * n_data; at++) {
            const struct data *d = &data[at / 2];
            const size_t n = (size_t)(d->n * d->k);
            sr_arena arena = {0};
            struct job j = {.d = d, .threads = threads ? atoi(threads) : 1};
            if (!sr_format_writable(sr_formats[f]) || !listed(getenv("TYPES"), sr_formats[f]->name) ||
                sr_weight_create(sr_formats[f], d->n, d->k, NULL, &arena, &j.w, NULL) != SR_OK)
                continue;
            for (const sr_encoder *e = kern->encoders; e && e->format; e++)
                if (sr_format_by_name(e->format) == j.w.fmt) j.w.encoder = e;
            float *importance = malloc(sizeof(float) * (size_t)d->k);
            noise by = {99};
            for (int64_t i = 0; i < d->k; i++) importance[i] = expf(noise_normal(&by));
            if (at % 2) j.importance = importance;
            j.copy = malloc(sizeof(float) * n);
            j.peer = malloc((size_t)j.w.plane[0].bytes);
            const int id = j.w.plane[0].type->gguf_id;
            if (id >= 0 && !j.w.plane[1].data && (at % 2 || (needs && !needs(id)))) j.quantize = quantize;
            double t = INFINITY, t_copy = INFINITY, t_peer = INFINITY, energy;
            for (int i = 0; i < 5; i++) {
                keep_best(&t, encode, &j);
                keep_best(&t_copy, copy, &j);
                if (j.quantize) keep_best(&t_peer, peer_encode, &j);
            }
            const double e = error_of(&j, &energy);
            printf("%s,%s,%d,%.2f,%.1f,%.6f", sr_formats[f]->name, d->name, at % 2, t / (double)n * 1e9, t / t_copy,
                   sqrt(e / energy));
            if (j.quantize) {
                j.w.plane[0].data = j.peer;
                printf(",%.2f,%.2f,%.4f\n", t_peer / (double)n * 1e9, t_peer / t, e / error_of(&j, &energy));
            } else {
                printf(",,,\n");
            }
            fflush(stdout);
            free(importance);
            free(j.peer);
            free(j.copy);
            sr_arena_free(&arena);
        }
    for (int d = 0; d < n_data; d++) free(data[d].rows);
    return 0;
}
