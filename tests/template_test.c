/* Chat templates against jinja2 as transformers sets it up (tests/vectors/templates/), and what a hostile one may cost.
 * Numbers in names are the attack cases that docs/security.md lists. */
#include "support.h"

#include <time.h>

#include "base/json.h"
#include "base/map.h"
#include "text/template.h"

#define VECTORS SR_SOURCE_DIR "/tests/vectors/templates/"

/* ---------------------------------------------------------------- helpers */

struct text {
    char *s;
    size_t n;
};

static struct text read_file(const char *path) {
    struct text t;
    OK(sr_file_read(path, 1 << 24, &t.s, &t.n, e_));
    return t;
}

/* The rendering; NULL: `err` says why not. Released with sr_text_free. */
static char *render_n(const char *text, size_t n_text, const char *variables, size_t n_variables, size_t *n,
                      sr_err *err) {
    sr_template *t;
    char *out = NULL;
    if (sr_template_parse(text, n_text, "t.jinja", &t, err) != SR_OK) return NULL;
    sr_status status = sr_template_render_with(t, variables, n_variables, NULL, 1700000000, &out, n, err);
    sr_template_free(t);
    assert_true((status == SR_OK) == (out != NULL));
    return out;
}

static void check(const char *template, const char *variables, const char *want) {
    size_t n;
    sr_err err = {0};
    char *got = render_n(template, strlen(template), variables, strlen(variables), &n, &err);
    if (!got) fail_msg("%s: %s", template, err.msg);
    if (n != strlen(want) || strcmp(got, want) != 0) fail_msg("%s: got \"%s\", want \"%s\"", template, got, want);
    sr_text_free(got);
}

static void check_fails(const char *template, const char *variables, sr_status status, const char *word) {
    size_t n;
    sr_err err = {0};
    char *got = render_n(template, strlen(template), variables, strlen(variables), &n, &err);
    if (got) fail_msg("%s: got \"%s\", expected a failure", template, got);
    check_error(template, err.code, &err, status, word, NULL);
}

/* ---------------------------------------------------------------- against the reference */

/* The span of the value that was just read: also of an array or object. */
static struct text span(sr_json *j, const sr_json_value *v) {
    const char *from = v->kind == SR_JSON_STRING ? v->text - 1 : v->text;
    sr_json_skip(j, v);
    return (struct text){(char *)(uintptr_t)from, (size_t)(j->at - from)};
}

static struct text string_of(sr_json *j, const sr_json_value *v, sr_arena *a) {
    struct text t;
    t.s = sr_json_string(j, v, a, &t.n);
    assert_non_null(t.s);
    return t;
}

struct reference {
    struct text template, conversation, text;
    bool fails;
};

static bool read_case(sr_json *j, sr_arena *a, struct reference *c) {
    sr_json_value key, v;
    *c = (struct reference){0};
    if (sr_json_next(j, &v) != SR_JSON_OBJECT) return false;
    while (sr_json_next_pair(j, &key, &v) == SR_JSON_STRING) {
        c->fails |= sr_json_equals(&key, "error");
        if (sr_json_equals(&key, "template")) c->template = string_of(j, &v, a);
        if (sr_json_equals(&key, "conversation")) c->conversation = string_of(j, &v, a);
        if (sr_json_equals(&key, "text")) c->text = string_of(j, &v, a);
    }
    return true;
}

/* How many cases differ. */
static int compare(const struct reference *c, const char *name, struct text template, struct text variables) {
    size_t n = 0;
    sr_err err = {0};
    char *got = render_n(template.s, template.n, variables.s, variables.n, &n, &err);
    bool same = got ? !c->fails && n == c->text.n && memcmp(got, c->text.s, n) == 0 : c->fails;
    if (!same)
        print_error("%s:\n  got  %s%s\n  want %s\n", name, got ? "" : "failure: ", got ? got : err.msg,
                    c->fails ? "a failure" : c->text.s);
    sr_text_free(got);
    return !same;
}

