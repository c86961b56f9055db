#include <stddef.h>

#include "arch/arch.h"

/* DeepSeek-V2 and V3 (R1, Kimi K2), GLM-4.7-Flash: they differ in how experts are chosen, where files do not say. */
static const sr_name names[] = {{SR_SHARED_GATE, "mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
                                {SR_SHARED_UP, "mlp.shared_experts.up_proj", "ffn_up_shexp"},
                                {SR_SHARED_DOWN, "mlp.shared_experts.down_proj", "ffn_down_shexp"},
                                {0}};

const sr_arch sr_arch_deepseek2 = {
    .name = "deepseek2",
    .gguf_name = "deepseek2",
    .hf = (const char *const[]){"DeepseekV2ForCausalLM", "deepseek_v2", NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_ADJACENT,
    .latent = true,
    .experts = "n_routed_experts",
    .gate = SR_GATE_SOFTMAX,
    .shared = true,
    .names = names,
    .defaults = (const sr_default[]){{"rms_norm_eps", NULL, 1e-6}, {NULL, NULL, 0}},
};

const sr_arch sr_arch_deepseek3 = {
    .name = "deepseek3",
    .gguf_name = "deepseek2",
    .gguf_key = "expert_weights_norm",
    .hf =
        (const char *const[]){"DeepseekV3ForCausalLM", "deepseek_v3", "Glm4MoeLiteForCausalLM", "glm4_moe_lite", NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_ADJACENT,
    .latent = true,
    .experts = "n_routed_experts",
    .gate = SR_GATE_SIGMOID,
    .shared = true,
    .names = names,
    .defaults = (const sr_default[]){{"norm_topk_prob", NULL, 1}, {"rms_norm_eps", NULL, 1e-6}, {NULL, NULL, 0}},
};
