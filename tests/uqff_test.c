/* UQFF: what mistral.rs wrote (tests/vectors/uqff), each format's entries as the parts of another container, whole
 * models against their decoded weights, and what is refused. */
#include <math.h>

#include "support.h"

#include "base/half.h"
#include "draft.h"
#include "file/file.h"
#include "fmt/fmt.h"
#include "noise.h"

#define TINY SR_SOURCE_DIR "/tests/vectors/tiny/"
#define WRITTEN SR_SOURCE_DIR "/tests/vectors/uqff/"

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
static char *name_of(const char *module, const char *tail) {
    static char text[DRAFT_PARTS][128];
    static int turn;
    turn = (turn + 1) % DRAFT_PARTS;
    snprintf(text[turn], sizeof text[turn], "%s%s", module, tail);
    return text[turn];
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
    static uint8_t *kept; /* the file borrows it; as long as it is, so that reads behind its end are seen */
    free(kept);
    kept = malloc(b.n);
    assert_non_null(kept);
    memcpy(kept, b.data, b.n);
    size_t n = b.n;
    drop(&b);
    return sr_file_from_memory(kept, n, "t.uqff", f, err);
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
}

/* ---------------------------------------------------------------- 0.x: layers by number */

static const struct draft_part *entry(const struct draft *d, const char *suffix) {
    return draft_part((struct draft *)(uintptr_t)d, name_of("a.", suffix));
}
static void put_entry(struct bytes *b, const struct draft *d, const char *suffix) {
    const struct draft_part *p = entry(d, suffix);
    put(b, p->data.data, p->data.n);
}
static void put_shape(struct bytes *b, int n_dims, const int64_t *shape) {
    put_int(b, (uint64_t)n_dims, 4);
    for (int i = 0; i < n_dims; i++) put_int(b, (uint64_t)shape[i], 4);
}
static void put_tensor(struct bytes *b, const struct draft *d, const char *suffix) {
    static const char *const codes[] = {"u8", "u32", "i32", "i64", "f16", "bf16", "f32", "f64", "i16", "f8_e4m3"};
    const struct draft_part *p = entry(d, suffix);
    unsigned code = 0;
    while (strcmp(codes[code], p->type->name) != 0) code++;
    put_int(b, p->data.n, 4);
    put_int(b, code, 4);
    put_shape(b, p->n_dims, p->shape);
    put(b, p->data.data, p->data.n);
}

/* The layer that `layer` makes, with bytes that differ, as an entry of 0.2. */
static struct bytes numbered(const struct draft *d, int tag, bool bias) {
    static const int64_t shape[] = {2, 64};
    static const char *const numbers[] = {"weight.bits",        "weight.group_size",
                                          "weight.axis",        "weight.optimization_steps",
                                          "weight.round_zeros", "weight.channel_wise"};
    struct bytes b = {0};
    put_int(&b, 0x200, 4);
    put_int(&b, (unsigned)tag, 1);
    if (tag == 0) put_int(&b, 72, 4);
    put_int(&b, bias, 1);
    if (tag == 0 || tag == 5) {
        put_entry(&b, d, tag ? "weight.num_blocks" : "weight.dtype");
        put_shape(&b, 2, shape);
        put_entry(&b, d, "weight");
    } else {
        put_tensor(&b, d, "weight");
    }
    if (tag == 2 || tag == 4 || tag == 6) put_tensor(&b, d, "weight.scales");
    if (tag == 2) put_tensor(&b, d, "weight.zeros");
    if (tag == 2) put_shape(&b, 2, shape);
    if (tag == 4) put_tensor(&b, d, "weight.biases");
    for (int i = 0; i < (tag == 2 ? 6 : tag == 4 ? 2 : 0); i++) put_entry(&b, d, numbers[i]);
    if (tag == 3) {
        put_entry(&b, d, "weight.dequant_w_scale");
        put_entry(&b, d, "weight.dequant_x_scale");
        put_entry(&b, d, "weight.quant_scale");
        put_entry(&b, d, "weight.dtype");
    }
    if (bias) put_tensor(&b, d, "bias");
    return b;
}
static sr_status parse_numbered(const struct bytes *b, const char *dir, sr_file **f, sr_err *err) {
    struct draft d = {0};
    int64_t n = (int64_t)b->n;
    add(&d, "0", "u8", 1, &n, b->data);
    sr_status s = parse(&d, dir, f, err);
    draft_close(&d);
    return s;
}
/* The matrix, scales and bias get bytes of their own; entries that are one number keep theirs. */
static struct draft noisy_layer(int tag) {
    struct draft d = layer(tag);
    noise r = {77};
    for (int i = 0; i < d.n_parts; i++)
        if (d.part[i].n_dims && !strstr(d.part[i].name, "shape"))
            for (size_t k = 0; k < d.part[i].data.n; k++) d.part[i].data.data[k] = (uint8_t)noise_below(&r, 256);
    return d;
}