static void small_templates_equal_the_reference(void **state) {
    (void)state;
    struct text file = read_file(VECTORS "expressions.json"), variables = {0};
    sr_err err = {0};
    sr_json j = sr_json_over(file.s, file.n, "expressions.json", &err);
    sr_json_value key, v;
    struct reference c;
    sr_arena a = {0};
    int n = 0, differ = 0;
    sr_json_next(&j, &v);
    while (sr_json_next_pair(&j, &key, &v) >= SR_JSON_ARRAY) {
        if (sr_json_equals(&key, "variables")) {
            variables = span(&j, &v);
            continue;
        }
        for (; read_case(&j, &a, &c); n++) differ += compare(&c, c.template.s, c.template, variables);
    }
    assert_false(j.failed);
    if (differ) fail_msg("%d of %d templates differ", differ, n);
    assert_true(n > 900);
    sr_arena_free(&a);
    free(file.s);
}

static struct text conversation_of(sr_json j, struct text name) {
    sr_json_value key, v;
    sr_json_next(&j, &v);
    while (sr_json_next_pair(&j, &key, &v) == SR_JSON_OBJECT) {
        struct text t = span(&j, &v);
        if (sr_json_equals(&key, name.s)) return t;
    }
    fail_msg("no conversation \"%s\"", name.s);
    return (struct text){0};
}

static void chat_templates_equal_the_reference(void **state) {
    (void)state;
    struct text expected = read_file(VECTORS "expected.json"), all = read_file(VECTORS "conversations.json");
    sr_err err = {0};
    sr_json j = sr_json_over(expected.s, expected.n, "expected.json", &err);
    sr_json conversations = sr_json_over(all.s, all.n, "conversations.json", &err);
    sr_json_value v;
    struct reference c;
    sr_arena a = {0};
    int n = 0, differ = 0;
    for (sr_json_next(&j, &v); read_case(&j, &a, &c); n++) {
        char path[1024], name[256];
        snprintf(path, sizeof path, VECTORS "%s.jinja", c.template.s);
        snprintf(name, sizeof name, "%s, %s", c.template.s, c.conversation.s);
        struct text template = read_file(path);
        differ += compare(&c, name, template, conversation_of(conversations, c.conversation));
        free(template.s);
    }
    assert_false(j.failed);
    if (differ) fail_msg("%d of %d conversations differ", differ, n);
    assert_true(n >= 9 * 18);
    sr_arena_free(&a);
    free(expected.s);
    free(all.s);
}

/* ---------------------------------------------------------------- what the reference does otherwise, or cannot say */

static void lists_and_dicts_can_grow_and_shrink(void **state) {
    (void)state;
    check("{% set l = [1] %}{% set x = l.append(2) %}{{ l }}{{ x }}{{ l.pop() }}{{ l.pop(0) }}{{ l }}", "{}",
          "[1, 2]None21[]");
    check("{% set d = {'a': 1, 'b': 2} %}{{ d.pop('a') }}{{ d.pop('z', 9) }}{{ d }}", "{}", "19{'b': 2}");
    check_fails("{{ [].pop() }}", "{}", SR_INVALID, "0 items");
    check_fails("{{ {}.pop('a') }}", "{}", SR_INVALID, "no such key");
    /* past the size from which keys are indexed */
    check("{% set d = dict(v) %}{% for k in v %}{% set x = d.pop(k) if loop.index0 % 2 else 0 %}{% endfor %}"
          "{{ d.keys() | join }}{{ d.k8 }}{{ d.k9 is defined }}",
          "{\"v\":{\"k0\":0,\"k1\":1,\"k2\":2,\"k3\":3,\"k4\":4,\"k5\":5,\"k6\":6,\"k7\":7,\"k8\":8,\"k9\":9,\"k10\":"
          "10}}",
          "k0k2k4k6k8k108False");
    check("{{ '{\"a\": [1, 2.5, null]}' | from_json }}", "{}", "{'a': [1, 2.5, None]}");
    check_fails("{{ '{' | from_json }}", "{}", SR_CORRUPT, "column 10: from_json");
}

