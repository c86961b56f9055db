/* sirocco tokenize: text to ids and pieces. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/hub.h"
#include "cli/options.h"
#include "cli/output.h"

enum { MAX_TEXT_BYTES = 1 << 30 };

static const char *piece_of(const sr_tokenizer *t, int32_t id) {
    const char *piece = sr_token_piece(t, id);
    return piece ? piece : "";
}

static void print_json(const sr_tokenizer *t, const int32_t *id, size_t n) {
    out_json j = {0};
    json_open(&j, NULL, '{');
    json_open(&j, "ids", '[');
    for (size_t i = 0; i < n; i++) json_int(&j, NULL, id[i]);
    json_close(&j, ']');
    json_open(&j, "pieces", '[');
    for (size_t i = 0; i < n; i++) json_text(&j, NULL, piece_of(t, id[i]));
    json_close(&j, ']');
    json_close(&j, '}');
    putchar('\n');
}

/* One line per token: id, the vocabulary's piece, and the bytes that it stands for. */
static void print_lines(const sr_tokenizer *t, const int32_t *id, size_t n) {
    out_text line = {0};
    for (size_t i = 0; i < n; i++) {
        const char *piece = piece_of(t, id[i]), *bytes;
        size_t n_bytes;
        sr_token_bytes(t, id[i], &bytes, &n_bytes);
        line.n = 0;
        out_text_add_visible(&line, piece, strlen(piece), false);
        int pad = 20 - (int)out_width(line.at ? line.at : "");
        printf("%7d  %s%*s  ", id[i], line.at ? line.at : "", pad > 0 ? pad : 0, "");
        line.n = 0;
        out_text_add_quoted(&line, bytes, n_bytes);
        puts(line.at);
    }
    out_text_free(&line);
}

int command_tokenize(const cli_args *args) {
    char *path = NULL;
    sr_tokenizer *t = NULL;
    sr_err err = {0};
    int code = hub_path(args, args->operand[0], args->quant, true, &path);
    if (code) return code;
    if (sr_tokenizer_open(path, &t, &err) != SR_OK) code = out_failure_about(path, &err);
    free(path);
    if (code) return code;

    out_text text = {0};
    int32_t *id = NULL;
    unsigned flags = (args->no_bos ? SR_TOKENIZE_NO_BOS : 0u) | (args->no_special ? SR_TOKENIZE_NO_SPECIAL : 0u);
    if (args->n_operands == 2)
        out_text_add(&text, args->operand[1], strlen(args->operand[1]));
    else if (!out_read_all(stdin, MAX_TEXT_BYTES, &text))
        code = out_error(EXIT_FAILED, "cannot read the text from standard input: %s",
                         ferror(stdin) ? strerror(errno) : "it is larger than 1 GiB");
    if (!code) {
        /* A token is at least a byte of text, but for the few that are put around it. */
        size_t cap = text.n + 8, n = 0;
        id = out_alloc(NULL, cap, sizeof *id);
        sr_status status = sr_tokenize(t, text.at, text.n, flags, id, cap, &n, &err);
        if (status == SR_OK && n > cap) {
            cap = n;
            id = out_alloc(id, cap, sizeof *id);
            status = sr_tokenize(t, text.at, text.n, flags, id, cap, &n, &err);
        }
        if (status != SR_OK)
            code = out_failure(&err);
        else if (args->json)
            print_json(t, id, n);
        else
            print_lines(t, id, n);
    }
    free(id);
    out_text_free(&text);
    sr_tokenizer_free(t);
    return code;
}
