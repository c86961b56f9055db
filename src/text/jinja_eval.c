/* Walking the tree. A scope holds what was set in it and sees the ones around it; loops, macros and captured blocks
 * have their own, "if" has none. */
#include <stdio.h>

#include "text/jinja.h"

typedef enum jflow { GO_ON, BREAK_LOOP, NEXT_ROUND } jflow;

static jflow run(jenv *e, const jnode *n);
static jvalue eval(jenv *e, const jnode *n);

/* ---------------------------------------------------------------- names */

static jscope *open_scope(jenv *e, jscope *up) {
    jscope *s = sr_j_alloc(e, 1, sizeof *s);
    s->up = up;
    return s;
}

static void bind(jenv *e, jscope *s, const char *name, jvalue v) {
    sr_j_charge(e, s->n / 8);
    for (uint32_t i = 0; i < s->n; i++)
        if (s->at[i].name == name) {
            s->at[i].value = v;
            return;
        }
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? 2 * s->cap : 4;
        jbinding *grown = sr_j_alloc(e, cap, sizeof *grown);
        if (s->n) memcpy(grown, s->at, s->n * sizeof *grown);
        s->at = grown;
        s->cap = cap;
    }
    s->at[s->n++] = (jbinding){name, v};
}

static jvalue lookup(jenv *e, jvalue name) {
    for (const jscope *s = e->scope; s; s = s->up) {
        sr_j_charge(e, 1 + s->n / 8);
        for (uint32_t i = s->n; i-- > 0;)
            if (s->at[i].name == name.u.s) return s->at[i].value;
    }
    const jpair *p = sr_j_find(e, e->variables, name);
    if (p) return p->value;
    const jbuiltin *global = sr_j_global(name);
    if (!global) return sr_j_undefined(name);
    jcallable *c = sr_j_alloc(e, 1, sizeof *c);
    c->builtin = global;
    return (jvalue){.kind = J_CALLABLE, .u.callee = c};
}

static void assign(jenv *e, const jnode *target, jvalue v) {
    if (target->kind == N_NAME) {
        bind(e, e->scope, target->v.u.s, v);
        return;
    }
    if (target->kind == N_NSREF) {
        jvalue ns = lookup(e, target->v);
        e->at = target->at;
        if (ns.kind != J_NAMESPACE)
            sr_j_fail(e, SR_INVALID, "found '%s' of type '%s', expected a namespace to set an attribute of",
                      sr_j_shown(target->v.u.s, target->v.n), sr_j_type(ns));
        sr_j_namespace_put(e, ns, target->k[0]->v, v);
        return;
    }
    uint32_t n, names = 0;
    const jvalue *at = sr_j_iterate(e, v, &n);
    for (const jnode *t = target->k[0]; t; t = t->next) names++;
    e->at = target->at;
    if (n != names) sr_j_fail(e, SR_INVALID, "found %u values to unpack, expected %u", n, names);
    for (const jnode *t = target->k[0]; t; t = t->next) assign(e, t, *at++);
}

/* ---------------------------------------------------------------- calls */

static void add_arg(jenv *e, jargs *a, uint32_t *cap, jvalue v) {
    if (a->n == *cap) {
        jvalue *grown = sr_j_alloc(e, *cap ? 2u * *cap : 4u, sizeof *grown);
        if (a->n) memcpy(grown, a->at, a->n * sizeof *grown);
        a->at = grown;
        *cap = *cap ? 2 * *cap : 4;
    }
    a->at[a->n++] = v;
}

