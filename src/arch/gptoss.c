/* gpt-oss: sinks, a window on every other layer, experts with biases and a clamped activation. */
#include <stddef.h>

#include "arch/arch.h"

/* GGUF and MLX have gate and up apart; the stacks of Hugging Face alternate their rows. GGUF has no key for how YaRN's
 * blend is cut: the published config says that it is not, and the logits of transformers are those of that. llama.cpp
 * cuts it. */
extern const sr_arch sr_arch_gptoss;

static const char *check(const sr_file *file, sr_hparams *h) {
    double limit = 7, alpha = 1.702;
    char gate[SR_NAME];
    const sr_naming naming = sr_naming_of(file, &sr_arch_gptoss);
    sr_name_full(&naming, SR_EXPERTS_GATE, 0, ".weight", gate);
    h->act = sr_file_part(file, gate) ? SR_ACT_SWIGLU : SR_ACT_SWIGLU_PAIRS;
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
    .bias = SR_BIAS_QKV | SR_BIAS_ATTN_OUT | SR_BIAS_MLP,
    .window = true,
    .window_period = 2,
    .sinks = true,
    .experts = "num_local_experts",
    .stacked_experts = true,
    .turned_experts = true,
    .gate = SR_GATE_CHOSEN,
    .names = (const sr_name[]){{SR_FFN_NORM, "post_attention_layernorm", "post_attention_norm"},
                               {SR_ROUTER, "mlp.router", "ffn_gate_inp"},
                               {0}},
    .defaults = (const sr_default[]){{"rope_theta", NULL, 150000}, {NULL, NULL, 0}},
    .check = check,
};
