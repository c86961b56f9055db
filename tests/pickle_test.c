/* PyTorch archives: what is read from good ones, and what is said about bad ones (docs/security.md, cases 19 and 20).
 * tests/vectors/torch was written by torch.save (make_pickle.py); the rest is spelt out here. */
#include "torch.h"

#include "file/file.h"

#define VECTORS SR_SOURCE_DIR "/tests/vectors/torch/"

static sr_status open_bytes(const struct bytes *b, sr_file **file, sr_err *err) {
    uint8_t *copy = malloc(b->n ? b->n : 1); /* of exactly this size: sanitizers see a read past its end */
    assert_non_null(copy);
    if (b->n) memcpy(copy, b->data, b->n);
    sr_status s = sr_file_from_memory(copy, b->n, "t.pt", file, err);
    for (int i = 0; s == SR_OK && i < (*file)->n_parts; i++) {
        const sr_part *p = &(*file)->part[i];
        volatile uint8_t last = p->bytes ? p->data[p->bytes - 1] : 0;
        (void)last;
    }
    if (s == SR_OK) {
        sr_file_close(*file);
        *file = NULL;
    }
    free(copy);
    return s;
}

#define assert_archive_rejected(a, status, ...)                                                                        \
    do {                                                                                                               \
        sr_err err_ = {0};                                                                                             \
        sr_file *file_;                                                                                                \
        sr_status got_ = open_bytes(&(a)->b, &file_, &err_);                                                           \
        drop(&(a)->b);                                                                                                 \
        check_error(__func__, got_, &err_, status, "t.pt", __VA_ARGS__, NULL);                                         \
    } while (0)

#define assert_pickle_rejected(pickle, status, ...)                                                                    \
    do {                                                                                                               \
        struct archive a_ = torch_archive((pickle), false);                                                            \
        drop(pickle);                                                                                                  \
        assert_archive_rejected(&a_, status, __VA_ARGS__);                                                             \
    } while (0)

/* A literal as a whole pickle. */
#define assert_program_rejected(text, status, ...)                                                                     \
    do {                                                                                                               \
        struct bytes p_ = {0};                                                                                         \
        PUT(&p_, text);                                                                                                \
        assert_pickle_rejected(&p_, status, __VA_ARGS__);                                                              \
    } while (0)

static bool opens(const struct bytes *pickle, bool zip64) {
    struct archive a = torch_archive(pickle, zip64);
    sr_file *f;
    sr_err err = {0};
    sr_status s = open_bytes(&a.b, &f, &err);
    drop(&a.b);
    if (s != SR_OK) print_message("%s\n", err.msg);
    return s == SR_OK;
}

/* ---------------------------------------------------------------- good files */

static sr_file *must_open(const char *path) {
    sr_file *f;
    sr_err err = {0};
    if (sr_file_open(path, NULL, &f, &err) != SR_OK) fail_msg("%s", err.msg);
    return f;
}

static const sr_part *part(const sr_file *f, const char *name, const char *type, int64_t n, int n_dims) {
    const sr_part *p = sr_file_part(f, name);
    if (!p) fail_msg("no tensor %s", name);
    assert_string_equal(p->type->name, type);
    assert_int_equal(p->n_elements, n);
    assert_int_equal(p->n_dims, n_dims);
    return p;
}
static void check_floats(const sr_file *f, const char *name, int64_t n, int n_dims, float first) {
    const sr_part *p = part(f, name, "f32", n, n_dims);
    for (int64_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, p->data + 4 * i, 4);
        assert_true(v == first + (float)i);
    }
}
static void check_integer(const sr_file *f, const char *name, const char *type, int64_t want) {
    const sr_part *p = part(f, name, type, 1, 0);
    assert_memory_equal(p->data, &want, (size_t)p->bytes);
}
static void check_text(const sr_file *f, const char *name, const char *want) {
    const sr_part *p = part(f, name, "u8", (int64_t)strlen(want), 1);
    assert_memory_equal(p->data, want, strlen(want));
}

static void torch_archives_give_their_tensors(void **state) {
    (void)state;
    static const struct {
        const char *name, *type;
    } kinds[] = {{"float32", "f32"}, {"float16", "f16"}, {"bfloat16", "bf16"}, {"float64", "f64"}, {"int8", "i8"},
                 {"int16", "i16"},   {"int32", "i32"},   {"int64", "i64"},     {"uint8", "u8"},    {"bool", "bool"}};
    sr_file *f = must_open(VECTORS "tensors.pt");
    assert_string_equal(f->container, "PyTorch");
    assert_false(f->gguf);
    assert_int_equal(f->n_parts, 18);
    for (int i = 0; i < 10; i++) {
        char name[64];
        snprintf(name, sizeof name, "kinds.%s", kinds[i].name);
        const sr_part *p = part(f, name, kinds[i].type, 6, 2);
        assert_int_equal(p->shape[0], 2);
        assert_int_equal(p->shape[1], 3);
    }
    int64_t five;
    memcpy(&five, sr_file_part(f, "kinds.int64")->data + 40, 8);
    assert_int_equal(five, 5);
    check_floats(f, "scalar", 1, 0, 2.5f);
    assert_int_equal(part(f, "empty", "f32", 0, 2)->shape[1], 4);
    check_floats(f, "rows", 8, 2, 8);
    check_floats(f, "element", 1, 0, 7);
    check_floats(f, "tied", 24, 1, 0);
    check_floats(f, "one_wide", 3, 3, 5);
    assert_ptr_equal(sr_file_part(f, "tied")->data, sr_file_part(f, "head")->data);
    sr_file_close(f);
}