static void numbers_of_json_keep_their_digits(void **state) {
    (void)state;
    const char *v = "{\"a\":18446744073709551615,\"b\":-0,\"c\":1.0,\"d\":1e400,\"e\":NaN,\"f\":9223372036854775807}";
    check("{{ a }} {{ a | tojson }} {{ a is number }} {{ b }} {{ c }} {{ d }} {{ e }} {{ f }}", v,
          "18446744073709551615 18446744073709551615 True 0 1.0 inf nan 9223372036854775807");
    check_fails("{{ a + 1 }}", v, SR_LIMIT, "64 bits");
    check_fails("{{ f + 1 }}", v, SR_LIMIT, "64 bits");
    check_fails("{{ 9223372036854775808 }}", v, SR_CORRUPT, "9223372036854775808");
}

static void zeros_are_characters(void **state) {
    (void)state;
    size_t n;
    sr_err err = {0};
    const char template[] = "a\0{{ s }}{{ s | length }}{{ '\0' in s }}", variables[] = "{\"s\": \"x\\u0000y\"}";
    char *got = render_n(template, sizeof template - 1, variables, sizeof variables - 1, &n, &err);
    assert_non_null(got);
    assert_int_equal(n, 10);
    assert_memory_equal(got, "a\0x\0y3True", 11);
    sr_text_free(got);
}

static void the_clock_is_local(void **state) {
    (void)state;
    check("{{ strftime_now('%Y-%m-%d %H:%M:%S %d, %B, %Y %% %-d') }}", "{}",
          "2023-11-14 22:13:20 14, November, 2023 % 14"); /* TZ=UTC, see main */
    check_fails("{{ strftime_now('%Q') }}", "{}", SR_INVALID, "'%Q'");
    check_fails("{{ strftime_now('%') }}", "{}", SR_INVALID, "strftime_now");
}

static void messages_become_what_templates_expect(void **state) {
    (void)state;
    const char *m =
        "{\"tools\":[],\"documents\":null,\"messages\":[{\"role\":\"assistant\",\"content\":null,\"reasoning\":\"r\","
        "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": [1]}\"}},"
        "{\"function\":{\"arguments\":\"no "
        "JSON\"}},{\"function\":{\"arguments\":\"[1]\"}},{\"arguments\":\"{}\"},7]}]}";
    check("{% set m = messages[0] %}{{ tools is defined }}{{ documents is defined }}{{ m.content is defined }}", m,
          "FalseFalseFalse");
    check("{% set m = messages[0] %}{{ m.reasoning_content }}{{ m.thinking }}{{ m.reasoning }}", m, "rrr");
    check(
        "{% for c in messages[0].tool_calls if c is mapping %}{{ (c.function or c).arguments | tojson }} {% endfor %}",
        m, "{\"x\": [1]} \"no JSON\" \"[1]\" {} ");
    check("{{ messages }}{{ tools }}", "{\"messages\":\"text\",\"tools\":[1]}", "text[1]");
    check("{{ messages }}", "{\"messages\":[1,null]}", "[1, None]");
}

