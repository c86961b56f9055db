/* Jinja's grammar, by recursive descent; the operators bind as in Jinja 3.1, where a power is taken from the left. */
#include <stdio.h>

#include "text/jinja.h"

typedef struct jparser {
    jenv *e;
    jlexer l;
    jtoken now, ahead;
    int loops;    /* open around the statement, inside of the innermost macro or captured block */
    uint8_t uses; /* J_USES_* of the macro being read */
} jparser;

/* ---------------------------------------------------------------- tokens and nodes */

static void advance(jparser *p) {
    p->now = p->ahead;
    if (p->ahead.kind != T_END) p->ahead = sr_j_lex(&p->l);
    p->e->at = p->now.at;
    sr_j_charge(p->e, 1);
}

static bool is_word(jtoken t, const char *word) {
    return t.kind == T_NAME && sr_j_is(t.v, word);
}

static bool skip(jparser *p, jtoken_kind kind) {
    if (p->now.kind != kind) return false;
    advance(p);
    return true;
}

static bool skip_word(jparser *p, const char *word) {
    if (!is_word(p->now, word)) return false;
    advance(p);
    return true;
}

_Noreturn static void unexpected(jparser *p, const char *expected) {
    p->e->at = p->now.at;
    if (p->now.kind == T_NAME || p->now.kind == T_NUMBER)
        sr_j_fail(p->e, SR_CORRUPT, "found '%s', expected %s", sr_j_shown(p->l.s + p->now.at, p->now.n), expected);
    sr_j_fail(p->e, SR_CORRUPT, "found %s, expected %s", sr_j_token_name(p->now.kind), expected);
}

static void expect(jparser *p, jtoken_kind kind) {
    if (!skip(p, kind)) unexpected(p, sr_j_token_name(kind));
}

static jvalue expect_name(jparser *p) {
    jvalue v = p->now.v;
    expect(p, T_NAME);
    return v;
}

static jnode *node(jparser *p, jnode_kind kind, uint32_t at) {
    jnode *n = sr_j_alloc(p->e, 1, sizeof *n);
    n->kind = (uint8_t)kind;
    n->at = at;
    return n;
}

static jnode *node2(jparser *p, jnode_kind kind, uint32_t at, jnode *a, jnode *b) {
    jnode *n = node(p, kind, at);
    n->k[0] = a;
    n->k[1] = b;
    return n;
}

/* Appends to the list that *end is the last link of. */
static void append(jnode ***end, jnode *n) {
    **end = n;
    *end = &n->next;
}

/* ---------------------------------------------------------------- expressions */

static jnode *expression(jparser *p);
static jnode *unary(jparser *p, bool filters);
static jnode *postfix(jparser *p, jnode *n);
static jnode *primary(jparser *p);

/* "(...)" of a call. */
static jnode *arguments(jparser *p) {
    jnode *first = NULL, **end = &first;
    bool named = false;
    expect(p, T_LPAREN);
    while (p->now.kind != T_RPAREN) {
        if (first) {
            expect(p, T_COMMA);
            if (p->now.kind == T_RPAREN) break;
        }
        uint32_t at = p->now.at;
        jnode *a;
        if (skip(p, T_MUL)) {
            a = node2(p, N_STAR, at, expression(p), NULL);
        } else if (skip(p, T_POW)) {
            a = node2(p, N_STARS, at, expression(p), NULL);
            named = true;
        } else if (p->now.kind == T_NAME && p->ahead.kind == T_ASSIGN) {
            a = node(p, N_KEYWORD, at);
            a->v = expect_name(p);
            advance(p);
            a->k[0] = expression(p);
            named = true;
        } else {
            if (named) unexpected(p, "an argument by name, as all behind the first one");
            a = expression(p);
        }
        append(&end, a);
    }
    expect(p, T_RPAREN);
    return first;
}

/* Behind '|'; value NULL: the text of a block. */
static jnode *filter(jparser *p, jnode *value) {
    jnode *n = node2(p, N_FILTER, p->now.at, value, NULL);
    n->v = expect_name(p);
    n->builtin = sr_j_filter(n->v);
    if (p->now.kind == T_LPAREN) n->k[1] = arguments(p);
    return n;
}