static void types_without_a_storage_give_their_tensors(void **state) {
    (void)state;
    static const struct {
        const char *name, *type;
        uint8_t low[2]; /* the lowest byte of elements 0 and 1 */
    } kinds[] = {{"float8_e4m3fn", "f8_e4m3", {0, 0x38}},
                 {"float8_e5m2", "f8_e5m2", {0, 0x3c}},
                 {"float8_e4m3fnuz", "f8_e4m3fnuz", {0, 0x40}},
                 {"float8_e5m2fnuz", "f8_e5m2fnuz", {0, 0x40}},
                 {"float8_e8m0fnu", "f8_e8m0", {127, 127}},
                 {"uint16", "u16", {0, 1}},
                 {"uint32", "u32", {0, 1}},
                 {"uint64", "u64", {0, 1}}};
    sr_file *f = must_open(VECTORS "own_types.pt");
    assert_int_equal(f->n_parts, 11);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[64];
        snprintf(name, sizeof name, "kinds.%s", kinds[i].name);
        const sr_part *p = part(f, name, kinds[i].type, 6, 2);
        for (int k = 0; k < 2; k++) assert_int_equal(p->data[k * p->type->bytes], kinds[i].low[k]);
        assert_int_equal(p->bytes, 6 * p->type->bytes);
    }
    part(f, "parameter", "f8_e4m3", 6, 2);
    assert_int_equal(part(f, "row", "u16", 3, 1)->data[0], 3); /* a view: its offset counts elements */
    part(f, "empty", "f8_e5m2", 0, 2);
    sr_file_close(f);
}

static void values_become_tensors_as_hqq_encodes_them(void **state) {
    (void)state;
    sr_file *f = must_open(VECTORS "values.pt");
    assert_int_equal(f->n_parts, 13);
    check_integer(f, "m.int", "i32", 5);
    check_integer(f, "m.negative", "i32", -3);
    check_integer(f, "m.long", "i64", (int64_t)1 << 40);
    check_integer(f, "m.yes", "u8", 1);
    check_integer(f, "m.no", "u8", 0);
    check_floats(f, "m.float", 1, 0, 1.5f);
    check_text(f, "m.text", "4bit_u8");
    check_text(f, "m.dtype", "torch.bfloat16");
    assert_null(sr_file_part(f, "m.none"));
    assert_null(sr_file_part(f, "m.device"));
    const int64_t shape[2] = {3, 4}, list[3] = {1, 2, 3};
    assert_memory_equal(part(f, "m.shape", "i64", 2, 1)->data, shape, sizeof shape);
    assert_memory_equal(part(f, "m.list", "i64", 3, 1)->data, list, sizeof list);
    part(f, "m.deep.er.x", "f32", 2, 1);
    part(f, "3.0", "f32", 1, 1);
    part(f, "3.1.y", "f32", 1, 1);
    sr_file_close(f);
}

static void a_state_dict_is_read_in_every_pickle_protocol(void **state) {
    (void)state;
    static const char *const files[] = {VECTORS "state_dict.pt", VECTORS "protocol4.pt"};
    for (int i = 0; i < 2; i++) {
        sr_file *f = must_open(files[i]);
        assert_int_equal(f->n_parts, 4); /* its _metadata is left out */
        check_floats(f, "0.weight", 6, 2, 0);
        check_floats(f, "1.bias", 2, 1, 3);
        sr_file_close(f);
    }
}

static void what_is_no_plain_checkpoint_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *file, *found;
        sr_status status;
    } cases[] = {
        {"transposed.pt", "contiguous", SR_UNSUPPORTED},
        {"expanded.pt", "contiguous", SR_UNSUPPORTED},
        {"every_second.pt", "contiguous", SR_UNSUPPORTED},
        {"complex.pt", "\"torch.ComplexFloatStorage\"", SR_UNSUPPORTED},
        {"old.pt", "before 1.6, expected a zip archive; load it in PyTorch and write it again", SR_UNSUPPORTED},
        {"list.pt", "a list at the top", SR_CORRUPT},
        {"module.pt", "\"torch.nn.modules.linear.Linear\"", SR_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        sr_file *f;
        sr_err err = {0};
        snprintf(path, sizeof path, VECTORS "%s", cases[i].file);
        sr_status s = sr_file_open(path, NULL, &f, &err);
        check_error(cases[i].file, s, &err, cases[i].status, cases[i].file, cases[i].found, NULL);
    }
}

