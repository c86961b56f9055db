/* The CPU as a device: opening, scratch, and the operations that are loops over rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/pool.h"
#include "cpu/kern.h"

static sr_cpu *cpu_of(sr_dev *dev) {
    return (sr_cpu *)(void *)dev;
}

static sr_status cpu_open(const sr_dev_options *o, sr_dev **out, sr_err *err) {
    extern const sr_device sr_device_cpu;
    const sr_kern *kern = NULL;
    for (int i = 0; sr_kerns[i] && !kern; i++) {
        if (o->isa ? strcmp(o->isa, sr_kerns[i]->name) != 0 : !sr_kerns[i]->usable()) continue;
        if (!sr_kerns[i]->usable())
            return sr_fail(err, SR_UNSUPPORTED, "instruction set %s: this processor has %s", o->isa, sr_cpu_features());
        kern = sr_kerns[i];
    }
    if (!kern) {
        char list[96] = "";
        for (int i = 0; sr_kerns[i]; i++) {
            size_t at = strlen(list);
            snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", sr_kerns[i]->name);
        }
        return sr_fail(err, SR_INVALID, "instruction set '%.32s' is unknown; expected one of %s", o->isa, list);
    }
    sr_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return sr_fail(err, SR_NOMEM, "no memory for the CPU device");
    cpu->dev.ops = &sr_device_cpu;
    cpu->kern = kern;
    cpu->threads = o->threads;
    cpu->batch = o->batch;
    cpu->exact = o->exact;
    *out = &cpu->dev;
    return SR_OK;
}

static void cpu_close(sr_dev *dev) {
    sr_cpu *cpu = cpu_of(dev);
    sr_pages_free(cpu->x8.code, cpu->x8_block[0]);
    sr_pages_free(cpu->x8.scale, cpu->x8_block[1]);
    sr_pages_free(cpu->x8.sum, cpu->x8_block[2]);
    sr_pages_free(cpu->x8.dealt, cpu->x8_block[3]);
    sr_pages_free(cpu->residual_of, cpu->residual_bytes);
    sr_pages_free(cpu->packed_f32, cpu->f32_bytes);
    sr_pages_free(cpu->packed_bf16, cpu->bf16_bytes);
    sr_pages_free(cpu->packed, cpu->packed_bytes);
    sr_pages_free(cpu->gathered, cpu->gathered_bytes);
    sr_pages_free(cpu->chosen, cpu->chosen_bytes);
    sr_pages_free(cpu->thread, (size_t)cpu->threads * cpu->thread_bytes);
    sr_pages_free(cpu->partial, cpu->partial_bytes);
    sr_pages_free(cpu->angle, cpu->angle_bytes);
    free(cpu);
}

static sr_status cpu_place(sr_dev *dev, sr_weight *w, sr_err *err) {
    sr_cpu *cpu = cpu_of(dev);
    (void)err;
    w->fast = NULL;
    for (const sr_fast *f = cpu->kern->fast; f->format && !w->fast; f = sr_fast_next(f))
        if (sr_format_by_name(f->format) == w->fmt && (!f->fits || f->fits(w))) w->fast = f;
    return SR_OK;
}

static const sr_encoder *cpu_encoder(const sr_dev *dev, const sr_format *fmt) {
    const sr_encoder *e = ((const sr_cpu *)dev)->kern->encoders;
    while (e && e->format && sr_format_by_name(e->format) != fmt) e++;
    return e && e->format ? e : NULL;
}

static bool cpu_has_kernels(const sr_format *fmt) {
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = sr_kerns[i]->fast; f->format; f = sr_fast_next(f))
            if (sr_format_by_name(f->format) == fmt) return true;
    return false;
}

/* Replaces *at by a larger zeroed block. */
static bool grow(void *at, size_t *have, size_t want) {
    if (want <= *have) return true;
    void *fresh = sr_pages_alloc(want), *old;
    if (!fresh) return false;
    memcpy(&old, at, sizeof old);
    sr_pages_free(old, *have);
    memcpy(at, &fresh, sizeof fresh);
    *have = want;
    return true;
}