static void add_keyword(jenv *e, jargs *a, uint32_t *cap, jvalue name, jvalue v) {
    if (name.kind != J_STRING)
        sr_j_fail(e, SR_INVALID, "found an argument's name of type '%s', expected a string", sr_j_type(name));
    for (uint32_t i = 0; i < a->n_keywords; i++)
        if (sr_j_equal(e, a->keyword[i].name, name))
            sr_j_fail(e, SR_INVALID, "found the argument '%s' twice", sr_j_shown(name.u.s, name.n));
    if (a->n_keywords == *cap) {
        jkeyword *grown = sr_j_alloc(e, *cap ? 2u * *cap : 4u, sizeof *grown);
        if (a->n_keywords) memcpy(grown, a->keyword, a->n_keywords * sizeof *grown);
        a->keyword = grown;
        *cap = *cap ? 2 * *cap : 4;
    }
    a->keyword[a->n_keywords++] = (jkeyword){name, v};
}

static void eval_args(jenv *e, const jnode *n, jargs *a) {
    uint32_t cap = 0, cap_keywords = 0, many;
    *a = (jargs){0};
    for (; n; n = n->next) {
        if (n->kind == N_KEYWORD) {
            add_keyword(e, a, &cap_keywords, n->v, eval(e, n->k[0]));
        } else if (n->kind == N_STAR) {
            const jvalue *v = sr_j_iterate(e, eval(e, n->k[0]), &many);
            for (uint32_t i = 0; i < many; i++) add_arg(e, a, &cap, v[i]);
        } else if (n->kind == N_STARS) {
            jvalue d = eval(e, n->k[0]);
            if (d.kind != J_DICT) sr_j_fail(e, SR_INVALID, "found '%s' behind **, expected a dict", sr_j_type(d));
            for (uint32_t i = 0; i < d.u.dict->n; i++)
                add_keyword(e, a, &cap_keywords, d.u.dict->at[i].key, d.u.dict->at[i].value);
        } else {
            add_arg(e, a, &cap, eval(e, n));
        }
    }
}

/* Sorts arguments into slots by the names of b->params. */
static void bind_slots(jenv *e, const jbuiltin *b, jargs *a) {
    unsigned n = 0, used = 0;
    for (int i = 0; i < J_SLOTS; i++) a->slot[i].kind = J_ABSENT;
    for (const char *p = b->params; *p; n++) {
        size_t len = strcspn(p, " ");
        if (n < a->n) a->slot[n] = a->at[n];
        for (uint32_t k = 0; k < a->n_keywords; k++) {
            jvalue name = a->keyword[k].name;
            if (name.n != len || memcmp(name.u.s, p, len) != 0) continue;
            if (a->slot[n].kind != J_ABSENT)
                sr_j_fail(e, SR_INVALID, "found the argument '%s' of %s twice", sr_j_shown(p, len), b->name);
            a->slot[n] = a->keyword[k].value;
            used++;
        }
        if (n < b->least && a->slot[n].kind == J_ABSENT)
            sr_j_fail(e, SR_INVALID, "found %u argument(s) for %s, expected '%s'", a->n, b->name, sr_j_shown(p, len));
        p += len + (p[len] == ' ');
    }
    if (a->n > n) sr_j_fail(e, SR_INVALID, "found %u arguments for %s, expected at most %u", a->n, b->name, n);
    if (used < a->n_keywords)
        sr_j_fail(e, SR_INVALID, "found an argument by a name that %s does not have, expected one of: %s", b->name,
                  *b->params ? b->params : "none");
}

jvalue sr_j_call_builtin(jenv *e, const jbuiltin *b, jvalue self, jargs *a) {
    sr_j_charge(e, 4);
    if (*b->params != '*') bind_slots(e, b, a);
    return b->call(e, self, a);
}

/* Runs a body in a scope of its own and returns what it printed. */
static jvalue capture(jenv *e, const jnode *body, jscope *scope) {
    jscope *around = e->scope;
    size_t from = e->out.n;
    e->scope = scope;
    run(e, body);
    e->scope = around;
    return sr_j_take(e, from);
}

