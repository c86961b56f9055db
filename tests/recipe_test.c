/* Recipes and topologies: what is read, which rule counts, what it costs to be hostile, and the types that a model
 * gets. */
#include "support.h"

#include "core/core.h"
#include "fmt/recipe.h"
#include "quant/quant.h"

static const char story[] = SR_SOURCE_DIR "/models/story-6m";
static const char mixtral[] = SR_SOURCE_DIR "/tests/vectors/tiny/mixtral";

static sr_recipe *read_recipe(void **state, const char *name, const char *text) {
    sr_recipe *r;
    write_text(in(*state, name), text);
    OK(sr_recipe_read(in(*state, name), &r, e_));
    return r;
}

static const char *type_of(sr_recipe *r, const char *name, const char *gguf, int layer) {
    const sr_rule *rule;
    OK(sr_recipe_find(r, name, gguf, layer, &rule, e_));
    return rule ? rule->fmt->name : "none";
}

static void the_last_rule_that_matches_counts(void **state) {
    sr_recipe *r = read_recipe(state, "a",
                               "# a comment = q8_0\n"
                               "  attn_v=Q6K   # values\r\n"
                               "0-2 = 4\n"
                               "3 = q8_0\n"
                               "\n"
                               "^model\\.layers\\.1\\..*(?=down_proj)=q5_0\n"
                               "ffn_up\\.weight$ = 2");
    assert_int_equal(r->n, 5);
    assert_string_equal(type_of(r, NULL, "blk.7.attn_v", 7), "q6_k");
    assert_string_equal(type_of(r, "model.layers.7.self_attn.v_proj", NULL, 7), "none");
    assert_string_equal(type_of(r, "model.layers.1.self_attn.v_proj", "blk.1.attn_v", 1), "q4_k");
    assert_string_equal(type_of(r, "x", "blk.2.attn_q", 2), "none");
    assert_string_equal(type_of(r, "x", "blk.3.attn_q", 3), "q8_0");
    assert_string_equal(type_of(r, "model.layers.1.mlp.down_proj", "blk.1.ffn_down", 1), "q5_0");
    assert_string_equal(type_of(r, "x", "blk.1.ffn_up", 1), "q2_k");
    assert_string_equal(type_of(r, "x", "blk.1.ffn_up_exps", 1), "q4_k"); /* '$' is the end of the whole name */
    assert_string_equal(type_of(r, "x", NULL, -1), "none");
    sr_recipe_free(r);
}

static void what_was_written_reads_back(void **state) {
    sr_recipe *r = read_recipe(state, "a",
                               "^blk\\.(0|1)\\.attn_v = q6_k\n3-5 = iq4_xs\nx(?=y)=mlx:mxfp4\n6=5,group=32\n"),
              *again;
    OK(sr_recipe_write(r, in(*state, "b"), "made by a test", e_));
    OK(sr_recipe_read(in(*state, "b"), &again, e_));
    assert_int_equal(again->n, 4);
    assert_string_equal(type_of(again, NULL, "xy", 9), "mlx_mxfp4");
    assert_int_equal(again->rule[3].bits, 5);
    assert_int_equal(again->rule[3].group, 32);
    assert_string_equal(type_of(again, NULL, "blk.1.attn_v", 1), "q6_k");
    assert_string_equal(type_of(again, NULL, "blk.4.attn_v", 4), "iq4_xs");
    sr_recipe_free(r);
    sr_recipe_free(again);
}

static void refuses(void **state, const char *name, const char *text, sr_status want, const char *word) {
    sr_err err = {0};
    sr_recipe *r;
    write_text(in(*state, name), text);
    check_error(text, sr_recipe_read(in(*state, name), &r, &err), &err, want, name, word, NULL);
    assert_null(r);
}

