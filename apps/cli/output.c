#include "cli/output.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/map.h"
#include "base/utf8.h"
#include "cli/options.h"

static struct {
    bool out_terminal, err_terminal;
    bool rewrite, colour; /* of lines on standard error */
    bool verbose, quiet;
    bool progress_visible; /* a progress line stands on the terminal */
} screen;

/* ---------------------------------------------------------------- set-up and end */

static void print_log(void *user, sr_log_level level, const char *line) {
    (void)user;
    if (level == SR_LOG_WARNING)
        out_warning("%s", line);
    else if (screen.verbose)
        out_note("%s", line);
}

void out_begin(void) {
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    screen.out_terminal = isatty(STDOUT_FILENO);
    screen.err_terminal = isatty(STDERR_FILENO);
    screen.rewrite = screen.err_terminal && term && strcmp(term, "dumb") != 0;
    screen.colour = screen.rewrite && !(no_colour && *no_colour);
    /* Line editing needs to know that input is UTF-8; numbers stay in the C locale. */
    const char *locale = setlocale(LC_CTYPE, "");
    if (!locale || strcmp(locale, "C") == 0 || strcmp(locale, "POSIX") == 0) setlocale(LC_CTYPE, "C.UTF-8");
    sr_log_sink(print_log, NULL);
}

void out_level(bool verbose, bool quiet) {
    screen.verbose = verbose;
    screen.quiet = quiet;
}

bool out_verbose(void) {
    return screen.verbose;
}

bool out_quiet(void) {
    return screen.quiet;
}

bool out_stdout_is_terminal(void) {
    return screen.out_terminal;
}

bool out_stderr_is_terminal(void) {
    return screen.err_terminal;
}

static int write_errno;

bool out_flush(void) {
    if (fflush(stdout) != 0 && !write_errno) write_errno = errno;
    return !ferror(stdout) && !write_errno;
}

int out_end(int code) {
    bool fine = out_flush();
    /* Some file systems report a full disk only when the file is closed. */
    if (fclose(stdout) != 0 && fine) {
        write_errno = errno;
        fine = false;
    }
    if (fine) return code;
    return out_error(EXIT_FAILED, "cannot write to standard output: %s; free some space or write elsewhere",
                     strerror(write_errno ? write_errno : EIO));
}

/* ---------------------------------------------------------------- messages */

static void clear_progress(void) {
    if (!screen.progress_visible) return;
    fputs("\r\033[K", stderr);
    screen.progress_visible = false;
}

static void message(const char *colour, const char *label, const char *fmt, va_list list) {
    char line[1024];
    vsnprintf(line, sizeof line, fmt, list);
    out_text clean = {0};
    out_text_add_visible(&clean, line, strlen(line), false);
    clear_progress();
    const char *on = screen.colour ? colour : "", *off = screen.colour ? "\033[0m" : "";
    if (*label)
        fprintf(stderr, "sirocco: %s%s:%s %s\n", on, label, off, clean.at ? clean.at : "");
    else
        fprintf(stderr, "%s%s%s\n", on, clean.at ? clean.at : "", off);
    out_text_free(&clean);
}

int out_error(int code, const char *fmt, ...) {
    va_list list;
    va_start(list, fmt);
    message("\033[1;31m", "error", fmt, list);
    va_end(list);
    return code;
}

void out_warning(const char *fmt, ...) {
    va_list list;
    va_start(list, fmt);
    message("\033[1;33m", "warning", fmt, list);
    va_end(list);
}

void out_note(const char *fmt, ...) {
    if (screen.quiet) return;
    va_list list;
    va_start(list, fmt);
    message("\033[2m", "", fmt, list);
    va_end(list);
}

void out_aside(const char *text, size_t n) {
    if (screen.quiet || n == 0) return;
    out_text clean = {0};
    out_text_add_visible(&clean, text, n, true);
    clear_progress();
    fprintf(stderr, "%s%s%s", screen.colour ? "\033[2m" : "", clean.at, screen.colour ? "\033[0m" : "");
    out_text_free(&clean);
}

static const char *next_step(sr_status code) {
    switch (code) {
    case SR_CORRUPT:
        return "the file is damaged or incomplete: fetch it again and compare its size or checksum";
    case SR_UNSUPPORTED:
        return "'sirocco inspect' shows what the file holds, 'sirocco doctor' what this build can do";
    case SR_NOMEM:
        return "try --isq 4, a smaller --ctx, or close other programs";
    case SR_IO:
        return "check the path and its permissions";
    case SR_LIMIT:
        return "shorten the input or raise the limit";
    case SR_DEVICE:
        return "try --cpu; 'sirocco doctor' shows the machine";
    default:
        return "see 'sirocco help'";
    }
}

int out_failure_about(const char *path, const sr_err *err) {
    if (err->code == SR_CANCELLED) {
        clear_progress();
        return EXIT_INTERRUPTED;
    }
    const char *what = err->msg[0] ? err->msg : sr_status_name(err->code);
    /* Most messages of the library name the file; the path is added where one does not. */
    bool named = !path || strstr(what, path);
    return out_error(EXIT_FAILED, "%s%s%s; %s", named ? "" : path, named ? "" : ": ", what, next_step(err->code));
}