static sr_status cpu_reserve(sr_dev *dev, int64_t max_k, int64_t max_n, int n_head, int head_dim, sr_err *err) {
    sr_cpu *cpu = cpu_of(dev);
    (void)max_n, (void)n_head;
    const size_t most = (size_t)(cpu->batch > SR_FEW_COLUMNS ? cpu->batch : SR_FEW_COLUMNS);
    size_t T = 2 * most, blocks = (size_t)((max_k + SR_KC - 1) / SR_KC);
    size_t matmul = sr_cpu_matmul_thread_bytes(cpu->kern, cpu->batch, max_k),
           attend = sr_cpu_attend_thread_bytes(head_dim);
    size_t a_thread = ((matmul > attend ? matmul : attend) + 4095) / 4096 * 4096,
           all = cpu->thread_bytes * (size_t)cpu->threads;
    bool ok = grow(&cpu->x8.code, &cpu->x8_block[0], T * blocks * SR_KC);
    ok = ok && grow(&cpu->x8.scale, &cpu->x8_block[1], T * blocks * sizeof(float));
    ok = ok && grow(&cpu->x8.sum, &cpu->x8_block[2], T * blocks * (SR_KC / SR_SUM) * sizeof(int16_t));
    ok = ok && grow(&cpu->x8.dealt, &cpu->x8_block[3], 2 * SR_FEW_COLUMNS * blocks * SR_KC);
    ok = ok && grow(&cpu->residual_of, &cpu->residual_bytes, T * sizeof(int32_t));
    const sr_kern *few = cpu->kern->few;
    size_t packed = cpu->kern->packed_bytes(2 * cpu->batch, (int64_t)blocks),
           packed_few = few ? few->packed_bytes(cpu->kern->few_columns, (int64_t)blocks) : 0;
    packed = packed > packed_few ? packed : packed_few;
    ok = ok && grow(&cpu->packed, &cpu->packed_bytes, packed);
    ok = ok && grow(&cpu->packed_f32, &cpu->f32_bytes, (size_t)cpu->batch * blocks * SR_KC * sizeof(float));
    if (cpu->kern->gemm_bf16)
        ok = ok && grow(&cpu->packed_bf16, &cpu->bf16_bytes, cpu->kern->bf16_bytes(cpu->batch, max_k));
    size_t rows = most * (size_t)max_k * sizeof(float);
    ok = ok && grow(&cpu->gathered, &cpu->gathered_bytes, rows);
    ok = ok && grow(&cpu->chosen, &cpu->chosen_bytes, rows);
    ok = ok && grow(&cpu->thread, &all, a_thread * (size_t)cpu->threads);
    if (ok) cpu->thread_bytes = all / (size_t)cpu->threads;
    ok = ok && grow(&cpu->partial, &cpu->partial_bytes, sr_cpu_attend_partials(head_dim) * sizeof(float));
    ok = ok && grow(&cpu->angle, &cpu->angle_bytes, T * (size_t)head_dim * sizeof(float));
    return ok ? SR_OK : sr_fail(err, SR_NOMEM, "no memory for the scratch of %d tokens a step", cpu->batch);
}

/* Most tokens need no second column, their residual, and few loops all that a thread has. */
static size_t cpu_working(const sr_dev *dev, int T, int64_t max_k, bool quantized, bool plain, bool experts) {
    const sr_cpu *cpu = (const sr_cpu *)(const void *)dev;
    const size_t t = (size_t)T, blocks = (size_t)((max_k + SR_KC - 1) / SR_KC);
    size_t n = (size_t)cpu->threads * cpu->thread_bytes / 4 * 3;
    if (quantized)
        n += t * blocks * (SR_KC + sizeof(float) + SR_KC / SR_SUM * sizeof(int16_t)) +
             cpu->kern->packed_bytes(T, (int64_t)blocks);
    if (plain)
        n +=
            cpu->kern->bf16_bytes && !cpu->exact ? cpu->kern->bf16_bytes(T, max_k) : t * blocks * SR_KC * sizeof(float);
    if (experts) n += t * (size_t)max_k * sizeof(float);
    return n + (cpu->batch ? cpu->angle_bytes / (2 * (size_t)cpu->batch) * t : 0);
}

static void *cpu_alloc(sr_dev *dev, size_t bytes) {
    (void)dev;
    return sr_pages_alloc(bytes);
}

static void cpu_free(sr_dev *dev, void *at, size_t bytes) {
    (void)dev;
    sr_pages_free(at, bytes);
}

