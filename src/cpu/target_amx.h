/* From here to target_end.h functions may use AMX's tiles and what of AVX-512 all processors with them have. */
#if defined(__clang__)
#pragma clang attribute push(                                                                                          \
    __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vbmi,"         \
                          "avx512bf16,avx2,fma,f16c"))),                                                               \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vbmi")
#pragma GCC target("avx512bf16,avx2,fma,f16c")
#endif
