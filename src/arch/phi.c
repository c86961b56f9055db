/* Phi-2; and Phi-3, 3.5, 4 and 4-mini, which are one. */
#include <stddef.h>

#include "arch/arch.h"

const sr_arch sr_arch_phi2 = {
    .name = "phi2",
    .gguf_name = "phi2",
    .hf = (const char *const[]){"PhiForCausalLM", "phi", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .norm = SR_NORM_LAYER,
    .hf_eps = "layer_norm_eps",
    .act = SR_ACT_GELU_TANH,
    .bias = SR_BIAS_QKV | SR_BIAS_ATTN_OUT | SR_BIAS_MLP | SR_BIAS_HEAD,
    .parallel = true,
    .ungated = true,
    .names = (const sr_name[]){{SR_OUT_NORM, "final_layernorm", "output_norm"},
                               {SR_ATTN_OUT, "self_attn.dense", "attn_output"},
                               {SR_UP, "mlp.fc1", "ffn_up"},
                               {SR_DOWN, "mlp.fc2", "ffn_down"},
                               {0}},
    .defaults = (const sr_default[]){{"partial_rotary_factor", NULL, 0.5}, {NULL, NULL, 0}},
    .rejects = (const sr_reject[]){{"qk_layernorm", NULL, "a norm of q and k"}, {NULL, NULL, NULL}},
};

/* Old GGUF files do not say the window; these are the published models they were made from. */
static const char *check(const sr_file *file, sr_hparams *h) {
    if (!file->gguf || sr_file_value(file, "phi3.attention.sliding_window")) return NULL;
    if (h->n_ctx_train == 4096 && (h->n_layer == 32 || h->n_layer == 40))
        for (int i = 0; i < h->n_layer; i++) h->kind[i].window = 2047;
    return NULL;
}

const sr_arch sr_arch_phi3 = {
    .name = "phi3",
    .gguf_name = "phi3",
    .hf = (const char *const[]){"Phi3ForCausalLM", "phi3", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .fused = SR_FUSED_QKV | SR_FUSED_GATE_UP,
    .window = true,
    .check = check,
};

/* GGUF leaves out how close two logits are that share a token. */
static const char *check_moe(const sr_file *file, sr_hparams *h) {
    if (file->gguf) h->gating.jitter = 0.01f;
    return h->gating.used == 2 ? NULL : "its tokens go to two experts";
}

#define PHIMOE(part) "block_sparse_moe." part

/* Phi-3.5-MoE. Its epsilon has RMS in its name, its norms are not. */
const sr_arch sr_arch_phimoe = {
    .name = "phimoe",
    .gguf_name = "phimoe",
    .hf = (const char *const[]){"PhimoeForCausalLM", "PhiMoEForCausalLM", "phimoe", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .norm = SR_NORM_LAYER,
    .window = true,
    .experts = "num_local_experts",
    .gate = SR_GATE_SPARSEMIXER,
    .names = (const sr_name[]){{SR_ROUTER, PHIMOE("gate"), "ffn_gate_inp"},
                               {SR_EXPERT_GATE, PHIMOE("experts.*.w1"), "ffn_gate.*"},
                               {SR_EXPERT_UP, PHIMOE("experts.*.w3"), "ffn_up.*"},
                               {SR_EXPERT_DOWN, PHIMOE("experts.*.w2"), "ffn_down.*"},
                               {SR_EXPERTS_GATE, PHIMOE("experts.gate_proj"), "ffn_gate_exps"},
                               {SR_EXPERTS_UP, PHIMOE("experts.up_proj"), "ffn_up_exps"},
                               {SR_EXPERTS_DOWN, PHIMOE("experts.down_proj"), "ffn_down_exps"},
                               {SR_SWITCH_GATE, PHIMOE("switch_mlp.gate_proj"), NULL},
                               {SR_SWITCH_UP, PHIMOE("switch_mlp.up_proj"), NULL},
                               {SR_SWITCH_DOWN, PHIMOE("switch_mlp.down_proj"), NULL},
                               {0}},
    .defaults = (const sr_default[]){{"router_jitter_noise", NULL, 0.01}, {NULL, NULL, 0}},
    .check = check_moe,
};