/* Behind "is". */
static jnode *test(jparser *p, jnode *value) {
    uint32_t at = p->now.at;
    bool negated = skip_word(p, "not");
    jnode *n = node2(p, N_TEST, at, value, NULL);
    n->v = expect_name(p);
    n->builtin = sr_j_test(n->v);
    jtoken t = p->now;
    bool literal = t.kind == T_STRING || t.kind == T_NUMBER || t.kind == T_LBRACKET || t.kind == T_LBRACE;
    if (t.kind == T_LPAREN) {
        n->k[1] = arguments(p);
    } else if (literal || (t.kind == T_NAME && !is_word(t, "else") && !is_word(t, "or") && !is_word(t, "and"))) {
        if (is_word(t, "is")) unexpected(p, "no second test");
        /* "x is defined if y" and "x is string not in y" have no argument either, but Jinja takes the word for one */
        n->k[1] = postfix(p, primary(p));
    }
    return negated ? node2(p, N_NOT, at, n, NULL) : n;
}

/* One of a[b] or a[b:c:d]; `object` is a. */
static jnode *subscript_part(jparser *p, jnode *object, uint32_t at) {
    jnode *part[3] = {NULL, NULL, NULL};
    int colons = 0;
    if (p->now.kind != T_COLON) part[0] = expression(p);
    while (colons < 2 && skip(p, T_COLON)) {
        colons++;
        if (p->now.kind != T_RBRACKET && p->now.kind != T_COMMA && p->now.kind != T_COLON) part[colons] = expression(p);
    }
    if (!colons) return node2(p, N_ITEM, at, object, part[0]);
    jnode *n = node2(p, N_SLICE, at, object, part[0]);
    n->k[2] = part[1];
    n->k[3] = part[2];
    return n;
}

static jnode *subscript(jparser *p, jnode *object) {
    uint32_t at = p->now.at;
    if (skip(p, T_DOT)) {
        jnode *n = node2(p, N_ATTR, at, object, NULL);
        if (p->now.kind == T_NUMBER && p->now.v.kind == J_INT) {
            n->kind = N_ITEM;
            n->k[1] = node(p, N_CONST, p->now.at);
            n->k[1]->v = p->now.v;
            advance(p);
        } else {
            n->v = expect_name(p);
        }
        return n;
    }
    advance(p);
    jnode *n = subscript_part(p, object, at);
    if (p->now.kind == T_COMMA) { /* a[b, c]: the key is a tuple */
        if (n->kind == N_SLICE) unexpected(p, "']': there is no slice of several dimensions");
        jnode *tuple = node2(p, N_TUPLE, at, n->k[1], NULL), **end = &n->k[1]->next;
        while (skip(p, T_COMMA) && p->now.kind != T_RBRACKET) append(&end, expression(p));
        n->k[1] = tuple;
    }
    expect(p, T_RBRACKET);
    return n;
}

static jnode *call(jparser *p, jnode *callee) {
    uint32_t at = p->now.at;
    return node2(p, N_CALL, at, callee, arguments(p));
}

static jnode *postfix(jparser *p, jnode *n) {
    for (;;) {
        if (p->now.kind == T_DOT || p->now.kind == T_LBRACKET)
            n = subscript(p, n);
        else if (p->now.kind == T_LPAREN)
            n = call(p, n);
        else
            return n;
    }
}

static jnode *filters(jparser *p, jnode *n) {
    for (;;) {
        if (skip(p, T_PIPE))
            n = filter(p, n);
        else if (skip_word(p, "is"))
            n = test(p, n);
        else if (p->now.kind == T_LPAREN)
            n = call(p, n);
        else
            return n;
    }
}

static bool ends_tuple(const jparser *p) {
    return p->now.kind == T_PRINT_END || p->now.kind == T_BLOCK_END || p->now.kind == T_RPAREN;
}

