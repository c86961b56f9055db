/* What this processor has, as words. */
#include <stdio.h>
#include <string.h>

#include "cpu/kern.h"

const char *sr_cpu_features(void) {
    static char words[256];
    if (words[0]) return words;
#if defined(__x86_64__)
    __builtin_cpu_init();
#define WORD(name)                                                                                                     \
    if (__builtin_cpu_supports(name)) {                                                                                \
        strcat(words, words[0] ? " " : "");                                                                            \
        strcat(words, name);                                                                                           \
    }
    WORD("sse4.2")
    WORD("avx")
    WORD("fma")
    WORD("avx2")
    WORD("avx512f") WORD("avx512bw") WORD("avx512vl") WORD("avx512vnni") WORD("avx512bf16")
#undef WORD
#elif defined(__aarch64__)
    strcpy(words, "neon");
#endif
        if (!words[0]) strcpy(words, "none known");
    return words;
}