static void slips_are_named_with_their_line(void **state) {
    refuses(state, "a", "x = q4_k\n\ny = q9\n", SR_INVALID, "line 3: found the type 'q9'");
    refuses(state, "a", "x = q8_k_what", SR_INVALID, "q8_k_what");
    refuses(state, "a", "x = marlin24_4", SR_INVALID, "marlin24_4"); /* known, and cannot be written */
    refuses(state, "a", "x = mlx4,group=48", SR_INVALID, "mlx4,group=48");
    refuses(state, "a", "x = q4_k,group=32", SR_INVALID, "q4_k,group=32");
    refuses(state, "a", "x mlx4,group=32", SR_INVALID, "expected REGEX = TYPE");
    refuses(state, "a", "attn_v q4_k", SR_INVALID, "expected REGEX = TYPE");
    refuses(state, "a", "= q4_k", SR_INVALID, "expected REGEX = TYPE");
    refuses(state, "a", "5-2 = q4_k", SR_INVALID, "layers '5-2'");
    refuses(state, "a", "a(b = q4_k", SR_INVALID, "'a(b' is no regular expression: missing closing parenthesis at 3");
    refuses(state, "a", "# nothing\n", SR_INVALID, "no rule");
    sr_err err = {0};
    sr_recipe *r;
    write_file(in(*state, "a"), "x = q4_k\0y", 10);
    check_error("zero", sr_recipe_read(in(*state, "a"), &r, &err), &err, SR_INVALID, "zero byte", NULL);
    err = (sr_err){0};
    check_error("absent", sr_recipe_read(in(*state, "nothing"), &r, &err), &err, SR_IO, "nothing", NULL);
}

static void hostile_patterns_end(void **state) {
    struct bytes b = {0};
    sr_err err = {0};
    sr_recipe *r = read_recipe(state, "a", "(a|aa)+(a|aa)+(a|aa)+$^ = q4_k\n");
    char name[200];
    const sr_rule *rule;
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = 0;
    check_error("backtracking", sr_recipe_find(r, name, NULL, 0, &rule, &err), &err, SR_LIMIT, "too long", NULL);
    sr_recipe_free(r);
    for (int i = 0; i < 2000; i++) put(&b, "(", 1);
    put(&b, " = q4_k", 8);
    refuses(state, "a", (char *)b.data, SR_LIMIT, "pattern of 2000 bytes");
    drop(&b);
    for (int i = 0; i < 500; i++) put(&b, "(", 1);
    for (int i = 0; i < 500; i++) put(&b, ")", 1);
    put(&b, " = q4_k", 8);
    refuses(state, "a", (char *)b.data, SR_INVALID, "is no regular expression");
    drop(&b);
    for (int i = 0; i < SR_MOST_RULES + 1; i++) put(&b, "x = 4\n", 6);
    put(&b, "", 1);
    refuses(state, "a", (char *)b.data, SR_LIMIT, "rules");
    drop(&b);
    while (b.n <= SR_MOST_RECIPE) put(&b, "#######\n", 8);
    put(&b, "", 1);
    refuses(state, "a", (char *)b.data, SR_LIMIT, "bytes");
    drop(&b);
    /* Many patterns with many names: together they are limited too. */
    for (int i = 0; i < 1000; i++) put(&b, "(a|aa)+[0-9] = 4\n", 17);
    put(&b, "", 1);
    r = read_recipe(state, "a", (char *)b.data);
    sr_status s = SR_OK;
    memset(name, 'a', 18);
    name[18] = 0;
    for (int i = 0; i < 100 && s == SR_OK; i++) s = sr_recipe_find(r, name, NULL, 0, &rule, NULL);
    assert_int_equal(s, SR_LIMIT);
    sr_recipe_free(r);
    drop(&b);
}

static bool has_yaml(void **state) {
    sr_err err = {0};
    sr_recipe *r;
    write_text(in(*state, "probe.yaml"), "0: {isq: q4k}");
    if (sr_recipe_read(in(*state, "probe.yaml"), &r, &err) == SR_OK) {
        sr_recipe_free(r);
        return true;
    }
    check_error("without libyaml", err.code, &err, SR_UNSUPPORTED, "libyaml", "REGEX = TYPE", NULL);
    return false;
}

