/* UQFF: each format's entries as the parts of another container, whole models against their decoded weights, and what
 * is refused. No reference program ran: entries are spelled from the format's description. */
#include <math.h>

#include "support.h"

#include "base/half.h"
#include "draft.h"
#include "file/file.h"
#include "fmt/fmt.h"
#include "noise.h"

#define TINY SR_SOURCE_DIR "/tests/vectors/tiny/"

/* ---------------------------------------------------------------- drafts of entries */

static void add(struct draft *d, const char *name, const char *type, int n_dims, const int64_t *shape,
                const void *data) {
    int64_t n = 1, bytes = 0;
    assert_true(d->n_parts < DRAFT_PARTS);
    struct draft_part *p = &d->part[d->n_parts++];
    *p = (struct draft_part){.name = name, .type = sr_stored_by_name(type), .n_dims = n_dims};
    for (int i = 0; i < n_dims; i++) n *= p->shape[i] = shape[i];
    assert_true(sr_stored_bytes(p->type, n, &bytes));
    if (data)
        put(&p->data, data, (size_t)bytes);
    else
        put_zeros(&p->data, (size_t)bytes);
}
static void add_u8(struct draft *d, const char *name, uint8_t v) {
    add(d, name, "u8", 0, NULL, &v);
}
static void add_u32(struct draft *d, const char *name, uint32_t v) {
    add(d, name, "u32", 0, NULL, &v);
}
static void add_version(struct draft *d, uint32_t major, uint32_t minor) {
    add_u32(d, "uqff.version.major", major);
    add_u32(d, "uqff.version.minor", minor);
    add_u32(d, "uqff.version.patch", 0);
}
#define SHAPE(...)                                                                                                     \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) {                                     \
        __VA_ARGS__                                                                                                    \
    }

static sr_status parse(const struct draft *d, const char *dir, sr_file **f, sr_err *err) {
    struct bytes b = {0};
    char chunk[4096];
    *err = (sr_err){0};
    draft_write_safetensors(d, in(dir, "one"));
    FILE *in_file = fopen(in(dir, "one"), "rb");
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, in_file)) > 0;) put(&b, chunk, n);
    fclose(in_file);
    static struct bytes kept; /* the file borrows it */
    drop(&kept);
    kept = b;
    return sr_file_from_memory(b.data, b.n, "t.uqff", f, err);
}

/* One layer "a" of a format: the entries that the format's table in file/uqff.c lists, written once more. */
static struct draft layer(int tag) {
    struct draft d = {0};
    const uint32_t shape[2] = {2, 64};
    add_version(&d, 1, 2);
    add_u8(&d, "a.weight.format", (uint8_t)tag);
    add(&d, "a.bias", "f32", SHAPE(2), NULL);
    switch (tag) {
    case 0:
        add(&d, "a.weight", "u8", SHAPE(72), NULL);
        add_u32(&d, "a.weight.dtype", 2);
        add(&d, "a.weight.shape", "u32", SHAPE(2), shape);
        break;
    case 1:
        add(&d, "a.weight", "bf16", SHAPE(2, 64), NULL);
        break;
    case 2:
        add(&d, "a.weight", "u8", SHAPE(1, 64), NULL);
        add(&d, "a.weight.scales", "f32", SHAPE(2, 1), NULL);
        add(&d, "a.weight.zeros", "f32", SHAPE(2, 1), NULL);
        add(&d, "a.weight.shape", "u32", SHAPE(2), shape);
        add_u8(&d, "a.weight.bits", 4);
        add_u32(&d, "a.weight.group_size", 64);
        add_u8(&d, "a.weight.axis", 1);
        add_u32(&d, "a.weight.optimization_steps", 20);
        add_u8(&d, "a.weight.round_zeros", 0);
        add_u8(&d, "a.weight.channel_wise", 1);
        break;
    case 3:
        add(&d, "a.weight", "f8_e4m3", SHAPE(2, 64), NULL);
        add(&d, "a.weight.dequant_w_scale", "f32", 0, NULL, &(float){0.5f});
        add(&d, "a.weight.dequant_x_scale", "f32", 0, NULL, NULL);
        add(&d, "a.weight.quant_scale", "f32", 0, NULL, NULL);
        add_u32(&d, "a.weight.dtype", 5);
        break;
    case 4:
        add(&d, "a.weight", "u32", SHAPE(2, 12), NULL);
        add(&d, "a.weight.scales", "bf16", SHAPE(2, 2), NULL);
        add(&d, "a.weight.biases", "bf16", SHAPE(2, 2), NULL);
        add_u8(&d, "a.weight.bits", 6);
        add_u8(&d, "a.weight.group_size", 32);
        break;
    case 5:
        add(&d, "a.weight", "u8", SHAPE(132), NULL);
        add_u32(&d, "a.weight.num_blocks", 4);
        add(&d, "a.weight.shape", "u32", SHAPE(2), shape);
        break;
    default:
        add(&d, "a.weight", "u8", SHAPE(2, 32), NULL);
        add(&d, "a.weight.scales", "u8", SHAPE(2, 2), NULL);
    }
    return d;
}