static void a_numbered_layer_is_the_same_as_a_named_one(void **state) {
    for (int tag = 0; tag < 7; tag++)
        for (int bias = 0; bias < 2; bias++) {
            struct draft d = noisy_layer(tag);
            struct bytes b = numbered(&d, tag, bias);
            sr_file *f, *named;
            sr_err err;
            if (parse_numbered(&b, in(*state, ""), &f, &err) != SR_OK) fail_msg("%d: %s", tag, err.msg);
            assert_string_equal(f->container, "UQFF 0.2");
            sr_part part[16];
            int n_parts = f->n_parts, n_values = f->n_values;
            struct bytes data[16] = {{0}};
            for (int i = 0; i < n_parts; i++) { /* `parse` keeps one file's bytes */
                part[i] = f->part[i];
                put(&data[i], part[i].data, (size_t)part[i].bytes);
            }
            const char *names[16];
            for (int i = 0; i < n_parts; i++) names[i] = name_of(part[i].name, "");
            sr_file_close(f);
            if (parse(&d, *state, &named, &err) != SR_OK) fail_msg("%d: %s", tag, err.msg);
            assert_int_equal(n_parts, named->n_parts - !bias);
            assert_int_equal(n_values, named->n_values);
            for (int i = 0; i < n_parts; i++) {
                assert_true(names[i][0] == '0' && names[i][1] == '.');
                const sr_part *want = sr_file_part(named, name_of("a", names[i] + 1));
                assert_non_null(want);
                assert_ptr_equal(part[i].type, want->type);
                assert_int_equal(part[i].n_dims, want->n_dims);
                assert_memory_equal(part[i].shape, want->shape, sizeof want->shape);
                assert_int_equal(part[i].bytes, want->bytes);
                assert_memory_equal(data[i].data, want->data, (size_t)want->bytes);
                drop(&data[i]);
            }
            sr_file_close(named);
            drop(&b);
            draft_close(&d);
        }
}

static void a_numbered_layer_that_ends_early_or_late_is_refused(void **state) {
    for (int tag = 0; tag < 7; tag++) {
        struct draft d = layer(tag);
        struct bytes b = numbered(&d, tag, true);
        size_t whole = b.n;
        sr_file *f;
        sr_err err;
        for (b.n = 0; b.n < whole; b.n++)
            check_error("cut", parse_numbered(&b, *state, &f, &err), &err, SR_CORRUPT, "t.uqff: entry \"0\"",
                        "found its end", NULL);
        put_int(&b, 0, 1);
        check_error("more", parse_numbered(&b, *state, &f, &err), &err, SR_CORRUPT, "t.uqff: entry \"0\"",
                    "behind its end", NULL);
        drop(&b);
        draft_close(&d);
    }
}