static const sr_kv_type *cpu_kv_type(const sr_dev *dev, int i) {
    const sr_kv_row *row = &((const sr_cpu *)(const void *)dev)->kern->kv[i];
    return row->type.name ? &row->type : NULL;
}

static void cpu_read(sr_dev *dev, const void *at, void *host, size_t bytes) {
    (void)dev;
    memcpy(host, at, bytes);
}

static void cpu_write(sr_dev *dev, void *at, const void *host, size_t bytes) {
    (void)dev;
    memcpy(at, host, bytes);
}

static void cpu_begin(sr_dev *dev) {
    sr_cpu *cpu = cpu_of(dev);
    cpu->angle_of[0] = cpu->angle_of[1] = NULL;
}

static sr_status cpu_end(sr_dev *dev, sr_err *err) {
    (void)dev, (void)err;
    return SR_OK;
}

static void cpu_embed(sr_dev *dev, const sr_weight *w, const int32_t *ids, int T, float scale, float *out) {
    (void)dev;
    for (int t = 0; t < T; t++) {
        float *row = out + t * w->K;
        w->fmt->decode(w, ids[t], 0, w->K, row);
        if (scale != 1)
            for (int64_t k = 0; k < w->K; k++) row[k] *= scale;
    }
}

/* Enough tokens to be worth waking the other threads. */
static int threads_for(const sr_cpu *cpu, int64_t elements) {
    return elements < 1 << 15 ? 1 : cpu->threads;
}

struct norm_job {
    const sr_cpu *cpu;
    sr_norm_kind kind;
    const float *x, *weight, *bias;
    float eps, *out;
    int heads, d;
    int64_t ld, ld_out;
};

static void norm_token(void *ctx, int t, int thread) {
    const struct norm_job *j = ctx;
    (void)thread;
    for (int h = 0; h < j->heads; h++) {
        const float *x = j->x + t * j->ld + h * j->d;
        float *out = j->out + t * j->ld_out + h * j->d;
        if (j->kind == SR_NORM_RMS)
            j->cpu->kern->rms_norm(x, j->d, j->weight, j->eps, out);
        else
            j->cpu->kern->layer_norm(x, j->d, j->weight, j->bias, j->eps, out);
    }
}

static void cpu_norm(sr_dev *dev, sr_norm_kind kind, const float *x, int T, int heads, int64_t ld, int d,
                     const float *weight, const float *bias, float eps, float *out, int64_t ld_out) {
    sr_cpu *cpu = cpu_of(dev);
    struct norm_job j = {cpu, kind, x, weight, bias, eps, out, heads, d, ld, ld_out};
    sr_pool_for(threads_for(cpu, (int64_t)T * heads * d), T, norm_token, &j);
}

struct rope_job {
    const sr_cpu *cpu;
    const sr_rope *rope;
    const float *angle; /* of this rope */
    float *x;
    int64_t ld;
    int T, n_head, head_dim;
};

static void rope_token(void *ctx, int t, int thread) {
    const struct rope_job *j = ctx;
    int n = j->rope->n_pair;
    const float *cos = j->angle + (int64_t)t * n, *sin = j->angle + (int64_t)(j->T + t) * n;
    (void)thread;
    for (int h = 0; h < j->n_head; h++) {
        float *x = j->x + t * j->ld + (int64_t)h * j->head_dim;
        if (j->rope->kind == SR_ROPE_ADJACENT)
            j->cpu->kern->rope_adjacent(x, n, cos, sin);
        else
            j->cpu->kern->rope_halves(x, n, cos, sin);
    }
}

/* Cosines and sines of the step's positions, computed once: all its layers share them. */
static const float *angles_of(sr_cpu *cpu, const sr_rope *rope, const int32_t *pos, const int32_t *table, int T) {
    const size_t half = cpu->angle_bytes / sizeof(float) / 2;
    const int n = rope->n_pair;
    for (int i = 0; i < 2; i++)
        if (cpu->angle_of[i] == rope) return cpu->angle + (size_t)i * half;
    const int slot = cpu->angle_next;
    float *angle = cpu->angle + (size_t)slot * half;
    for (int t = 0; t < T; t++) {
        const int of = table[t] < rope->n_table ? table[t] : rope->n_table - 1;
        const float *freq = rope->freq + (int64_t)of * n;
        for (int i = 0; i < n; i++) {
            float a = (float)pos[t] * freq[i]; /* rounded to f32 as the reference does */
            angle[(int64_t)t * n + i] = (float)cos((double)a) * rope->scale[of];
            angle[(int64_t)(T + t) * n + i] = (float)sin((double)a) * rope->scale[of];
        }
    }
    cpu->angle_of[slot] = rope;
    cpu->angle_next = !slot;
    return angle;
}

