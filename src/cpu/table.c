#include <stddef.h>

#include "cpu/kern.h"

extern const sr_kern sr_kern_portable;
#if defined(__x86_64__)
extern const sr_kern sr_kern_avx2, sr_kern_avx512, sr_kern_amx;
#elif defined(__aarch64__)
extern const sr_kern sr_kern_neon, sr_kern_i8mm;
#endif

const sr_kern *const sr_kerns[] = {
#if defined(__x86_64__)
    &sr_kern_amx,      &sr_kern_avx512,
    &sr_kern_avx2,
#elif defined(__aarch64__)
    &sr_kern_i8mm,     &sr_kern_neon,
#endif
    &sr_kern_portable, NULL,
};

const char *sr_isa_available(int i) {
    for (int k = 0; sr_kerns[k]; k++)
        if (sr_kerns[k]->usable() && i-- == 0) return sr_kerns[k]->name;
    return NULL;
}