static jvalue call_macro(jenv *e, jmacro *m, jargs *a) {
    const jnode *n = m->node;
    jscope *scope = open_scope(e, m->scope), *around = e->scope;
    uint32_t i = 0;
    uint64_t used = 0;
    const char *name = sr_j_shown(n->v.u.s, n->v.n);
    sr_j_enter(e);
    e->scope = scope;
    for (const jnode *p = n->k[0]; p; p = p->next, i++) {
        jvalue v = {.kind = J_ABSENT};
        if (i < a->n) v = a->at[i];
        for (uint32_t k = 0; k < a->n_keywords; k++) {
            if (!sr_j_equal(e, a->keyword[k].name, p->v)) continue;
            if (v.kind != J_ABSENT)
                sr_j_fail(e, SR_INVALID, "found the argument '%s' of %s twice", sr_j_shown(p->v.u.s, p->v.n), name);
            v = a->keyword[k].value;
            used++;
        }
        if (v.kind == J_ABSENT) v = p->k[0] ? eval(e, p->k[0]) : sr_j_undefined(p->v);
        bind(e, scope, p->v.u.s, v);
    }
    if (a->n > i && !(n->op & J_USES_VARARGS))
        sr_j_fail(e, SR_INVALID, "found %u arguments for the macro %s, expected at most %u", a->n, name, i);
    if (n->op & J_USES_VARARGS) {
        jseq *rest = sr_j_seq(e, J_TUPLE, 0);
        for (; i < a->n; i++) sr_j_push(e, rest, a->at[i]);
        bind(e, scope, e->t->names.varargs, sr_j_of_seq(rest));
    }
    jdict *named = n->op & J_USES_KWARGS ? sr_j_dict(e) : NULL;
    bool caller = false;
    for (uint32_t k = 0; k < a->n_keywords; k++) {
        const jnode *p = n->k[0];
        while (p && !sr_j_equal(e, p->v, a->keyword[k].name)) p = p->next;
        if (p) continue;
        if ((n->op & J_USES_CALLER) && sr_j_is(a->keyword[k].name, "caller")) {
            bind(e, scope, e->t->names.caller, a->keyword[k].value);
            caller = true;
            continue;
        }
        if (!(n->op & J_USES_KWARGS))
            sr_j_fail(e, SR_INVALID, "found the argument '%s', which the macro %s does not have",
                      sr_j_shown(a->keyword[k].name.u.s, a->keyword[k].name.n), name);
        sr_j_put(e, named, a->keyword[k].name, a->keyword[k].value);
    }
    if ((n->op & J_USES_CALLER) && !caller) {
        bool is_param = false;
        for (const jnode *p = n->k[0]; p; p = p->next) is_param |= p->v.u.s == e->t->names.caller;
        if (!is_param) bind(e, scope, e->t->names.caller, sr_j_undefined(sr_j_string(e->t->names.caller, 6)));
    }
    if (n->op & J_USES_KWARGS) bind(e, scope, e->t->names.kwargs, sr_j_of_dict(named));
    jvalue text = capture(e, n->k[1], scope);
    e->scope = around;
    sr_j_leave(e);
    return text;
}

jvalue sr_j_call(jenv *e, jvalue callee, jargs *a) {
    if (callee.kind == J_CALLABLE) return sr_j_call_builtin(e, callee.u.callee->builtin, callee.u.callee->self, a);
    if (callee.kind == J_MACRO) return call_macro(e, callee.u.macro, a);
    if (callee.kind == J_LOOP) {
        if (a->n != 1 || a->n_keywords) sr_j_fail(e, SR_INVALID, "found %u arguments for loop(), expected one", a->n);
        return sr_j_loop_again(e, callee.u.loop, a->at[0]);
    }
    if (callee.kind == J_UNDEFINED)
        sr_j_fail(e, SR_INVALID, "'%s' is undefined, expected something to call",
                  callee.u.s ? sr_j_shown(callee.u.s, callee.n) : "");
    sr_j_fail(e, SR_INVALID, "found a value of type '%s', expected something to call", sr_j_type(callee));
}

static jvalue eval_call(jenv *e, const jnode *n, jvalue caller) {
    jargs a;
    jvalue callee = eval(e, n->k[0]);
    eval_args(e, n->k[1], &a);
    if (caller.kind != J_ABSENT) {
        uint32_t cap = a.n_keywords;
        add_keyword(e, &a, &cap, sr_j_string(e->t->names.caller, 6), caller);
    }
    e->at = n->at;
    return sr_j_call(e, callee, &a);
}

