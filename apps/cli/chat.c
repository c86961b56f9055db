#include "cli/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/disk.h"
#include "base/map.h"

enum { MAX_JSON_BYTES = 256 << 20 };

static const char *const roles[] = {"system", "user", "assistant"};

static void add(out_text *t, const char *text) {
    out_text_add(t, text, strlen(text));
}

/* ---------------------------------------------------------------- variables */

int chat_member(out_text *to, const char *name, size_t n_name, const char *json, size_t n, sr_json_kind kind) {
    sr_err err = {0};
    char where[300];
    snprintf(where, sizeof where, "%.*s", n_name < 200 ? (int)n_name : 200, name);
    sr_json j = sr_json_over(json, n, where, &err);
    sr_json_value v;
    sr_json_kind got = sr_json_next(&j, &v);
    if (got != SR_JSON_ERROR) sr_json_skip(&j, &v);
    if (!j.failed && !sr_json_at_end(&j)) sr_fail(&err, SR_CORRUPT, "%s: found text behind the JSON value", where);
    if (err.code != SR_OK) return out_error(EXIT_FAILED, "%s; texts are written in quotes: '\"text\"'", err.msg);
    if (kind != SR_JSON_END && got != kind)
        return out_error(EXIT_FAILED, "%s: found no JSON array, expected one: '[{...}, ...]'", where);
    add(to, to->n > 1 ? ", \"" : "\"");
    out_text_add(to, name, n_name);
    add(to, "\": ");
    out_text_add(to, json, n);
    return EXIT_FINE;
}

/* A member that is known to be well-formed. */
static void member(out_text *to, const char *name, const char *json) {
    chat_member(to, name, strlen(name), json, strlen(json), SR_JSON_END);
}

int chat_member_file(out_text *to, const char *name, const char *path) {
    char *text;
    size_t n;
    sr_err err = {0};
    if (sr_file_read(path, MAX_JSON_BYTES, &text, &n, &err) != SR_OK) return out_failure_about(path, &err);
    int code = chat_member(to, name, strlen(name), text, n, SR_JSON_ARRAY);
    free(text);
    return code;
}

/* "name=JSON" */
static int add_variable(out_text *to, const char *word) {
    size_t n = strcspn(word, "=");
    bool fine = n > 0 && word[n] == '=';
    for (size_t i = 0; i < n; i++)
        fine &= (word[i] >= 'a' && word[i] <= 'z') || (word[i] >= 'A' && word[i] <= 'Z') ||
                (word[i] >= '0' && word[i] <= '9') || word[i] == '_';
    if (!fine) return out_error(EXIT_USAGE, "--var takes NAME=JSON, not '%s'; for example enable_thinking=false", word);
    return chat_member(to, word, n, word + n + 1, strlen(word + n + 1), SR_JSON_END);
}

int chat_variables(const cli_args *args, out_text *to) {
    int code = args->tools ? chat_member_file(to, "tools", args->tools) : EXIT_FINE;
    const char *effort = args->reasoning_effort, *thinking = args->enable_thinking;
    if (effort && !thinking) thinking = strcmp(effort, "off") == 0 ? "off" : "on";
    if (thinking) { /* the second name is that of DeepSeek and Granite */
        const char *truth = strcmp(thinking, "on") == 0 ? "true" : "false";
        member(to, "enable_thinking", truth);
        member(to, "thinking", truth);
    }
    if (effort && strcmp(effort, "off") != 0) {
        char quoted[16]; /* the words of the option's table are short */
        snprintf(quoted, sizeof quoted, "\"%s\"", effort);
        member(to, "reasoning_effort", quoted);
    }
    for (int i = 0; i < args->var.n && !code; i++) code = add_variable(to, args->var.at[i]);
    return code;
}

/* ---------------------------------------------------------------- opening */

/* An option that only a chat template makes sense of. */
static const char *needs_template(const cli_args *a) {
    return a->system             ? "system"
           : a->enable_thinking  ? "enable-thinking"
           : a->reasoning_effort ? "reasoning-effort"
           : a->tools            ? "tools"
           : a->var.n            ? "var"
                                 : NULL;
}

