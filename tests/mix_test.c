/* Types of single tensors in llama.cpp's file types, as its own quantizer gives them: tests/vectors/mixes.tsv. */
#include "support.h"

#include "fmt/fmt.h"
#include "quant/quant.h"

enum { LINE = 8192, MOST_TENSORS = 32 };

static const struct {
    const char *name;
    sr_role role;
} roles[] = {{"output", SR_HEAD},
             {"token_embd", SR_EMBED},
             {"blk.*.attn_q", SR_Q},
             {"blk.*.attn_k", SR_K},
             {"blk.*.attn_v", SR_V},
             {"blk.*.attn_qkv", SR_QKV},
             {"blk.*.attn_output", SR_ATTN_OUT},
             {"blk.*.ffn_gate", SR_GATE},
             {"blk.*.ffn_up", SR_UP},
             {"blk.*.ffn_down", SR_DOWN},
             {"blk.*.ffn_gate_exps", SR_EXPERTS_GATE},
             {"blk.*.ffn_up_exps", SR_EXPERTS_UP},
             {"blk.*.ffn_down_exps", SR_EXPERTS_DOWN},
             {"blk.*.ffn_gate_shexp", SR_SHARED_GATE},
             {"blk.*.ffn_up_shexp", SR_SHARED_UP},
             {"blk.*.ffn_down_shexp", SR_SHARED_DOWN},
             {"blk.*.attn_q_a", SR_Q_A},
             {"blk.*.attn_q_b", SR_Q_B},
             {"blk.*.attn_kv_a_mqa", SR_KV_A},
             {"blk.*.attn_kv_b", SR_KV_B},
             {"blk.*.attn_k_b", SR_K_B},
             {"blk.*.attn_v_b", SR_V_B}};

struct tensor {
    char name[64]; /* with * for the layer */
    sr_role role;
    int k, first, end; /* layers; -1, 0: of none */
};

/* "blk.3-26.ffn_up": of some layers. */
static void take_layers(struct tensor *t, int n_layer) {
    int n = 0;
    t->first = strchr(t->name, '*') ? 0 : -1;
    t->end = t->first < 0 ? 0 : n_layer;
    if (sscanf(t->name, "blk.%d-%d.%n", &t->first, &t->end, &n) == 2 && n > 0) {
        char rest[64];
        snprintf(rest, sizeof rest, "%s", t->name + n);
        snprintf(t->name, sizeof t->name, "blk.*.%.50s", rest);
        t->end++;
    }
}

static sr_mix_place place_of(const struct tensor *all, int n, const struct tensor *t, int layer) {
    sr_mix_place at = {.layer = layer};
    for (const struct tensor *o = all; o < all + n; o++) {
        if (sr_mix_kind(o->role) != sr_mix_kind(t->role)) continue;
        for (int l = o->first; l < o->end; l++, at.n++) at.i += l != layer ? l < layer : strcmp(o->name, t->name) < 0;
    }
    return at;
}

/* The types of one tensor, "q6_k*2,q4_k*14". */
static int compare(const char *model_name, const sr_mix *mix, const sr_mix_model *model, const struct tensor *all,
                   int n, const struct tensor *t, char *runs) {
    int i = t->first;
    char *rest = NULL;
    for (char *run = strtok_r(runs, ",", &rest); run; run = strtok_r(NULL, ",", &rest)) {
        char *star = strchr(run, '*');
        const int count = star ? atoi(star + 1) : 1;
        if (star) *star = 0;
        for (int end = i + count; i < end; i++) {
            const sr_format *got = sr_mix_type(mix, model, t->role, place_of(all, n, t, i), t->k);
            if (!got || strcmp(got->name, run) != 0)
                fail_msg("%s, %s: %s of layer %d: got %s, llama.cpp has %s", model_name, sr_mix_name(mix), t->name, i,
                         got ? got->name : "none", run);
        }
    }
    assert_int_equal(i, t->end);
    return t->end - t->first;
}

static void test_mixes(void **state) {
    char line[LINE], name[32] = "", arch[32] = "";
    struct tensor tensor[MOST_TENSORS];
    sr_mix_model model = {0};
    int n = 0, compared = 0;
    (void)state;
    FILE *f = fopen(SR_SOURCE_DIR "/tests/vectors/mixes.tsv", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char *rest = NULL;
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "model\t", 6) == 0) {
            model = (sr_mix_model){.tied = true, .arch = arch};
            assert_int_equal(sscanf(line, "model %31s %31s %d %d %d %d", name, arch, &model.n_layer, &model.n_head,
                                    &model.n_kv_head, &model.n_expert),
                             6);
            n = 0;
        } else if (strncmp(line, "tensor\t", 7) == 0) {
            struct tensor *t = &tensor[n++];
            size_t r = 0;
            assert_true(n <= MOST_TENSORS);
            assert_int_equal(sscanf(line, "tensor %63s %d", t->name, &t->k), 2);
            take_layers(t, model.n_layer);
            while (r < sizeof roles / sizeof *roles && strcmp(roles[r].name, t->name) != 0) r++;
            assert_true(r < sizeof roles / sizeof *roles);
            t->role = roles[r].role;
            if (t->role == SR_HEAD) model.tied = false;
        } else {
            assert_string_equal(strtok_r(line, "\t", &rest), "types");
            const sr_mix *mix = sr_mix_by_name(strtok_r(NULL, "\t", &rest));
            assert_non_null(mix);
            for (int i = 0; i < n; i++)
                compared += compare(name, mix, &model, tensor, n, &tensor[i], strtok_r(NULL, "\t", &rest));
        }
    }
    fclose(f);
    assert_true(compared > 50000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mixes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