static void errors_name_template_line_and_column(void **state) {
    (void)state;
    check_fails("a\n b {{ x.y.z }}", "{\"x\":{}}", SR_INVALID,
                "t.jinja: line 2, column 10: 'y' is undefined, expected");
    check_fails("\xC3\xA9\xC3\xA9{{ 1 + 'a' }}", "{}", SR_INVALID,
                "line 1, column 8: found 'int' and 'str' for '+', expected");
    check_fails("{% if x %}\n\n{% endfor %}", "{}", SR_CORRUPT,
                "line 3, column 4: found 'endfor', expected a statement");
    check_fails("\r\n{% for x of y %}", "{}", SR_CORRUPT, "line 2, column 10: found 'of', expected 'in'");
    check_fails("{% if a %}", "{}", SR_CORRUPT, "found the end of the template, expected '{% elif %}'");
    check_fails("{{ a", "{}", SR_CORRUPT, "found the end of the template, expected '}}'");
    check_fails("{{ 'abc }}", "{}", SR_CORRUPT, "column 4: found a string without an end, expected '");
    check_fails("{% include 'x' %}", "{}", SR_UNSUPPORTED, "column 4: found the statement 'include'");
    check_fails("{% extends 'x' %}", "{}", SR_UNSUPPORTED, "'extends'");
    check_fails("{% import 'x' as y %}", "{}", SR_UNSUPPORTED, "'import'");
    check_fails("{% if y %}{{ 1 | frob }}{% endif %}", "{\"y\":1}", SR_UNSUPPORTED,
                "column 18: found the filter 'frob'");
    check_fails("{{ raise_exception('roles: ' ~ r) }}", "{\"r\":[1]}", SR_INVALID, "the template refuses: roles: [1]");
    check_fails("{% macro m(a) %}{{ a.b.c }}{% endmacro %}\n{{ m({}) }}", "{}", SR_INVALID,
                "line 1, column 23: 'b' is undefined");
    check_fails("{{ x | tojson(spaces=2) }}", "{\"x\":1}", SR_INVALID,
                "expected one of: ensure_ascii indent separators sort_keys");
    check_fails("{{ 1 }}", "[1]", SR_INVALID, "expected an object");
    check_fails("{{ 1 }}", "{\"a\":", SR_CORRUPT, "variables of a template: JSON ends at byte 5");
    check_fails("\xFF", "{}", SR_CORRUPT, "not UTF-8");
    check_fails("{#", "{}", SR_CORRUPT, "a comment without an end");
    check_fails("{% raw %}", "{}", SR_CORRUPT, "'raw' without an end");
    check_fails("{% for x in [1] %}{% set y %}{% break %}{% endset %}{% endfor %}", "{}", SR_CORRUPT,
                "'break' outside of a loop");
}

/* ---------------------------------------------------------------- the template of a model */

static void check_open(const char *path, bool tools, const char *want) {
    sr_template *t;
    char *got;
    size_t n;
    OK(sr_template_open(path, tools, &t, e_));
    OK(sr_template_render(t, "{\"x\": \"!\"}", 10, &got, &n, e_));
    assert_string_equal(got, want);
    sr_text_free(got);
    sr_template_free(t);
}

static void check_home(const char *path, const char *word) {
    sr_template *t;
    OK(sr_template_open(path, false, &t, e_));
    if (!strstr(sr_template_home(t), word)) fail_msg("%s: found in %s, not %s", path, sr_template_home(t), word);
    sr_template_free(t);
}

static void check_open_fails(const char *path, sr_status status, const char *word) {
    sr_template *t;
    sr_err err = {0};
    sr_status got = sr_template_open(path, false, &t, &err);
    assert_null(t);
    check_error(path, got, &err, status, word, NULL);
}

#define NAMED "[{\"name\":\"default\",\"template\":\"D{{x}}\"},{\"name\":\"tool_use\",\"template\":\"T{{x}}\"}]"

static void filters_of_jinja_that_are_not_here_are_named(void **state) {
    static const char *const names[] = {"random", "urlize", "filesizeformat", "striptags", "urlencode", "xmlattr"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char template[64], word[80];
        snprintf(word, sizeof word, "the filter '%s', which Jinja has", names[i]);
        snprintf(template, sizeof template, "{{ 'a' | %s }}", names[i]);
        check_fails(template, "{}", SR_UNSUPPORTED, word);
        snprintf(template, sizeof template, "{{ ['a'] | map('%s') | list }}", names[i]);
        check_fails(template, "{}", SR_UNSUPPORTED, word);
    }
}

