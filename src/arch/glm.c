#include <stddef.h>

#include "arch/arch.h"

/* GLM-4-0414: half of a head rotates, in adjacent pairs in both containers. */
const sr_arch sr_arch_glm4 = {
    .name = "glm4",
    .gguf_name = "glm4",
    .hf = (const char *const[]){"Glm4ForCausalLM", "glm4", NULL},
    .gguf_rope = SR_ROPE_ADJACENT,
    .hf_rope = SR_ROPE_ADJACENT,
    .post_norms = true,
    .names = (const sr_name[]){{SR_ATTN_POST_NORM, "post_self_attn_layernorm", "post_attention_norm"},
                               {SR_FFN_POST_NORM, "post_mlp_layernorm", "post_ffw_norm"},
                               {0}},
    .defaults = (const sr_default[]){{"partial_rotary_factor", NULL, 0.5}, {NULL, NULL, 0}},
};
