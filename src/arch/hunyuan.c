#include <stddef.h>

#include "arch/arch.h"

/* Its base of the rotation is stretched by `alpha`, which converters put into the base. */
const sr_arch sr_arch_hunyuan_dense = {
    .name = "hunyuan-dense",
    .gguf_name = "hunyuan-dense",
    .hf = (const char *const[]){"HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .qk_norm_late = true,
    .names = (const sr_name[]){{SR_Q_NORM, "self_attn.query_layernorm", "attn_q_norm"},
                               {SR_K_NORM, "self_attn.key_layernorm", "attn_k_norm"},
                               {0}},
    .rejects = (const sr_reject[]){{"use_cla", NULL, "keys and values shared by layers"},
                                   {NULL, "expert_count", "a mixture of experts"},
                                   {NULL, NULL, NULL}},
};