static void templates_of_a_directory_have_their_order(void **state) {
    const char *dir = *state;
    write_text(in(dir, "config.json"), "{}");
    check_open_fails(dir, SR_UNSUPPORTED, "no chat template");
    write_text(in(dir, "chat_template.json"), "{\"chat_template\":\"J{{x}}\"}");
    check_open(dir, false, "J!");
    write_text(
        in(dir, "tokenizer_config.json"),
        "{\"bos_token\":\"<s>\",\"eos_token\":{\"__type\":\"AddedToken\",\"content\":\"</s>\"},\"unk_token\":null,"
        "\"pad_token\":false,\"chat_template\":\"{{bos_token}}{{eos_token}}{{unk_token}}{{pad_token}}{{x}}\"}");
    check_open(dir, true, "<s></s>!");
    write_text(in(dir, "tokenizer_config.json"), "{\"bos_token\":\"<s>\",\"chat_template\":" NAMED "}");
    check_open(dir, false, "D!");
    check_open(dir, true, "T!");
    write_text(in(dir, "chat_template.jinja"), "F{{bos_token}}\n");
    check_open(dir, false, "F<s>");
    check_open(dir, true, "F<s>");
    write_text(in(dir, "special_tokens_map.json"), "{\"bos_token\":{\"content\":\"<m>\",\"lstrip\":false}}");
    check_open(dir, false, "F<m>");
    write_text(in(dir, "tokenizer_config.json"), "{\"bos_token\":\"<s>\",\"added_tokens_decoder\":{}}");
    check_open(dir, false, "F<s>"); /* the newer list of tokens: the map does not count */
    assert_int_equal(mkdir(in(dir, "additional_chat_templates"), 0700), 0);
    write_text(in(in(dir, "additional_chat_templates"), "tool_use.jinja"), "A{{x}}");
    check_open(dir, false, "F<s>");
    check_open(dir, true, "A!");
    write_text(in(dir, "processor_config.json"), "{\"image_size\":[1,{}],\"chat_template\":\"P{{x}}\"}");
    check_open(dir, false, "P!");
    write_text(in(dir, "other.jinja"), "{{bos_token}}{{x}}");
    check_open(in(dir, "other.jinja"), false, "<s>!");
    check_home(in(dir, "other.jinja"), "other.jinja");
    check_home(dir, "processor_config.json");
    write_text(in(dir, "other.json"), "{\"bos_token\":\"<o>\",\"chat_template\":" NAMED "}");
    check_open(in(dir, "other.json"), false, "D!");
    check_open(in(dir, "other.json"), true, "T!");
    check_home(in(dir, "other.json"), "other.json");
    write_text(in(dir, "other.json"), "{\"bos_token\":\"<o>\",\"chat_template\":\"{{bos_token}}{{x}}\"}");
    check_open(in(dir, "other.json"), false, "<o>!");
    write_text(in(dir, "other.json"), "{\"bos_token\":\"<o>\"}");
    check_open_fails(in(dir, "other.json"), SR_UNSUPPORTED, "other.json");
    write_text(in(dir, "other.json"), "{\"chat_template\":");
    check_open_fails(in(dir, "other.json"), SR_CORRUPT, "other.json");
    check_open_fails(in(dir, "absent.json"), SR_IO, "absent.json");
    write_text(in(dir, "processor_config.json"), "{\"chat_template\":\"{% if %}\"}");
    check_open_fails(dir, SR_CORRUPT, "chat template: line 1, column 7");
    write_text(in(dir, "processor_config.json"), "{\"chat_template\":7}");
    check_open_fails(dir, SR_CORRUPT, "processor_config.chat_template");
    check_open_fails(in(dir, "absent.jinja"), SR_IO, "absent.jinja");
}

static void templates_of_gguf_know_its_tokens(void **state) {
    struct bytes b = {0};
    const char *path = in(*state, "m.gguf");
    g_header(&b, 3, 0, 6);
    g_string(&b, "tokenizer.chat_template", "{{bos_token}}{{eos_token}}{{unk_token}}{{pad_token}}{{x}}");
    g_string(&b, "tokenizer.chat_template.tool_use", "T{{bos_token}}");
    g_array(&b, "tokenizer.ggml.tokens", G_STRING, 3);
    g_text(&b, "<a>");
    g_text(&b, "<b>");
    g_text(&b, "<c>");
    g_u32(&b, "tokenizer.ggml.bos_token_id", 2);
    g_u32(&b, "tokenizer.ggml.eos_token_id", 0);
    g_u32(&b, "tokenizer.ggml.padding_token_id", 9);
    write_file(path, b.data, b.n);
    drop(&b);
    check_open(path, false, "<c><a>!");
    check_open(path, true, "T<c>");
}

/* ---------------------------------------------------------------- 21, 22 */