/* Ranges by their ends, wherever they stand; patterns behind them; what says no type takes it back. */
static void topologies_follow_their_own_order(void **state) {
    if (!has_yaml(state)) skip();
    sr_recipe *r = read_recipe(state, "t.yaml",
                               "'/v_proj/':\n  isq: q6k\n"
                               "4-8: {isq: Q8_0, device: \"cpu\"}\n"
                               "0-6:\n  isq: Q4K\n"
                               "1: {isq: 2}\n"
                               "2-8:\n  device: cpu\n"
                               "/up_proj\\.weight$/: {isq: hqq4}\n");
    assert_string_equal(type_of(r, "model.layers.0.mlp.down_proj", NULL, 0), "q4_k");
    assert_string_equal(type_of(r, "model.layers.1.mlp.down_proj", NULL, 1), "q4_k"); /* ends at 2, below 6 */
    assert_string_equal(type_of(r, "model.layers.5.mlp.down_proj", NULL, 5), "none"); /* 2-8 stands behind 4-8 */
    assert_string_equal(type_of(r, "model.layers.5.self_attn.v_proj", NULL, 5), "q6_k");
    assert_string_equal(type_of(r, "model.layers.0.mlp.up_proj", NULL, 0), "hqq4");
    assert_string_equal(type_of(r, "model.layers.9.mlp.down_proj", NULL, 9), "none");
    sr_recipe_free(r);
}

static void hostile_topologies_end(void **state) {
    if (!has_yaml(state)) skip();
    struct bytes b = {0};
    refuses(state, "t.yml", "[1, 2]", SR_INVALID, "line 1: expected a map");
    refuses(state, "t.yml", "0-3: q4k", SR_INVALID, "expected {isq: TYPE}");
    refuses(state, "t.yml", "0-3: {isq: q9}", SR_INVALID, "'q9'");
    refuses(state, "t.yml", "0-3: {isq: [q4k]}", SR_INVALID, "expected a type");
    refuses(state, "t.yml", "0-3: {isk: q4k}", SR_INVALID, "isq or device");
    refuses(state, "t.yml", "\n0-: {isq: q4k}", SR_INVALID, "line 2");
    refuses(state, "t.yml", "/(/: {isq: q4k}", SR_INVALID, "'(' is no regular expression");
    refuses(state, "t.yml", "a: &x {isq: q4k}\nb: *x", SR_INVALID, "layers");
    refuses(state, "t.yml", "0: *x", SR_INVALID, "t.yml");
    refuses(state, "t.yml", "0: {isq: q4k", SR_CORRUPT, "no YAML");
    refuses(state, "t.yml", "", SR_INVALID, "no rule");
    refuses(state, "t.yml", "{}", SR_INVALID, "no rule");
    for (int i = 0; i < 100000; i++) put(&b, "[", 1);
    put(&b, "", 1);
    refuses(state, "t.yml", (char *)b.data, SR_INVALID, "expected a map");
    drop(&b);
    put(&b, "0: ", 3);
    for (int i = 0; i < 100000; i++) put(&b, "{a: ", 4);
    put(&b, "", 1);
    refuses(state, "t.yml", (char *)b.data, SR_INVALID, "isq or device");
    drop(&b);
}

/* ---------------------------------------------------------------- models */

struct opened {
    sr_engine *engine;
    sr_model *model;
};
static void open_with(const char *path, sr_model_options o, struct opened *m) {
    OK(sr_engine_create(&(sr_engine_options){.threads = 2}, &m->engine, e_));
    OK(sr_model_open(m->engine, path, &o, &m->model, e_));
}
static void close_model(struct opened *m) {
    sr_model_close(m->model);
    sr_engine_free(m->engine);
}