static void numbered_layers_that_contradict_themselves_are_refused(void **state) {
    static const struct {
        int tag;
        size_t at;
        unsigned bytes;
        uint32_t v;
        const char *says;
    } bad[] = {
        {1, 0, 4, 0x10000, "a version that is none"},
        {1, 0, 4, 0x300, "a version that is none"},
        {1, 0, 4, 0x1000000, "a version that is none"},
        {1, 4, 1, 7, "a format that is none"},
        {1, 4, 1, 255, "a format that is none"},
        {1, 5, 1, 2, "neither 0 nor 1"},
        {1, 6, 4, 255, "another size"},
        {1, 6, 4, 257, "another size"},
        {1, 6, 4, UINT32_MAX, "another size"},
        {1, 10, 4, 10, "a type that is not known"},
        {1, 10, 4, UINT32_MAX, "a type that is not known"},
        {1, 10, 4, 6, "its end"},
        {1, 14, 4, 0, "no dimensions"},
        {1, 14, 4, 9, "more than 8"},
        {1, 14, 4, UINT32_MAX, "more than 8"},
        {1, 18, 4, 0, "a dimension of 0"},
        {1, 18, 4, UINT32_MAX, "its end"},
        {0, 5, 4, 0, "no blocks"},
        {0, 5, 4, UINT32_MAX, "its end"},
        {0, 14, 4, 9, "more than 8"},
        {0, 18, 4, 3, "expected those of 192 elements"},
        {0, 18, 4, 0, "a shape with a 0"},
        {0, 10, 4, 30, "expected those of 128 elements"},
        {2, 6, 4, 63, "another size"},
        {5, 6, 4, 0, "no blocks"},
        {5, 6, 4, UINT32_MAX, "its end"},
        {5, 14, 4, 4, "expected those of 256 elements"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct draft d = layer(bad[i].tag);
        struct bytes b = numbered(&d, bad[i].tag, true);
        sr_file *f;
        sr_err err;
        for (unsigned k = 0; k < bad[i].bytes; k++) b.data[bad[i].at + k] = (uint8_t)(bad[i].v >> 8 * k);
        check_error(bad[i].says, parse_numbered(&b, *state, &f, &err), &err, SR_CORRUPT, "t.uqff: entry \"0",
                    bad[i].says, NULL);
        drop(&b);
        draft_close(&d);
    }
    for (int tag = 0; tag < 7; tag++) { /* whatever a byte is, nothing outside the file is touched */
        struct draft d = layer(tag);
        struct bytes b = numbered(&d, tag, true);
        for (size_t at = 0; at < b.n; at++)
            for (int k = 0; k < 3; k++) {
                sr_file *f;
                sr_err err;
                uint8_t old = b.data[at];
                b.data[at] = (uint8_t)(k == 0 ? 0 : k == 1 ? 0xff : old + 1);
                sr_status s = parse_numbered(&b, *state, &f, &err);
                assert_true(s == SR_OK || s == SR_CORRUPT || s == SR_UNSUPPORTED);
                sr_file_close(f);
                b.data[at] = old;
            }
        drop(&b);
        draft_close(&d);
    }
}

/* ---------------------------------------------------------------- files that mistral.rs wrote */

/* Element of the models of make_uqff.py: exact in bf16. Row or column past the end: of the bias. */
static float written_value(int number, int64_t row, int64_t column) {
    return (float)((number * 37 + row * 61 + column * 13 + row * column * 7) % 251 - 125) / 512;
}

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
/* A matrix of such a model against what it was made of; decoded, into the draft. */
static void check_matrix(const char *what, const sr_file *f, const sr_qconfig *config, const char *module, int number,
                         sr_arena *arena, struct draft *decoded) {
    sr_weight w;
    double error = 0, all = 0;
    char name[128];
    OK(sr_weight_bind(f, config, module, -1, -1, arena, &w, e_));
    float *x = sr_arena_alloc(arena, (size_t)(w.N * w.K), sizeof *x);
    for (int64_t row = 0; row < w.N; row++) {
        w.fmt->decode(&w, row, 0, w.K, x + row * w.K);
        for (int64_t k = 0; k < w.K; k++) {
            double want = (double)written_value(number, row, k), e = (double)x[row * w.K + k] - want;
            error += e * e;
            all += want * want;
        }
    }
    /* Half a step of 15 or 255 between the extremes is 6.8 % or 0.4 % of these values' rms; E4M3 rounds to 2.6 % and
     * MXFP4 to 14 % and cuts the largest off; F8Q8 cuts its scales to E4M3. Another layer would be 141 % away. */
    bool eight = strstr(what, "8_0") || strstr(what, "hqq8");
    double bound = eight ? 0.01 : strstr(what, "-fp8") ? 0.03 : strstr(what, "mxfp4") ? 0.16 : 0.08;
    if (!(sqrt(error / all) < bound))
        fail_msg("%s: %s (%s): rms error %g of the rms", what, module, w.fmt->name, sqrt(error / all));
    snprintf(name, sizeof name, "%s.weight", module);
    add(decoded, sr_arena_strndup(arena, name, strlen(name)), "f32", 2, (int64_t[]){w.N, w.K}, x);
    snprintf(name, sizeof name, "%s.bias", module);
    const sr_part *bias = sr_file_part(f, name);
    for (int64_t i = 0; bias && i < bias->n_elements; i++) {
        float v;
        if (bias->type->bytes == 4)
            memcpy(&v, bias->data + 4 * i, 4);
        else
            v = sr_bf16_to_f32((uint16_t)(bias->data[2 * i] | bias->data[2 * i + 1] << 8));
        assert_true(v == written_value(number, i, w.K));
    }
}

/* All of them, and a directory `plain` with the decoded weights. */
static void check_written(const char *name, const char *plain) {
    char list[4096];
    const char *dir = in(WRITTEN, name);
    sr_file *f;
    struct draft decoded = {0};
    sr_arena arena = {0};
    sr_qconfig *config;
    FILE *modules = fopen(in(dir, "modules.txt"), "r");
    assert_non_null(modules);
    list[fread(list, 1, sizeof list - 1, modules)] = 0;
    fclose(modules);
    OK(sr_file_open(dir, NULL, &f, e_));
    OK(sr_qconfig_read(f, &arena, &config, e_));
    bool tied = strstr(name, "qwen2") || strstr(name, "gemma") || strstr(name, "starcoder2");
    const char *module = strtok(list, "\n");
    for (int n = 0; module; module = strtok(NULL, "\n"), n++) { /* the embedding is number 0 */
        bool head = tied && !strcmp(module, "lm_head");
        if (!(head && name[2] == '9')) /* 1.x does not repeat it */
            check_matrix(name, f, config, module, head ? 0 : n, &arena, &decoded);
    }
    for (int i = 0; i < f->n_parts; i++) {
        const sr_part *part = &f->part[i];
        if (!strcmp(strrchr(part->name, '.'), ".bias") || strstr(part->name, "norm"))
            add(&decoded, part->name, part->type->name, part->n_dims, part->shape, part->data);
    }
    assert_int_equal(mkdir(plain, 0700), 0);
    copy(dir, plain, "config.json");
    draft_write_safetensors(&decoded, in(plain, "model.safetensors"));
    draft_close(&decoded);
    sr_arena_free(&arena);
    sr_file_close(f);
}

static void files_of_mistral_rs_hold_the_weights_that_they_were_made_of(void **state) {
    static const char *const runs[] = {"-llama-", "-mistral-", "-qwen2-", "-qwen3-", "-phi3-"};
    DIR *dir = opendir(WRITTEN);
    const struct dirent *e;
    int n_files = 0, n_runs = 0;
    assert_non_null(dir);
    while ((e = readdir(dir))) {
        if (e->d_name[0] == '.') continue;
        char plain[600], file[512];
        snprintf(plain, sizeof plain, "%s", in(*state, e->d_name));
        snprintf(file, sizeof file, "%s%s", WRITTEN, e->d_name);
        check_written(e->d_name, plain);
        n_files++;
        bool run = false;
        for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) run = run || strstr(e->d_name, runs[i]);
        if (!run) continue;
        int32_t ids[12] = {0, 31, 5, 17, 20, 30, 8, 8, 12, 7, 11, 2}, V[2];
        float *want = logits_of(plain, ids, 12, &V[0]), *got = logits_of(file, ids, 12, &V[1]);
        assert_int_equal(V[0], V[1]);
        double most = 0;
        for (int i = 0; i < 12 * V[0]; i++) {
            most = fabs((double)want[i]) > most ? fabs((double)want[i]) : most;
            if (!(fabs((double)got[i] - (double)want[i]) < 1e-4))
                fail_msg("%s: logit %d: %g, decoded %g", e->d_name, i, (double)got[i], (double)want[i]);
        }
        assert_true(most > 0.01);
        free(want);
        free(got);
        n_runs++;
    }
    closedir(dir);
    assert_true(n_files == 27 && n_runs == 20);
}