static void cpu_rope(sr_dev *dev, const sr_rope *rope, const int32_t *pos, const int32_t *table, int T, float *x,
                     int64_t ld, int n_head, int head_dim) {
    sr_cpu *cpu = cpu_of(dev);
    if (rope->kind == SR_ROPE_NONE) return;
    struct rope_job j = {cpu, rope, angles_of(cpu, rope, pos, table, T), x, ld, T, n_head, head_dim};
    sr_pool_for(threads_for(cpu, (int64_t)T * n_head * head_dim), T, rope_token, &j);
}

struct act_job {
    void (*act)(const float *gate, const float *up, int n, float *out);
    const float *gate, *up;
    float *out;
    int d;
    int64_t ld_in, ld_out;
};

static void act_token(void *ctx, int t, int thread) {
    const struct act_job *j = ctx;
    (void)thread;
    j->act(j->gate + t * j->ld_in, j->up ? j->up + t * j->ld_in : NULL, j->d, j->out + t * j->ld_out);
}

static void cpu_act(sr_dev *dev, sr_act_kind kind, const float *gate, const float *up, int T, int d, int64_t ld_in,
                    float *out, int64_t ld_out) {
    sr_cpu *cpu = cpu_of(dev);
    struct act_job j = {cpu->kern->act[kind], gate, up, out, d, ld_in, ld_out};
    sr_pool_for(threads_for(cpu, (int64_t)T * d), T, act_token, &j);
}

static void cpu_copy(sr_dev *dev, const float *x, int T, int64_t ld_x, int heads, int64_t step_x, int d, float *out,
                     int64_t ld_out, int64_t step_out) {
    (void)dev;
    for (int t = 0; t < T; t++)
        for (int h = 0; h < heads; h++)
            memcpy(out + t * ld_out + h * step_out, x + t * ld_x + h * step_x, (size_t)d * sizeof *x);
}

struct add_job {
    const sr_cpu *cpu;
    float *x;
    const float *y; /* NULL: soft_cap */
    int64_t n;
    float scale, cap;
};

enum { PIECE = 1 << 14 };

static void add_piece(void *ctx, int item, int thread) {
    const struct add_job *j = ctx;
    int64_t from = (int64_t)item * PIECE, n = j->n - from < PIECE ? j->n - from : PIECE;
    (void)thread;
    if (j->y && j->scale == 1)
        j->cpu->kern->add(j->x + from, j->y + from, n);
    else if (j->y)
        j->cpu->kern->axpy(j->x + from, j->y + from, n, j->scale);
    else
        j->cpu->kern->soft_cap(j->x + from, n, j->scale, j->cap);
}

static void cpu_add(sr_dev *dev, float *x, const float *y, int64_t n, float scale) {
    sr_cpu *cpu = cpu_of(dev);
    struct add_job j = {cpu, x, y, n, scale, 0};
    sr_pool_for(threads_for(cpu, n), (int)((n + PIECE - 1) / PIECE), add_piece, &j);
}

static void cpu_soft_cap(sr_dev *dev, float *x, int64_t n, float scale, float cap) {
    sr_cpu *cpu = cpu_of(dev);
    struct add_job j = {cpu, x, NULL, n, scale, cap};
    sr_pool_for(threads_for(cpu, n), (int)((n + PIECE - 1) / PIECE), add_piece, &j);
}

struct mix_job {
    const sr_cpu *cpu;
    const float *y, *weight;
    const int32_t *row;
    int n, d;
    float *out;
};