/* Nothing of the program is reachable: what is not a value is not there. */
static void attack_21_there_is_nothing_behind_a_value(void **state) {
    (void)state;
    static const char *const nothing[] = {"s.__class__",
                                          "s['__class__']",
                                          "s|attr('__class__')",
                                          "m.__init__",
                                          "[].__class__",
                                          "{}.__globals__",
                                          "l.__len__",
                                          "u.__class__ is defined",
                                          "namespace().__class__",
                                          "range.__globals__",
                                          "raise_exception.__self__",
                                          "(1).__class__",
                                          "none.__class__",
                                          "x.__dict__",
                                          "l.sort",
                                          "self",
                                          "config",
                                          "request",
                                          "cycler.__init__",
                                          "joiner().__self__",
                                          "'{0.__class__}'.format(s)",
                                          "'{0[__class__]}'.format(x)",
                                          "'{a.__globals__}'.format(a=range)",
                                          "lipsum",
                                          "self.__init__ if self else ''",
                                          "s.encode",
                                          "d.update",
                                          "d.setdefault",
                                          "l.clear",
                                          "l.extend",
                                          "s.translate",
                                          "s.format_map"};
    static const char *const chains[] = {"s.__class__.__mro__",
                                         "''.__class__.__mro__[1].__subclasses__()",
                                         "[].__class__.__base__",
                                         "cycler.__init__.__globals__.os.popen('id').read()",
                                         "lipsum.__globals__['os']",
                                         "self._TemplateReference__context",
                                         "self.__init__.__globals__.__builtins__",
                                         "x.__globals__.y",
                                         "namespace.__init__.__globals__",
                                         "raise_exception.__globals__['os']",
                                         "(s|attr('__class__')|attr('x')).y",
                                         "''.format.__globals__.x",
                                         "request['application']['__globals__']",
                                         "'{0.__class__.x}'.format(1)",
                                         "'%(__class__)s' % s",
                                         "l|map(attribute='__class__.__mro__')|list",
                                         "l|sort(attribute='__class__.x')",
                                         "namespace(__class__=1)",
                                         "dict.mro()",
                                         "s.encode().decode()",
                                         "range.__call__(9)"};
    const char *v = "{\"s\":\"s\",\"l\":[1],\"d\":{},\"u\":\"\"}";
    char template[256];
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        snprintf(template, sizeof template,
                 "{%% macro m() %%}{%% endmacro %%}{%% for x in [m] %%}{{ %s }}{%% endfor %%}", nothing[i]);
        check(template, v, strstr(nothing[i], "is defined") ? "False" : "");
    }
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        snprintf(template, sizeof template, "{%% macro x() %%}{%% endmacro %%}{{ %s }}", chains[i]);
        check_fails(template, v, SR_INVALID, "t.jinja: line 1, column");
    }
    check_fails("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", v, SR_INVALID, "'__class__'");
    check("{{ d['_p'] }}{{ d._p }}", "{\"d\":{\"_p\":\"data\"}}", "datadata");
}

enum { CPU_SECONDS = 30 }; /* with sanitizers, under load; attacks_test has the product's limit */

static void check_limit(const char *template) {
    clock_t from = clock();
    check_fails(template, "{}", SR_LIMIT, "t.jinja: line 1, column");
    double spent = (double)(clock() - from) / CLOCKS_PER_SEC;
    if (spent > CPU_SECONDS) fail_msg("%s: %.1f s", template, spent);
}

