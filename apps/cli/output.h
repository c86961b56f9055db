/* Everything the commands print: results on standard output, all else on standard error; tables, JSON, progress. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

/* ---------------------------------------------------------------- set-up and end */

/* Looks at the terminals, the locale and NO_COLOR, and routes the library's log here. */
void out_begin(void);
/* Notes of the library and of the commands appear (verbose), or not even banners and progress (quiet). */
void out_level(bool verbose, bool quiet);
bool out_verbose(void);
bool out_quiet(void);
bool out_stdout_is_terminal(void);
bool out_stderr_is_terminal(void);
/* Flushes standard output; false once a write has failed. */
bool out_flush(void);
/* Closes standard output and returns the exit code: `code`, or EXIT_FAILED with a message when a write failed. */
int out_end(int code);

/* ---------------------------------------------------------------- messages on standard error */

/* "sirocco: error: ..." in one line; control characters are replaced. Returns `code`. */
int out_error(int code, const char *fmt, ...) SR_PRINTF(2, 3);
void out_warning(const char *fmt, ...) SR_PRINTF(1, 2);
/* A plain line, dim on a terminal; nothing when quiet. */
void out_note(const char *fmt, ...) SR_PRINTF(1, 2);
/* A piece of a text that is no result, as it stands, dim on a terminal; nothing when quiet. */
void out_aside(const char *text, size_t n);
/* Reports a failure of the library with the next step to take, and returns the exit code that belongs to it. */
int out_failure(const sr_err *err);
int out_failure_about(const char *path, const sr_err *err);

/* ---------------------------------------------------------------- memory and text */

/* Never NULL: ends the program with a message when there is no memory. */
void *out_alloc(void *old, size_t n, size_t size);

/* A growing text. */
typedef struct out_text {
    char *at; /* zero-terminated once anything was added */
    size_t n, cap;
} out_text;
void out_text_add(out_text *t, const char *bytes, size_t n);
void out_text_free(out_text *t);

/* Bytes of the UTF-8 character at s[0..n), n > 0; where none is, *valid is false and the result 1: that byte is shown
 * as U+FFFD. */
size_t out_utf8(const char *s, size_t n, bool *valid);
/* Columns that a UTF-8 text takes, one per character. */
size_t out_width(const char *s);
/* Adds bytes as valid UTF-8 without control characters (U+FFFD in their place); `lines` keeps newlines and tabs. */
void out_text_add_visible(out_text *t, const char *bytes, size_t n, bool lines);
/* Adds bytes in double quotes, with \n, \t, \", \\ and \xHH escapes. */
void out_text_add_quoted(out_text *t, const char *bytes, size_t n);
/* Adds bytes as a string of JSON, quotes included; U+FFFD for what is not UTF-8. */
void out_text_add_json(out_text *t, const char *bytes, size_t n);
/* All of a stream, at most `limit` bytes. False when reading failed or there was more. */
bool out_read_all(FILE *in, size_t limit, out_text *t);

enum { OUT_NUMBER = 32 };
/* "11.0 MiB", "5.77 M", "1 m 20 s" into a buffer of OUT_NUMBER bytes, which is returned. */
const char *out_size(char *to, double bytes);
const char *out_count(char *to, double n);
const char *out_seconds(char *to, double s);

/* ---------------------------------------------------------------- tables */

/* Cells are added row by row. `align` has one letter per column, 'l' or 'r'. */
typedef struct out_table {
    const char *align;
    char **cell;
    size_t n, cap;
} out_table;
void out_cell(out_table *t, const char *fmt, ...) SR_PRINTF(2, 3);
/* Prints with `indent` spaces in front and two between columns, then frees the cells. */
void out_table_print(out_table *t, int indent);

/* ---------------------------------------------------------------- JSON */

/* Writes one JSON text to standard output. `key` is NULL inside an array and at the top. */
typedef struct out_json {
    bool comma; /* something stands before at this depth */
} out_json;
void json_open(out_json *j, const char *key, char bracket);
void json_close(out_json *j, char bracket);
void json_text(out_json *j, const char *key, const char *s); /* NULL: null */
void json_bytes(out_json *j, const char *key, const char *s, size_t n);
void json_int(out_json *j, const char *key, int64_t v);
void json_uint(out_json *j, const char *key, uint64_t v);
void json_real(out_json *j, const char *key, double v); /* not finite: null */
void json_bool(out_json *j, const char *key, bool v);

/* ---------------------------------------------------------------- progress */

/* One line on standard error, shown after a second: rewritten in place on a terminal, else every ten seconds. */
typedef struct out_progress {
    const char *what;
    double started, shown;
    char note[64]; /* shown behind, may be empty */
} out_progress;
/* Also an sr_progress_fn with an out_progress as user; `what` starts a new clock when it changes. */
void out_progress_to(out_progress *p, const char *what, double done, double total);
void out_progress_end(out_progress *p);

#endif
