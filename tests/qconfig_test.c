/* Quantization configs as tools write them, and what they say about single modules. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fmt/fmt.h"

struct made {
    char dir[64];
    char file[96];
    sr_file *sr;
    sr_arena arena;
    sr_qconfig *config;
};

/* A model directory whose config.json, or other file, holds this. */
static sr_status make(struct made *m, const char *name, const char *text, sr_err *err) {
    memset(m, 0, sizeof *m);
    strcpy(m->dir, "qconfig_test_XXXXXX");
    assert_non_null(mkdtemp(m->dir));
    snprintf(m->file, sizeof m->file, "%s/config.json", m->dir);
    FILE *f = fopen(m->file, "w");
    fputs(strcmp(name, "config.json") ? "{}" : text, f);
    fclose(f);
    char other[96] = "";
    if (strcmp(name, "config.json")) {
        snprintf(other, sizeof other, "%s/%s", m->dir, name);
        f = fopen(other, "w");
        fputs(text, f);
        fclose(f);
    }
    sr_err own = {0};
    if (sr_file_open(m->dir, &(sr_file_options){.no_weights = true}, &m->sr, &own) != SR_OK) fail_msg("%s", own.msg);
    unlink(m->file);
    if (*other) unlink(other);
    rmdir(m->dir);
    return sr_qconfig_read(m->sr, &m->arena, &m->config, err);
}
static void release(struct made *m) {
    sr_file_close(m->sr);
    sr_arena_free(&m->arena);
}

static struct made open_config(const char *name, const char *text) {
    struct made m;
    sr_err err = {0};
    if (make(&m, name, text, &err) != SR_OK) fail_msg("%s", err.msg);
    return m;
}
static sr_qspec spec_of(const struct made *m, const char *module) {
    sr_qspec spec;
    sr_err err = {0};
    if (sr_qconfig_resolve(m->config, module, &spec, &err) != SR_OK) fail_msg("%s: %s", module, err.msg);
    return spec;
}
static void refuses(const char *text, sr_status code, const char *const *words) {
    struct made m;
    sr_err err = {0};
    assert_int_equal(make(&m, "config.json", text, &err), code);
    for (; *words; words++)
        if (!strstr(err.msg, *words)) fail_msg("'%s' does not say '%s'", err.msg, *words);
    release(&m);
}

static void a_plain_checkpoint_has_none(void **state) {
    (void)state;
    struct made m = open_config("config.json", "{\"hidden_size\": 8}");
    assert_null(m.config);
    sr_qspec s = spec_of(&m, "model.layers.0.mlp.up_proj");
    assert_null(s.method);
    release(&m);
}

static void gptq_defaults_are_those_of_its_first_tool(void **state) {
    (void)state;
    struct made m = open_config("quantize_config.json", "{\"bits\": 4, \"group_size\": 128, \"desc_act\": true}");
    sr_qspec s = spec_of(&m, "model.layers.0.mlp.up_proj");
    assert_string_equal(s.method, "gptq");
    assert_string_equal(s.layout, "gptq");
    assert_int_equal(s.bits, 4);
    assert_int_equal(s.group, 128);
    assert_true(s.sym && s.act_order && !s.skip);
    release(&m);
    m = open_config("config.json",
                    "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 3, \"group_size\": -1, "
                    "\"sym\": false, \"is_marlin_format\": true}}");
    s = spec_of(&m, "x");
    assert_string_equal(s.layout, "marlin");
    assert_int_equal(s.group, -1);
    assert_false(s.sym);
    release(&m);
}

static void gptq_rules_are_regular_expressions_for_single_modules(void **state) {
    (void)state;
    struct made m = open_config(
        "config.json", "{\"quantization_config\": {\"method\": \"gptq\", \"bits\": 4, \"group_size\": 128, \"format\": "
                       "\"gptq_v2\", \"meta\": {\"quantizer\": [\"x\"]}, \"dynamic\": {\"+:.*\\\\.18\\\\..*gate.*\": "
                       "{\"bits\": 8, \"group_size\": 64}, \".*down.*\": {\"sym\": false}, \"-:.*k_proj\": {\"bits\": "
                       "2}}}}");
    assert_string_equal(spec_of(&m, "model.layers.1.mlp.gate_proj").layout, "gptq_v2");
    assert_int_equal(spec_of(&m, "model.layers.1.mlp.gate_proj").bits, 4);
    assert_int_equal(spec_of(&m, "model.layers.18.mlp.gate_proj").bits, 8);
    assert_int_equal(spec_of(&m, "model.layers.18.mlp.gate_proj").group, 64);
    assert_false(spec_of(&m, "model.layers.18.mlp.down_proj").sym);
    assert_true(spec_of(&m, "model.layers.18.self_attn.k_proj").skip);
    assert_int_equal(spec_of(&m, "model.layers.18.self_attn.k_proj").bits, 4);
    release(&m);
}

