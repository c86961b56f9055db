/* Inside of sr_template: an interpreter of Jinja 3.1 as chat templates use it. jinja_lex.c and jinja_parse.c make a
 * tree of the text, jinja_eval.c walks it; jinja_value.c and jinja_print.c know what Python does with values,
 * jinja_filters.c and jinja_methods.c are tables of what a template can call, jinja_format.c and jinja_layout.c what is
 * longer of that. template.c is the way in.
 *
 * Nothing is freed in between: all of a rendering lives in one arena with a limit in bytes, text in progress in one
 * buffer. So a failure may leave from any depth (sr_j_fail), and no function below reports one. */
#ifndef SR_TEXT_JINJA_H
#define SR_TEXT_JINJA_H

#include <setjmp.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "text/template.h"

typedef struct jenv jenv;

/* ---------------------------------------------------------------- values */

typedef enum jkind {
    J_ABSENT, /* an argument that was not given */
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_BIG, /* whole number past 64 bits, as written: it can be printed and compared, not computed with */
    J_FLOAT,
    J_STRING,
    J_SEQ,
    J_DICT,
    J_NAMESPACE,
    J_LOOP,
    J_MACRO,
    J_CALLABLE,
    J_CYCLER
} jkind;

typedef enum jflavor { J_LIST, J_TUPLE, J_RANGE, J_KEYS, J_VALUES, J_ITEMS, J_GENERATOR } jflavor;

typedef struct jvalue {
    uint8_t kind; /* jkind */
    bool safe;    /* J_STRING: needs no escaping ("Markup") */
    uint32_t n;   /* bytes of s */
    union {
        bool b;
        int64_t i;
        double f;
        const char *s;            /* J_STRING, J_BIG: UTF-8, may hold zeros; J_UNDEFINED: what is missing, or NULL */
        struct jseq *seq;         /* J_SEQ, J_CYCLER */
        struct jdict *dict;       /* J_DICT, J_NAMESPACE */
        struct jloop *loop;       /* J_LOOP */
        struct jmacro *macro;     /* J_MACRO */
        struct jcallable *callee; /* J_CALLABLE */
    } u;
} jvalue;

typedef struct jseq {
    jflavor flavor;
    uint32_t n, cap;
    jvalue *v;                 /* a generator is empty once it was read */
    int64_t start, stop, step; /* J_RANGE, for printing; of a J_CYCLER start is the current place */
    bool group;                /* a J_TUPLE whose two values are also called grouper and list */
} jseq;

typedef struct jpair {
    jvalue key, value;
} jpair;

typedef struct jdict { /* in order of insertion */
    jpair *at;
    uint32_t n, cap;
    uint32_t *slot, n_slots; /* hash index of positions + 1, once there are more than a few */
} jdict;

/* ---------------------------------------------------------------- calls */

typedef struct jkeyword {
    jvalue name, value;
} jkeyword;

enum { J_SLOTS = 6 };

typedef struct jargs {
    jvalue *at;
    uint32_t n;
    jkeyword *keyword;
    uint32_t n_keywords;
    jvalue slot[J_SLOTS]; /* by name, J_ABSENT where not given */
} jargs;

/* A filter (self: the value in front of '|'), a test (returns J_BOOL), a method (self: its object) or a global
 * function.
 */
typedef struct jbuiltin {
    const char *name;
    const char *params; /* names separated by spaces, in capitals what cannot be given by name; "*": any arguments, not
                           sorted into slots */
    unsigned least;     /* how many of them must be given */
    jvalue (*call)(jenv *e, jvalue self, jargs *a);
} jbuiltin;

typedef struct jcallable {
    const jbuiltin *builtin;
    jvalue self;
} jcallable;

/* Tables, ended by a row without a name; NULL when there is no such row. */
const jbuiltin *sr_j_filter(jvalue name);
const jbuiltin *sr_j_test(jvalue name);
const jbuiltin *sr_j_global(jvalue name);
const jbuiltin *sr_j_method(jvalue self, jvalue name);
const jbuiltin *sr_j_row(const jbuiltin *table, jvalue name);
/* "found the filter 'x', which ..." */
_Noreturn void sr_j_no_such(jenv *e, const char *what, jvalue name);

/* ---------------------------------------------------------------- the tree */