static struct bytes file_bytes(const char *path) {
    struct bytes b = {0};
    char buffer[4096];
    size_t n;
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    while ((n = fread(buffer, 1, sizeof buffer, in))) put(&b, buffer, n);
    fclose(in);
    return b;
}

static void every_truncation_is_refused_and_every_changed_byte_survived(void **state) {
    (void)state;
    struct bytes b = file_bytes(VECTORS "values.pt");
    sr_file *f;
    size_t n = b.n;
    for (b.n = 0; b.n < n; b.n++) {
        sr_err err = {0};
        assert_int_not_equal(open_bytes(&b, &f, &err), SR_OK);
        assert_true(err.msg[0]);
    }
    int refused = 0;
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++) {
            static const uint8_t flips[] = {0xff, 1, 0x80};
            sr_err err = {0};
            b.data[i] ^= flips[k];
            sr_status s = open_bytes(&b, &f, &err);
            b.data[i] ^= flips[k];
            assert_true((s != SR_OK) == (err.msg[0] != 0));
            refused += s != SR_OK;
        }
    assert_true(refused > 1000);
    drop(&b);
}

/* ---------------------------------------------------------------- case 19: nothing is executed */

static void names_outside_the_list_are_refused_and_not_run(void **state) {
    char ran[600], command[700];
    snprintf(ran, sizeof ran, "%s", in(*state, "ran"));
    snprintf(command, sizeof command, "touch '%s'", ran);
    static const struct {
        const char *module, *name;
    } names[] = {{"os", "system"},           {"posix", "system"},
                 {"subprocess", "Popen"},    {"builtins", "eval"},
                 {"builtins", "getattr"},    {"torch", "load"},
                 {"torch.hub", "load"},      {"torch._utils", "_rebuild_qtensor"},
                 {"torch", "system"},        {"os", "OrderedDict"},
                 {"collections", "Counter"}, {"", ""}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int form = 0; form < 3; form++) {
            struct bytes b = {0};
            char full[80];
            PUT(&b, "\200\4}X\1\0\0\0w");
            if (form == 1) { /* STACK_GLOBAL */
                put_string(&b, names[i].module);
                put_string(&b, names[i].name);
                PUT(&b, "\223");
            } else {
                snprintf(full, sizeof full, "c%s\n%s\n", names[i].module, names[i].name);
                put(&b, full, strlen(full));
            }
            if (form == 2) PUT(&b, "0"); /* popped at once: still refused */
            put_string(&b, command);
            PUT(&b, "\205Rs.");
            snprintf(full, sizeof full, "\"%s.%s\"", names[i].module, names[i].name);
            assert_pickle_rejected(&b, SR_UNSUPPORTED, full, "nothing was run");
        }
    /* INST, OBJ, NEWOBJ, NEWOBJ_EX, EXT1, BUILD's way in, PERSID, REDUCE of what is no name */
    assert_program_rejected("(X\2\0\0\0idios\nsystem\n.", SR_UNSUPPORTED, "instruction 0x69");
    assert_program_rejected("(ctorch\nSize\no.", SR_UNSUPPORTED, "instruction 0x6f");
    assert_program_rejected("ctorch\nSize\n)\201.", SR_UNSUPPORTED, "instruction 0x81");
    assert_program_rejected("ctorch\nSize\n)}\222.", SR_UNSUPPORTED, "instruction 0x92");
    assert_program_rejected("\202\1.", SR_UNSUPPORTED, "instruction 0x82");
    assert_program_rejected("Pos.system\n.", SR_UNSUPPORTED, "instruction 0x50");
    assert_program_rejected("X\2\0\0\0os)R.", SR_CORRUPT, "found a text as what is called");
    assert_program_rejected("ctorch\nfloat16\n)R.", SR_CORRUPT, "a call of a type");
    assert_program_rejected("ctorch\nFloatStorage\n)R.", SR_CORRUPT, "a call of a type");
    assert_int_not_equal(access(ran, F_OK), 0);
}