/* ---------------------------------------------------------------- 0.x: which layer a number is */

/* config.json of a model of tests/vectors/uqff, with one text replaced by another. */
static void write_config(const char *from, const char *dir, const char *text, const char *by) {
    char config[4096];
    struct bytes b = {0};
    FILE *f = fopen(in(in(WRITTEN, from), "config.json"), "r");
    assert_non_null(f);
    config[fread(config, 1, sizeof config - 1, f)] = 0;
    fclose(f);
    const char *at = strstr(config, text);
    assert_non_null(at);
    put(&b, config, (size_t)(at - config));
    put(&b, by, strlen(by));
    put(&b, at + strlen(text), strlen(at + strlen(text)));
    write_file(in(dir, "config.json"), b.data, b.n);
    drop(&b);
}
/* The numbered entries of such a model, and a directory with the rest of it. */
static struct draft written_entries(const char *from, const char *dir) {
    char raw[1024];
    snprintf(raw, sizeof raw, "%s", in(dir, "raw.safetensors"));
    copy(in(WRITTEN, from), dir, "config.json");
    copy(in(WRITTEN, from), dir, "residual.safetensors");
    copy(in(WRITTEN, from), dir, "q8_0-0.uqff");
    rename(in(dir, "q8_0-0.uqff"), raw);
    struct draft d = draft_of(raw);
    unlink(raw);
    return d;
}
static void check_open(const char *what, const char *dir, sr_status status, const char *first, const char *second) {
    sr_file *f;
    sr_err err = {0};
    check_error(what, sr_file_open(dir, NULL, &f, &err), &err, status, first, second, NULL);
}

