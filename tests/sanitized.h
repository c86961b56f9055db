#ifndef SR_TESTS_SANITIZED_H
#define SR_TESTS_SANITIZED_H

/* Whether AddressSanitizer watches: memory is no longer the program's own alone, and all takes ten times as long. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif
