/* From here to target_end.h functions may use AVX-512 with VNNI, VBMI and BITALG. */
#if defined(__clang__)
#pragma clang attribute push(                                                                                          \
    __attribute__((                                                                                                    \
        target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512bitalg,avx2,fma,f16c,bmi2"))),          \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512bitalg,avx2,fma,f16c,bmi2")
#endif