int out_failure(const sr_err *err) {
    return out_failure_about(NULL, err);
}

/* ---------------------------------------------------------------- memory and text */

void *out_alloc(void *old, size_t n, size_t size) {
    size_t bytes = 0;
    bool fits = size == 0 || n <= SIZE_MAX / size;
    if (fits) bytes = n * size;
    void *at = fits ? realloc(old, bytes > 0 ? bytes : 1) : NULL;
    if (at) return at;
    exit(out_error(EXIT_FAILED, "out of memory; %s", next_step(SR_NOMEM)));
}

void out_text_add(out_text *t, const char *bytes, size_t n) {
    if (t->cap - t->n <= n) {
        t->cap = (t->n + n + 64) * 2;
        t->at = out_alloc(t->at, t->cap, 1);
    }
    if (n) memcpy(t->at + t->n, bytes, n);
    t->n += n;
    t->at[t->n] = 0;
}

void out_text_free(out_text *t) {
    free(t->at);
    *t = (out_text){0};
}

size_t out_utf8(const char *s, size_t n, bool *valid) {
    unsigned step = sr_utf8_step(s, n);
    *valid = step > 0;
    return step > 0 ? step : 1;
}

size_t out_width(const char *s) {
    size_t width = 0;
    for (; *s; s++) width += ((unsigned char)*s & 0xc0) != 0x80;
    return width;
}

#define REPLACEMENT "\xef\xbf\xbd"

void out_text_add_visible(out_text *t, const char *bytes, size_t n, bool lines) {
    for (size_t i = 0; i < n;) {
        bool valid;
        size_t step = out_utf8(bytes + i, n - i, &valid);
        unsigned char c = (unsigned char)bytes[i];
        bool control = c < 0x20 || c == 0x7f || (c == 0xc2 && step == 2 && (unsigned char)bytes[i + 1] < 0xa0);
        if (control && lines && (c == '\n' || c == '\t')) control = false;
        if (valid && !control)
            out_text_add(t, bytes + i, step);
        else
            out_text_add(t, REPLACEMENT, 3);
        i += step;
    }
}

void out_text_add_quoted(out_text *t, const char *bytes, size_t n) {
    out_text_add(t, "\"", 1);
    for (size_t i = 0; i < n;) {
        bool valid;
        size_t step = out_utf8(bytes + i, n - i, &valid);
        unsigned char c = (unsigned char)bytes[i];
        const char *from = "\n\t\r\"\\", *to = "ntr\"\\";
        const char *named = c ? strchr(from, c) : NULL;
        if (named) {
            char pair[2] = {'\\', to[named - from]};
            out_text_add(t, pair, 2);
        } else if (!valid || c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)bytes[i + 1] < 0xa0)) {
            for (size_t k = 0; k < step; k++) {
                char hex[5];
                snprintf(hex, sizeof hex, "\\x%02x", (unsigned char)bytes[i + k]);
                out_text_add(t, hex, 4);
            }
        } else {
            out_text_add(t, bytes + i, step);
        }
        i += step;
    }
    out_text_add(t, "\"", 1);
}

