#include <stddef.h>

#include "arch/arch.h"

/* GLM-4-0414: half of a head rotates, in adjacent pairs in both containers. */
const sr_arch sr_arch_glm4 = {
    .name = "glm4",
    .gguf_name = "glm4",
    .hf = (const char *const[]){"Glm4ForCausalLM", "glm4", NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_ADJACENT,
    .fused = SR_FUSED_GATE_UP,
    .post_norms = true,
    .names = (const sr_name[]){{SR_ATTN_POST_NORM, "post_self_attn_layernorm", "post_attention_norm"},
                               {SR_FFN_POST_NORM, "post_mlp_layernorm", "post_ffw_norm"},
                               {0}},
    .defaults = (const sr_default[]){{"partial_rotary_factor", NULL, 0.5}, {NULL, NULL, 0}},
};

/* GLM-4.5 and 4.6: halves rotate, the first layers are dense, one expert is everybody's. */
const sr_arch sr_arch_glm4moe = {
    .name = "glm4moe",
    .gguf_name = "glm4moe",
    .hf = (const char *const[]){"Glm4MoeForCausalLM", "glm4_moe", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .qk_norm = true,
    .qk_norm_optional = true,
    .experts = "n_routed_experts",
    .gate = SR_GATE_SIGMOID,
    .shared = true,
    .names = (const sr_name[]){{SR_FFN_NORM, "post_attention_layernorm", "post_attention_norm"},
                               {SR_SHARED_GATE, "mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
                               {SR_SHARED_UP, "mlp.shared_experts.up_proj", "ffn_up_shexp"},
                               {SR_SHARED_DOWN, "mlp.shared_experts.down_proj", "ffn_down_shexp"},
                               {0}},
    .defaults = (const sr_default[]){{"partial_rotary_factor", NULL, 0.5},
                                     {"norm_topk_prob", "expert_weights_norm", 1},
                                     {NULL, NULL, 0}},
};