static void matrices_open_in_their_types(void **state) {
    struct opened m;
    for (int with = 0; with < 2; with++) {
        sr_recipe *r = read_recipe(state, "a", "self_attn\\.v_proj = q6_k\nblk\\.2\\.ffn_down\\. = q5_k\n4-6 = 8\n");
        open_with(story, (sr_model_options){.isq = with ? "4" : NULL, .recipe = r}, &m);
        const sr_decoder *d = &m.model->dec;
        assert_string_equal(d->layer[0].qkv[2].fmt->name, "q6_k");
        assert_string_equal(d->layer[5].qkv[2].fmt->name, "q8_0");
        assert_string_equal(d->layer[2].down.fmt->name, "q5_k");
        assert_string_equal(d->layer[1].down.fmt->name, with ? "q4_k" : "bf16");
        assert_string_equal(d->embed.fmt->name, with ? "q6_k" : "bf16");
        sr_model_info info;
        sr_model_get_info(m.model, &info);
        assert_string_equal(info.isq, with ? "q4_k" : "recipe");
        close_model(&m);
        sr_recipe_free(r);
    }
}

static void moqe_is_for_experts_alone(void **state) {
    struct opened m;
    (void)state;
    open_with(mixtral, (sr_model_options){.isq = "q4_0", .experts_only = true}, &m);
    const sr_layer *l = &m.model->dec.layer[1];
    assert_string_equal(l->mixture->up[0].w->fmt->name, "q4_0");
    assert_string_equal(l->mixture->up[1].w->fmt->name, "q4_0");
    assert_string_not_equal(l->qkv[0].fmt->name, "q4_0");
    assert_string_not_equal(l->attn_out.fmt->name, "q4_0");
    assert_string_not_equal(m.model->dec.embed.fmt->name, "q6_k");
    close_model(&m);
    open_with(story, (sr_model_options){.isq = "q4_0", .experts_only = true}, &m);
    sr_model_info info;
    sr_model_get_info(m.model, &info);
    assert_null(info.isq);
    close_model(&m);
}

/* What --isq makes with importances is what the encoder makes with them, of each expert with its own. */
static void importances_reach_the_encoder(void **state) {
    enum { T = 60 };
    (void)state;
    const struct { const char *path, *isq; } cases[] = {{story, "q4_k"}, {mixtral, "q4_0"}};
    for (int c = 0; c < 2; c++) {
        struct opened plain, made;
        sr_imatrix *im;
        sr_session *session;
        int32_t ids[T];
        open_with(cases[c].path, (sr_model_options){0}, &plain);
        for (int i = 0; i < T; i++) ids[i] = (i * 37 + 5) % plain.model->dec.h.n_vocab;
        OK(sr_imatrix_observe(plain.model, &im, e_));
        OK(sr_session_create(plain.model, &(sr_session_options){.n_ctx = T}, &session, e_));
        OK(sr_session_sync(session, ids, T, e_));
        OK(sr_step(&session, 1, e_));
        open_with(cases[c].path, (sr_model_options){.isq = cases[c].isq, .importance = im}, &made);
        const sr_layer *from = &plain.model->dec.layer[1], *to = &made.model->dec.layer[1];
        for (int e = 0; e < (c ? 4 : 1); e++) {
            const sr_weight *w = c ? &from->mixture->up[0].w[e] : &from->down,
                            *got = c ? &to->mixture->up[0].w[e] : &to->down;
            float *values, *row = malloc(sizeof *row * (size_t)w->K);
            int n, differ = 0;
            sr_arena arena = {0};
            sr_weight want, without;
            assert_non_null(row);
            OK(sr_imatrix_of(im, c ? "blk.1.ffn_gate_exps" : "blk.1.ffn_down", w->K, 4, &arena, &values, &n, e_));
            assert_int_equal(n, c ? 4 : 1);
            OK(sr_weight_create(got->fmt, w->N, w->K, NULL, &arena, &want, e_));
            OK(sr_weight_create(got->fmt, w->N, w->K, NULL, &arena, &without, e_));
            for (int64_t i = 0; i < w->N; i++) {
                w->fmt->decode(w, i, 0, w->K, row);
                sr_rtn_rows(&want, i, 1, row, values + e * w->K);
                sr_rtn_rows(&without, i, 1, row, NULL);
            }
            assert_memory_equal(want.plane[0].data, got->plane[0].data, (size_t)want.plane[0].bytes);
            differ = memcmp(without.plane[0].data, got->plane[0].data, (size_t)want.plane[0].bytes) != 0;
            assert_true(differ);
            free(row);
            sr_arena_free(&arena);
        }
        close_model(&made);
        sr_session_free(session);
        sr_imatrix_free(im);
        close_model(&plain);
    }
}