static void numbers_are_layers_of_the_model_that_config_describes(void **state) {
    const char *from = "0.6.0-llama-q8_0";
    char dir[600];
    snprintf(dir, sizeof dir, "%s", in(*state, ""));
    struct draft d = written_entries(from, dir);
    draft_write_safetensors(&d, in(dir, "a-0.uqff"));
    static const struct {
        const char *from, *text, *by;
        sr_status status;
        const char *says, *more;
    } cases[] = {
        {"0.6.0-llama-q8_0", "\"model_type\": \"llama\"", "\"other\": 1", SR_INVALID, "a-0.uqff", "no model_type"},
        {"0.6.0-llama-q8_0", "\"llama\"", "\"unheard\"", SR_UNSUPPORTED, "\"unheard\"",
         "llama, mistral, qwen2, qwen3, phi3, smollm3, gemma, gemma2, phi, starcoder2, mixtral, phimoe, qwen3_moe"},
        {"0.6.0-llama-q8_0", "\"llama\"", "3", SR_INVALID, "a-0.uqff", "no model_type"},
        {"0.6.0-llama-q8_0", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", SR_CORRUPT, "found 15 layers",
         "the 22"},
        {"0.6.0-llama-q8_0", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1048576", SR_CORRUPT,
         "found 15 layers", "the 7340033"},
        {"0.6.0-llama-q8_0", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1048577", SR_CORRUPT,
         "num_hidden_layers", "another value"},
        {"0.6.0-llama-q8_0", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": \"2\"", SR_CORRUPT,
         "num_hidden_layers", "another value"},
        {"0.6.0-llama-q8_0", "\"num_hidden_layers\"", "\"layers\"", SR_CORRUPT, "num_hidden_layers", "found none"},
        {"0.6.0-llama-q8_0", "\"llama\"", "\"phi\"", SR_CORRUPT, "found 15 layers", "the 13"},
        {"0.6.0-mixtral-q8_0", "\"num_local_experts\"", "\"experts\"", SR_CORRUPT, "num_local_experts", "found none"},
        {"0.6.0-mixtral-q8_0", "\"num_local_experts\": 2", "\"num_local_experts\": 1000000", SR_CORRUPT,
         "found 15 layers", "the 6000011"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_config(cases[i].from, dir, cases[i].text, cases[i].by);
        check_open(cases[i].by, dir, cases[i].status, cases[i].says, cases[i].more);
    }
    unlink(in(dir, "config.json"));
    check_open("no config", in(dir, "a-0.uqff"), SR_INVALID, "a-0.uqff", "no model_type");
    copy(in(WRITTEN, from), dir, "config.json");

    static const char *const names[] = {"15", "03", "-3", "3x", "+3", " 3", "3000000000000000000000"};
    struct draft_part *third = draft_part(&d, "3");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        third->name = names[i];
        draft_write_safetensors(&d, in(dir, "a-0.uqff"));
        if (names[i][strspn(names[i], "0123456789")]) /* then it is no file of numbers */
            check_open(names[i], dir, SR_CORRUPT, "a-0.uqff", "uqff.version.major");
        else
            check_open(names[i], dir, SR_CORRUPT, "a-0.uqff: entry", "the layers 0 to 14");
    }
    third->name = "3";
    int64_t n = third->shape[0];
    third->n_dims = 2;
    third->shape[0] = 2;
    third->shape[1] = n / 2;
    draft_write_safetensors(&d, in(dir, "a-0.uqff"));
    check_open("matrix", dir, SR_CORRUPT, "entry \"3\"", "u8 in 2 dimensions");
    third->type = sr_stored_by_name("i8");
    third->n_dims = 1;
    third->shape[0] = n;
    draft_write_safetensors(&d, in(dir, "a-0.uqff"));
    check_open("i8", dir, SR_CORRUPT, "entry \"3\"", "found i8");
    third->type = sr_stored_by_name("u8");
    third->data.data[8] = 0xff;
    draft_write_safetensors(&d, in(dir, "a-0.uqff"));
    check_open("layer", dir, SR_CORRUPT, "a-0.uqff: entry \"3\" (model.layers.0.self_attn.v_proj)", "its end");
    third->data.data[8] = 0;

    /* in two files, and by the path of one */
    struct draft half[2] = {{0}};
    for (int i = 0; i < d.n_parts; i++) half[i % 2].part[half[i % 2].n_parts++] = d.part[i];
    for (int i = 0; i < 2; i++) draft_write_safetensors(&half[i], in(dir, i ? "a-1.uqff" : "a-0.uqff"));
    int32_t ids[3] = {0, 31, 5}, V[3];
    float *want = logits_of(in(WRITTEN, from), ids, 3, &V[0]), *got = logits_of(dir, ids, 3, &V[1]);
    float *by_path = logits_of(in(dir, "a-1.uqff"), ids, 3, &V[2]);
    assert_memory_equal(got, want, sizeof *want * 3 * (size_t)V[0]);
    assert_memory_equal(by_path, want, sizeof *want * 3 * (size_t)V[0]);
    free(want);
    free(got);
    free(by_path);
    struct draft new = {0}; /* one of them of 1.x */
    add_version(&new, 1, 2);
    add(&new, "model.layers.0.mlp.up_proj.weight", "bf16", SHAPE(32, 32), NULL);
    add_u8(&new, "model.layers.0.mlp.up_proj.weight.format", 1);
    draft_write_safetensors(&new, in(dir, "a-1.uqff"));
    check_open("mixed", dir, SR_CORRUPT, "0.x and of 1.x", "expected one model");
    draft_close(&new);
    half[1].part[0] = half[0].part[0];
    draft_write_safetensors(&half[1], in(dir, "a-1.uqff"));
    check_open("twice", dir, SR_CORRUPT, "a-1.uqff: entry", "found it in a-0.uqff, too");
    unlink(in(dir, "residual.safetensors"));
    check_open("residual", dir, SR_IO, "residual.safetensors", "missing");
    draft_close(&d);
}