/* One expression, or several with commas between: a tuple. */
static jnode *tuple(jparser *p, jnode *(*item)(jparser *), bool may_be_empty, const char *until) {
    uint32_t at = p->now.at;
    jnode *first = NULL, **end = &first;
    bool commas = false;
    for (;;) {
        if (ends_tuple(p) || (until && is_word(p->now, until))) break;
        append(&end, item(p));
        if (!skip(p, T_COMMA)) break;
        commas = true;
    }
    if (!commas && first) return first;
    if (!first && !may_be_empty) unexpected(p, "an expression");
    return node2(p, N_TUPLE, at, first, NULL);
}

static jnode *constant(jparser *p, uint32_t at, jvalue v) {
    jnode *n = node(p, N_CONST, at);
    n->v = v;
    return n;
}

static jnode *name(jparser *p) {
    jnode *n = node(p, N_NAME, p->now.at);
    jvalue v = n->v = expect_name(p);
    if (sr_j_is(v, "true") || sr_j_is(v, "True")) return constant(p, n->at, sr_j_bool(true));
    if (sr_j_is(v, "false") || sr_j_is(v, "False")) return constant(p, n->at, sr_j_bool(false));
    if (sr_j_is(v, "none") || sr_j_is(v, "None")) return constant(p, n->at, sr_j_none());
    if (sr_j_is(v, "varargs")) p->uses |= J_USES_VARARGS;
    if (sr_j_is(v, "kwargs")) p->uses |= J_USES_KWARGS;
    if (sr_j_is(v, "caller")) p->uses |= J_USES_CALLER;
    return n;
}

static jnode *strings(jparser *p) { /* one behind another are one */
    jnode *n = constant(p, p->now.at, p->now.v);
    advance(p);
    for (; p->now.kind == T_STRING; advance(p)) n->v = sr_j_concat(p->e, n->v, p->now.v);
    return n;
}

static jnode *list(jparser *p) {
    jnode *n = node(p, N_LIST, p->now.at), **end = &n->k[0];
    advance(p);
    while (p->now.kind != T_RBRACKET) {
        append(&end, expression(p));
        if (!skip(p, T_COMMA)) break;
    }
    expect(p, T_RBRACKET);
    return n;
}

static jnode *dict(jparser *p) {
    jnode *n = node(p, N_DICT, p->now.at), **end = &n->k[0];
    advance(p);
    while (p->now.kind != T_RBRACE) {
        append(&end, expression(p));
        expect(p, T_COLON);
        append(&end, expression(p));
        if (!skip(p, T_COMMA)) break;
    }
    expect(p, T_RBRACE);
    return n;
}

static jnode *primary(jparser *p) {
    jnode *n;
    switch (p->now.kind) {
    case T_NAME:
        return name(p);
    case T_STRING:
        return strings(p);
    case T_NUMBER:
        n = constant(p, p->now.at, p->now.v);
        advance(p);
        return n;
    case T_LPAREN:
        advance(p);
        n = tuple(p, expression, true, NULL);
        expect(p, T_RPAREN);
        return n;
    case T_LBRACKET:
        return list(p);
    case T_LBRACE:
        return dict(p);
    default:
        unexpected(p, "an expression");
    }
}

static jnode *unary(jparser *p, bool with_filters) {
    uint32_t at = p->now.at;
    jnode *n;
    sr_j_enter(p->e);
    if (skip(p, T_SUB))
        n = node2(p, N_NEGATIVE, at, unary(p, false), NULL);
    else if (skip(p, T_ADD))
        n = node2(p, N_POSITIVE, at, unary(p, false), NULL);
    else
        n = primary(p);
    sr_j_leave(p->e);
    n = postfix(p, n);
    return with_filters ? filters(p, n) : n;
}

/* Binary operators, from the one that binds least; all from the left. */
static int binds(jtoken_kind kind) {
    switch (kind) {
    case T_ADD:
    case T_SUB:
        return 1;
    case T_TILDE:
        return 2;
    case T_MUL:
    case T_DIV:
    case T_FLOORDIV:
    case T_MOD:
        return 3;
    case T_POW:
        return 4;
    default:
        return 0;
    }
}