static void files_have_their_types(void **state) {
    sr_quantizer *q;
    sr_quantize_tensor t;
    sr_err err = {0};
    sr_recipe *r = read_recipe(state, "a", "self_attn\\.v_proj = q6_k\nblk\\.2\\.ffn_down\\. = tq2_0\n");
    OK(sr_quantizer_plan(story, in(*state, "out.gguf"), &(sr_quantize_options){.to = "gguf:q4_k_s", .recipe = r}, &q,
                         e_));
    int met = 0;
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++) {
        if (strstr(t.name, "attn_v")) assert_string_equal(t.to, "q6_k"), met++;
        if (strcmp(t.name, "blk.2.ffn_down") == 0) assert_string_equal(t.to, "tq2_0"), met++;
        if (strcmp(t.name, "token_embd") == 0) assert_string_equal(t.to, "q6_k"), met++; /* tied: the head's type */
        if (strcmp(t.name, "blk.3.ffn_down") == 0) assert_string_equal(t.to, "q4_k"), met++;
    }
    assert_int_equal(met, 9);
    sr_quantizer_free(q);
    check_error("gptq", sr_quantizer_plan(story, "x", &(sr_quantize_options){.to = "gptq:4", .recipe = r}, &q, &err),
                &err, SR_INVALID, "q6_k", "gptq2, gptq3, gptq4, gptq8, bf16", NULL);
    static const char *const one_type[] = {"hqq:4", "awq:4", "bnb:nf4", "fp8"};
    for (int i = 0; i < 4; i++) {
        err = (sr_err){0};
        check_error(one_type[i],
                    sr_quantizer_plan(story, "x", &(sr_quantize_options){.to = one_type[i], .recipe = r}, &q, &err),
                    &err, SR_UNSUPPORTED, one_type[i], "gguf:mix, uqff:q4k, mlx:4, gptq:4", NULL);
    }
    sr_recipe_free(r);
    err = (sr_err){0};
    check_error("mix", sr_quantizer_plan(story, "x", &(sr_quantize_options){.to = "gguf"}, &q, &err), &err, SR_INVALID,
                "--target-bpw", NULL);
    err = (sr_err){0};
    r = read_recipe(state, "a", "attn_v = hqq4\n");
    check_error("hqq", sr_quantizer_plan(story, "x", &(sr_quantize_options){.to = "gguf", .recipe = r}, &q, &err), &err,
                SR_INVALID, "hqq4", NULL);
    sr_recipe_free(r);
}

/* ---------------------------------------------------------------- directories of several types */

/* Made, read back by its own check, and opened. */
static void make_mixed(void **state, const char *from, const char *to, sr_recipe *r, struct opened *m) {
    sr_quantizer *q;
    OK(sr_quantizer_plan(
        from, in(*state, "made"),
        &(sr_quantize_options){.to = to, .recipe = r, .threads = 2, .overwrite = true, .shard_bytes = 1 << 20}, &q,
        e_));
    OK(sr_quantizer_run(q, false, e_));
    sr_quantizer_free(q);
    open_with(in(*state, "made"), (sr_model_options){0}, m);
}

