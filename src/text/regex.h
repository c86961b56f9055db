/* Regular expressions of pre-tokenizers, with bounded work. The patterns are written for Oniguruma (that is what
 * tokenizer.json files are made with); regex.c translates them to PCRE2. */
#ifndef SR_TEXT_REGEX_H
#define SR_TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct sr_regex sr_regex;

/* What one text needs while it is searched: match data and the rest of its work budget. Zero it before the first use;
 * one thread at a time. */
typedef struct sr_scan {
    void *match, *context, *stack; /* PCRE2's, created on first use */
    uint64_t budget;               /* match steps left for expensive searches */
    uint64_t text_bytes;           /* length of the whole text, which the budget is proportional to */
    bool started;
} sr_scan;

/* Compiles a pattern of n bytes, well-formed UTF-8; `literal`: it stands for itself. SR_UNSUPPORTED names the pattern
 * and what cannot be translated or compiled. */
sr_status sr_regex_compile(const char *pattern, size_t n, bool literal, sr_regex **re, sr_err *err);
/* One that matches a run of one script, and the spaces and characters without a script in and behind it; kana and the
 * prolonged sound mark are Han (pre_tokenizers/unicode_scripts at 3ba8ad00). */
sr_status sr_regex_compile_scripts(sr_regex **re, sr_err *err);
void sr_regex_free(sr_regex *re);
/* Whether it was compiled from this text. */
bool sr_regex_is(const sr_regex *re, const char *pattern);
/* That text, zero-terminated; *literal: it stands for itself. */
const char *sr_regex_pattern(const sr_regex *re, bool *literal);
/* What \w stands for in these patterns. */
bool sr_regex_is_word(uint32_t cp);

/* First match at or after `from` in the well-formed text[0..n). *found tells whether there is one.
 * SR_LIMIT: this text needs more match steps than allowed; the message names the pattern. */
sr_status sr_regex_find(const sr_regex *re, sr_scan *scan, const char *text, size_t n, size_t from, size_t *start,
                        size_t *end, bool *found, sr_err *err);
/* Gives the scan its full budget again: each stage over a text has its own. */
void sr_scan_refill(sr_scan *scan);
void sr_scan_free(sr_scan *scan);

#endif