/* "weight q4_0 [2,64]; bias f32 [2]; " in the order of the file, then "key = value; " */
static void describe(const sr_file *f, char *text, size_t cap) {
    text[0] = 0;
    for (int i = 0; i < f->n_parts; i++) {
        const sr_part *p = &f->part[i];
        size_t n = strlen(text);
        n += (size_t)snprintf(text + n, cap - n, "%s %s [", p->name, p->type->name);
        for (int k = 0; k < p->n_dims; k++)
            n += (size_t)snprintf(text + n, cap - n, "%s%d", k ? "," : "", (int)p->shape[k]);
        snprintf(text + n, cap - n, "]; ");
    }
    for (int i = 0; i < f->n_values; i++) {
        const sr_value *v = &f->value[i];
        size_t n = strlen(text);
        if (v->kind == SR_KIND_STRING)
            snprintf(text + n, cap - n, "%s = %.*s; ", v->key, (int)v->v.s.n, v->v.s.text);
        else
            snprintf(text + n, cap - n, "%s = %d; ", v->key, (int)v->v.u);
    }
}

static void each_format_becomes_the_parts_of_its_own_container(void **state) {
    static const char *const want[] = {
        "a.bias f32 [2]; a.weight q4_0 [2,64]; ",
        "a.bias f32 [2]; a.weight bf16 [2,64]; ",
        "a.bias f32 [2]; a.W_q u8 [1,64]; a.scale f32 [2,1]; a.zero f32 [2,1]; a.shape i32 [2]; a.nbits u8 []; "
        "a.group_size i32 []; a.axis u8 []; a.channel_wise u8 []; quantization_config.quant_method = hqq; ",
        "a.bias f32 [2]; a.weight f8_e4m3 [2,64]; a.weight_scale f32 []; quantization_config.quant_method = fp8; ",
        "a.bias f32 [2]; a.weight u32 [2,12]; a.scales bf16 [2,2]; a.biases bf16 [2,2]; quantization.a.bits = 6; "
        "quantization.a.group_size = 32; quantization.mode = affine; ",
        "a.bias f32 [2]; a.weight f8q8 [2,64]; ",
        "a.bias f32 [2]; a.weight u32 [2,8]; a.scales u8 [2,2]; quantization.a.bits = 4; "
        "quantization.a.group_size = 32; quantization.a.mode = mxfp4; quantization.mode = affine; ",
    };
    for (int tag = 0; tag < 7; tag++) {
        struct draft d = layer(tag);
        char text[1024];
        sr_file *f;
        sr_err err;
        if (parse(&d, *state, &f, &err) != SR_OK) fail_msg("%d: %s", tag, err.msg);
        describe(f, text, sizeof text);
        assert_string_equal(text, want[tag]);
        assert_string_equal(f->container, "UQFF 1.2");
        sr_file_close(f);
        draft_close(&d);
    }
}