static void is_of(const sr_weight *w, const char *type, int group) {
    if (strcmp(w->fmt->name, type) != 0 || (group && w->spec.group != group))
        fail_msg("found %s in groups of %d, expected %s, %d", w->fmt->name, w->spec.group, type, group);
}

/* Numbers of bits and names are of the target's own types, groups what the rule or else the target says. */
static void directories_have_several_types(void **state) {
    static const struct {
        const char *to, *rules, *usual, *v, *down2, *o;
        int group, down_group;
    } cases[] = {
        {"mlx:4", "v_proj = 6\nblk\\.2\\.ffn_down = mlx:8,group=32\no_proj = mlx:mxfp4\n", "mlx4", "mlx6", "mlx8",
         "mlx_mxfp4", 64, 32},
        {"gptq:4,group=32", "v_proj = 8\nblk\\.2\\.ffn_down = gptq3\no_proj = bf16\n", "gptq4", "gptq8", "gptq3",
         "bf16", 32, 32},
        {"compressed-tensors:w4a16,group=32", "v_proj = 8\nblk\\.2\\.ffn_down = ct_pack8,group=64\no_proj = ct_int8\n",
         "ct_pack4", "ct_pack8", "ct_pack8", "ct_int8", 32, 64},
        /* of UQFF each layer says its own, of whatever method */
        {"uqff:q4k", "v_proj = 6\nblk\\.2\\.ffn_down = afq8\no_proj = hqq4\n", "q4_k", "q6_k", "mlx8", "hqq4", 0, 64},
        {"uqff:afq4", "v_proj = 6\nblk\\.2\\.ffn_down = fp8\no_proj = f8q8\n", "mlx4", "mlx6", "fp8_e4m3", "f8q8", 64,
         0},
        {"uqff:hqq8", "v_proj = 4\nblk\\.2\\.ffn_down = mlx:mxfp4\no_proj = bf16\n", "hqq8", "hqq4", "mlx_mxfp4",
         "bf16", 64, 32},
        {"uqff:fp8", "v_proj = 8\nblk\\.2\\.ffn_down = hqq8\no_proj = q5_1\n", "fp8_e4m3", "fp8_e4m3", "hqq8", "q5_1",
         0, 64},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct opened m;
        sr_recipe *r = read_recipe(state, "a", cases[i].rules);
        make_mixed(state, story, cases[i].to, r, &m);
        const sr_decoder *d = &m.model->dec;
        is_of(&d->layer[0].qkv[0], cases[i].usual, cases[i].group);
        is_of(&d->layer[2].up[1], cases[i].usual, cases[i].group);
        is_of(&d->layer[1].down, cases[i].usual, cases[i].group);
        is_of(&d->layer[0].qkv[2], cases[i].v, cases[i].group);
        is_of(&d->layer[5].qkv[2], cases[i].v, cases[i].group);
        is_of(&d->layer[2].down, cases[i].down2, cases[i].down_group);
        is_of(&d->layer[3].attn_out, cases[i].o, 0);
        close_model(&m);
        sr_recipe_free(r);
    }
    sr_err err = {0};
    sr_quantizer *q;
    sr_recipe *r = read_recipe(state, "a", "v_proj = 5\n");
    check_error("bits", sr_quantizer_plan(story, "x", &(sr_quantize_options){.to = "gptq:4", .recipe = r}, &q, &err),
                &err, SR_INVALID, "of 5 bits", NULL);
    sr_recipe_free(r);
    err = (sr_err){0};
    r = read_recipe(state, "a", "v_proj = mlx:mxfp4,group=64\n");
    check_error("group", sr_quantizer_plan(story, "x", &(sr_quantize_options){.to = "mlx:4", .recipe = r}, &q, &err),
                &err, SR_INVALID, "groups of 64", NULL);
    sr_recipe_free(r);
    err = (sr_err){0};
    r = read_recipe(state, "a", "v_proj = iq4_xs\n");
    check_error("uqff", sr_quantizer_plan(story, "x", &(sr_quantize_options){.to = "uqff:q4k", .recipe = r}, &q, &err),
                &err, SR_INVALID, "iq4_xs", "q4_0, q4_1", NULL);
    sr_recipe_free(r);
}

