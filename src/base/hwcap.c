#include "base/hwcap.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* Bits of the kernel's Documentation/arch/arm64/elf_hwcaps.rst. */
unsigned sr_hwcap(void) {
    const unsigned long a = getauxval(AT_HWCAP), b = getauxval(AT_HWCAP2);
    return (a >> 20 & 1 ? SR_HWCAP_DOTPROD : 0) | (b >> 13 & 1 ? SR_HWCAP_I8MM : 0) |
           (b >> 14 & 1 ? SR_HWCAP_BF16 : 0) | (a >> 22 & 1 ? SR_HWCAP_SVE : 0);
}
#elif defined(__aarch64__) && defined(__APPLE__)
#include <stddef.h>
#include <sys/sysctl.h>

static unsigned bit_if(const char *name, unsigned bit) {
    int has = 0;
    size_t n = sizeof has;
    return sysctlbyname(name, &has, &n, NULL, 0) == 0 && has ? bit : 0;
}

unsigned sr_hwcap(void) {
    return bit_if("hw.optional.arm.FEAT_DotProd", SR_HWCAP_DOTPROD) |
           bit_if("hw.optional.arm.FEAT_I8MM", SR_HWCAP_I8MM) | bit_if("hw.optional.arm.FEAT_BF16", SR_HWCAP_BF16);
}
#else
unsigned sr_hwcap(void) {
    return 0;
}
#endif