static jnode *binary(jparser *p, int least) {
    jnode *left = unary(p, true);
    for (;;) {
        jtoken op = p->now;
        int level = binds(op.kind);
        if (level < least || !level) return left;
        advance(p);
        jnode *right = binary(p, level + 1);
        if (op.kind == T_TILDE) {
            left->next = right;
            left = node2(p, N_CONCAT, op.at, left, NULL);
        } else {
            left = node2(p, N_BINARY, op.at, left, right);
            left->op = (uint8_t)op.kind;
        }
    }
}

static jnode *comparison(jparser *p) {
    jnode *left = binary(p, 1), *n = NULL, **end = NULL;
    for (;;) {
        jtoken op = p->now;
        if (op.kind >= T_EQ && op.kind <= T_GE) {
            advance(p);
        } else if (is_word(op, "in")) {
            op.kind = T_IN;
            advance(p);
        } else if (is_word(op, "not") && is_word(p->ahead, "in")) {
            op.kind = T_NOT_IN;
            advance(p);
            advance(p);
        } else {
            return n ? n : left;
        }
        if (!n) {
            n = node2(p, N_COMPARE, op.at, left, NULL);
            end = &n->k[1];
        }
        jnode *operand = node2(p, N_OPERAND, op.at, binary(p, 1), NULL);
        operand->op = (uint8_t)op.kind;
        append(&end, operand);
    }
}

static jnode *negation(jparser *p) {
    uint32_t at = p->now.at;
    if (!skip_word(p, "not")) return comparison(p);
    sr_j_enter(p->e);
    jnode *n = node2(p, N_NOT, at, negation(p), NULL);
    sr_j_leave(p->e);
    return n;
}

static jnode *conjunction(jparser *p) {
    jnode *left = negation(p);
    for (uint32_t at = p->now.at; skip_word(p, "and"); at = p->now.at) left = node2(p, N_AND, at, left, negation(p));
    return left;
}

static jnode *disjunction(jparser *p) {
    jnode *left = conjunction(p);
    for (uint32_t at = p->now.at; skip_word(p, "or"); at = p->now.at) left = node2(p, N_OR, at, left, conjunction(p));
    return left;
}

static jnode *expression(jparser *p) {
    sr_j_enter(p->e);
    jnode *n = disjunction(p);
    for (uint32_t at = p->now.at; skip_word(p, "if"); at = p->now.at) {
        n = node2(p, N_COND, at, disjunction(p), n);
        if (skip_word(p, "else")) n->k[2] = expression(p);
    }
    sr_j_leave(p->e);
    return n;
}

/* ---------------------------------------------------------------- statements */

/* Statements up to one of the words (NULL at the end) behind a "{%"; that word is left as p->now. Without words: all.
 */
static jnode *body(jparser *p, const char *const *words);

static void end_block(jparser *p) {
    if (p->now.kind != T_BLOCK_END) unexpected(p, "'%}'");
    advance(p);
}

/* A body with one end, which is taken away. */
static jnode *body_until(jparser *p, const char *word) {
    jnode *n = body(p, (const char *const[]){word, NULL});
    advance(p);
    return n;
}

/* A body that becomes text: no break leaves it. */
static jnode *captured_until(jparser *p, const char *word) {
    int loops = p->loops;
    p->loops = 0;
    jnode *n = body_until(p, word);
    p->loops = loops;
    return n;
}

static jnode *target_item(jparser *p) {
    if (skip(p, T_LPAREN)) {
        sr_j_enter(p->e);
        jnode *n = tuple(p, target_item, false, NULL);
        sr_j_leave(p->e);
        expect(p, T_RPAREN);
        return n;
    }
    jtoken t = p->now;
    jnode *n = name(p);
    if (n->kind != N_NAME) {
        p->now = t;
        unexpected(p, "a name to assign to");
    }
    if (p->now.kind == T_DOT) {
        advance(p);
        n->kind = N_NSREF;
        n->k[0] = constant(p, p->now.at, expect_name(p));
    }
    return n;
}