static void auto_round_maps_each_packing_to_its_method(void **state) {
    static const char *const packing[][3] = {
        {"auto_round:auto_gptq", "gptq", "gptq"},         {"auto_round:auto_awq", "awq", "gemm"},
        {"auto_round:gptqmodel", "gptq", "gptq_v2"},      {"auto_round", "gptq", "gptq_v2"},
        {"auto_round:gptq:exllamav2", "gptq", "gptq"},    {"auto_round:exllamav2", "gptq", "gptq_v2"},
        {"auto_round:llm_compressor", "gptq", "gptq_v2"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof packing / sizeof *packing; i++)
        for (int old = 0; old < 2; old++) { /* up to 0.4 it was the backend, and another name */
            char text[256];
            snprintf(text, sizeof text,
                     "{\"quantization_config\": {\"quant_method\": \"%sauto-round\", \"bits\": 2, \"group_size\": 64, "
                     "\"sym\": false, \"%s\": \"%s\"}}",
                     old ? "intel/" : "", old ? "backend" : "packing_format", packing[i][0]);
            struct made m = open_config("config.json", text);
            sr_qspec s = spec_of(&m, "model.layers.0.mlp.up_proj");
            assert_string_equal(s.method, packing[i][1]);
            assert_string_equal(s.layout, packing[i][2]);
            assert_string_equal(s.writer, "auto-round");
            assert_int_equal(s.bits, 2);
            assert_int_equal(s.group, 64);
            assert_false(s.sym || s.skip);
            release(&m);
        }
    struct made m = open_config("config.json", "{\"quantization_config\": {\"quant_method\": \"auto-round\", "
                                               "\"backend\": \"auto\"}}");
    sr_qspec s = spec_of(&m, "x");
    assert_string_equal(s.layout, "gptq");
    assert_int_equal(s.bits, 4);
    assert_int_equal(s.group, 128);
    assert_true(s.sym);
    release(&m);
}

static void auto_round_has_rules_for_blocks_modules_and_patterns(void **state) {
    static const char *const blocks[] = {"\"model.layers,model.visual\"", "[\"model.layers\", \"model.visual\"]"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"quantization_config\": {\"quant_method\": \"auto-round\", \"bits\": 4, \"group_size\": 128, "
                 "\"packing_format\": \"auto_round:auto_gptq\", \"block_name_to_quantize\": %s, \"extra_config\": {"
                 "\".*\\\\.1\\\\..*\": {\"bits\": 8, \"act_bits\": 16}, "
                 "\"model.layers.1.mlp.down_proj\": {\"group_size\": 32, \"sym\": false}, "
                 "\".*_proj\": {\"bits\": 2}, \"model.layers.2.mlp.gate\": {\"bits\": 16}, "
                 "\"lm_head\": {\"bits\": 4, \"data_type\": \"int\"}}}}",
                 blocks[i]);
        struct made m = open_config("config.json", text);
        assert_false(spec_of(&m, "model.visual.blocks.0.mlp").skip);
        assert_int_equal(spec_of(&m, "model.visual.blocks.0.mlp").bits, 4);
        assert_true(spec_of(&m, "model.connector.mlp").skip);
        assert_false(spec_of(&m, "lm_head").skip);
        assert_true(spec_of(&m, "model.layers.2.mlp.gate").skip);
        assert_int_equal(spec_of(&m, "model.layers.0.mlp.up_proj").bits, 2);
        assert_int_equal(spec_of(&m, "model.layers.1.mlp.up_proj").bits, 8); /* the first pattern */
        sr_qspec s = spec_of(&m, "model.layers.1.mlp.down_proj");            /* a name before patterns */
        assert_int_equal(s.bits, 4);
        assert_int_equal(s.group, 32);
        assert_false(s.sym);
        release(&m);
    }
    refuses("{\"quantization_config\": {\"quant_method\": \"auto-round\", \"rotation_config\": {\"size\": 64}}}",
            SR_UNSUPPORTED, (const char *const[]){"rotation_config.size is there", NULL});
    refuses("{\"quantization_config\": {\"quant_method\": \"auto-round\", \"data_type\": \"fp8_to_int_sym\"}}",
            SR_UNSUPPORTED, (const char *const[]){"data_type is 'fp8_to_int_sym'", NULL});
}