/* "TEXT" or "@FILE" */
static int read_system(const cli_args *args, chat *c) {
    if (args->system[0] != '@') {
        chat_system(c, args->system);
        return EXIT_FINE;
    }
    char *text;
    size_t n;
    sr_err err = {0};
    if (sr_file_read(args->system + 1, MAX_JSON_BYTES, &text, &n, &err) != SR_OK)
        return out_failure_about(args->system + 1, &err);
    while (n && text[n - 1] == '\n') text[--n] = 0;
    chat_system(c, text);
    free(text);
    return EXIT_FINE;
}

/* A template of another place writes the special tokens of this model: they are what its tokenizer reads. */
static void add_token(chat *c, const sr_tokenizer *t, const char *name, int32_t id) {
    const char *bytes;
    size_t n;
    if (!sr_token_bytes(t, id, &bytes, &n)) return;
    out_text quoted = {0};
    out_text_add_json(&quoted, bytes, n);
    member(&c->variables, name, quoted.at);
    out_text_free(&quoted);
}

int chat_open(chat *c, const cli_args *args, const opened *model) {
    const char *option = args->chat_template ? "chat-template" : needs_template(args);
    if (args->no_chat) {
        if (!option) return EXIT_FINE;
        return out_error(EXIT_USAGE, "--%s is for the chat template, which --no-chat leaves out; give one of the two",
                         option);
    }
    if (!args->chat_template && !model->info.has_chat_template) {
        if (!option) return EXIT_FINE;
        return out_error(EXIT_FAILED, "%s has no chat template, which --%s is for; --chat-template FILE gives one",
                         model->path, option);
    }
    sr_err err = {0};
    const sr_tokenizer *t = sr_model_tokenizer(model->model);
    add(&c->variables, "{");
    if (args->chat_template) {
        if (sr_template_open(args->chat_template, args->tools != NULL, &c->template, &err) != SR_OK)
            return out_error(EXIT_FAILED, "%s; a template is a file *.jinja, or *.json with a chat_template", err.msg);
        add_token(c, t, "bos_token", sr_tokenizer_bos(t));
        add_token(c, t, "eos_token", sr_tokenizer_eos(t));
    } else if (sr_model_template(model->model, args->tools != NULL, &c->template, &err) != SR_OK) {
        return out_error(EXIT_FAILED, "%s; --no-chat does without it, --chat-template FILE takes another", err.msg);
    }
    if (out_verbose()) out_note("chat template of %s", sr_template_home(c->template));
    int code = chat_variables(args, &c->variables);
    return !code && args->system ? read_system(args, c) : code;
}

void chat_close(chat *c) {
    chat_cut(c, 0);
    free(c->at);
    out_text_free(&c->variables);
    sr_template_free(c->template);
    *c = (chat){0};
}

/* ---------------------------------------------------------------- messages */

static void append(chat *c, chat_role role, char *json) {
    c->at = out_alloc(c->at, (size_t)c->n + 1, sizeof *c->at);
    c->at[c->n++] = (chat_message){role, json};
}

void chat_say(chat *c, chat_role role, const out_text *content, const out_text *reasoning) {
    out_text json = {0};
    add(&json, "{\"role\": \"");
    add(&json, roles[role]);
    add(&json, "\"");
    if (reasoning->n) {
        add(&json, ", \"reasoning_content\": ");
        out_text_add_json(&json, reasoning->at, reasoning->n);
    }
    add(&json, ", \"content\": ");
    out_text_add_json(&json, content->at, content->n);
    add(&json, "}");
    append(c, role, json.at);
}

void chat_system(chat *c, const char *text) {
    if (c->n && c->at[0].role == CHAT_SYSTEM) {
        free(c->at[0].json);
        memmove(c->at, c->at + 1, (size_t)--c->n * sizeof *c->at);
    }
    if (!*text) return;
    out_text content = {0};
    add(&content, text);
    chat_say(c, CHAT_SYSTEM, &content, &(out_text){0});
    out_text_free(&content);
    chat_message m = c->at[c->n - 1];
    memmove(c->at + 1, c->at, (size_t)(c->n - 1) * sizeof *c->at);
    c->at[0] = m;
}

