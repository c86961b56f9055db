/* What this processor has, as words. */
#include <string.h>

#include "base/hwcap.h"
#include "cpu/kern.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static char words[256];

static void add(bool has, const char *word) {
    if (!has) return;
    if (words[0]) strcat(words, " ");
    strcat(words, word);
}

const char *sr_cpu_features(void) {
    if (words[0]) return words;
#if defined(__x86_64__)
    unsigned a, b, c, d, e;
    __builtin_cpu_init(); /* these tell what the system lets processes use, cpuid what the processor has */
    add(__builtin_cpu_supports("sse4.2"), "sse4.2");
    add(__builtin_cpu_supports("avx"), "avx");
    add(__get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C), "f16c");
    add(__builtin_cpu_supports("fma"), "fma");
    add(__builtin_cpu_supports("avx2"), "avx2");
    add(__builtin_cpu_supports("avx512f"), "avx512f");
    add(__builtin_cpu_supports("avx512bw"), "avx512bw");
    add(__builtin_cpu_supports("avx512vl"), "avx512vl");
    add(__builtin_cpu_supports("avx512vnni"), "avx512vnni");
    add(__builtin_cpu_supports("avx512bf16"), "avx512bf16");
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) add(d & 1 << 25, "amx_int8");
    if (__get_cpuid_count(7, 1, &e, &b, &c, &d)) add(e & 1 << 4, "avxvnni");
#elif defined(__aarch64__)
    add(true, "neon");
    add(sr_hwcap() & SR_HWCAP_DOTPROD, "dotprod");
    add(sr_hwcap() & SR_HWCAP_I8MM, "i8mm");
    add(sr_hwcap() & SR_HWCAP_BF16, "bf16");
    add(sr_hwcap() & SR_HWCAP_SVE, "sve");
#endif
    add(!words[0], "none known");
    return words;
}