static void values_of_the_wrong_kind_are_refused(void **state) {
    (void)state;
    /* SETITEM and SETITEMS on a tuple, list, number, text, name (GHSA-63cw-57p8-fm3p) */
    assert_program_rejected(")K\1K\2s.", SR_CORRUPT, "a tuple under values to add");
    assert_program_rejected("]K\1K\2s.", SR_CORRUPT, "a list under values to add");
    assert_program_rejected("K\7K\1K\2s.", SR_CORRUPT, "a number under values to add");
    assert_program_rejected("X\1\0\0\0xK\1K\2s.", SR_CORRUPT, "a text under values to add");
    assert_program_rejected("ctorch\nSize\n(K\1K\2u.", SR_CORRUPT, "a global under values to add");
    assert_program_rejected("}(K\1u.", SR_CORRUPT, "a key without a value");
    assert_program_rejected("}NK\1s.", SR_CORRUPT, "None as a key");
    assert_program_rejected("})K\1s.", SR_CORRUPT, "a tuple as a key");
    assert_program_rejected("}K\1a.", SR_CORRUPT, "a dictionary under values to add");
    assert_program_rejected(")(K\1e.", SR_CORRUPT, "a tuple under values to add");
    assert_program_rejected("K\1}b.", SR_CORRUPT, "a state for what is no dictionary");
    assert_program_rejected("}K\1b.", SR_CORRUPT, "a number as the state");
    assert_program_rejected("K\1Q.", SR_CORRUPT, "a number as a persistent id");
    assert_program_rejected(")Q.", SR_CORRUPT, "a persistent id that is not");
    assert_program_rejected("ctorch\nSize\nK\1\205R.", SR_CORRUPT, "not of one tuple");
    assert_program_rejected("ctorch\nSize\n)R.", SR_CORRUPT, "not of one tuple");
    assert_program_rejected("ctorch\nSize\n]R.", SR_CORRUPT, "a list as arguments");
    assert_program_rejected("ccollections\nOrderedDict\nK\1\205R.", SR_CORRUPT, "OrderedDict with arguments");
    assert_program_rejected("ctorch._utils\n_rebuild_tensor_v2\n)R.", SR_CORRUPT, "a tensor that is not");
    assert_program_rejected("ctorch._utils\n_rebuild_tensor_v2\n(K\0K\0))\211NtR.", SR_CORRUPT, "a tensor that is not");
    assert_program_rejected("ctorch._utils\n_rebuild_parameter\nK\1\211N\207R.", SR_CORRUPT, "a parameter that is not");
    assert_program_rejected("K\1K\2\223.", SR_CORRUPT, "a number as a name");
    assert_program_rejected("K\5.", SR_CORRUPT, "a number at the top");
    assert_program_rejected("}X\1\0\0\0wctorch\nSize\ns.", SR_CORRUPT, "\"w\": found a global");
}

static void a_stack_without_what_is_needed_is_refused(void **state) {
    (void)state;
    static const char alone[] = "0aseu1tRQbq\205\206\207\223\224.";
    for (size_t i = 0; i < sizeof alone - 1; i++) {
        struct bytes b = {0};
        put(&b, &alone[i], 1);
        if (alone[i] == 'q') PUT(&b, "\0");
        PUT(&b, ".");
        assert_pickle_rejected(&b, SR_CORRUPT, "on the stack");
        PUT(&b, "("); /* a mark is no value */
        put(&b, &alone[i], 1);
        if (alone[i] == 'q') PUT(&b, "\0");
        PUT(&b, ".");
        if (strchr("te1u", alone[i]) && alone[i])
            assert_pickle_rejected(&b, SR_CORRUPT, "found");
        else
            assert_pickle_rejected(&b, SR_CORRUPT, "on the stack");
    }
    assert_program_rejected("}(.", SR_CORRUPT, "on the stack");
    assert_program_rejected("K\1}.", SR_CORRUPT, "values left over");
    assert_program_rejected("}..", SR_CORRUPT, "more behind its end");
    assert_program_rejected("}", SR_CORRUPT, "the end of the pickle");
    assert_program_rejected("}K", SR_CORRUPT, "the end of the pickle");
    assert_program_rejected("\200\6}.", SR_CORRUPT, "protocol above 5");
    assert_program_rejected("}X\1\0\0\0w\212\11\0\0\0\0\0\0\0\0\1s.", SR_CORRUPT, "more than 8 bytes");
    assert_program_rejected("X\377\377\377\377.", SR_CORRUPT, "a text that is cut off");
    assert_program_rejected("\215\377\377\377\377\377\377\377\377.", SR_CORRUPT, "a text that is cut off");
    assert_program_rejected("ctorch\nSize", SR_CORRUPT, "a name that is cut off");
}

/* ---------------------------------------------------------------- case 20: spans and sizes */

#define TENSOR(...) (&(struct tensor){__VA_ARGS__})
#define assert_tensor_rejected(t, status, ...)                                                                         \
    do {                                                                                                               \
        struct bytes p_ = pickle_of(t);                                                                                \
        assert_pickle_rejected(&p_, status, __VA_ARGS__);                                                              \
    } while (0)

static bool tensor_opens(const struct tensor *t) {
    struct bytes p = pickle_of(t);
    bool ok = opens(&p, false) && opens(&p, true);
    drop(&p);
    return ok;
}