/* Filters and tests; block: the value where the chain begins with the text of a block. */
static jvalue eval_filter(jenv *e, const jnode *n, const jvalue *block) {
    jargs a;
    jvalue self;
    if (!n->k[0])
        self = *block;
    else
        self = block ? eval_filter(e, n->k[0], block) : eval(e, n->k[0]);
    e->at = n->at;
    if (!n->builtin) sr_j_no_such(e, n->kind == N_FILTER ? "filter" : "test", n->v);
    eval_args(e, n->k[1], &a);
    e->at = n->at;
    return sr_j_call_builtin(e, n->builtin, self, &a);
}

/* ---------------------------------------------------------------- expressions */

static bool holds(jenv *e, jtoken_kind op, jvalue a, jvalue b) {
    static const char *const names[] = {"<", "<=", ">", ">="};
    switch (op) {
    case T_EQ:
        return sr_j_equal(e, a, b);
    case T_NE:
        return !sr_j_equal(e, a, b);
    case T_IN:
        return sr_j_contains(e, b, a);
    case T_NOT_IN:
        return !sr_j_contains(e, b, a);
    default:
        break;
    }
    int c = sr_j_compare(e, a, b, names[op - T_LT]);
    if (c == 2) return false;
    return op == T_LT ? c < 0 : op == T_LE ? c <= 0 : op == T_GT ? c > 0 : c >= 0;
}

static jvalue eval_compare(jenv *e, const jnode *n) {
    jvalue left = eval(e, n->k[0]);
    for (const jnode *o = n->k[1]; o; o = o->next) {
        jvalue right = eval(e, o->k[0]);
        e->at = o->at;
        if (!holds(e, o->op, left, right)) return sr_j_bool(false);
        left = right;
    }
    return sr_j_bool(true);
}

static jvalue eval_list(jenv *e, const jnode *n) {
    jseq *seq = sr_j_seq(e, n->kind == N_LIST ? J_LIST : J_TUPLE, 0);
    for (const jnode *item = n->k[0]; item; item = item->next) sr_j_push(e, seq, eval(e, item));
    return sr_j_of_seq(seq);
}

static jvalue eval_dict(jenv *e, const jnode *n) {
    jdict *d = sr_j_dict(e);
    for (const jnode *key = n->k[0]; key; key = key->next->next) {
        jvalue k = eval(e, key), v = eval(e, key->next);
        e->at = key->at;
        sr_j_put(e, d, k, v);
    }
    return sr_j_of_dict(d);
}

static jvalue eval_sign(jenv *e, const jnode *n) {
    jvalue v = eval(e, n->k[0]);
    int64_t i;
    e->at = n->at;
    if (v.kind == J_FLOAT) return n->kind == N_NEGATIVE ? sr_j_float(-v.u.f) : v;
    if (sr_j_whole(v, &i)) return sr_j_binary(e, n->kind == N_NEGATIVE ? T_SUB : T_ADD, sr_j_int(0), v);
    if (v.kind == J_BIG && n->kind == N_POSITIVE) return v;
    if (v.kind == J_UNDEFINED) return sr_j_attr(e, v, v); /* says what is undefined */
    sr_j_fail(e, SR_INVALID, "found a value of type '%s', expected a number", sr_j_type(v));
}