static float f32_entry(const struct draft_part *p, int i) {
    float v;
    memcpy(&v, p->data.data + 4 * i, 4);
    return v;
}
static float bf16_entry(const struct draft_part *p, int i) {
    return sr_bf16_to_f32((uint16_t)(p->data.data[2 * i] | p->data.data[2 * i + 1] << 8));
}
/* Bits at .. at + n of a little-endian bit string. */
static int bits_at(const uint8_t *p, int at, int n) {
    int v = 0;
    for (int i = 0; i < n; i++) v |= (p[(at + i) / 8] >> (at + i) % 8 & 1) << i;
    return v;
}
/* Element of the layer of 2 x 64 that `layer` makes, from its entries. */
static float hqq_element(struct draft *d, int row, int k) { /* one word has a code of each row: its high one first */
    int code = draft_part(d, "a.weight")->data.data[k] >> (row ? 0 : 4) & 15;
    return ((float)code - f32_entry(draft_part(d, "a.weight.zeros"), row)) *
           f32_entry(draft_part(d, "a.weight.scales"), row);
}
static float afq_element(struct draft *d, int row, int k) {
    int code = bits_at(draft_part(d, "a.weight")->data.data + row * 48, 6 * k, 6), group = 2 * row + k / 32;
    return bf16_entry(draft_part(d, "a.weight.scales"), group) * (float)code +
           bf16_entry(draft_part(d, "a.weight.biases"), group);
}
static float mxfp4_element(struct draft *d, int row, int k) {
    static const float value[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    int code = bits_at(draft_part(d, "a.weight")->data.data + row * 32, 4 * k, 4);
    float v = ldexpf(value[code & 7], draft_part(d, "a.weight.scales")->data.data[2 * row + k / 32] - 127);
    return code & 8 ? -v : v;
}
static float f8q8_element(struct draft *d, int row, int k) {
    const uint8_t *b = draft_part(d, "a.weight")->data.data + 33 * (2 * row + k / 32);
    float scale = ldexpf((float)(8 + (b[0] & 7)), (b[0] >> 3 & 15) - 10) / 448;
    return (float)(int8_t)b[1 + k % 32] * scale;
}

static void layers_bind_and_decode_to_what_their_entries_say(void **state) {
    static const struct {
        int tag;
        float (*element)(struct draft *d, int row, int k);
    } cases[] = {{2, hqq_element}, {4, afq_element}, {5, f8q8_element}, {6, mxfp4_element}};
    noise r = {12};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct draft d = layer(cases[i].tag);
        for (int k = 0; k < d.n_parts; k++) {
            struct draft_part *p = &d.part[k];
            bool codes = !strcmp(p->name, "a.weight");
            if (!codes && strcmp(p->name, "a.weight.scales") && strcmp(p->name, "a.weight.zeros") &&
                strcmp(p->name, "a.weight.biases"))
                continue;
            for (size_t e = 0; e < p->data.n; e++) p->data.data[e] = (uint8_t)noise_below(&r, 256);
            if (cases[i].tag == 5) /* scales above 0, no NaN */
                for (size_t e = 0; e < p->data.n; e += 33) p->data.data[e] = (uint8_t)(8 + noise_below(&r, 112));
            if (codes) continue;
            for (size_t e = 0; e < p->data.n / (size_t)p->type->bytes; e++) {
                float v = noise_normal(&r);
                uint16_t half = sr_f32_to_bf16(v);
                if (!strcmp(p->type->name, "f32")) memcpy(p->data.data + 4 * e, &v, 4);
                if (!strcmp(p->type->name, "bf16")) memcpy(p->data.data + 2 * e, &half, 2);
                if (!strcmp(p->type->name, "u8")) p->data.data[e] = (uint8_t)(120 + noise_below(&r, 15));
            }
        }
        sr_file *f;
        sr_err err;
        sr_arena arena = {0};
        sr_qconfig *config;
        sr_weight w;
        if (parse(&d, *state, &f, &err) != SR_OK) fail_msg("%s", err.msg);
        OK(sr_qconfig_read(f, &arena, &config, e_));
        OK(sr_weight_bind(f, config, "a", 2, 64, &arena, &w, e_));
        for (int row = 0; row < 2; row++) {
            float got[64];
            w.fmt->decode(&w, row, 0, 64, got);
            for (int k = 0; k < 64; k++) {
                float want = cases[i].element(&d, row, k);
                if (got[k] != want)
                    fail_msg("%s row %d column %d: got %a, want %a", w.fmt->name, row, k, (double)got[k], (double)want);
            }
        }
        sr_arena_free(&arena);
        sr_file_close(f);
        draft_close(&d);
    }
}