static void awq_reads_both_spellings(void **state) {
    (void)state;
    struct made m =
        open_config("quant_config.json", "{\"w_bit\": 4, \"q_group_size\": 64, \"zero_point\": true, \"version\": "
                                         "\"gemv\"}");
    sr_qspec s = spec_of(&m, "x");
    assert_string_equal(s.method, "awq");
    assert_string_equal(s.layout, "gemv");
    assert_int_equal(s.bits, 4);
    assert_int_equal(s.group, 64);
    assert_false(s.sym);
    release(&m);
    m = open_config("config.json",
                    "{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 128, "
                    "\"zero_point\": false, \"modules_to_not_convert\": [\"mlp.gate\"]}}");
    assert_true(spec_of(&m, "x").sym);
    assert_string_equal(spec_of(&m, "x").layout, "gemm");
    assert_true(spec_of(&m, "model.layers.0.mlp.gate").skip);
    release(&m);
}

static void mlx_needs_no_method_and_overrides_by_module(void **state) {
    (void)state;
    struct made m = open_config(
        "config.json",
        "{\"quantization\": {\"group_size\": 64, \"bits\": 4, \"model.embed_tokens\": {\"group_size\": 32, "
        "\"bits\": 6}, \"lm_head\": false, \"model.layers.0.mlp.up_proj\": {\"bits\": 4, \"group_size\": 32, "
        "\"mode\": \"mxfp4\"}}}");
    sr_qspec s = spec_of(&m, "model.layers.1.mlp.up_proj");
    assert_string_equal(s.method, "mlx");
    assert_string_equal(s.layout, "affine");
    assert_int_equal(s.bits, 4);
    assert_int_equal(s.group, 64);
    s = spec_of(&m, "model.embed_tokens");
    assert_int_equal(s.bits, 6);
    assert_int_equal(s.group, 32);
    assert_string_equal(spec_of(&m, "model.layers.0.mlp.up_proj").layout, "mxfp4");
    assert_true(spec_of(&m, "lm_head").skip);
    release(&m);
}

static void hqq_reads_one_scheme_or_one_a_linear_tag(void **state) {
    (void)state;
    struct made m =
        open_config("config.json", "{\"quantization_config\": {\"quant_method\": \"hqq\", \"quant_config\": "
                                   "{\"weight_quant_params\": {\"nbits\": 3, \"group_size\": 64, \"axis\": 0}}, "
                                   "\"skip_modules\": [\"lm_head\"]}}");
    sr_qspec s = spec_of(&m, "model.layers.0.mlp.up_proj");
    assert_int_equal(s.bits, 3);
    assert_int_equal(s.axis, 0);
    assert_true(spec_of(&m, "lm_head").skip);
    release(&m);
    m = open_config("config.json",
                    "{\"quantization_config\": {\"quant_method\": \"hqq\", \"quant_config\": "
                    "{\"self_attn.q_proj\": {\"weight_quant_params\": {\"nbits\": 8, \"group_size\": 128}}, "
                    "\"mlp.up_proj\": {\"weight_quant_params\": {\"nbits\": 1.58, \"group_size\": 16}}}}}");
    assert_int_equal(spec_of(&m, "model.layers.3.self_attn.q_proj").bits, 8);
    assert_int_equal(spec_of(&m, "model.layers.3.mlp.up_proj").bits, 2);
    assert_int_equal(spec_of(&m, "model.layers.3.mlp.up_proj").group, 16);
    release(&m);
}