typedef enum jnode_kind {
    /* expressions; k[] in order */
    N_CONST, /* v */
    N_NAME,  /* v */
    N_LIST,  /* list of items */
    N_TUPLE,
    N_DICT,    /* list of key, value, key, ... */
    N_ATTR,    /* object; v: name */
    N_ITEM,    /* object, key */
    N_SLICE,   /* object, start, stop, step or NULL */
    N_CALL,    /* callee, list of arguments */
    N_FILTER,  /* value (NULL: the text of a block), list of arguments; v: name, builtin */
    N_TEST,    /* the same */
    N_KEYWORD, /* argument by name: value; v: name */
    N_STAR,    /* *value */
    N_STARS,   /* **value */
    N_NOT,
    N_NEGATIVE,
    N_POSITIVE,
    N_AND,
    N_OR,
    N_BINARY,  /* left, right; op */
    N_CONCAT,  /* list of operands of ~ */
    N_COMPARE, /* left, list of N_OPERAND */
    N_OPERAND, /* right; op */
    N_COND,    /* condition, then, else or NULL */
    /* statements */
    N_DATA,        /* v */
    N_PRINT,       /* expression */
    N_IF,          /* condition, body, other statements */
    N_FOR,         /* target, iterable, body, else, condition; op: recursive */
    N_SET,         /* target, expression */
    N_SETBLOCK,    /* target, filters or NULL, body */
    N_NSREF,       /* target only: v name of a namespace, k[0] an N_CONST attribute */
    N_MACRO,       /* list of N_PARAM, body; v: name; op: J_USES_* */
    N_PARAM,       /* default or NULL; v: name */
    N_CALLBLOCK,   /* call, N_MACRO of the body */
    N_FILTERBLOCK, /* filters, body */
    N_WITH,        /* list of target, expression, ...; body */
    N_SCOPE,       /* body */
    N_BREAK,
    N_CONTINUE
} jnode_kind;

enum { J_USES_VARARGS = 1, J_USES_KWARGS = 2, J_USES_CALLER = 4 };

typedef enum jtoken_kind {
    T_END,
    T_DATA,
    T_PRINT,     /* {{ */
    T_PRINT_END, /* }} */
    T_BLOCK,     /* {% */
    T_BLOCK_END, /* %} */
    T_NAME,
    T_STRING,
    T_NUMBER,
    T_ADD,
    T_SUB,
    T_MUL,
    T_DIV,
    T_FLOORDIV,
    T_MOD,
    T_POW,
    T_TILDE,
    T_EQ,
    T_NE,
    T_LT,
    T_LE,
    T_GT,
    T_GE,
    T_ASSIGN,
    T_DOT,
    T_COMMA,
    T_COLON,
    T_PIPE,
    T_SEMICOLON,
    T_LPAREN,
    T_RPAREN,
    T_LBRACKET,
    T_RBRACKET,
    T_LBRACE,
    T_RBRACE,
    T_IN, /* made by the parser for N_OPERAND */
    T_NOT_IN
} jtoken_kind;

typedef struct jnode {
    uint8_t kind, op;
    uint32_t at; /* byte of the source, for messages */
    struct jnode *next;
    struct jnode *k[5];
    jvalue v;
    const jbuiltin *builtin;
} jnode;

typedef struct jtoken {
    jtoken_kind kind;
    uint32_t at, n; /* in the source */
    jvalue v;       /* T_DATA, T_NAME (interned), T_STRING, T_NUMBER */
} jtoken;

typedef enum jmode { J_IN_DATA, J_IN_PRINT, J_IN_BLOCK } jmode;

enum { J_BRACKETS = 200 };

typedef struct jlexer {
    jenv *e;
    const char *s; /* [n] */
    uint32_t n, pos;
    jmode mode;
    bool line_starting;
    bool pending; /* the tag behind data that was just returned */
    jtoken_kind pending_kind;
    uint32_t pending_at;
    char bracket[J_BRACKETS]; /* open ones */
    int n_brackets;
    struct jname **names; /* interned: a table of lists */
} jlexer;

jtoken sr_j_lex(jlexer *l);
/* The one copy of a name: names are equal when their pointers are. */
jvalue sr_j_intern(jlexer *l, const char *s, size_t n);
/* A token for messages. */
const char *sr_j_token_name(jtoken_kind kind);

/* ---------------------------------------------------------------- the state of parsing, and of a rendering */

typedef struct jbinding {
    const char *name; /* interned */
    jvalue value;
} jbinding;

typedef struct jscope {
    struct jscope *up;
    jbinding *at;
    uint32_t n, cap;
    bool captured; /* a macro was made in it, which outlives it */
} jscope;

typedef struct jmacro {
    const jnode *node; /* N_MACRO */
    jscope *scope;     /* where it was made */
} jmacro;

typedef struct jloop {
    const jnode *node; /* N_FOR */
    jscope *scope;
    jvalue *at;
    uint32_t n, i;
    int depth;
    jvalue changed; /* what loop.changed() saw last, J_ABSENT: nothing */
} jloop;