static jnode *iterable_item(jparser *p) { /* "if" belongs to the loop here */
    return disjunction(p);
}

/* An "elif" is the N_IF in k[2] of the one before, whose op says so. */
static jnode *statement_if(jparser *p, uint32_t at) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jnode *first = NULL, **link = &first;
    for (;;) {
        jnode *n = *link = node2(p, N_IF, at, tuple(p, expression, false, NULL), NULL);
        n->k[1] = body(p, ends);
        link = &n->k[2];
        at = p->now.at;
        n->op = skip_word(p, "elif");
        if (n->op) continue;
        if (skip_word(p, "else"))
            n->k[2] = body_until(p, "endif");
        else
            advance(p);
        return first;
    }
}

static jnode *statement_for(jparser *p, uint32_t at) {
    static const char *const ends[] = {"endfor", "else", NULL};
    jnode *n = node(p, N_FOR, at);
    n->k[0] = tuple(p, target_item, false, "in");
    if (!skip_word(p, "in")) unexpected(p, "'in'");
    n->k[1] = tuple(p, iterable_item, false, "recursive");
    if (skip_word(p, "if")) n->k[4] = expression(p);
    n->op = skip_word(p, "recursive");
    p->loops++;
    n->k[2] = body(p, ends);
    p->loops--;
    bool otherwise = is_word(p->now, "else");
    advance(p);
    if (otherwise) n->k[3] = body_until(p, "endfor");
    return n;
}

static jnode *filter_chain(jparser *p, jnode *n) {
    while (skip(p, T_PIPE)) n = filter(p, n);
    return n;
}

static jnode *statement_set(jparser *p, uint32_t at) {
    jnode *target = tuple(p, target_item, false, NULL);
    if (skip(p, T_ASSIGN)) return node2(p, N_SET, at, target, tuple(p, expression, false, NULL));
    jnode *n = node2(p, N_SETBLOCK, at, target, filter_chain(p, NULL));
    n->k[2] = captured_until(p, "endset");
    return n;
}

/* "(a, b=1)" of a macro. */
static jnode *parameters(jparser *p) {
    jnode *first = NULL, **end = &first;
    bool defaults = false;
    expect(p, T_LPAREN);
    while (p->now.kind != T_RPAREN) {
        jnode *n = node(p, N_PARAM, p->now.at);
        n->v = expect_name(p);
        if (skip(p, T_ASSIGN)) {
            n->k[0] = expression(p);
            defaults = true;
        } else if (defaults) {
            unexpected(p, "'=': a parameter behind one with a default needs one too");
        }
        append(&end, n);
        if (!skip(p, T_COMMA)) break;
    }
    expect(p, T_RPAREN);
    return first;
}

static jnode *macro_body(jparser *p, jnode *n, const char *end) {
    uint8_t around = p->uses;
    p->uses = 0;
    n->k[1] = captured_until(p, end);
    n->op = p->uses;
    p->uses |= around;
    return n;
}

static jnode *statement_macro(jparser *p, uint32_t at) {
    jnode *n = node(p, N_MACRO, at);
    n->v = expect_name(p);
    n->k[0] = parameters(p);
    return macro_body(p, n, "endmacro");
}

static jnode *statement_call(jparser *p, uint32_t at) {
    jnode *n = node(p, N_CALLBLOCK, at), *m = n->k[1] = node(p, N_MACRO, at);
    m->v = sr_j_intern(&p->l, "caller", 6);
    if (p->now.kind == T_LPAREN) m->k[0] = parameters(p);
    n->k[0] = expression(p);
    if (n->k[0]->kind != N_CALL) unexpected(p, "the call of a macro");
    macro_body(p, m, "endcall");
    return n;
}

static jnode *statement_filter(jparser *p, uint32_t at) {
    jnode *n = node2(p, N_FILTERBLOCK, at, filter_chain(p, filter(p, NULL)), NULL);
    n->k[1] = captured_until(p, "endfilter");
    return n;
}