/* ---------------------------------------------------------------- what is refused */

static void an_entry_more_or_less_is_refused(void **state) {
    for (int tag = 0; tag < 7; tag++) {
        struct draft d = layer(tag);
        sr_file *f;
        sr_err err;
        for (int i = 3; i < d.n_parts; i++) { /* behind the version */
            const char *name = d.part[i].name;
            if (!strcmp(name, "a.bias")) continue;
            d.part[i].name = NULL;
            check_error(name, parse(&d, *state, &f, &err), &err, SR_CORRUPT, "t.uqff", NULL);
            d.part[i].name = name;
        }
        static const char *const extra[] = {"a.weight.more", "a.weight.formats", "b.weight", "b.bias", "uqff.x", "7"};
        for (size_t i = 0; i < sizeof extra / sizeof *extra; i++) {
            add_u8(&d, extra[i], 0);
            check_error(extra[i], parse(&d, *state, &f, &err), &err, SR_CORRUPT, extra[i], NULL);
            drop(&d.part[--d.n_parts].data);
        }
        draft_close(&d);
    }
}

static void entries_of_another_type_or_size_are_refused(void **state) {
    static const struct {
        int tag;
        const char *name, *type;
        int64_t rows, columns;
        uint8_t fill;
        const char *says;
    } bad[] = {
        {0, "a.weight.format", "u8", 1, 0, 7, "from 0 to 6"},
        {0, "a.weight.format", "u32", 1, 0, 0, "single u8"},
        {0, "a.weight.format", "u8", 2, 0, 0, "single u8"},
        {0, "a.weight.dtype", "u32", 2, 0, 0, "one of u32"},
        {0, "a.weight.dtype", "i32", 1, 0, 0, "found 1 of i32"},
        {0, "a.weight", "u8", 71, 0, 0, "found 71 bytes"},
        {0, "a.weight", "u8", 2, 36, 0, "no vector"},
        {0, "a.weight", "f32", 18, 0, 0, "expected u8"},
        {0, "a.weight.shape", "u32", 2, 0, 0, "with a 0"},
        {0, "a.weight.shape", "u32", 2, 0, 0xff, "72 bytes"},
        {0, "a.weight.shape", "u32", 8, 0, 0xe0, "63 bits"},
        {0, "a.weight.shape", "u32", 9, 0, 1, "8 dimensions"},
        {0, "a.weight.shape", "u32", 1, 2, 1, "no vector"},
        {2, "a.weight.group_size", "u32", 1, 0, 0xff, "above 2^31"},
        {2, "a.weight.scales", "f16", 2, 1, 0, "expected f32"},
        {4, "a.weight", "u8", 2, 48, 0, "expected u32"},
        {4, "a.weight.bits", "u32", 1, 0, 4, "expected one of u8"},
        {5, "a.weight.num_blocks", "u32", 1, 0, 1, "num_blocks"},
        {5, "a.weight.num_blocks", "u32", 1, 0, 0xff, "num_blocks"},
        {6, "a.weight", "u8", 2, 31, 0, "whole blocks"},
        {6, "a.weight", "u8", 64, 0, 0, "no matrix"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct draft d = layer(bad[i].tag);
        sr_file *f;
        sr_err err;
        draft_reshape(&d, bad[i].name, bad[i].type, bad[i].rows, bad[i].columns);
        struct bytes *data = &draft_part(&d, bad[i].name)->data;
        memset(data->data, bad[i].fill, data->n);
        sr_status s = parse(&d, *state, &f, &err);
        if (s == SR_UNSUPPORTED) err.code = s = SR_CORRUPT; /* rows of no whole blocks */
        if (bad[i].fill == 0xff && bad[i].rows == 2)
            check_error(bad[i].says, s, &err, SR_CORRUPT, "t.uqff", NULL);
        else
            check_error(bad[i].says, s, &err, SR_CORRUPT, "t.uqff", bad[i].says, NULL);
        draft_close(&d);
    }
    static const uint32_t types[] = {4, 5, 16, 29, 31, 39, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct draft d = layer(0);
        sr_file *f;
        sr_err err;
        memcpy(draft_part(&d, "a.weight.dtype")->data.data, &types[i], 4);
        check_error("type", parse(&d, *state, &f, &err), &err, SR_UNSUPPORTED, "a.weight", "UQFF does not have", NULL);
        draft_close(&d);
    }
}

static void versions_that_are_not_known_are_refused(void **state) {
    static const struct {
        uint32_t major, minor;
        sr_status status;
    } cases[] = {{1, 0, SR_OK},          {1, 2, SR_OK},          {1, 3, SR_UNSUPPORTED},
                 {0, 2, SR_UNSUPPORTED}, {2, 0, SR_UNSUPPORTED}, {UINT32_MAX, 0, SR_UNSUPPORTED}};
    sr_file *f;
    sr_err err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct draft d = layer(1);
        memcpy(d.part[0].data.data, &cases[i].major, 4);
        memcpy(d.part[1].data.data, &cases[i].minor, 4);
        assert_int_equal(parse(&d, *state, &f, &err), cases[i].status);
        sr_file_close(f);
        draft_close(&d);
    }
    for (int k = 0; k < 3; k++) {
        struct draft d = layer(1);
        d.part[k].name = NULL;
        check_error("missing", parse(&d, *state, &f, &err), &err, SR_CORRUPT, "uqff.version.", NULL);
        draft_close(&d);
    }
    struct draft d = {0};
    add(&d, "0", "u8", SHAPE(5), NULL);
    add(&d, "12", "u8", SHAPE(5), NULL);
    check_error("0.x", parse(&d, *state, &f, &err), &err, SR_UNSUPPORTED, "UQFF 0.x", NULL);
    draft_close(&d);
}