/* Embedding and head have a finer type than the others, unless a rule says another one. */
static void layers_of_uqff_have_the_type_of_a_rule(void **state) {
    static const char *const rules[] = {"v_proj = 5\n", "embed_tokens = 3\n"}, *const types[] = {"q6_k", "q3_k"};
    for (int i = 0; i < 2; i++) {
        struct opened m;
        sr_recipe *r = read_recipe(state, "a", rules[i]);
        make_mixed(state, story, "uqff:q4k", r, &m);
        is_of(&m.model->dec.embed, types[i], 0);
        is_of(&m.model->dec.layer[1].qkv[2], i ? "q4_k" : "q5_k", 0);
        close_model(&m);
        sr_recipe_free(r);
    }
    /* experts are stacks, which F8Q8 is not multiplied as */
    struct opened m;
    sr_recipe *r = read_recipe(state, "a", "blk\\.1\\.ffn_up_exps = 8\nblk\\.0\\.ffn_down_exps = f8q8\n");
    make_mixed(state, mixtral, "uqff:q4_0", r, &m);
    const sr_layer *l = m.model->dec.layer;
    is_of(l[1].mixture->up[1].w, "q8_0", 0);
    is_of(l[1].mixture->up[0].w, "q4_0", 0);
    if (strcmp(l[0].mixture->down.w->fmt->name, "f8q8") == 0) fail_msg("a stack of f8q8");
    close_model(&m);
    sr_recipe_free(r);
}

/* mlx_lm/convert.py: of six layers the third and the last; embedding and head are one here. */
static void mixes_of_mlx_lm_are_known_by_name(void **state) {
    struct opened m;
    make_mixed(state, story, "mlx:mixed_3_6,group=32", NULL, &m);
    const sr_decoder *d = &m.model->dec;
    is_of(&d->embed, "mlx3", 32);
    for (int l = 0; l < 6; l++) {
        const char *type = l == 2 || l == 5 ? "mlx6" : "mlx3";
        is_of(&d->layer[l].qkv[2], type, 32);
        is_of(&d->layer[l].down, type, 32);
        is_of(&d->layer[l].qkv[0], "mlx3", 32);
        is_of(&d->layer[l].up[1], "mlx3", 32);
    }
    close_model(&m);
    sr_recipe *r = read_recipe(state, "a", "v_proj = 5\n");
    sr_err err = {0};
    sr_quantizer *q;
    check_error("both",
                sr_quantizer_plan(story, "x", &(sr_quantize_options){.to = "mlx:mixed_3_6", .recipe = r}, &q, &err),
                &err, SR_INVALID, "a recipe of its own", NULL);
    sr_recipe_free(r);
}

