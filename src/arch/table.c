#include <stddef.h>

#include "arch/arch.h"

extern const sr_arch sr_arch_llama, sr_arch_mistral, sr_arch_qwen2, sr_arch_qwen3, sr_arch_phi3;

/* A row that asks for a key stands before the one of the same GGUF name that does not. */
const sr_arch *const sr_archs[] = {&sr_arch_mistral, &sr_arch_llama, &sr_arch_qwen2,
                                   &sr_arch_qwen3,   &sr_arch_phi3,  NULL};
