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

static const char *check_moe(const sr_file *file, sr_hparams *h) {
    (void)file;
    if (h->d_shared == 0) h->d_shared = h->d_ff; /* configs do not say: it is as wide as an MLP */
    return NULL;
}

const sr_arch sr_arch_hunyuan_moe = {
    .name = "hunyuan-moe",
    .gguf_name = "hunyuan-moe",
    .hf = (const char *const[]){"HunYuanMoEV1ForCausalLM", "hunyuan_v1_moe", NULL},
    .gguf_rope = SR_ROPE_HALVES,
    .hf_rope = SR_ROPE_HALVES,
    .qk_norm_late = true,
    .experts = "num_experts",
    .experts_used = "moe_topk",
    .gate = SR_GATE_SOFTMAX,
    .shared = true,
    .names = (const sr_name[]){{SR_Q_NORM, "self_attn.query_layernorm", "attn_q_norm"},
                               {SR_K_NORM, "self_attn.key_layernorm", "attn_k_norm"},
                               {SR_ROUTER, "mlp.gate.wg", "ffn_gate_inp"},
                               {SR_SHARED_GATE, "mlp.shared_mlp.gate_proj", "ffn_gate_shexp"},
                               {SR_SHARED_UP, "mlp.shared_mlp.up_proj", "ffn_up_shexp"},
                               {SR_SHARED_DOWN, "mlp.shared_mlp.down_proj", "ffn_down_shexp"},
                               {0}},
    .defaults = (const sr_default[]){{"norm_topk_prob", "expert_weights_norm", 1}, {NULL, NULL, 0}},
    .rejects = (const sr_reject[]){{"use_cla", NULL, "keys and values shared by layers"}, {NULL, NULL, NULL}},
    .check = check_moe,
};