static void compressed_tensors_targets_classes_names_and_patterns(void **state) {
    (void)state;
    struct made m = open_config(
        "config.json",
        "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": \"mixed-precision\", "
        "\"config_groups\": {\"group_0\": {\"targets\": [\"re:.*down_proj\"], \"format\": \"float-quantized\", "
        "\"weights\": "
        "{\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"block\", \"block_structure\": [128, 64]}}, "
        "\"group_1\": "
        "{\"targets\": [\"Linear\"], \"format\": \"pack-quantized\", \"weights\": {\"num_bits\": 4, \"type\": \"int\", "
        "\"group_size\": 32, \"symmetric\": false, \"actorder\": \"group\"}}}, \"ignore\": [\"lm_head\", "
        "\"re:.*router.*\"]}}");
    sr_qspec s = spec_of(&m, "model.layers.0.mlp.down_proj");
    assert_string_equal(s.layout, "float-quantized");
    assert_int_equal(s.bits, 8);
    assert_int_equal(s.group_n, 128);
    assert_int_equal(s.group, 64);
    s = spec_of(&m, "model.layers.0.mlp.up_proj");
    assert_string_equal(s.layout, "pack-quantized");
    assert_int_equal(s.bits, 4);
    assert_int_equal(s.group, 32);
    assert_true(!s.sym && s.act_order && !s.skip);
    assert_true(spec_of(&m, "lm_head").skip);
    assert_true(spec_of(&m, "model.layers.0.mlp.router.gate").skip);
    release(&m);
}

static void modelopt_is_recognised_by_its_file(void **state) {
    (void)state;
    struct made m =
        open_config("hf_quant_config.json",
                    "{\"producer\": {\"name\": \"modelopt\"}, \"quantization\": {\"quant_algo\": \"NVFP4\", "
                    "\"group_size\": 16, \"exclude_modules\": [\"lm_head\"]}}");
    sr_qspec s = spec_of(&m, "model.layers.0.mlp.up_proj");
    assert_string_equal(s.method, "modelopt");
    assert_string_equal(s.layout, "NVFP4");
    assert_int_equal(s.group, 16);
    assert_true(spec_of(&m, "lm_head").skip);
    release(&m);
}

static void errors_name_file_key_and_what_is_known(void **state) {
    (void)state;
    refuses("{\"quantization_config\": {\"quant_method\": \"aqlm\"}}", SR_UNSUPPORTED,
            (const char *const[]){"quant_method", "'aqlm'", "gptq", "awq", NULL});
    refuses("{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 0}}", SR_CORRUPT,
            (const char *const[]){"quantization_config.group_size", "0", NULL});
    refuses("{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 99}}", SR_CORRUPT,
            (const char *const[]){"quantization_config.bits", "99", NULL});
    refuses("{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": \"four\"}}", SR_CORRUPT,
            (const char *const[]){"quantization_config.bits", NULL});
    refuses("{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [0, 128]}}", SR_CORRUPT,
            (const char *const[]){"weight_block_size", "[0, 128]", NULL});
    refuses(
        "{\"quantization_config\": {\"quant_method\": \"hqq\", \"quant_config\": {\"weight_quant_params\": {\"nbits\": "
        "2.5}}}}",
        SR_CORRUPT, (const char *const[]){"nbits", "2.5", NULL});
    refuses("{\"quantization_config\": {\"foo\": 4}}", SR_UNSUPPORTED, (const char *const[]){"quant_method", NULL});
}