static void tensors_stay_inside_their_storage(void **state) {
    (void)state;
    assert_true(tensor_opens(TENSOR("FloatStorage", "0", 6, 0, 2, {2, 3}, {3, 1})));
    assert_true(tensor_opens(TENSOR("FloatStorage", "0", 6, 3, 1, {3}, {1})));
    assert_true(tensor_opens(TENSOR("HalfStorage", "0", 12, 11, 0, {0}, {0})));
    assert_true(tensor_opens(TENSOR("FloatStorage", "0", 6, 6, 2, {0, INT64_MAX}, {-7, 9})));
    assert_true(tensor_opens(TENSOR("FloatStorage", "0", 6, 0, 3, {1, 6, 1}, {-99, 1, 77})));

    assert_tensor_rejected(TENSOR("FloatStorage", "0", 7, 0, 1, {6}, {1}), SR_CORRUPT, "found 24 bytes, expected 7");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 5, 0, 1, {5}, {1}), SR_CORRUPT, "found 24 bytes, expected 5");
    assert_tensor_rejected(TENSOR("DoubleStorage", "0", 6, 0, 1, {6}, {1}), SR_CORRUPT, "found 24 bytes", "f64");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", -6, 0, 1, {6}, {1}), SR_CORRUPT, "expected -6 elements");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", INT64_MAX, 0, 1, {6}, {1}), SR_CORRUPT, "found 24 bytes");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", ((int64_t)1 << 62) + 6, 0, 1, {6}, {1}), SR_CORRUPT, "24 bytes");
    assert_tensor_rejected(TENSOR("FloatStorage", "1", 6, 0, 1, {6}, {1}), SR_CORRUPT, "not in the archive");
    assert_tensor_rejected(TENSOR("FloatStorage", "../data.pkl", 6, 0, 1, {6}, {1}), SR_CORRUPT, "not in the archive");
    assert_tensor_rejected(TENSOR("Size", "0", 6, 0, 1, {6}, {1}), SR_CORRUPT, "a persistent id that is not");

    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, 1, 1, {6}, {1}), SR_CORRUPT, "6 elements at offset 1");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, 0, 1, {7}, {1}), SR_CORRUPT, "7 elements at offset 0");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, -1, 1, {1}, {1}), SR_CORRUPT, "offset -1");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, INT64_MAX, 1, {1}, {1}), SR_CORRUPT, "a storage of 6");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, INT64_MIN, 1, {1}, {1}), SR_CORRUPT, "a storage of 6");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, 7, 1, {0}, {1}), SR_CORRUPT, "offset 7");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, 0, 1, {-1}, {1}), SR_CORRUPT, "a negative size");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, 0, 2, {-2, -3}, {-3, 1}), SR_CORRUPT, "a negative size");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, 0, 2, {(int64_t)1 << 32, (int64_t)1 << 32}, {1, 1}),
                           SR_CORRUPT, "does not fit 63 bits");
    assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, 0, 9, {1}, {1}), SR_CORRUPT, "more than 8 dimensions");
}

static void strides_of_views_are_refused(void **state) {
    (void)state;
    static const int64_t strides[][2] = {{1, 2}, {0, 1}, {3, 0}, {-3, 1}, {3, -1}, {4, 1}, {INT64_MIN, 1}, {3, 2}};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++)
        assert_tensor_rejected(TENSOR("FloatStorage", "0", 6, 0, 2, {2, 3}, {strides[i][0], strides[i][1]}),
                               SR_UNSUPPORTED, "contiguous");
}

static void memo_numbers_make_no_room(void **state) {
    (void)state;
    assert_program_rejected("}r\377\377\377\377.", SR_CORRUPT, "memo 4294967295, expected at most 0");
    assert_program_rejected("}q\1.", SR_CORRUPT, "memo 1, expected at most 0");
    assert_program_rejected("h\0.", SR_CORRUPT, "memo 0, which is not set");
    assert_program_rejected("}q\0j\1\0\0\0.", SR_CORRUPT, "memo 1, which is not set");
    assert_program_rejected("}\224h\1.", SR_CORRUPT, "memo 1, which is not set");
}

static void nesting_and_sharing_are_bounded(void **state) {
    (void)state;
    struct bytes b = {0};
    /* A dictionary in itself. */
    PUT(&b, "}q\0X\1\0\0\0xh\0s.");
    assert_pickle_rejected(&b, SR_LIMIT, "dictionaries inside each other");
    /* 100,000 levels. */
    for (int i = 0; i < 100000; i++) PUT(&b, "}K\1");
    PUT(&b, "N");
    for (int i = 0; i < 100000; i++) PUT(&b, "s");
    PUT(&b, ".");
    assert_pickle_rejected(&b, SR_LIMIT, "inside each other");
    for (int i = 0; i < 100000; i++) PUT(&b, "(");
    for (int i = 0; i < 100000; i++) PUT(&b, "t");
    PUT(&b, ".");
    assert_pickle_rejected(&b, SR_CORRUPT, "a tuple at the top");
    /* 15 dictionaries, each with the one before ten times: 10^14 values. */
    PUT(&b, "}q\0X\1\0\0\0xK\1s0");
    for (int i = 1; i < 15; i++) {
        PUT(&b, "}q");
        put_int(&b, (uint64_t)i, 1);
        for (int k = 0; k < 10; k++) {
            PUT(&b, "K");
            put_int(&b, (uint64_t)k, 1);
            PUT(&b, "h");
            put_int(&b, (uint64_t)i - 1, 1);
            PUT(&b, "s");
        }
        if (i < 14) PUT(&b, "0");
    }
    PUT(&b, ".");
    assert_pickle_rejected(&b, SR_LIMIT, "many times over");
}