struct jenv {
    const sr_template *t;
    sr_template_limits limits;
    sr_arena arena;
    sr_buffer out; /* what is being written; captured text lies above what surrounds it */
    int64_t steps;
    int depth;
    uint32_t at; /* of the node in work */
    sr_err *err;
    sr_status status;
    jmp_buf failed;
    char *tip, *tip_end; /* end of the latest text in the arena, and of its room */
    jscope *scope;
    jdict *variables;
    int64_t now;
};
struct sr_template {
    sr_arena arena;
    char *origin;       /* for messages */
    const char *home;   /* file or key of the model that it came from; NULL: the origin says it */
    const char *source; /* newlines as "\n" */
    uint32_t n;
    jnode *body;
    struct { /* interned */
        const char *loop, *caller, *varargs, *kwargs;
    } names;
    struct sr_special { /* special tokens of the model, as variables */
        char *name, *text;
        size_t n;
    } * special;
    int n_special;
};

/* Records "ORIGIN: line L, column C: ..." and leaves through e->failed. */
_Noreturn void sr_j_fail(jenv *e, sr_status code, const char *fmt, ...) SR_PRINTF(3, 4);
/* Bytes for a message: at most 60, whole characters; good for the four latest calls. */
const char *sr_j_shown(const char *s, size_t n);
/* Work done, in steps of about 10 ns. Past the limit: SR_LIMIT. */
static inline void sr_j_charge(jenv *e, uint64_t steps);
_Noreturn void sr_j_out_of_steps(jenv *e);
/* Levels of recursion. Every enter has its leave, except on the way out of a failure. */
void sr_j_enter(jenv *e);
static inline void sr_j_leave(jenv *e) {
    e->depth--;
}
void *sr_j_alloc(jenv *e, size_t n, size_t size);
_Noreturn void sr_j_out_of_memory(jenv *e);

static inline void sr_j_charge(jenv *e, uint64_t steps) {
    if (steps > (uint64_t)e->steps) sr_j_out_of_steps(e);
    e->steps -= (int64_t)steps;
}

jnode *sr_j_parse(jenv *e, sr_template *t);
void sr_j_run(jenv *e);
/* Calls anything that can be called; self of a builtin comes with the value. */
jvalue sr_j_call(jenv *e, jvalue callee, jargs *a);
jvalue sr_j_call_builtin(jenv *e, const jbuiltin *b, jvalue self, jargs *a);
/* The body of a recursive loop over other items, as text. */
jvalue sr_j_loop_again(jenv *e, jloop *loop, jvalue items);

/* ---------------------------------------------------------------- jinja_value.c */

static inline jvalue sr_j_bool(bool b) {
    return (jvalue){.kind = J_BOOL, .u.b = b};
}
static inline jvalue sr_j_int(int64_t i) {
    return (jvalue){.kind = J_INT, .u.i = i};
}
static inline jvalue sr_j_float(double f) {
    return (jvalue){.kind = J_FLOAT, .u.f = f};
}
static inline jvalue sr_j_none(void) {
    return (jvalue){.kind = J_NONE};
}
static inline jvalue sr_j_undefined(jvalue name) {
    return (jvalue){
        .kind = J_UNDEFINED, .n = name.kind == J_STRING ? name.n : 0, .u.s = name.kind == J_STRING ? name.u.s : NULL};
}
/* Borrows. */
static inline jvalue sr_j_string(const char *s, size_t n) {
    return (jvalue){.kind = J_STRING, .n = (uint32_t)n, .u.s = s};
}
static inline jvalue sr_j_part(jvalue s, size_t from, size_t to) {
    return (jvalue){.kind = J_STRING, .safe = s.safe, .n = (uint32_t)(to - from), .u.s = s.u.s + from};
}
static inline jvalue sr_j_of_seq(jseq *seq) {
    return (jvalue){.kind = J_SEQ, .u.seq = seq};
}
static inline jvalue sr_j_of_dict(jdict *dict) {
    return (jvalue){.kind = J_DICT, .u.dict = dict};
}
static inline bool sr_j_is(jvalue s, const char *literal) {
    return s.kind == J_STRING && s.n == strlen(literal) && memcmp(s.u.s, literal, s.n) == 0;
}
static inline bool sr_j_is_seq(jvalue v, jflavor flavor) {
    return v.kind == J_SEQ && v.u.seq->flavor == flavor;
}

const char *sr_j_type(jvalue v); /* Python's name of it */
jseq *sr_j_seq(jenv *e, jflavor flavor, uint32_t room);
void sr_j_push(jenv *e, jseq *seq, jvalue v);
jvalue sr_j_pair(jenv *e, jvalue a, jvalue b); /* a tuple */
jdict *sr_j_dict(jenv *e);
jpair *sr_j_find(jenv *e, const jdict *d, jvalue key); /* NULL: no such key. Fails when the key cannot be one */
bool sr_j_hashable(jvalue key);
void sr_j_put(jenv *e, jdict *d, jvalue key, jvalue value);
void sr_j_remove(jenv *e, jdict *d, jpair *p);