/* What MLX has of a layer's experts is one stack, under the one name that its config can give a type. */
static void experts_of_mlx_have_one_type(void **state) {
    static const char *const from[] = {mixtral, SR_SOURCE_DIR "/tests/vectors/tiny/mixtral.gguf"};
    for (int i = 0; i < 2; i++) {
        struct opened m;
        sr_file *file;
        sr_recipe *r = read_recipe(state, "a", "blk\\.1\\.ffn_up_exps = 8\n");
        make_mixed(state, from[i], "mlx:4,group=32", r, &m);
        const sr_layer *l = m.model->dec.layer;
        is_of(l[1].mixture->up[0].w, "mlx4", 32);
        is_of(l[1].mixture->up[1].w, "mlx8", 32);
        is_of(l[0].mixture->up[1].w, "mlx4", 32);
        close_model(&m);
        OK(sr_file_open(in(*state, "made"), &(sr_file_options){0}, &file, e_));
        static const char key[] = "quantization.model.layers.1.block_sparse_moe.switch_mlp.up_proj.bits";
        int64_t bits = 0;
        assert_true(sr_value_int(file, key, 0, 99, &bits, NULL) && bits == 8);
        const sr_part *scales = sr_file_part(file, "model.layers.1.block_sparse_moe.switch_mlp.up_proj.scales");
        assert_true(scales && scales->n_dims == 3 && scales->shape[0] == 4);
        sr_file_close(file);
        sr_recipe_free(r);
    }
}

/* Experts that stay matrices of their own are rounded with what an importance matrix says of each. */
static void importances_reach_single_experts(void **state) {
    enum { T = 60 };
    struct opened plain, made;
    sr_imatrix *im;
    sr_session *session;
    sr_quantizer *q;
    int32_t ids[T];
    open_with(mixtral, (sr_model_options){0}, &plain);
    for (int i = 0; i < T; i++) ids[i] = (i * 37 + 5) % plain.model->dec.h.n_vocab;
    OK(sr_imatrix_observe(plain.model, &im, e_));
    OK(sr_session_create(plain.model, &(sr_session_options){.n_ctx = T}, &session, e_));
    OK(sr_session_sync(session, ids, T, e_));
    OK(sr_step(&session, 1, e_));
    OK(sr_quantizer_plan(mixtral, in(*state, "made"),
                         &(sr_quantize_options){.to = "gptq:4,group=32", .importance = im, .threads = 2}, &q, e_));
    OK(sr_quantizer_run(q, false, e_));
    sr_quantizer_free(q);
    open_with(in(*state, "made"), (sr_model_options){0}, &made);
    for (int e = 0; e < 4; e++) {
        const sr_weight *w = &plain.model->dec.layer[1].mixture->up[0].w[e],
                        *got = &made.model->dec.layer[1].mixture->up[0].w[e];
        float *values, row[32], want[32], have[32];
        int n;
        sr_arena arena = {0};
        sr_weight to;
        OK(sr_imatrix_of(im, "blk.1.ffn_gate_exps", w->K, 4, &arena, &values, &n, e_));
        assert_true(n == 4 && w->K == 32);
        OK(sr_weight_create(got->fmt, w->N, w->K, &got->spec, &arena, &to, e_));
        for (int64_t i = 0; i < w->N; i++) {
            w->fmt->decode(w, i, 0, w->K, row);
            sr_rtn_rows(&to, i, 1, row, values + e * w->K);
        }
        for (int64_t i = 0; i < w->N; i++) {
            to.fmt->decode(&to, i, 0, w->K, want);
            got->fmt->decode(got, i, 0, w->K, have);
            assert_memory_equal(want, have, sizeof want);
        }
        sr_arena_free(&arena);
    }
    close_model(&made);
    sr_session_free(session);
    sr_imatrix_free(im);
    close_model(&plain);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_scratch, remove_scratch)
    const struct CMUnitTest tests[] = {
        TEST(the_last_rule_that_matches_counts),      TEST(what_was_written_reads_back),
        TEST(slips_are_named_with_their_line),        TEST(hostile_patterns_end),
        TEST(topologies_follow_their_own_order),      TEST(hostile_topologies_end),
        TEST(matrices_open_in_their_types),           TEST(moqe_is_for_experts_alone),
        TEST(importances_reach_the_encoder),          TEST(files_have_their_types),
        TEST(layers_of_uqff_have_the_type_of_a_rule), TEST(directories_have_several_types),
        TEST(mixes_of_mlx_lm_are_known_by_name),      TEST(experts_of_mlx_have_one_type),
        TEST(importances_reach_single_experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