static void attack_22_steps_memory_and_text_are_bounded(void **state) {
    (void)state;
    static const char *const templates[] = {
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(100000) %}{% for k in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}",
        "{{ 'x' * 10**9 }}",
        "{{ [0] * 10**9 }}",
        "{{ 'x' * 9223372036854775807 }}",
        "{{ (1,) * 9223372036854775807 }}",
        "{{ ([0] * 10000) * 4611686018427387905 }}",
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = [n.s, n.s] | join %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s|replace('x', 'xx') %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{{ {'a': [1]} | tojson(indent=10**9) }}",
        "{{ {'a': [1]} | tojson(indent=9223372036854775807) }}",
        "{{ {'a': [1]} | tojson(indent=100000000) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a'.ljust(9223372036854775807) }}",
        "{{ 'a'.zfill(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '%*s' % (10**9, 'a') }}",
        "{{ 'a\\nb' | indent(10**9) }}",
        "{{ ('a' * 1000000).replace('', 'b' * 1000) }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 2 ** 64 }}",
        "{{ -9223372036854775807 - 2 }}",
        "{{ (-9223372036854775807 - 1) // -1 }}",
        "{{ ('a' * 1000000 + 'b') in ('a' * 100000000) }}",
        "{{ ('a' * 1000000 + 'b') in (('a' * 1000000 + 'c') * 100) }}",
        "{{ ('a,' * 100000000).split(',') | length }}",
        "{{ (([[]] * 100000) | map('list') | list) * 1000 }}",
        "{% set l = range(99999) | list %}{% for i in l %}{{ l | sort | first }}{% endfor %}",
        "{% set l = range(99999) | list %}{% for i in l %}{% if -1 in l %}{% endif %}{% endfor %}",
        "{% set l = range(99999) | list %}{% for i in l %}{% set m = l[::-1] %}{% endfor %}",
        "{{ strftime_now('%c' * 10000000) }}",
        "{% set s = 'x' * 100000 %}{% for i in range(100000) %}{{ s[99999] }}{% endfor %}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ [1] | batch(10**9, 0) | list | length }}",
        "{{ [1] | slice(10**9) | list | length }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:01000000000,}'.format(1) }}",
        "{{ '{:é>{}}'.format('a', 10**9) }}",
        "{{ '{:.1000000000f}'.format(1) }}",
        "{{ '{:.1000000000}'.format(1.5) }}",
        "{{ 1 | center(10**9) }}",
        "{{ ('a' * 100000000) | wordwrap(1) }}",
        "{% set l = range(99999) | list %}{% for i in l %}{{ l | groupby(0, default=1) | length }}{% endfor %}",
        "{% set l = range(99999) | list %}{% for i in l %}{{ l | pprint | length }}{% endfor %}",
        "{{ ('[' * 100) | from_json }}"};
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) check_limit(templates[i]);
}

static void attack_22_depth_is_bounded(void **state) {
    (void)state;
    static const char *const templates[] = {
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(a=f()) %}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{% call f(x) %}{% endcall %}{{ caller() }}{% endmacro %}{{ f(1) }}",
        "{% set n = namespace(x=[]) %}{% for i in range(100000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
        "{% set n = namespace(x={}) %}{% for i in range(10000) %}{% set n.x = {'a': n.x} %}{% endfor %}{{ n.x | "
        "tojson }}",
        "{% set n = namespace(x=[]) %}{% for i in range(10000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x | pprint }}",
        "{% set n = namespace(x=[], y=[]) %}{% for i in range(10000) %}{% set n.x = [n.x] %}{% set n.y = [n.y] "
        "%}{% endfor %}{{ n.x == n.y }}",
        "{% set n = namespace(x=[], y=[1]) %}{% for i in range(10000) %}{% set n.x = [n.x] %}{% set n.y = [n.y] "
        "%}{% endfor %}{{ n.x < n.y }}",
        "{% set l = [] %}{% set x = l.append(l) %}{{ l }}",
        "{% set l = [] %}{% set x = l.append(l) %}{{ l | tojson }}",
        "{% set l = [] %}{% set k = [] %}{% set x = l.append(k) %}{% set x = k.append(l) %}{{ l == k }}"};
    static const char *const repeated[] = {"(", "[", "{1:", "-", "not ", "a[", "a(", "1 if 1 else ", "a|f(", "a.b("};
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) check_limit(templates[i]);
    enum { TIMES = 50000 };
    char *text = malloc(TIMES * 16 + 64);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++) {
        char *at = text + sprintf(text, "{{ ");
        for (int k = 0; k < TIMES; k++) at += sprintf(at, "%s", repeated[i]);
        check_limit(text);
    }
    char *at = text;
    for (int k = 0; k < TIMES; k++) at += sprintf(at, "{%%if a%%}");
    check_limit(text);
    strcpy(text, "{{ 1");
    at = text + 4;
    for (int k = 0; k < TIMES; k++) at += sprintf(at, " + 1");
    strcpy(at, " }}");
    check_limit(text);
    free(text);
}