void out_text_add_json(out_text *t, const char *bytes, size_t n) {
    out_text_add(t, "\"", 1);
    for (size_t i = 0; i < n;) {
        bool valid;
        size_t step = out_utf8(bytes + i, n - i, &valid);
        unsigned char c = (unsigned char)bytes[i];
        const char *from = "\n\t\r\"\\\b\f", *to = "ntr\"\\bf";
        const char *named = c ? strchr(from, c) : NULL;
        char escape[8];
        if (!valid) {
            out_text_add(t, REPLACEMENT, 3);
        } else if (named) {
            out_text_add(t, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", to[named - from]));
        } else if (c < 0x20 || c == 0x7f) {
            out_text_add(t, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
        } else {
            out_text_add(t, bytes + i, step);
        }
        i += step;
    }
    out_text_add(t, "\"", 1);
}

bool out_read_all(FILE *in, size_t limit, out_text *t) {
    char chunk[65536];
    size_t n;
    out_text_add(t, "", 0);
    while ((n = fread(chunk, 1, sizeof chunk, in)) > 0) {
        if (n > limit - t->n) return false;
        out_text_add(t, chunk, n);
    }
    return !ferror(in);
}

const char *out_size(char *to, double bytes) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    while (bytes >= 1024 && u < 4) {
        bytes /= 1024;
        u++;
    }
    snprintf(to, OUT_NUMBER, u == 0 || bytes >= 100 ? "%.0f %s" : bytes >= 10 ? "%.1f %s" : "%.2f %s", bytes, unit[u]);
    return to;
}

const char *out_count(char *to, double n) {
    static const char *const unit[] = {"", " k", " M", " G", " T"};
    int u = 0;
    while (n >= 1000 && u < 4) {
        n /= 1000;
        u++;
    }
    snprintf(to, OUT_NUMBER, u == 0 || n >= 100 ? "%.0f%s" : n >= 10 ? "%.1f%s" : "%.2f%s", n, unit[u]);
    return to;
}

const char *out_seconds(char *to, double s) {
    long whole = s < 0 ? 0 : s > 1e8 ? 100000000 : (long)(s + 0.5);
    if (whole < 60)
        snprintf(to, OUT_NUMBER, "%ld s", whole);
    else if (whole < 3600)
        snprintf(to, OUT_NUMBER, "%ld min %02ld s", whole / 60, whole % 60);
    else
        snprintf(to, OUT_NUMBER, "%ld h %02ld min", whole / 3600, whole / 60 % 60);
    return to;
}

/* ---------------------------------------------------------------- tables */

void out_cell(out_table *t, const char *fmt, ...) {
    if (t->n == t->cap) {
        t->cap = t->cap * 2 + 32;
        t->cell = out_alloc(t->cell, t->cap, sizeof *t->cell);
    }
    va_list list, again;
    va_start(list, fmt);
    va_copy(again, list);
    int n = vsnprintf(NULL, 0, fmt, list);
    va_end(list);
    char *s = out_alloc(NULL, (size_t)n + 1, 1);
    vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    t->cell[t->n++] = s;
}

void out_table_print(out_table *t, int indent) {
    size_t cols = strlen(t->align), width[16] = {0};
    for (size_t i = 0; i < t->n; i++) {
        size_t w = out_width(t->cell[i]);
        if (w > width[i % cols]) width[i % cols] = w;
    }
    for (size_t i = 0; i < t->n; i++) {
        size_t c = i % cols;
        int pad = (int)(width[c] - out_width(t->cell[i]));
        bool right = t->align[c] == 'r', last = c + 1 == cols;
        printf("%*s%*s%s%*s", c == 0 ? indent : 2, "", right ? pad : 0, "", t->cell[i], right || last ? 0 : pad, "");
        if (last) putchar('\n');
        free(t->cell[i]);
    }
    free(t->cell);
    *t = (out_table){.align = t->align};
}

/* ---------------------------------------------------------------- JSON */

static void json_string(const char *s, size_t n) {
    out_text t = {0};
    out_text_add_json(&t, s, n);
    fwrite(t.at, 1, t.n, stdout);
    out_text_free(&t);
}

static void json_begin(out_json *j, const char *key) {
    if (j->comma) putchar(',');
    j->comma = true;
    if (!key) return;
    json_string(key, strlen(key));
    putchar(':');
}

void json_open(out_json *j, const char *key, char bracket) {
    json_begin(j, key);
    putchar(bracket);
    j->comma = false;
}

void json_close(out_json *j, char bracket) {
    putchar(bracket);
    j->comma = true;
}

void json_bytes(out_json *j, const char *key, const char *s, size_t n) {
    json_begin(j, key);
    json_string(s, n);
}

void json_text(out_json *j, const char *key, const char *s) {
    if (s) {
        json_bytes(j, key, s, strlen(s));
        return;
    }
    json_begin(j, key);
    fputs("null", stdout);
}

void json_int(out_json *j, const char *key, int64_t v) {
    json_begin(j, key);
    printf("%lld", (long long)v);
}

void json_uint(out_json *j, const char *key, uint64_t v) {
    json_begin(j, key);
    printf("%llu", (unsigned long long)v);
}

void json_real(out_json *j, const char *key, double v) {
    json_begin(j, key);
    if (isfinite(v))
        printf("%.9g", v);
    else
        fputs("null", stdout);
}

void json_bool(out_json *j, const char *key, bool v) {
    json_begin(j, key);
    fputs(v ? "true" : "false", stdout);
}

/* ---------------------------------------------------------------- progress */

void out_progress_to(out_progress *p, const char *what, double done, double total) {
    double now = sr_clock();
    if (!p->what || strcmp(p->what, what) != 0) {
        p->what = what;
        p->started = p->shown = now;
        return;
    }
    double every = screen.rewrite ? 0.1 : 10, spent = now - p->started;
    if (screen.quiet || spent < 1 || now - p->shown < every) return;
    p->shown = now;
    char eta[OUT_NUMBER];
    double share = total > 0 ? done / total : 0;
    if (share > 1) share = 1;
    if (share > 0)
        out_seconds(eta, spent / share * (1 - share));
    else
        snprintf(eta, sizeof eta, "?");
    if (screen.rewrite) {
        enum { BAR = 24 };
        char bar[BAR + 1];
        for (int i = 0; i < BAR; i++) bar[i] = i < share * BAR ? '#' : '.';
        bar[BAR] = 0;
        fprintf(stderr, "\r\033[K%s [%s] %3.0f %%, %s left%s%s", what, bar, share * 100, eta, *p->note ? ", " : "",
                p->note);
        fflush(stderr);
        screen.progress_visible = true;
    } else {
        fprintf(stderr, "%s: %.0f %%, %s left%s%s\n", what, share * 100, eta, *p->note ? ", " : "", p->note);
    }
}

void out_progress_end(out_progress *p) {
    clear_progress();
    *p = (out_progress){0};
}