static void memory_is_bounded(void **state) {
    (void)state;
    struct bytes b = {0};
    for (int i = 0; i < 12000000; i++) PUT(&b, ")"); /* one byte each, 32 of ours */
    PUT(&b, ".");
    assert_pickle_rejected(&b, SR_LIMIT, "more than 268435456 bytes of memory");
    put_zeros(&b, (64 << 20) + 1);
    assert_pickle_rejected(&b, SR_LIMIT, "data.pkl: found 67108865 bytes");
}

static void keys_become_names_only_when_they_can(void **state) {
    (void)state;
    struct bytes b = {0};
    assert_program_rejected("}X\0\0\0\0K\1s.", SR_CORRUPT, "a text without zero bytes");
    assert_program_rejected("}X\2\0\0\0a\0K\1s.", SR_CORRUPT, "a text without zero bytes");
    assert_program_rejected("}X\2\0\0\0\377\376K\1s.", SR_CORRUPT, "a text without zero bytes");
    assert_program_rejected("}(X\1\0\0\0aK\1X\1\0\0\0aK\2u.", SR_CORRUPT, "is there twice");
    PUT(&b, "}X\1\1\0\0");
    for (int i = 0; i < 257; i++) PUT(&b, "n");
    PUT(&b, "K\1s.");
    assert_pickle_rejected(&b, SR_LIMIT, "a name of more than 256 bytes");
}

/* ---------------------------------------------------------------- case 20: the archive */

static struct bytes good_pickle(void) {
    return pickle_of(TENSOR("FloatStorage", "0", 6, 0, 1, {6}, {1}));
}
static struct archive good_archive(bool zip64) {
    struct bytes p = good_pickle();
    struct archive a = torch_archive(&p, zip64);
    drop(&p);
    return a;
}

#define assert_bent(zip64, bend, status, ...)                                                                          \
    do {                                                                                                               \
        struct archive a = good_archive(zip64);                                                                        \
        bend;                                                                                                          \
        assert_archive_rejected(&a, status, __VA_ARGS__);                                                              \
    } while (0)

static void compressed_and_encrypted_entries_are_refused(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_bent(false, put16(&a, a.central[i] + 10, 8), SR_UNSUPPORTED, "compressed (method 8)");
        assert_bent(false, put16(&a, a.local[i] + 8, 8), SR_CORRUPT, "contradicts the directory");
        assert_bent(false, put16(&a, a.central[i] + 8, 1), SR_CORRUPT, "encrypted");
        assert_bent(false, put16(&a, a.local[i] + 6, 1), SR_CORRUPT, "contradicts the directory");
    }
    /* A bomb: much more unpacked than packed. */
    assert_bent(false, put32(&a, a.central[2] + 24, 1u << 31), SR_CORRUPT, "in two sizes");
}

static void entries_that_lie_about_where_they_are_are_refused(void **state) {
    (void)state;
    assert_bent(false, put32(&a, a.central[2] + 42, (uint32_t)a.local[1]), SR_CORRUPT, "contradicts the directory");
    assert_bent(false, put32(&a, a.central[2] + 42, (uint32_t)a.local[2] + 1), SR_CORRUPT, "no entry starts");
    assert_bent(false, put32(&a, a.central[2] + 42, 0xfffffffe), SR_CORRUPT, "no entry starts");
    assert_bent(false, put32(&a, a.central[2] + 42, (uint32_t)a.central[0]), SR_CORRUPT, "no entry starts");
    assert_bent(false, (put32(&a, a.central[2] + 20, 25), put32(&a, a.central[2] + 24, 25)), SR_CORRUPT,
                "another size than in the directory");
    assert_bent(false,
                (put32(&a, a.central[2] + 20, 25), put32(&a, a.central[2] + 24, 25), put32(&a, a.local[2] + 18, 25),
                 put32(&a, a.local[2] + 22, 25)),
                SR_CORRUPT, "past the start of the directory");
    assert_bent(false, put16(&a, a.local[2] + 28, 0xffff), SR_CORRUPT, "past the start of the directory");
    assert_bent(false, put16(&a, a.central[2] + 34, 1), SR_CORRUPT, "on another volume");
    /* The second entry reaches into the third. */
    assert_bent(false,
                (put32(&a, a.central[1] + 20, 7), put32(&a, a.central[1] + 24, 7), put32(&a, a.local[1] + 18, 7),
                 put32(&a, a.local[1] + 22, 7)),
                SR_CORRUPT, "overlaps");
    /* Two entries in the directory for the same bytes. */
    struct bytes p = good_pickle();
    struct entry e[] = {{"a/data.pkl", p.data, p.n}, {"a/data/0", "012345678901234567890123", 24}, {"a/data/0", "", 0}};
    struct archive a = zip(e, 3, false);
    assert_archive_rejected(&a, SR_CORRUPT, "\"a/data/0\": found it twice");
    drop(&p);
}