bool sr_j_truth(jvalue v);
bool sr_j_equal(jenv *e, jvalue a, jvalue b);
/* -1, 0, 1; 2: unordered (NaN). Fails for what has no order, naming `op`. */
int sr_j_compare(jenv *e, jvalue a, jvalue b, const char *op);
bool sr_j_contains(jenv *e, jvalue container, jvalue item);
/* What a loop over v gives: borrowed, or new in the arena. A generator is empty afterwards. */
jvalue *sr_j_iterate(jenv *e, jvalue v, uint32_t *n);
bool sr_j_has_length(jvalue v);
uint32_t sr_j_length(jenv *e, jvalue v);
jvalue sr_j_attr(jenv *e, jvalue v, jvalue name);
/* Sets an attribute; names of Python's own ("_...") are refused. */
void sr_j_namespace_put(jenv *e, jvalue ns, jvalue name, jvalue v);
/* loop.NAME, J_ABSENT: there is none. */
jvalue sr_j_loop_attr(jenv *e, jloop *loop, jvalue name);
jvalue sr_j_item(jenv *e, jvalue v, jvalue key);
jvalue sr_j_slice(jenv *e, jvalue v, jvalue start, jvalue stop, jvalue step);
jvalue sr_j_binary(jenv *e, jtoken_kind op, jvalue a, jvalue b);
jvalue sr_j_concat(jenv *e, jvalue a, jvalue b); /* two J_STRING */
/* A whole number (bools are): false for anything else. */
bool sr_j_whole(jvalue v, int64_t *i);
bool sr_j_number(jvalue v, double *d);

uint32_t sr_j_count_chars(const char *s, size_t n);

/* ---------------------------------------------------------------- jinja_print.c: texts */

void sr_j_put_bytes(jenv *e, const char *s, size_t n);
void sr_j_put_literal(jenv *e, const char *s);
void sr_j_put_char(jenv *e, uint32_t cp);
void sr_j_put_times(jenv *e, char c, int64_t n);
enum { J_NUMBER = 512 };
/* printf of one double with a point in any locale. */
void sr_j_digits(char to[J_NUMBER], const char *fmt, int precision, double d);
/* Everything that was written since e->out.n was `from`, as a string; the writing goes back to there. */
jvalue sr_j_take(jenv *e, size_t from);
void sr_j_print(jenv *e, jvalue v);                 /* str(v) */
void sr_j_repr(jenv *e, jvalue v);                  /* repr(v) */
jvalue sr_j_text(jenv *e, jvalue v);                /* str(v) as a value; a string stays what it is */
jvalue sr_j_escape(jenv *e, jvalue v);              /* & < > ' " as entities, unless v is safe; the result is safe */
jvalue sr_j_tojson(jenv *e, jvalue self, jargs *a); /* the filter */
/* What int(text, base) and float(text) accept. */
bool sr_j_parse_int(jenv *e, jvalue s, int base, int64_t *i);
bool sr_j_parse_float(jvalue s, double *d);

/* ---------------------------------------------------------------- jinja_format.c */

jvalue sr_j_format(jenv *e, jvalue f, jvalue args);     /* f % args */
jvalue sr_j_str_format(jenv *e, jvalue self, jargs *a); /* the method */

/* ---------------------------------------------------------------- jinja_layout.c: filters */

jvalue sr_j_wordwrap(jenv *e, jvalue self, jargs *a);
jvalue sr_j_pprint(jenv *e, jvalue self, jargs *a);

/* ---------------------------------------------------------------- jinja_text.c: characters as Python's str sees them
 */

bool sr_j_is_space(uint32_t cp);
bool sr_j_is_alnum(uint32_t cp);
typedef enum jcase { J_UPPER, J_LOWER, J_TITLE } jcase;
void sr_j_put_case(jenv *e, uint32_t cp, jcase to);
bool sr_j_is_case(jvalue s, jcase of);         /* has letters of this case and of no other */
jvalue sr_j_case(jenv *e, jvalue s, jcase to); /* of the whole text; J_TITLE: of each word */
jvalue sr_j_capitalize(jenv *e, jvalue s);
jvalue sr_j_strip(jenv *e, jvalue s, jvalue chars, bool left, bool right); /* chars: J_STRING, else white space */
/* Position of the first (or last) `what` in s[from..), -1: none. */
int64_t sr_j_search(jenv *e, jvalue s, jvalue what, size_t from, bool last);
jvalue sr_j_replace(jenv *e, jvalue s, jvalue old, jvalue by, int64_t most);
jseq *sr_j_lines(jenv *e, jvalue s, bool keep_ends);
/* Stable, at most n log n comparisons of the copies. */
void sr_j_sort(jenv *e, void *at, size_t n, size_t size, int (*order)(const void *a, const void *b, void *env));
/* JSON text as a value. `where` names it in messages. */
jvalue sr_j_from_json(jenv *e, const char *text, size_t n, const char *where);

#endif