static jnode *statement_with(jparser *p, uint32_t at) {
    jnode *n = node(p, N_WITH, at), **end = &n->k[0];
    while (p->now.kind != T_BLOCK_END) {
        if (n->k[0]) expect(p, T_COMMA);
        append(&end, target_item(p));
        expect(p, T_ASSIGN);
        append(&end, expression(p));
    }
    n->k[1] = body_until(p, "endwith");
    return n;
}

/* The parts that only transformers' bookkeeping looks at. */
static jnode *statement_generation(jparser *p, uint32_t at) {
    return node2(p, N_SCOPE, at, captured_until(p, "endgeneration"), NULL);
}

static jnode *leave_loop(jparser *p, jnode_kind kind, uint32_t at) {
    if (!p->loops) {
        p->e->at = at;
        sr_j_fail(p->e, SR_CORRUPT, "found '%s' outside of a loop", kind == N_BREAK ? "break" : "continue");
    }
    return node(p, kind, at);
}
static jnode *statement_break(jparser *p, uint32_t at) {
    return leave_loop(p, N_BREAK, at);
}
static jnode *statement_continue(jparser *p, uint32_t at) {
    return leave_loop(p, N_CONTINUE, at);
}

static jnode *statement(jparser *p) {
    static const struct {
        const char *word;
        jnode *(*parse)(jparser *p, uint32_t at);
    } rows[] = {{"if", statement_if},       {"for", statement_for},
                {"set", statement_set},     {"macro", statement_macro},
                {"call", statement_call},   {"filter", statement_filter},
                {"with", statement_with},   {"generation", statement_generation},
                {"break", statement_break}, {"continue", statement_continue}};
    static const char *const refused[] = {"include", "import", "from", "extends", "block", "autoescape", "do", "trans"};
    jtoken t = p->now;
    if (t.kind != T_NAME) unexpected(p, "a statement");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!sr_j_is(t.v, rows[i].word)) continue;
        advance(p);
        sr_j_enter(p->e);
        jnode *n = rows[i].parse(p, t.at);
        sr_j_leave(p->e);
        end_block(p);
        return n;
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (sr_j_is(t.v, refused[i]))
            sr_j_fail(p->e, SR_UNSUPPORTED, "found the statement '%s', which chat templates do not have", refused[i]);
    unexpected(p, "a statement");
}

static bool is_one_of(jtoken t, const char *const *words) {
    for (; *words; words++)
        if (is_word(t, *words)) return true;
    return false;
}

static jnode *body(jparser *p, const char *const *words) {
    jnode *first = NULL, **end = &first;
    if (words) end_block(p); /* of the tag that opens it */
    for (;;) {
        jtoken t = p->now;
        jnode *n;
        switch (t.kind) {
        case T_DATA:
            n = node(p, N_DATA, t.at);
            n->v = t.v;
            advance(p);
            break;
        case T_PRINT:
            advance(p);
            n = node2(p, N_PRINT, t.at, tuple(p, expression, false, NULL), NULL);
            expect(p, T_PRINT_END);
            break;
        case T_BLOCK:
            advance(p);
            if (words && is_one_of(p->now, words)) return first;
            n = statement(p);
            break;
        default:
            if (!words) return first;
            p->e->at = t.at;
            sr_j_fail(p->e, SR_CORRUPT, "found %s, expected '{%% %s %%}'", sr_j_token_name(t.kind), words[0]);
        }
        append(&end, n);
    }
}

jnode *sr_j_parse(jenv *e, sr_template *t) {
    jparser p = {.e = e, .l = {.e = e, .s = t->source, .n = t->n, .line_starting = true}};
    t->names.loop = sr_j_intern(&p.l, "loop", 4).u.s;
    t->names.caller = sr_j_intern(&p.l, "caller", 6).u.s;
    t->names.varargs = sr_j_intern(&p.l, "varargs", 7).u.s;
    t->names.kwargs = sr_j_intern(&p.l, "kwargs", 6).u.s;
    p.ahead = sr_j_lex(&p.l);
    advance(&p);
    return body(&p, NULL);
}