static void ends_that_lie_are_refused(void **state) {
    (void)state;
    assert_bent(false, PUT(&a.b, "x"), SR_CORRUPT, "no end of a zip archive");
    assert_bent(false, (put16(&a, a.end + 20, 1), PUT(&a.b, "x")), SR_CORRUPT, "no end of a zip archive");
    assert_bent(false, put16(&a, a.end + 20, 1), SR_CORRUPT, "with a comment");
    assert_bent(false, put16(&a, a.end + 4, 1), SR_CORRUPT, "several volumes");
    assert_bent(false, (put16(&a, a.end + 8, 2), put16(&a, a.end + 10, 2)), SR_CORRUPT, "behind the last entry");
    assert_bent(false, (put16(&a, a.end + 8, 4), put16(&a, a.end + 10, 4)), SR_CORRUPT, "zip directory");
    assert_bent(false, (put16(&a, a.end + 8, 0), put16(&a, a.end + 10, 0)), SR_CORRUPT, "behind the last entry");
    assert_bent(false, (put16(&a, a.end + 8, 0xffff), put16(&a, a.end + 10, 0xffff)), SR_CORRUPT, "65535 entries");
    assert_bent(false, put32(&a, a.end + 16, 0xffffffff), SR_CORRUPT, "expected it to end at");
    assert_bent(false, put32(&a, a.end + 12, 1), SR_CORRUPT, "expected it to end at");
    assert_bent(false, put16(&a, a.central[1] + 28, 0xffff), SR_CORRUPT, "cut off");
}

static void zip64_fields_that_lie_are_refused(void **state) {
    (void)state;
    struct bytes p = good_pickle();
    assert_true(opens(&p, true));
    drop(&p);
    size_t none = 0xffffffff;
    /* The end record says otherwise; all ones there defer to ZIP64. */
    assert_bent(true, put32(&a, a.end + 12, 1), SR_CORRUPT, "contradicts the end");
    assert_bent(true, put16(&a, a.end - 20 + 8, 0xffff), SR_CORRUPT, "points to no ZIP64 end");
    assert_bent(true, put32(&a, a.end - 20 + 12, (uint32_t)none), SR_CORRUPT, "points to no ZIP64 end");
    assert_bent(true, put32(&a, a.end - 20 + 16, 2), SR_CORRUPT, "points to no ZIP64 end");
    assert_bent(true, put32(&a, a.end - 76 + 4, 45), SR_CORRUPT, "contradicts the end");
    assert_bent(true, put32(&a, a.end - 76 + 24, 4), SR_CORRUPT, "contradicts the end");
    assert_bent(true, put32(&a, a.end - 76 + 44, (uint32_t)none), SR_CORRUPT, "contradicts the end");
    /* An entry's own: 12 characters of name behind the 46 bytes, then id and size. */
    size_t extra = 46 + strlen("a/data.pkl");
    assert_bent(true, put16(&a, a.central[0] + extra, 2), SR_CORRUPT, "left to a ZIP64 field");
    assert_bent(true, put16(&a, a.central[0] + extra + 2, 16), SR_CORRUPT, "left to a ZIP64 field");
    assert_bent(true, put16(&a, a.central[0] + extra + 2, 100), SR_CORRUPT, "left to a ZIP64 field");
    assert_bent(true, put32(&a, a.central[0] + extra + 8, 0x80000000), SR_CORRUPT, "in two sizes");
    assert_bent(true,
                (put32(&a, a.central[0] + extra + 8, 0xffffffff), put32(&a, a.central[0] + extra + 16, 0xffffffff)),
                SR_CORRUPT, "another size than in the directory");
    assert_bent(true, put32(&a, a.central[0] + extra + 24, 0x80000000), SR_CORRUPT, "no entry starts");
}

static void names_that_lead_out_of_an_archive_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"../x", "a/../../x", "a/..", "..", "/etc/passwd", "a\\..\\x", "", "a/\xff"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct bytes p = good_pickle();
        struct entry e[] = {{"a/data.pkl", p.data, p.n}, {names[i], "x", 1}};
        struct archive a = zip(e, 2, false);
        assert_archive_rejected(&a, SR_CORRUPT, "no plain relative path");
        drop(&p);
    }
}