static void templates_that_are_too_long_are_refused(void **state) {
    (void)state;
    size_t n = (1 << 20) + 1;
    char *text = malloc(n);
    sr_template *t;
    sr_err err = {0};
    assert_non_null(text);
    memset(text, 'a', n);
    sr_status status = sr_template_parse(text, n, "t.jinja", &t, &err);
    check_error("long", status, &err, SR_LIMIT, "1048577 bytes", NULL);
    assert_int_equal(sr_template_parse(text, n - 1, "t.jinja", &t, NULL), SR_OK);
    sr_template_free(t);
    free(text);
}

/* A thousand messages, each looked at from each: what a template may well do. */
static void long_conversations_fit_the_limits(void **state) {
    (void)state;
    struct bytes b = {0};
    size_t n;
    sr_err err = {0};
    static const char
        head[] = "{\"messages\":[",
        message[] = "{\"role\":\"user\",\"content\":\"",
        template[] = "{% set ns = namespace(all='', n=0) %}{% for m in messages %}{% for k in messages %}{% if k.role "
                     "== 'tool' %}{% set ns.n = 1 %}{% endif %}"
                     "{% endfor %}{% set ns.all = ns.all + '<' + m.content | trim + '>' %}{% endfor %}{{ ns.all }}";
    put(&b, head, sizeof head - 1);
    for (int i = 0; i < 1000; i++) {
        if (i) put(&b, ",", 1);
        put(&b, message, sizeof message - 1);
        for (int k = 0; k < 10000; k++) put(&b, "x", 1);
        put(&b, "\"}", 2);
    }
    put(&b, "]}", 2);
    char *got = render_n(template, sizeof template - 1, (char *)b.data, b.n, &n, &err);
    if (!got) fail_msg("%s", err.msg);
    assert_int_equal(n, 1000 * 10002);
    sr_text_free(got);
    drop(&b);
}

static void one_template_renders_many_times(void **state) {
    (void)state;
    sr_template *t;
    static const char text[] = "{% set x = l.append(n) %}{{ l }}";
    OK(sr_template_parse(text, sizeof text - 1, "t", &t, e_));
    for (int i = 0; i < 3; i++) {
        char variables[64], want[64], *got;
        size_t n;
        snprintf(variables, sizeof variables, "{\"l\":[],\"n\":%d}", i);
        snprintf(want, sizeof want, "[%d]", i);
        OK(sr_template_render(t, variables, strlen(variables), &got, &n, e_));
        assert_string_equal(got, want);
        sr_text_free(got);
        assert_int_equal(sr_template_render(t, "{}", 2, &got, &n, NULL),
                         SR_INVALID); /* without a place for the message */
        assert_null(got);
    }
    sr_template_free(t);
    sr_template_free(NULL);
}

int main(void) {
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_templates_equal_the_reference),
        cmocka_unit_test(chat_templates_equal_the_reference),
        cmocka_unit_test(lists_and_dicts_can_grow_and_shrink),
        cmocka_unit_test(numbers_of_json_keep_their_digits),
        cmocka_unit_test(zeros_are_characters),
        cmocka_unit_test(the_clock_is_local),
        cmocka_unit_test(messages_become_what_templates_expect),
        cmocka_unit_test(errors_name_template_line_and_column),
        cmocka_unit_test_setup_teardown(templates_of_a_directory_have_their_order, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(templates_of_gguf_know_its_tokens, make_scratch, remove_scratch),
        cmocka_unit_test(attack_21_there_is_nothing_behind_a_value),
        cmocka_unit_test(filters_of_jinja_that_are_not_here_are_named),
        cmocka_unit_test(attack_22_steps_memory_and_text_are_bounded),
        cmocka_unit_test(attack_22_depth_is_bounded),
        cmocka_unit_test(templates_that_are_too_long_are_refused),
        cmocka_unit_test(long_conversations_fit_the_limits),
        cmocka_unit_test(one_template_renders_many_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