static jvalue eval_inner(jenv *e, const jnode *n) {
    jvalue a, b, part[3];
    switch (n->kind) {
    case N_LIST:
    case N_TUPLE:
        return eval_list(e, n);
    case N_DICT:
        return eval_dict(e, n);
    case N_ATTR:
        a = eval(e, n->k[0]);
        e->at = n->at;
        return sr_j_attr(e, a, n->v);
    case N_ITEM:
        a = eval(e, n->k[0]);
        b = eval(e, n->k[1]);
        e->at = n->at;
        return sr_j_item(e, a, b);
    case N_SLICE:
        a = eval(e, n->k[0]);
        for (int i = 0; i < 3; i++) part[i] = n->k[i + 1] ? eval(e, n->k[i + 1]) : sr_j_none();
        e->at = n->at;
        return sr_j_slice(e, a, part[0], part[1], part[2]);
    case N_CALL:
        return eval_call(e, n, (jvalue){.kind = J_ABSENT});
    case N_FILTER:
    case N_TEST:
        return eval_filter(e, n, NULL);
    case N_NOT:
        return sr_j_bool(!sr_j_truth(eval(e, n->k[0])));
    case N_NEGATIVE:
    case N_POSITIVE:
        return eval_sign(e, n);
    case N_AND:
        a = eval(e, n->k[0]);
        return sr_j_truth(a) ? eval(e, n->k[1]) : a;
    case N_OR:
        a = eval(e, n->k[0]);
        return sr_j_truth(a) ? a : eval(e, n->k[1]);
    case N_BINARY:
        a = eval(e, n->k[0]);
        b = eval(e, n->k[1]);
        e->at = n->at;
        return sr_j_binary(e, n->op, a, b);
    case N_CONCAT:
        a = sr_j_text(e, eval(e, n->k[0]));
        b = sr_j_text(e, eval(e, n->k[0]->next));
        a.safe = b.safe = false;
        return sr_j_concat(e, a, b);
    case N_COMPARE:
        return eval_compare(e, n);
    case N_COND:
        if (sr_j_truth(eval(e, n->k[0]))) return eval(e, n->k[1]);
        return n->k[2] ? eval(e, n->k[2]) : sr_j_undefined(sr_j_none());
    default:
        sr_j_fail(e, SR_UNSUPPORTED, "found an expression of kind %d", n->kind);
    }
}

static jvalue eval(jenv *e, const jnode *n) {
    sr_j_charge(e, 1);
    if (n->kind == N_CONST) return n->v;
    e->at = n->at;
    if (n->kind == N_NAME) return lookup(e, n->v);
    sr_j_enter(e);
    jvalue v = eval_inner(e, n);
    sr_j_leave(e);
    return v;
}

/* ---------------------------------------------------------------- statements */

static jvalue make_macro(jenv *e, const jnode *n) {
    jmacro *m = sr_j_alloc(e, 1, sizeof *m);
    *m = (jmacro){n, e->scope};
    for (jscope *s = e->scope; s && !s->captured; s = s->up) s->captured = true;
    return (jvalue){.kind = J_MACRO, .u.macro = m};
}

/* A fresh scope for the next round of a loop: the same one, unless a macro kept it. */
static void next_scope(jenv *e, jscope *up) {
    if (e->scope->captured || e->scope->up != up)
        e->scope = open_scope(e, up);
    else
        e->scope->n = 0;
}

static jvalue *keep(jenv *e, const jnode *n, const jvalue *at, uint32_t *count) {
    jscope *around = e->scope;
    jseq *kept = sr_j_seq(e, J_LIST, 0);
    e->scope = open_scope(e, around);
    for (uint32_t i = 0; i < *count; i++) {
        next_scope(e, around);
        assign(e, n->k[0], at[i]);
        if (sr_j_truth(eval(e, n->k[4]))) sr_j_push(e, kept, at[i]);
    }
    e->scope = around;
    *count = kept->n;
    return kept->v;
}