static void mix_token(void *ctx, int t, int thread) {
    const struct mix_job *j = ctx;
    float *out = j->out + (int64_t)t * j->d;
    (void)thread;
    memset(out, 0, (size_t)j->d * sizeof *out);
    for (int i = t * j->n; i < (t + 1) * j->n; i++)
        j->cpu->kern->axpy(out, j->y + (int64_t)j->row[i] * j->d, j->d, j->weight[i]);
}

static void cpu_mix(sr_dev *dev, const float *y, const int32_t *row, const float *weight, int n, int T, int d,
                    float *out) {
    sr_cpu *cpu = cpu_of(dev);
    struct mix_job j = {cpu, y, weight, row, n, d, out};
    sr_pool_for(threads_for(cpu, (int64_t)T * n * d), T, mix_token, &j);
}

static const char *cpu_isa(const sr_dev *dev) {
    return ((const sr_cpu *)(const void *)dev)->kern->name;
}

/* ---- probe ---- */

enum { READ_PIECE = 1 << 20, READ_LEAST = 256 << 20 };

/* Twice the last cache, so that memory is what is read, within a quarter of what is free. */
static size_t read_bytes(void) {
    sr_memory m;
    sr_memory_now(&m);
    size_t n = 2 * sr_last_cache_bytes(), most = m.available ? (size_t)(m.available / 4) : (size_t)READ_LEAST;
    n = n > READ_LEAST ? n : READ_LEAST;
    return (n < most ? n : most) / READ_PIECE * READ_PIECE;
}

struct probe_job {
    const sr_cpu *cpu;
    const float *data;
    int64_t steps;
    volatile float sink;
};

static void probe_read(void *ctx, int item, int thread) {
    struct probe_job *j = ctx;
    static const float zeros[1024];
    float sum = 0, y;
    (void)thread;
    const float *p = j->data + (int64_t)item * (READ_PIECE / 4);
    for (int i = 0; i < READ_PIECE / 4; i += 1024) {
        j->cpu->kern->dot_f32(p + i, zeros, 0, 1, 1024, &y);
        sum += y;
    }
    j->sink = sum;
}

static void probe_int8(void *ctx, int item, int thread) {
    struct probe_job *j = ctx;
    (void)item, (void)thread;
    j->cpu->kern->probe(j->steps);
}

static void cpu_probe(sr_dev *dev, double seconds, sr_probe *out) {
    sr_cpu *cpu = cpu_of(dev);
    struct probe_job j = {.cpu = cpu, .steps = 1};
    size_t bytes = read_bytes();
    float *data = sr_pages_alloc(bytes);
    *out = (sr_probe){0};
    if (data) {
        memset(data, 0, bytes); /* pages of their own */
        j.data = data;
        double end = sr_clock() + seconds / 2;
        do {
            double t = sr_clock();
            sr_pool_for(cpu->threads, (int)(bytes / READ_PIECE), probe_read, &j);
            double rate = (double)bytes / (sr_clock() - t);
            if (rate > out->read_bytes_per_s) out->read_bytes_per_s = rate;
        } while (sr_clock() < end);
        sr_pages_free(data, bytes);
    }
    double end = sr_clock() + seconds / 2;
    do {
        double t = sr_clock();
        sr_pool_for(cpu->threads, cpu->threads, probe_int8, &j);
        t = sr_clock() - t;
        double rate = (double)cpu->threads * (double)j.steps * cpu->kern->probe_ops / t;
        if (t > 2e-3 && rate > out->int8_ops_per_s) out->int8_ops_per_s = rate;
        if (t < 0.02) j.steps *= 2;
    } while (sr_clock() < end);
}

const sr_device sr_device_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .place = cpu_place,
    .encoder = cpu_encoder,
    .has_kernels = cpu_has_kernels,
    .reserve = cpu_reserve,
    .working = cpu_working,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .kv_type = cpu_kv_type,
    .read = cpu_read,
    .write = cpu_write,
    .begin = cpu_begin,
    .end = cpu_end,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .matmul = sr_cpu_matmul,
    .matmul_experts = sr_cpu_matmul_experts,
    .matmul_heads = sr_cpu_matmul_heads,
    .copy = cpu_copy,
    .mix = cpu_mix,
    .rope = cpu_rope,
    .attend = sr_cpu_attend,
    .act = cpu_act,
    .add = cpu_add,
    .soft_cap = cpu_soft_cap,
    .probe = cpu_probe,
    .isa = cpu_isa,
};