void chat_cut(chat *c, int n) {
    while (c->n > n) free(c->at[--c->n].json);
}

bool chat_undo(chat *c) {
    for (int i = c->n; i-- > 0;) {
        if (c->at[i].role != CHAT_USER) continue;
        chat_cut(c, i);
        return true;
    }
    return false;
}

/* ---------------------------------------------------------------- files */

static void list(const chat *c, const char *between, out_text *to) {
    for (int i = 0; i < c->n; i++) {
        if (i) add(to, between);
        add(to, c->at[i].json);
    }
}

int chat_save(const chat *c, const char *path) {
    out_text text = {0};
    sr_err err = {0};
    add(&text, "[\n");
    list(c, ",\n", &text);
    add(&text, "\n]\n");
    sr_status status = sr_disk_put(path, text.at, text.n, &err);
    out_text_free(&text);
    return status == SR_OK ? EXIT_FINE : out_failure_about(path, &err);
}

/* One message, of which the reader has just seen the beginning. */
static void read_message(chat *to, sr_json *j, const char *from) {
    sr_json_value key, v;
    sr_json_kind kind;
    chat_role role = CHAT_OTHER;
    bool found = false;
    while ((kind = sr_json_next_pair(j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        if (sr_json_equals(&key, "role") && kind == SR_JSON_STRING) {
            found = true;
            for (role = CHAT_SYSTEM; role < CHAT_OTHER && !sr_json_equals(&v, roles[role]); role++) {
            }
        }
        sr_json_skip(j, &v);
    }
    if (j->failed) return;
    if (!found) {
        sr_fail(j->err, SR_CORRUPT, "%s: found a message without a role, as number %d", j->where, to->n + 1);
        j->failed = true;
        return;
    }
    out_text json = {0};
    out_text_add(&json, from, (size_t)(j->at - from));
    append(to, role, json.at);
}

int chat_load(chat *c, const char *path) {
    char *text;
    size_t n;
    sr_err err = {0};
    if (sr_file_read(path, MAX_JSON_BYTES, &text, &n, &err) != SR_OK) return out_failure_about(path, &err);
    chat read = {0};
    sr_json j = sr_json_over(text, n, path, &err);
    sr_json_value v;
    sr_json_kind kind = sr_json_next(&j, &v);
    bool array = kind == SR_JSON_ARRAY;
    if (array)
        while ((kind = sr_json_next(&j, &v)) == SR_JSON_OBJECT && !j.failed) read_message(&read, &j, v.text);
    if (!j.failed && (!array || kind != SR_JSON_END || !sr_json_at_end(&j)))
        sr_fail(&err, SR_CORRUPT, "%s: found something else than one array of objects", path);
    free(text);
    if (err.code == SR_OK) {
        chat_cut(c, 0);
        free(c->at);
        c->at = read.at;
        c->n = read.n;
        return EXIT_FINE;
    }
    chat_close(&read);
    return out_error(EXIT_FAILED, "%s; a conversation is a list: [{\"role\": \"user\", \"content\": \"...\"}, ...]",
                     err.msg);
}

/* ---------------------------------------------------------------- the prompt */

int chat_render(const chat *c, out_text *prompt) {
    out_text json = {0};
    char *text;
    size_t n;
    sr_err err = {0};
    out_text_add(&json, c->variables.at, c->variables.n);
    add(&json, json.n > 1 ? ", \"messages\": [" : "\"messages\": [");
    list(c, ", ", &json);
    add(&json, "], \"add_generation_prompt\": true}");
    sr_status status = sr_template_render(c->template, json.at, json.n, &text, &n, &err);
    out_text_free(&json);
    if (status != SR_OK)
        return out_error(EXIT_FAILED, "%s; --no-chat does without the template, --chat-template FILE takes another",
                         err.msg);
    out_text_add(prompt, text, n);
    sr_text_free(text);
    return EXIT_FINE;
}