static jflow run_loop(jenv *e, const jnode *n, jvalue items, jscope *around, int depth) {
    jflow flow = GO_ON;
    jloop *loop = sr_j_alloc(e, 1, sizeof *loop);
    jscope *before = e->scope;
    e->at = n->k[1]->at;
    *loop = (jloop){.node = n, .scope = around, .depth = depth, .changed = {.kind = J_ABSENT}};
    loop->at = sr_j_iterate(e, items, &loop->n);
    e->scope = around;
    if (n->k[4]) loop->at = keep(e, n, loop->at, &loop->n);
    e->scope = open_scope(e, around);
    for (loop->i = 0; loop->i < loop->n; loop->i++) {
        next_scope(e, around);
        sr_j_charge(e, 1);
        bind(e, e->scope, e->t->names.loop, (jvalue){.kind = J_LOOP, .u.loop = loop});
        assign(e, n->k[0], loop->at[loop->i]);
        if (run(e, n->k[2]) == BREAK_LOOP) break;
    }
    if (!loop->n) {
        next_scope(e, around);
        flow = run(e, n->k[3]); /* a break there is one of the loop around */
    }
    e->scope = before;
    return flow;
}

jvalue sr_j_loop_again(jenv *e, jloop *loop, jvalue items) {
    if (!loop->node->op) sr_j_fail(e, SR_INVALID, "found loop(), expected 'recursive' in the tag of this loop");
    size_t from = e->out.n;
    sr_j_enter(e);
    run_loop(e, loop->node, items, loop->scope, loop->depth + 1);
    sr_j_leave(e);
    return sr_j_take(e, from);
}

static jflow run_if(jenv *e, const jnode *n) {
    for (;; n = n->k[2]) {
        if (sr_j_truth(eval(e, n->k[0]))) return run(e, n->k[1]);
        if (!n->op) return run(e, n->k[2]);
    }
}

static void run_with(jenv *e, const jnode *n) {
    jscope *around = e->scope, *inner = open_scope(e, around);
    for (const jnode *t = n->k[0]; t; t = t->next->next) {
        jvalue v = eval(e, t->next);
        e->scope = inner;
        assign(e, t, v);
        e->scope = around;
    }
    e->scope = inner;
}

static jflow run_one(jenv *e, const jnode *n) {
    jscope *around = e->scope;
    jflow flow = GO_ON;
    jvalue v;
    switch (n->kind) {
    case N_DATA:
        sr_j_put_bytes(e, n->v.u.s, n->v.n);
        break;
    case N_PRINT:
        v = eval(e, n->k[0]);
        e->at = n->at;
        sr_j_print(e, v);
        break;
    case N_IF:
        return run_if(e, n);
    case N_FOR:
        return run_loop(e, n, eval(e, n->k[1]), around, 0);
    case N_SET:
        assign(e, n->k[0], eval(e, n->k[1]));
        break;
    case N_SETBLOCK:
        v = capture(e, n->k[2], open_scope(e, around));
        assign(e, n->k[0], n->k[1] ? eval_filter(e, n->k[1], &v) : v);
        break;
    case N_MACRO:
        bind(e, around, n->v.u.s, make_macro(e, n));
        break;
    case N_CALLBLOCK:
        sr_j_print(e, eval_call(e, n->k[0], make_macro(e, n->k[1])));
        break;
    case N_FILTERBLOCK:
        v = capture(e, n->k[1], open_scope(e, around));
        sr_j_print(e, eval_filter(e, n->k[0], &v));
        break;
    case N_WITH:
        run_with(e, n);
        flow = run(e, n->k[1]);
        e->scope = around;
        break;
    case N_SCOPE:
        e->scope = open_scope(e, around);
        run(e, n->k[0]);
        e->scope = around;
        break;
    case N_BREAK:
        return BREAK_LOOP;
    case N_CONTINUE:
        return NEXT_ROUND;
    default:
        sr_j_fail(e, SR_UNSUPPORTED, "found a statement of kind %d", n->kind);
    }
    return flow;
}

static jflow run(jenv *e, const jnode *n) {
    jflow flow = GO_ON;
    sr_j_enter(e);
    for (; n && flow == GO_ON; n = n->next) {
        sr_j_charge(e, 1);
        e->at = n->at;
        flow = run_one(e, n);
    }
    sr_j_leave(e);
    return flow;
}

void sr_j_run(jenv *e) {
    e->scope = open_scope(e, NULL);
    run(e, e->t->body);
}