/* ---------------------------------------------------------------- whole models */

static void copy(const char *from, const char *dir, const char *name) {
    char path[1024], chunk[4096];
    struct bytes b = {0};
    snprintf(path, sizeof path, "%s/%s", from, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;) put(&b, chunk, n);
    fclose(f);
    write_file(in(dir, name), b.data, b.n);
    drop(&b);
}
static char *name_of(const char *module, const char *tail) {
    static char text[DRAFT_PARTS][128];
    static int turn;
    turn = (turn + 1) % DRAFT_PARTS;
    snprintf(text[turn], sizeof text[turn], "%s%s", module, tail);
    return text[turn];
}

/* tiny/llama in two UQFF files, its matrices of one of the formats in turn, and the same weights decoded. */
static void a_model_gives_the_logits_of_its_decoded_weights(void **state) {
    static const char *const types[] = {"q8_0", "q5_1", "f8q8", "bf16"};
    const char *dir = in(*state, "");
    char uqff[512], plain[512];
    snprintf(uqff, sizeof uqff, "%suqff", dir);
    snprintf(plain, sizeof plain, "%splain", dir);
    assert_true(mkdir(uqff, 0700) == 0 && mkdir(plain, 0700) == 0);
    copy(TINY "llama", uqff, "config.json");
    copy(TINY "llama", plain, "config.json");
    struct draft from = draft_of(TINY "llama/model.safetensors"), file[2] = {{0}}, rest = {0}, decoded = {0};
    int n_layers = 0;
    for (int i = 0; i < 2; i++) add_version(&file[i], 1, 2);
    for (int i = 0; i < from.n_parts; i++) {
        const struct draft_part *p = &from.part[i];
        if (!strstr(p->name, "proj.weight")) {
            add(&rest, p->name, p->type->name, p->n_dims, p->shape, p->data.data);
            add(&decoded, p->name, p->type->name, p->n_dims, p->shape, p->data.data);
            continue;
        }
        struct draft *d = &file[strstr(p->name, "layers.1.") != NULL];
        const sr_format *bf16 = sr_format_by_name("bf16"), *fmt = sr_format_by_name(types[n_layers++ % 4]);
        int64_t N = p->shape[0], K = p->shape[1];
        sr_weight w, to;
        sr_arena arena = {0};
        float *x = malloc((size_t)(N * K) * sizeof *x);
        OK(sr_weight_create(bf16, N, K, NULL, &arena, &w, e_));
        memcpy(w.plane[0].data, p->data.data, p->data.n);
        OK(sr_weight_create(fmt, N, K, NULL, &arena, &to, e_));
        for (int64_t row = 0; row < N; row++) bf16->decode(&w, row, 0, K, x + row * K);
        if (sr_format_writable(fmt))
            sr_rtn_rows(&to, 0, N, x, NULL);
        else
            sr_weight_sample(&to, (uint64_t)i);
        for (int64_t row = 0; row < N; row++) fmt->decode(&to, row, 0, K, x + row * K);
        add(&decoded, p->name, "f32", 2, p->shape, x);
        const sr_stored *type = sr_stored_by_name(fmt->name);
        bool plain_type = type->block == 1, f8q8 = !strcmp(fmt->name, "f8q8");
        const uint32_t shape[2] = {(uint32_t)N, (uint32_t)K};
        add_u8(d, name_of(p->name, ".format"), plain_type ? 1 : f8q8 ? 5 : 0);
        if (plain_type) {
            add(d, p->name, fmt->name, 2, p->shape, to.plane[0].data);
        } else {
            add(d, p->name, "u8", 1, &to.plane[0].bytes, to.plane[0].data);
            add(d, name_of(p->name, ".shape"), "u32", 1, &(int64_t){2}, shape);
            if (f8q8)
                add_u32(d, name_of(p->name, ".num_blocks"), (uint32_t)(N * K / 32));
            else
                add_u32(d, name_of(p->name, ".dtype"), (uint32_t)type->gguf_id);
        }
        free(x);
        sr_arena_free(&arena);
    }
    assert_int_equal(n_layers, 14);
    draft_write_safetensors(&file[0], in(uqff, "mix-0.uqff"));
    draft_write_safetensors(&file[1], in(uqff, "mix-1.uqff"));
    draft_write_safetensors(&rest, in(uqff, "residual.safetensors"));
    draft_write_safetensors(&decoded, in(plain, "model.safetensors"));
    int32_t ids[12] = {0, 383, 5, 17, 200, 31, 8, 8, 120, 77, 301, 2}, V[3];
    float *want = logits_of(plain, ids, 12, &V[0]), *got = logits_of(uqff, ids, 12, &V[1]);
    float *by_file = logits_of(in(uqff, "mix-1.uqff"), ids, 12, &V[2]);
    assert_true(V[0] == 384 && V[1] == 384 && V[2] == 384);
    for (int i = 0; i < 12 * 384; i++)
        if (!(fabs((double)got[i] - (double)want[i]) < 1e-4) || by_file[i] != got[i])
            fail_msg("logit %d: %g, by a file's path %g, decoded %g", i, (double)got[i], (double)by_file[i],
                     (double)want[i]);
    free(want);
    free(got);
    free(by_file);

    /* the directory's own rules */
    sr_file *f;
    sr_err err = {0};
    draft_write_safetensors(&file[0], in(uqff, "other-0.uqff"));
    check_error("two", sr_file_open(uqff, NULL, &f, &err), &err, SR_INVALID, "mix-", "other-0.uqff", "one model", NULL);
    sr_err_clear(&err);
    assert_int_equal(sr_file_open(in(uqff, "mix-0.uqff"), NULL, &f, &err), SR_OK);
    sr_file_close(f);
    unlink(in(uqff, "other-0.uqff"));
    rename(in(uqff, "mix-0.uqff"), in(uqff, "mix-2.uqff"));
    sr_err_clear(&err);
    check_error("gap", sr_file_open(uqff, NULL, &f, &err), &err, SR_IO, "mix-0.uqff", "missing", NULL);
    unlink(in(uqff, "residual.safetensors"));
    sr_err_clear(&err);
    check_error("residual", sr_file_open(uqff, NULL, &f, &err), &err, SR_IO, "residual.safetensors", "missing", NULL);
    for (int i = 0; i < 2; i++) draft_close(&file[i]);
    draft_close(&rest);
    draft_close(&decoded);
    draft_close(&from);
}