/* Each pattern stays below the limit of one match; together they would take hours. */
static void the_work_of_all_rules_is_bounded(void **state) {
    (void)state;
    enum { N = 4000 };
    char *text = malloc(N * 64), name[64];
    size_t n =
        (size_t)sprintf(text, "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": {");
    for (int i = 0; i < N; i++)
        n += (size_t)sprintf(text + n, "%s\"([a-z._0-9]?){15}Q%d\": {\"bits\": 8}", i ? ", " : "", i);
    strcpy(text + n, "}}}");
    struct made m = open_config("config.json", text);
    sr_qspec s;
    sr_err err = {0};
    int asked = 0;
    for (; asked < 1000 && err.code == SR_OK; asked++) {
        snprintf(name, sizeof name, "model.layers.%d.mlp.down_proj", asked);
        sr_qconfig_resolve(m.config, name, &s, &err);
    }
    if (err.code != SR_LIMIT || !strstr(err.msg, "takes too long to match")) fail_msg("%s", err.msg);
    assert_true(asked < 10);
    free(text);
    release(&m);
}

static void of_two_failures_the_first_is_told_and_returned(void **state) {
    (void)state;
    refuses("{\"quantization_config\": {\"bits\": \"awq\"}}", SR_CORRUPT,
            (const char *const[]){"quantization_config.bits", NULL});
    refuses("{\"quantization_config\": {\"quant_method\": \"aqlm\", \"bits\": 99}}", SR_CORRUPT,
            (const char *const[]){"quantization_config.bits", "99", NULL});
}

static void a_rule_that_is_no_pattern_is_an_error_where_it_is_needed(void **state) {
    (void)state;
    struct made m = open_config("config.json", "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, "
                                               "\"dynamic\": {\"+:(unclosed\": {\"bits\": 8}}}}");
    sr_qspec s;
    sr_err err = {0};
    assert_int_equal(sr_qconfig_resolve(m.config, "x", &s, &err), SR_INVALID);
    assert_non_null(strstr(err.msg, "(unclosed"));
    release(&m);
    /* A pattern that would take forever is stopped. */
    m = open_config("config.json", "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": "
                                   "{\"+:(a+)+$\": {\"bits\": 8}}}}");
    err = (sr_err){0};
    assert_int_equal(sr_qconfig_resolve(m.config, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", &s, &err),
                     SR_LIMIT);
    release(&m);
}

static bool same_text(const char *a, const char *b) {
    return !strcmp(a ? a : "", b ? b : "");
}
/* Whatever is written says to our reader what it was written from, of modules that are converted and that are not. */
static void what_is_written_reads_back(void **state) {
    (void)state;
    static const char *const skip[] = {"lm_head", "model.layers.0.mlp.\"odd\"\\gate"};
    int written = 0;
    for (int f = 0; sr_formats[f]; f++)
        for (int kind = 0; kind < 5; kind++) {
            const sr_format *fmt = sr_formats[f];
            sr_qspec want = fmt->spec;
            const char *text;
            char config[2048];
            sr_arena arena = {0};
            sr_err err = {0};
            if (!fmt->fit) continue;
            if (!want.method) {
                assert_int_equal(sr_qconfig_write(fmt, NULL, NULL, 0, NULL, 0, &arena, &text, &err), SR_UNSUPPORTED);
                continue;
            }
            const bool fp8 = !strcmp(want.method, "fp8");
            if (kind == 1 && !fmt->group) want.group = 32;
            if (kind == 2) want.sym = !want.sym, want.act_order = true;
            if (kind == 3 && fp8) want.group = -1, want.group_n = 0;
            if (kind == 4 && fp8) want.method = "compressed-tensors";
            const sr_status st = sr_qconfig_write(fmt, &want, skip, 2, NULL, 0, &arena, &text, &err);
            if (st != SR_OK) fail_msg("%s: %s", fmt->name, err.msg);
            const bool mlx = !strcmp(want.method, "mlx");
            snprintf(config, sizeof config, "{\"%s\": %s}", mlx ? "quantization" : "quantization_config", text);
            struct made m = open_config("config.json", config);
            sr_qspec got = spec_of(&m, "model.layers.3.self_attn.q_proj");
            written++;
            if (!same_text(got.method, want.method)) fail_msg("%s: method %s", fmt->name, got.method);
            if (got.bits != want.bits && strcmp(want.method, "mxfp4") && strcmp(want.method, "modelopt"))
                fail_msg("%s: %d bits, want %d", fmt->name, got.bits, want.bits);
            const bool told = !strcmp(want.method, "gptq") || !strcmp(want.method, "awq") || mlx ||
                              !strcmp(want.method, "compressed-tensors") || !strcmp(want.method, "hqq") || fp8;
            if (told && got.group != (fp8 && kind == 3 ? 0 : want.group))
                fail_msg("%s: group %d, want %d", fmt->name, got.group, want.group);
            if (fp8 && kind != 3 && got.group_n != want.group_n)
                fail_msg("%s: %d rows, want %d", fmt->name, got.group_n, want.group_n);
            if (!strcmp(want.method, "gptq") || !strcmp(want.method, "awq") ||
                !strcmp(want.method, "compressed-tensors"))
                assert_int_equal(got.sym, want.sym);
            if (!strcmp(want.method, "gptq")) assert_int_equal(got.act_order, want.act_order);
            if (!fp8) assert_true(same_text(got.layout, want.layout) || !got.layout);
            if (strcmp(want.method, "gptq")) /* whose rules without a key are not seen */
                for (int i = 0; i < 2; i++)
                    if (!spec_of(&m, skip[i]).skip) fail_msg("%s: %s is not skipped: %s", fmt->name, skip[i], text);
            assert_false(got.skip);
            release(&m);
            sr_arena_free(&arena);
        }
    assert_true(written > 100);
}

/* Modules with types of their own are found again, all others are as usual; layers share a pattern. */
static void types_of_single_modules_read_back(void **state) {
    (void)state;
    static const struct {
        const char *usual, *other;
        bool mixes;
    } cases[] = {{"mlx4", "mlx6", true},         {"mlx4", "mlx_mxfp8", true},   {"gptq4", "gptq8", true},
                 {"ct_pack4", "ct_pack8", true}, {"ct_pack4", "ct_int8", true}, {"hqq4", "hqq8", false},
                 {"nf4", "bnb_int8", false},     {"awq4", "awq4", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const sr_format *usual = sr_format_by_name(cases[i].usual), *other = sr_format_by_name(cases[i].other);
        sr_qmodule own[] = {{"model.layers.0.mlp.down_proj", other, other->spec},
                            {"model.layers.11.mlp.down_proj", other, other->spec},
                            {"model.layers.1.self_attn.q_proj", other, other->spec},
                            {"model.layers.1.mlp.experts.3.up_proj", usual, usual->spec}};
        own[3].spec.group = 32;
        const char *text;
        char config[4096];
        sr_arena arena = {0};
        sr_err err = {0};
        sr_status s = sr_qconfig_write(usual, NULL, NULL, 0, own, 4, &arena, &text, &err);
        if (!cases[i].mixes) {
            assert_int_equal(s, SR_UNSUPPORTED);
            assert_non_null(strstr(err.msg, own[0].name));
            continue;
        }
        assert_int_equal(s, SR_OK);
        const bool mlx = !strcmp(usual->spec.method, "mlx");
        if (!mlx) assert_non_null(strstr(text, "\\\\.(0|11)\\\\.mlp"));
        if (strcmp(cases[i].other, "ct_int8") == 0) assert_non_null(strstr(text, "\"format\": \"mixed-precision\""));
        snprintf(config, sizeof config, "{\"%s\": %s}", mlx ? "quantization" : "quantization_config", text);
        struct made m = open_config("config.json", config);
        for (int k = 0; k < 4; k++) {
            const sr_qspec got = spec_of(&m, own[k].name);
            if (got.bits != own[k].spec.bits || got.group != own[k].spec.group ||
                (!same_text(got.layout, own[k].spec.layout) && strcmp(usual->spec.method, "gptq")))
                fail_msg("%s: %d bits in groups of %d: %s", own[k].name, got.bits, got.group, text);
        }
        static const char *const others[] = {"model.layers.1.mlp.down_proj", "model.layers.110.mlp.down_proj",
                                             "model.layers.11.mlp.down_proj_x", "model.layers.1.self_attn.k_proj",
                                             "model.layers.1.mlp.experts.13.up_proj"};
        for (int k = 0; k < 5; k++) {
            const sr_qspec got = spec_of(&m, others[k]);
            if (got.bits != usual->spec.bits || got.group != usual->spec.group)
                fail_msg("%s: %d bits in groups of %d: %s", others[k], got.bits, got.group, text);
        }
        /* vLLM asks for what it makes of q, k and v. */
        if (!mlx) assert_int_equal(spec_of(&m, "model.layers.1.self_attn.qkv_proj").bits, other->spec.bits);
        release(&m);
        sr_arena_free(&arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_checkpoint_has_none),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(types_of_single_modules_read_back),
        cmocka_unit_test(gptq_defaults_are_those_of_its_first_tool),
        cmocka_unit_test(gptq_rules_are_regular_expressions_for_single_modules),
        cmocka_unit_test(auto_round_maps_each_packing_to_its_method),
        cmocka_unit_test(auto_round_has_rules_for_blocks_modules_and_patterns),
        cmocka_unit_test(awq_reads_both_spellings),
        cmocka_unit_test(mlx_needs_no_method_and_overrides_by_module),
        cmocka_unit_test(hqq_reads_one_scheme_or_one_a_linear_tag),
        cmocka_unit_test(compressed_tensors_targets_classes_names_and_patterns),
        cmocka_unit_test(modelopt_is_recognised_by_its_file),
        cmocka_unit_test(errors_name_file_key_and_what_is_known),
        cmocka_unit_test(the_work_of_all_rules_is_bounded),
        cmocka_unit_test(of_two_failures_the_first_is_told_and_returned),
        cmocka_unit_test(a_rule_that_is_no_pattern_is_an_error_where_it_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
