/* gpt-oss: sinks, a window on every other layer, experts with biases and a clamped activation. */
#include <stddef.h>

#include "arch/arch.h"

/* GGUF has gate and up apart, and no key for how YaRN's blend is cut; the published stacks alternate their rows. */
static const char *check(const sr_file *file, sr_hparams *h) {
    double limit = 7, alpha = 1.702;
    h->act = file->gguf ? SR_ACT_SWIGLU : SR_ACT_SWIGLU_PAIRS;
    if (file->gguf) h->rotation[0].truncate = false;
    sr_value_float(file, "swiglu_limit", &limit, NULL);
    sr_value_float(file, "swiglu_alpha", &alpha, NULL);
    return limit == 7 && alpha == 1.702 ? NULL : "its activation is not the published one (swiglu_limit, swiglu_alpha)";
}

const sr_arch sr_arch_gptoss = {
    .name = "gpt-oss",
    .gguf_name = "gpt-oss",
    .hf = (const char *const[]){"GptOssForCausalLM", "gpt_oss", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .bias = SR_BIAS_QKV | SR_BIAS_ATTN_OUT,
    .window = true,
    .window_period = 2,
    .sinks = true,
    .experts = "num_local_experts",
    .stacked_experts = true,
    .gate = SR_GATE_CHOSEN,
    .names = (const sr_name[]){{SR_FFN_NORM, "post_attention_layernorm", "post_attention_norm"},
                               {SR_ROUTER, "mlp.router", "ffn_gate_inp"},
                               {0}},
    .defaults = (const sr_default[]){{"rope_theta", NULL, 150000}, {NULL, NULL, 0}},
    .check = check,
};