/* Rows of q and k in GGUF's order, as in UQFF files that were made of one. */
static void adjacent_rows_of_q_and_k_are_told_by_the_configuration(void **state) {
    const char *dir = *state;
    struct draft hf = draft_of(TINY "llama/model.safetensors"), gguf = draft_of(TINY "llama.gguf");
    struct bytes config = {0};
    char chunk[8192];
    for (int i = 0; i < 4; i++) {
        const char *part = i % 2 ? "k" : "q";
        char hf_name[64];
        snprintf(hf_name, sizeof hf_name, "model.layers.%d.self_attn.%s_proj.weight", i / 2, part);
        struct draft_part *to = draft_part(&hf, hf_name);
        char name[64];
        snprintf(name, sizeof name, "blk.%d.attn_%s.weight", i / 2, part);
        struct draft_part *from = draft_part(&gguf, name);
        assert_ptr_equal(to->type, from->type);
        assert_int_equal(to->data.n, from->data.n);
        memcpy(to->data.data, from->data.data, to->data.n);
    }
    draft_write_safetensors(&hf, in(dir, "model.safetensors"));
    FILE *f = fopen(TINY "llama/config.json", "rb");
    size_t n = fread(chunk, 1, sizeof chunk, f);
    fclose(f);
    const char *key = "{\"_mistralrs_qk_rope_layout\": \"adjacent\",";
    put(&config, key, strlen(key));
    put(&config, strchr(chunk, '{') + 1, n - (size_t)(strchr(chunk, '{') + 1 - chunk));
    write_file(in(dir, "config.json"), config.data, config.n);
    int32_t ids[12] = {0, 383, 5, 17, 200, 31, 8, 8, 120, 77, 301, 2}, V[2];
    float *want = logits_of(TINY "llama", ids, 12, &V[0]), *got = logits_of(dir, ids, 12, &V[1]);
    for (int i = 0; i < 12 * 384; i++)
        if (!(fabs((double)got[i] - (double)want[i]) < 1e-4))
            fail_msg("logit %d: %g, want %g", i, (double)got[i], (double)want[i]);
    free(want);
    free(got);
    drop(&config);
    draft_close(&hf);
    draft_close(&gguf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_format_becomes_the_parts_of_its_own_container, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(layers_bind_and_decode_to_what_their_entries_say, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(an_entry_more_or_less_is_refused, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(entries_of_another_type_or_size_are_refused, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(versions_that_are_not_known_are_refused, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(a_model_gives_the_logits_of_its_decoded_weights, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(adjacent_rows_of_q_and_k_are_told_by_the_configuration, make_scratch,
                                        remove_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