static void parts_get_the_names_of_the_models_own_files(void **state) {
    sr_file *f;
    OK(sr_file_open(in(WRITTEN, "0.6.0-phi-q8_0"), NULL, &f, e_));
    assert_non_null(sr_file_part(f, "model.final_layernorm.weight"));
    assert_non_null(sr_file_part(f, "model.final_layernorm.bias"));
    assert_null(sr_file_part(f, "model.norm.weight"));
    sr_file_close(f);
    /* Experts in one matrix, which the same program writes elsewhere: as many layers as llama has, 7 each. */
    char dir[600];
    snprintf(dir, sizeof dir, "%s", in(*state, ""));
    struct draft d = written_entries("0.6.0-llama-q8_0", dir);
    draft_write_safetensors(&d, in(dir, "a-0.uqff"));
    copy(in(WRITTEN, "0.6.0-qwen3_moe-q8_0"), dir, "config.json");
    OK(sr_file_open(dir, NULL, &f, e_));
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    for (int i = 0; i < 3; i++) {
        char want[64], as[64];
        snprintf(as, sizeof as, "model.layers.1.mlp.experts.%s.weight", names[i]);
        snprintf(want, sizeof want, "%d", 1 + 7 + 4 + i);
        const sr_part *got = sr_file_part(f, as);
        assert_non_null(got);
        assert_memory_equal(got->data, draft_part(&d, want)->data.data + 26, (size_t)got->bytes);
    }
    sr_file_close(f);
    draft_close(&d);
}

/* ---------------------------------------------------------------- whole models */

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
    add_version(&file[0], 1, 2); /* the first of several has it */
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
        cmocka_unit_test_setup_teardown(a_numbered_layer_is_the_same_as_a_named_one, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(a_numbered_layer_that_ends_early_or_late_is_refused, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(numbered_layers_that_contradict_themselves_are_refused, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(files_of_mistral_rs_hold_the_weights_that_they_were_made_of, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(numbers_are_layers_of_the_model_that_config_describes, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(parts_get_the_names_of_the_models_own_files, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(a_model_gives_the_logits_of_its_decoded_weights, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(adjacent_rows_of_q_and_k_are_told_by_the_configuration, make_scratch,
                                        remove_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