static void the_archive_needs_one_pickle_in_little_endian(void **state) {
    (void)state;
    struct bytes p = good_pickle();
    static const char storage[24] = {0};
    struct entry none[] = {{"data.pkl", p.data, p.n}, {"a/b/data.pkl", p.data, p.n}};
    struct entry two[] = {{"a/data.pkl", p.data, p.n}, {"b/data.pkl", p.data, p.n}, {"a/data/0", storage, 24}};
    struct entry big[] = {{"a/data.pkl", p.data, p.n}, {"a/byteorder", "big", 3}, {"a/data/0", storage, 24}};
    struct archive a = zip(none, 2, false);
    assert_archive_rejected(&a, SR_CORRUPT, "without one <name>/data.pkl");
    a = zip(two, 3, false);
    assert_archive_rejected(&a, SR_CORRUPT, "without one <name>/data.pkl");
    a = zip(big, 3, false);
    assert_archive_rejected(&a, SR_UNSUPPORTED, "byteorder: found \"big\"");
    drop(&p);
}

/* ---------------------------------------------------------------- directories */

static void write_archive(const char *path, const char *name) {
    struct bytes p = {0};
    PUT(&p, "}");
    put_string(&p, name);
    PUT(&p, "ctorch._utils\n_rebuild_tensor_v2\n(");
    put_storage(&p, "FloatStorage", "0", 6);
    PUT(&p, "K\0K\6\205K\1\205\211NtRs.");
    struct archive a = torch_archive(&p, false);
    write_file(path, a.b.data, a.b.n);
    drop(&p);
    drop(&a.b);
}

static void directories_hold_one_archive_or_the_pieces_of_an_index(void **state) {
    sr_file *f;
    sr_err err = {0};
    write_text(in(*state, "config.json"), "{\"model_type\":\"llama\"}");
    write_archive(in(*state, "pytorch_model-00001-of-00002.bin"), "a");
    write_archive(in(*state, "pytorch_model-00002-of-00002.bin"), "b");
    write_text(
        in(*state, "pytorch_model.bin.index.json"),
        "{\"weight_map\":{\"a\":\"pytorch_model-00001-of-00002.bin\",\"b\":\"pytorch_model-00002-of-00002.bin\"}}");
    f = must_open(in(*state, ""));
    assert_int_equal(f->n_parts, 2);
    assert_int_equal(f->n_shards, 2);
    assert_int_equal(sr_file_part(f, "b")->shard, 1);
    sr_file_close(f);

    write_archive(in(*state, "qmodel.pt"), "q"); /* HQQ's before the original */
    f = must_open(in(*state, ""));
    assert_int_equal(f->n_parts, 1);
    assert_non_null(sr_file_part(f, "q"));
    sr_file_close(f);
    unlink(in(*state, "qmodel.pt"));

    unlink(in(*state, "pytorch_model-00002-of-00002.bin"));
    check_error(__func__, sr_file_open(in(*state, ""), NULL, &f, &err), &err, SR_IO,
                "pytorch_model-00002-of-00002.bin: missing", "pytorch_model.bin.index.json", NULL);
    static const char *const ways_out[] = {"../evil.bin", "/evil.bin", "model.safetensors", ".bin"};
    for (int i = 0; i < 4; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", ways_out[i]);
        write_text(in(*state, "pytorch_model.bin.index.json"), text);
        sr_err_clear(&err);
        check_error(__func__, sr_file_open(in(*state, ""), NULL, &f, &err), &err, SR_CORRUPT,
                    "a plain name ending in .bin", NULL);
    }
    unlink(in(*state, "pytorch_model.bin.index.json"));
    write_archive(in(*state, "pytorch_model.bin"), "single");
    f = must_open(in(*state, ""));
    assert_non_null(sr_file_part(f, "single"));
    sr_file_close(f);
}

#define WITH_SCRATCH(test) cmocka_unit_test_setup_teardown(test, make_scratch, remove_scratch)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_archives_give_their_tensors),
        cmocka_unit_test(types_without_a_storage_give_their_tensors),
        cmocka_unit_test(values_become_tensors_as_hqq_encodes_them),
        cmocka_unit_test(a_state_dict_is_read_in_every_pickle_protocol),
        cmocka_unit_test(what_is_no_plain_checkpoint_is_refused),
        cmocka_unit_test(every_truncation_is_refused_and_every_changed_byte_survived),
        WITH_SCRATCH(names_outside_the_list_are_refused_and_not_run),
        cmocka_unit_test(values_of_the_wrong_kind_are_refused),
        cmocka_unit_test(a_stack_without_what_is_needed_is_refused),
        cmocka_unit_test(tensors_stay_inside_their_storage),
        cmocka_unit_test(strides_of_views_are_refused),
        cmocka_unit_test(memo_numbers_make_no_room),
        cmocka_unit_test(nesting_and_sharing_are_bounded),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(keys_become_names_only_when_they_can),
        cmocka_unit_test(compressed_and_encrypted_entries_are_refused),
        cmocka_unit_test(entries_that_lie_about_where_they_are_are_refused),
        cmocka_unit_test(ends_that_lie_are_refused),
        cmocka_unit_test(zip64_fields_that_lie_are_refused),
        cmocka_unit_test(names_that_lead_out_of_an_archive_are_refused),
        cmocka_unit_test(the_archive_needs_one_pickle_in_little_endian),
        WITH_SCRATCH(directories_hold_one_archive_or_the_pieces_of_an_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
