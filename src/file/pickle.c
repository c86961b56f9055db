/* PyTorch checkpoints (.pt, .bin) as data: the zip archive that torch.save writes since 1.6.
 *
 *   <root>/data.pkl     a pickle: the dictionary, with every tensor as a call that is only recognised here
 *   <root>/data/<key>   the bytes of one storage
 *   <root>/byteorder    "little" where it is there
 *
 * A pickle is a program for a stack machine. This machine has the few instructions that build numbers, texts, tuples,
 * lists and dictionaries, and a table of the only names that may be called, each a case in `call`. It imports nothing,
 * makes no object of a class and runs nothing; anything else is refused by its name.
 *
 *   torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)   offset, stride in elements
 *   torch._utils._rebuild_tensor_v3(..., hooks, dtype)   for types without a storage of their own: FP8, unsigned
 *   persistent id ("storage", torch.HalfStorage, "<key>", "cpu", elements)   torch.storage.UntypedStorage: bytes
 *
 * The dictionaries are flattened, names joined by dots. What is no tensor becomes one, as HQQ's own encoding has it:
 * int i32 (i64 where it must be), float f32, bool u8, text and dtype the u8 of their characters, a tuple of numbers
 * i64. Sources: pytorch/pytorch: torch/serialization.py (_save, persistent_id), torch/_utils.py,
 * torch/_weights_only_unpickler.py; python/cpython: Lib/pickletools.py; dropbox/hqq: hqq/core/utils.py
 * (encode_safetensor_type). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "file/inner.h"

enum { MEMORY_CAP = 256 << 20, MAX_DEPTH = 16 };

enum kind { NONE, MARK, BOOL, INT, FLOAT, TEXT, GLOBAL, TUPLE, LIST, DICT, STORAGE, TENSOR };
static const char *const kind_names[] = {"None",     "a mark",  "a bool", "a number",     "a float",   "a text",
                                         "a global", "a tuple", "a list", "a dictionary", "a storage", "a tensor"};

struct value {
    uint8_t kind;
    uint32_t n; /* TEXT: bytes */
    union {
        bool b;
        int64_t i;
        double f;
        const char *text; /* in the pickle */
        const struct global *global;
        struct node *node;
        const struct storage *storage;
        const struct tensor *tensor;
    } v;
};

/* TUPLE, LIST: items. DICT: key, value, key, value ... */
struct node {
    struct value *item;
    uint32_t n, cap;
};

struct storage {
    const uint8_t *data;
    int64_t n_elements;
    const sr_stored *type;
};

struct tensor {
    const uint8_t *data;
    const sr_stored *type;
    int64_t bytes, n_elements, shape[SR_MAX_DIMS];
    int n_dims;
};

/* Every name that a pickle may mention. */
enum role { ORDERED_DICT, REBUILD_TENSOR, REBUILD_TENSOR_OF, REBUILD_PARAMETER, SIZE, DEVICE, STORAGE_TYPE, DTYPE };
static const struct global {
    const char *module, *name;
    enum role role;
    const char *stored; /* STORAGE_TYPE, DTYPE */
} globals[] = {
    {"collections", "OrderedDict", ORDERED_DICT, NULL},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, NULL},
    {"torch._utils", "_rebuild_tensor_v3", REBUILD_TENSOR_OF, NULL},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, NULL},
    {"torch", "Size", SIZE, NULL},
    {"torch", "device", DEVICE, NULL},
    {"torch", "FloatStorage", STORAGE_TYPE, "f32"},
    {"torch", "HalfStorage", STORAGE_TYPE, "f16"},
    {"torch", "BFloat16Storage", STORAGE_TYPE, "bf16"},
    {"torch", "DoubleStorage", STORAGE_TYPE, "f64"},
    {"torch", "CharStorage", STORAGE_TYPE, "i8"},
    {"torch", "ShortStorage", STORAGE_TYPE, "i16"},
    {"torch", "IntStorage", STORAGE_TYPE, "i32"},
    {"torch", "LongStorage", STORAGE_TYPE, "i64"},
    {"torch", "ByteStorage", STORAGE_TYPE, "u8"},
    {"torch", "BoolStorage", STORAGE_TYPE, "bool"},
    {"torch.storage", "UntypedStorage", STORAGE_TYPE, "u8"},
    {"torch", "float32", DTYPE, "f32"},
    {"torch", "float16", DTYPE, "f16"},
    {"torch", "bfloat16", DTYPE, "bf16"},
    {"torch", "float64", DTYPE, "f64"},
    {"torch", "int8", DTYPE, "i8"},
    {"torch", "int16", DTYPE, "i16"},
    {"torch", "int32", DTYPE, "i32"},
    {"torch", "int64", DTYPE, "i64"},
    {"torch", "uint8", DTYPE, "u8"},
    {"torch", "bool", DTYPE, "bool"},
    {"torch", "uint16", DTYPE, "u16"},
    {"torch", "uint32", DTYPE, "u32"},
    {"torch", "uint64", DTYPE, "u64"},
    {"torch", "float8_e4m3fn", DTYPE, "f8_e4m3"},
    {"torch", "float8_e5m2", DTYPE, "f8_e5m2"},
    {"torch", "float8_e4m3fnuz", DTYPE, "f8_e4m3fnuz"},
    {"torch", "float8_e5m2fnuz", DTYPE, "f8_e5m2fnuz"},
    {"torch", "float8_e8m0fnu", DTYPE, "f8_e8m0"},
};

struct machine {
    sr_file *file;
    int shard;
    const char *path; /* for messages */
    sr_err *err;
    sr_zip zip;
    const char *root; /* "archive" */
    sr_cursor c;      /* over data.pkl */
    size_t at;        /* of the instruction, for messages */
    sr_arena names;   /* of the archive */
    sr_arena arena;   /* of all below: counted */
    struct value *stack, *memo;
    size_t n_stack, cap_stack, n_memo, cap_memo;
};

/* ---------------------------------------------------------------- failures and memory */

static sr_status bad(struct machine *m, const char *what) {
    return sr_fail(m->err, SR_CORRUPT, "%s: data.pkl: byte %zu: found %s", m->path, m->at, what);
}

/* bad(), with what it is instead. */
static sr_status bad_kind(struct machine *m, const char *where, uint8_t kind, const char *expected) {
    return sr_fail(m->err, SR_CORRUPT, "%s: data.pkl: byte %zu: found %s %s, expected %s", m->path, m->at,
                   kind_names[kind], where, expected);
}

/* The same memory limit for all that the machine makes, so that a small file cannot ask for much. */
static void *take(struct machine *m, size_t n, size_t size) {
    if (n > MEMORY_CAP / size || n * size > MEMORY_CAP - (m->arena.used < MEMORY_CAP ? m->arena.used : MEMORY_CAP)) {
        sr_fail(m->err, SR_LIMIT, "%s: data.pkl: byte %zu: its objects need more than %d bytes of memory", m->path,
                m->at, MEMORY_CAP);
        return NULL;
    }
    void *p = sr_arena_small(&m->arena, n, size);
    if (!p) sr_fail(m->err, SR_NOMEM, "%s: no memory for its pickle", m->path);
    return p;
}

/* Appends to a growing array. */
static bool append(struct machine *m, struct value **items, size_t *n, size_t *cap, struct value v) {
    if (*n == *cap) {
        size_t more = *cap ? 2 * *cap : 8;
        struct value *grown = take(m, more, sizeof *grown);
        if (!grown) return false;
        if (*n) memcpy(grown, *items, *n * sizeof *grown);
        *items = grown;
        *cap = more;
    }
    (*items)[(*n)++] = v;
    return true;
}

/* ---------------------------------------------------------------- the stack */

static sr_status push(struct machine *m, struct value v) {
    return append(m, &m->stack, &m->n_stack, &m->cap_stack, v) ? SR_OK : m->err->code;
}

/* The top, which must be there above the last mark. */
static sr_status pop(struct machine *m, struct value *v) {
    if (m->n_stack == 0 || m->stack[m->n_stack - 1].kind == MARK) return bad(m, "too few values on the stack");
    *v = m->stack[--m->n_stack];
    return SR_OK;
}

static sr_status pop_kind(struct machine *m, struct value *v, enum kind kind, const char *where) {
    sr_status s = pop(m, v);
    return s == SR_OK && v->kind != kind ? bad_kind(m, where, v->kind, kind_names[kind]) : s;
}

/* Values above the last mark leave the stack with it; they stay readable until the next push. */
static sr_status pop_mark(struct machine *m, struct value **items, size_t *n) {
    size_t i = m->n_stack;
    while (i > 0 && m->stack[i - 1].kind != MARK) i--;
    if (i == 0) return bad(m, "no mark on the stack");
    *items = m->stack + i;
    *n = m->n_stack - i;
    m->n_stack = i - 1;
    return SR_OK;
}

static struct node *new_node(struct machine *m, const struct value *items, size_t n) {
    struct node *node = take(m, 1, sizeof *node);
    if (!node || n == 0) return node;
    node->item = take(m, n, sizeof *items);
    if (!node->item) return NULL;
    memcpy(node->item, items, n * sizeof *items);
    node->n = node->cap = (uint32_t)n;
    return node;
}

static sr_status push_node(struct machine *m, enum kind kind, const struct value *items, size_t n) {
    struct node *node = new_node(m, items, n);
    return node ? push(m, (struct value){.kind = (uint8_t)kind, .v.node = node}) : m->err->code;
}

static sr_status extend(struct machine *m, struct node *node, const struct value *items, size_t n) {
    size_t have = node->n, cap = node->cap;
    for (size_t i = 0; i < n; i++)
        if (!append(m, &node->item, &have, &cap, items[i])) return m->err->code;
    node->n = (uint32_t)have; /* MEMORY_CAP / 16 at most */
    node->cap = (uint32_t)cap;
    return SR_OK;
}

/* Adds values to the list or dictionary below them. */
static sr_status fill(struct machine *m, enum kind kind, const struct value *items, size_t n) {
    if (m->n_stack == 0) return bad(m, "too few values on the stack");
    struct value *to = &m->stack[m->n_stack - 1];
    if (to->kind != kind) return bad_kind(m, "under values to add", to->kind, kind_names[kind]);
    if (kind == DICT && n % 2) return bad(m, "a key without a value");
    for (size_t i = 0; kind == DICT && i < n; i += 2)
        if (items[i].kind != TEXT && items[i].kind != INT)
            return bad_kind(m, "as a key", items[i].kind, "a text or a number");
    return extend(m, to->v.node, items, n);
}

/* Moves the top n values into a tuple. */
static sr_status top_tuple(struct machine *m, size_t n) {
    for (size_t i = 1; i <= n; i++)
        if (m->n_stack < i || m->stack[m->n_stack - i].kind == MARK) return bad(m, "too few values on the stack");
    m->n_stack -= n;
    return push_node(m, TUPLE, m->stack + m->n_stack, n);
}

/* ---------------------------------------------------------------- the memo */

/* Picklers number what they keep one after the other: nothing is made room for beyond that. */
static sr_status put(struct machine *m, uint64_t i) {
    if (m->n_stack == 0 || m->stack[m->n_stack - 1].kind == MARK) return bad(m, "nothing on the stack to keep");
    struct value top = m->stack[m->n_stack - 1];
    if (i > m->n_memo)
        return sr_fail(m->err, SR_CORRUPT, "%s: data.pkl: byte %zu: found memo %" PRIu64 ", expected at most %zu",
                       m->path, m->at, i, m->n_memo);
    if (i == m->n_memo) return append(m, &m->memo, &m->n_memo, &m->cap_memo, top) ? SR_OK : m->err->code;
    m->memo[i] = top;
    return SR_OK;
}

static sr_status get(struct machine *m, uint64_t i) {
    if (i >= m->n_memo)
        return sr_fail(m->err, SR_CORRUPT, "%s: data.pkl: byte %zu: found memo %" PRIu64 ", which is not set", m->path,
                       m->at, i);
    return push(m, m->memo[i]);
}

/* ---------------------------------------------------------------- names, storages, tensors */

static bool is_text(const char *text, size_t n, const char *word) {
    return n == strlen(word) && memcmp(text, word, n) == 0;
}

static sr_status push_global(struct machine *m, const char *module, size_t n, const char *name, size_t k) {
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (is_text(module, n, globals[i].module) && is_text(name, k, globals[i].name))
            return push(m, (struct value){.kind = GLOBAL, .v.global = &globals[i]});
    return sr_fail(m->err, SR_UNSUPPORTED,
                   "%s: data.pkl: byte %zu: found the name \"%s.%s\", which no plain checkpoint needs; nothing was run",
                   m->path, m->at, sr_show(module, n).text, sr_show(name, k).text);
}

/* "module\nname\n" */
static sr_status read_global(struct machine *m) {
    const char *part[2];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        const uint8_t *line = m->c.at, *end = memchr(line, '\n', sr_cursor_left(&m->c));
        if (!end) return bad(m, "a name that is cut off");
        part[i] = (const char *)line;
        n[i] = (size_t)(end - line);
        sr_cursor_bytes(&m->c, n[i] + 1);
    }
    return push_global(m, part[0], n[0], part[1], n[1]);
}

/* <root>/<head><name> in the archive; NULL when it is not there. */
static const sr_zip_entry *find_entry(struct machine *m, const char *head, const char *name, size_t n) {
    char full[2 * SR_NAME_CAP];
    size_t root = strlen(m->root), k = strlen(head);
    if (memchr(name, 0, n) || root + 1 + k + n + 1 > sizeof full) return NULL;
    memcpy(full, m->root, root);
    full[root] = '/';
    memcpy(full + root + 1, head, k);
    memcpy(full + root + 1 + k, name, n);
    full[root + 1 + k + n] = 0;
    return sr_zip_find(&m->zip, full);
}

static sr_status push_storage(struct machine *m) {
    struct value id;
    sr_status s = pop_kind(m, &id, TUPLE, "as a persistent id");
    if (s != SR_OK) return s;
    const struct value *v = id.v.node->item;
    if (id.v.node->n != 5 || v[0].kind != TEXT || !is_text(v[0].v.text, v[0].n, "storage") || v[1].kind != GLOBAL ||
        v[1].v.global->role != STORAGE_TYPE || v[2].kind != TEXT || v[4].kind != INT)
        return bad(m, "a persistent id that is not (\"storage\", type, key, location, elements)");
    sr_shown key = sr_show(v[2].v.text, v[2].n);
    const sr_zip_entry *e = find_entry(m, "data/", v[2].v.text, v[2].n);
    if (!e)
        return sr_fail(m->err, SR_CORRUPT, "%s: data.pkl: byte %zu: found storage \"%s\", which is not in the archive",
                       m->path, m->at, key.text);
    struct storage *storage = take(m, 1, sizeof *storage);
    int64_t bytes;
    if (!storage) return m->err->code;
    *storage = (struct storage){e->data, v[4].v.i, sr_stored_by_name(v[1].v.global->stored)};
    if (storage->n_elements < 0 || !sr_stored_bytes(storage->type, storage->n_elements, &bytes) || bytes != e->bytes)
        return sr_fail(m->err, SR_CORRUPT,
                       "%s: storage \"%s\": found %" PRId64 " bytes, expected %" PRId64 " elements of %s", m->path,
                       key.text, e->bytes, v[4].v.i, storage->type->name);
    return push(m, (struct value){.kind = STORAGE, .v.storage = storage});
}

/* size and stride against each other: elements follow each other without gaps, the last index fastest. */
static sr_status read_shape(struct machine *m, const struct node *size, const struct node *stride, struct tensor *t) {
    bool dense = true;
    int64_t step = 1;
    if (size->n != stride->n || size->n > SR_MAX_DIMS)
        return bad(m, "a tensor of more than 8 dimensions, or of other strides than sizes");
    t->n_dims = (int)size->n;
    t->n_elements = 1;
    for (int i = 0; i < t->n_dims; i++) {
        if (size->item[i].kind != INT || stride->item[i].kind != INT || size->item[i].v.i < 0)
            return bad(m, "a size or stride that is no whole number, or a negative size");
        t->shape[i] = size->item[i].v.i;
        if (!sr_times(t->n_elements, t->shape[i], &t->n_elements))
            return bad(m, "a shape whose product does not fit 63 bits");
    }
    for (int i = t->n_dims - 1; i >= 0 && t->n_elements; i--) {
        if (t->shape[i] != 1) dense = dense && stride->item[i].v.i == step;
        step *= t->shape[i]; /* divides n_elements */
    }
    return dense ? SR_OK
                 : sr_fail(m->err, SR_UNSUPPORTED,
                           "%s: data.pkl: byte %zu: found a tensor with strides of a view (transposed, expanded, "
                           "negative), expected it contiguous; save it so",
                           m->path, m->at);
}

/* own: the dtype is the seventh argument, and the storage is bytes. */
static sr_status push_tensor(struct machine *m, const struct node *args, bool own) {
    const struct value *a = args->item;
    const uint32_t n = own ? 7 : 6; /* and what tensors of Python may have besides */
    if (args->n < n || args->n > n + 1 || a[0].kind != STORAGE || a[1].kind != INT || a[2].kind != TUPLE ||
        a[3].kind != TUPLE || (own && (a[6].kind != GLOBAL || a[6].v.global->role != DTYPE)))
        return bad(m, own ? "a tensor that is not (storage, offset, size, stride, requires_grad, hooks, dtype)"
                          : "a tensor that is not (storage, offset, size, stride, requires_grad, hooks)");
    struct tensor *t = take(m, 1, sizeof *t);
    if (!t) return m->err->code;
    sr_status s = read_shape(m, a[2].v.node, a[3].v.node, t);
    if (s != SR_OK) return s;
    const struct storage *from = a[0].v.storage;
    t->type = own ? sr_stored_by_name(a[6].v.global->stored) : from->type;
    int64_t offset = a[1].v.i, room = from->n_elements * from->type->bytes / t->type->bytes;
    if (offset < 0 || offset > room || t->n_elements > room - offset)
        return sr_fail(m->err, SR_CORRUPT,
                       "%s: data.pkl: byte %zu: found a tensor of %" PRId64 " elements at offset %" PRId64
                       " of a storage of %" PRId64,
                       m->path, m->at, t->n_elements, offset, room);
    t->data = from->data + offset * t->type->bytes;
    t->bytes = t->n_elements * t->type->bytes;
    return push(m, (struct value){.kind = TENSOR, .v.tensor = t});
}

/* The calls that are known; what they would do is done here. */
static sr_status call(struct machine *m) {
    struct value args, callee;
    sr_status s = pop_kind(m, &args, TUPLE, "as arguments");
    if (s == SR_OK) s = pop_kind(m, &callee, GLOBAL, "as what is called");
    if (s != SR_OK) return s;
    const struct node *a = args.v.node;
    switch (callee.v.global->role) {
    case ORDERED_DICT:
        return a->n ? bad(m, "an OrderedDict with arguments, expected none") : push_node(m, DICT, NULL, 0);
    case REBUILD_TENSOR:
    case REBUILD_TENSOR_OF:
        return push_tensor(m, a, callee.v.global->role == REBUILD_TENSOR_OF);
    case REBUILD_PARAMETER:
        if (a->n != 3 || a->item[0].kind != TENSOR) return bad(m, "a parameter that is not (tensor, bool, hooks)");
        return push(m, a->item[0]);
    case SIZE:
        if (a->n != 1 || (a->item[0].kind != TUPLE && a->item[0].kind != LIST))
            return bad(m, "a torch.Size that is not of one tuple");
        return push(m, (struct value){.kind = TUPLE, .v.node = a->item[0].v.node});
    case DEVICE:
        return push(m, (struct value){.kind = NONE});
    case STORAGE_TYPE:
    case DTYPE:
        break;
    }
    return bad(m, "a call of a type");
}

/* ---------------------------------------------------------------- instructions */

static sr_status push_int(struct machine *m, int64_t i) {
    return push(m, (struct value){.kind = INT, .v.i = i});
}

static sr_status push_text(struct machine *m, uint64_t n) {
    const uint8_t *text = n < UINT32_MAX ? sr_cursor_bytes(&m->c, n) : NULL;
    if (!text) return bad(m, "a text that is cut off");
    return push(m, (struct value){.kind = TEXT, .n = (uint32_t)n, .v.text = (const char *)text});
}

/* Little-endian two's complement of n bytes. */
static sr_status push_long(struct machine *m, unsigned n) {
    if (n > 8) return bad(m, "a whole number of more than 8 bytes");
    uint64_t u = sr_cursor_uint(&m->c, n), sign = n ? (uint64_t)1 << (8 * n - 1) : 0;
    u = (u ^ sign) - sign;
    int64_t i;
    memcpy(&i, &u, sizeof i);
    return push_int(m, i);
}

static sr_status push_float(struct machine *m) {
    m->c.swap = true;
    uint64_t u = sr_cursor_u64(&m->c);
    m->c.swap = false;
    double f;
    memcpy(&f, &u, sizeof f);
    return push(m, (struct value){.kind = FLOAT, .v.f = f});
}

static sr_status fill_one(struct machine *m, enum kind kind) {
    struct value v[2];
    sr_status s = pop(m, &v[1]);
    if (s == SR_OK && kind == DICT) s = pop(m, &v[0]);
    if (s != SR_OK) return s;
    return kind == DICT ? fill(m, DICT, v, 2) : fill(m, LIST, v + 1, 1);
}

/* State for the object below: an OrderedDict's attributes, such as a state_dict's _metadata, are no tensors. */
static sr_status drop_state(struct machine *m) {
    struct value state;
    sr_status s = pop_kind(m, &state, DICT, "as the state of an object");
    if (s != SR_OK) return s;
    if (m->n_stack == 0 || m->stack[m->n_stack - 1].kind != DICT) return bad(m, "a state for what is no dictionary");
    return SR_OK;
}

static sr_status stack_global(struct machine *m) {
    struct value module, name;
    sr_status s = pop_kind(m, &name, TEXT, "as a name");
    if (s == SR_OK) s = pop_kind(m, &module, TEXT, "as a module");
    return s == SR_OK ? push_global(m, module.v.text, module.n, name.v.text, name.n) : s;
}

static sr_status instruction(struct machine *m, uint8_t op) {
    struct value v, *items;
    size_t n;
    sr_status s;
    switch (op) {
    case 0x80: /* PROTO */
        return sr_cursor_u8(&m->c) > 5 ? bad(m, "a pickle protocol above 5") : SR_OK;
    case 0x95: /* FRAME: a hint for readers of streams */
        sr_cursor_u64(&m->c);
        return SR_OK;
    case '(':
        return push(m, (struct value){.kind = MARK});
    case '0':
        return pop(m, &v);
    case '1':
        return pop_mark(m, &items, &n);
    case 'N':
        return push(m, (struct value){.kind = NONE});
    case 0x88:
    case 0x89:
        return push(m, (struct value){.kind = BOOL, .v.b = op == 0x88});
    case 'J':
        return push_long(m, 4);
    case 'K':
        return push_int(m, sr_cursor_u8(&m->c));
    case 'M':
        return push_int(m, sr_cursor_u16(&m->c));
    case 0x8a:
        return push_long(m, sr_cursor_u8(&m->c));
    case 'G':
        return push_float(m);
    case 0x8c:
        return push_text(m, sr_cursor_u8(&m->c));
    case 'X':
        return push_text(m, sr_cursor_u32(&m->c));
    case 0x8d:
        return push_text(m, sr_cursor_u64(&m->c));
    case ')':
        return push_node(m, TUPLE, NULL, 0);
    case ']':
        return push_node(m, LIST, NULL, 0);
    case '}':
        return push_node(m, DICT, NULL, 0);
    case 0x85:
    case 0x86:
    case 0x87:
        return top_tuple(m, op - 0x84u);
    case 't':
        s = pop_mark(m, &items, &n);
        return s == SR_OK ? push_node(m, TUPLE, items, n) : s;
    case 'a':
        return fill_one(m, LIST);
    case 's':
        return fill_one(m, DICT);
    case 'e':
    case 'u':
        s = pop_mark(m, &items, &n);
        return s == SR_OK ? fill(m, op == 'e' ? LIST : DICT, items, n) : s;
    case 'q':
        return put(m, sr_cursor_u8(&m->c));
    case 'r':
        return put(m, sr_cursor_u32(&m->c));
    case 0x94:
        return put(m, m->n_memo);
    case 'h':
        return get(m, sr_cursor_u8(&m->c));
    case 'j':
        return get(m, sr_cursor_u32(&m->c));
    case 'c':
        return read_global(m);
    case 0x93:
        return stack_global(m);
    case 'R':
        return call(m);
    case 'b':
        return drop_state(m);
    case 'Q':
        return push_storage(m);
    default:
        return sr_fail(m->err, SR_UNSUPPORTED,
                       "%s: data.pkl: byte %zu: found instruction 0x%02x, which no plain checkpoint needs; nothing was "
                       "run",
                       m->path, m->at, op);
    }
}

/* Runs to STOP; *top is what the pickle stands for. */
static sr_status run(struct machine *m, struct value *top) {
    for (;;) {
        m->at = sr_cursor_offset(&m->c);
        uint8_t op = sr_cursor_u8(&m->c);
        if (!m->c.failed && op == '.') break;
        sr_status s = m->c.failed ? SR_OK : instruction(m, op);
        if (s != SR_OK) return s;
        if (m->c.failed) return bad(m, "the end of the pickle, expected more of it");
    }
    sr_status s = pop(m, top);
    if (s == SR_OK && (m->n_stack || sr_cursor_left(&m->c))) s = bad(m, "more behind its end, or values left over");
    return s == SR_OK && top->kind != DICT ? bad_kind(m, "at the top", top->kind, "a dictionary of tensors") : s;
}

/* ---------------------------------------------------------------- from dictionaries to parts */

static sr_status add_bytes(struct machine *m, sr_part *part, const char *stored, const void *data, size_t bytes) {
    uint8_t *copy = sr_arena_small(&m->file->arena, bytes ? bytes : 1, 1);
    if (!copy) return sr_fail(m->err, SR_NOMEM, "%s: no memory for its values", m->path);
    if (bytes) memcpy(copy, data, bytes);
    part->type = sr_stored_by_name(stored);
    part->data = copy;
    part->bytes = (int64_t)bytes;
    part->n_elements = part->bytes / part->type->bytes;
    return SR_OK;
}

/* A list of whole numbers; `part` gets them as i64. */
static sr_status add_ints(struct machine *m, sr_part *part, const struct node *node) {
    int64_t *v = take(m, node->n, sizeof *v);
    if (!v) return m->err->code;
    for (uint32_t i = 0; i < node->n; i++) v[i] = node->item[i].v.i;
    part->n_dims = 1;
    part->shape[0] = node->n;
    return add_bytes(m, part, "i64", v, node->n * sizeof *v);
}

static sr_status add_text(struct machine *m, sr_part *part, const char *text, size_t n) {
    part->n_dims = 1;
    part->shape[0] = (int64_t)n;
    return add_bytes(m, part, "u8", text, n);
}

static bool is_ints(const struct value *v) {
    if ((v->kind != TUPLE && v->kind != LIST) || v->v.node->n == 0) return false;
    for (uint32_t i = 0; i < v->v.node->n; i++)
        if (v->v.node->item[i].kind != INT) return false;
    return true;
}

/* One value that is no container. */
static sr_status add_leaf(struct machine *m, const char *name, size_t n, const struct value *v) {
    if (v->kind == NONE) return SR_OK;
    sr_part *part = sr_file_add_part(m->file, m->err);
    if (!part) return m->err->code;
    part->shard = (uint16_t)m->shard;
    part->name = sr_arena_strndup(&m->file->arena, name, n);
    if (!part->name) return sr_fail(m->err, SR_NOMEM, "%s: no memory for its names", m->path);
    int32_t i;
    float f;
    uint8_t b;
    switch ((enum kind)v->kind) {
    case TENSOR:
        part->type = v->v.tensor->type;
        part->n_dims = v->v.tensor->n_dims;
        memcpy(part->shape, v->v.tensor->shape, sizeof part->shape);
        part->n_elements = v->v.tensor->n_elements;
        part->data = v->v.tensor->data;
        part->bytes = v->v.tensor->bytes;
        return SR_OK;
    case BOOL:
        b = v->v.b;
        return add_bytes(m, part, "u8", &b, 1);
    case INT:
        i = (int32_t)v->v.i;
        return i == v->v.i ? add_bytes(m, part, "i32", &i, 4) : add_bytes(m, part, "i64", &v->v.i, 8);
    case FLOAT:
        f = (float)v->v.f;
        return add_bytes(m, part, "f32", &f, 4);
    case TEXT:
        return add_text(m, part, v->v.text, v->n);
    case GLOBAL:
        if (v->v.global->role == DTYPE) {
            char text[32] = "torch.";
            strcat(text, v->v.global->name);
            return add_text(m, part, text, strlen(text));
        }
        break;
    case TUPLE:
    case LIST:
        return add_ints(m, part, v->v.node);
    case NONE:
    case MARK:
    case DICT:
    case STORAGE:
        break;
    }
    return sr_fail(m->err, SR_CORRUPT, "%s: \"%s\": found %s, expected a tensor, number or text", m->path,
                   sr_show_name(name).text, kind_names[v->kind]);
}

/* Appends ".<key>" to the name of n bytes. */
static sr_status join(struct machine *m, char name[SR_NAME_CAP + 1], size_t *n, const struct value *key,
                      uint32_t index) {
    char number[24];
    const char *text = number;
    size_t k;
    if (!key || key->kind == INT)
        k = (size_t)snprintf(number, sizeof number, "%" PRId64, key ? key->v.i : (int64_t)index);
    else
        text = key->v.text, k = key->n;
    if (k == 0 || memchr(text, 0, k) || !sr_utf8_valid(text, k))
        return sr_fail(m->err, SR_CORRUPT, "%s: found the key \"%s\", expected a text without zero bytes", m->path,
                       sr_show(text, k).text);
    if (*n + (*n > 0) + k > SR_NAME_CAP)
        return sr_fail(m->err, SR_LIMIT, "%s: found a name of more than %d bytes, \"%s\"", m->path, SR_NAME_CAP,
                       sr_show(text, k).text);
    if (*n) name[(*n)++] = '.';
    memcpy(name + *n, text, k);
    *n += k;
    name[*n] = 0;
    return SR_OK;
}

struct frame {
    const struct node *node;
    uint32_t next;
    size_t name; /* bytes */
    bool keys;
};

static sr_status flatten(struct machine *m, const struct value *top) {
    struct frame open[MAX_DEPTH] = {{top->v.node, 0, 0, true}};
    char name[SR_NAME_CAP + 1] = "";
    size_t left = (size_t)(m->c.end - m->c.base); /* a tree has fewer values than its pickle has bytes */
    for (int depth = 1; depth > 0;) {
        struct frame *f = &open[depth - 1];
        if (f->next >= f->node->n) {
            depth--;
            continue;
        }
        const struct value *v = &f->node->item[f->next + f->keys], *key = f->keys ? v - 1 : NULL;
        size_t n = f->name;
        if (left-- == 0)
            return sr_fail(m->err, SR_LIMIT, "%s: found dictionaries inside each other many times over", m->path);
        sr_status s = join(m, name, &n, key, f->next);
        f->next += f->keys ? 2 : 1;
        bool container = v->kind == DICT || ((v->kind == TUPLE || v->kind == LIST) && !is_ints(v));
        if (s == SR_OK && container) {
            if (depth == MAX_DEPTH)
                return sr_fail(m->err, SR_LIMIT, "%s: \"%s\": found more than %d dictionaries inside each other",
                               m->path, sr_show_name(name).text, MAX_DEPTH);
            open[depth++] = (struct frame){v->v.node, 0, n, v->kind == DICT};
        } else if (s == SR_OK) {
            s = add_leaf(m, name, n, v);
        }
        if (s != SR_OK) return s;
    }
    return SR_OK;
}

/* ---------------------------------------------------------------- the archive */

/* The one entry <root>/data.pkl gives the root. */
static const sr_zip_entry *find_pickle(struct machine *m) {
    static const char tail[] = "/data.pkl";
    const sr_zip_entry *found = NULL;
    for (int i = 0; i < m->zip.n; i++) {
        const char *name = m->zip.at[i].name, *slash = strchr(name, '/');
        if (!slash || strcmp(slash, tail) != 0) continue;
        if (found || slash - name > SR_NAME_CAP) return NULL;
        found = &m->zip.at[i];
        m->root = sr_arena_strndup(&m->names, name, (size_t)(slash - name));
    }
    return m->root ? found : NULL;
}

/* Before the archive there was a row of pickles, of which the first is this number. */
static bool is_old(const uint8_t *data, size_t n) {
    static const char magic[] = "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    return n >= sizeof magic - 1 && memcmp(data, magic, sizeof magic - 1) == 0;
}
bool sr_pickle_is(const uint8_t *data, size_t n) {
    return is_old(data, n) || (n >= 4 && memcmp(data, "PK\3\4", 4) == 0);
}

static sr_status read_archive(struct machine *m) {
    const sr_map *map = &m->file->shard[m->shard].map;
    if (is_old(map->data, map->size))
        return sr_fail(m->err, SR_UNSUPPORTED,
                       "%s: found a checkpoint of PyTorch before 1.6, expected a zip archive; load it in "
                       "PyTorch and write it again with torch.save, or as safetensors",
                       m->path);
    sr_status s = sr_zip_read(map, m->path, &m->names, &m->zip, m->err);
    if (s != SR_OK) return s;
    const sr_zip_entry *pickle = find_pickle(m);
    if (!pickle) return sr_fail(m->err, SR_CORRUPT, "%s: found a zip archive without one <name>/data.pkl", m->path);
    const sr_zip_entry *order = find_entry(m, "", "byteorder", 9);
    if (order && (order->bytes != 6 || memcmp(order->data, "little", 6) != 0))
        return sr_fail(m->err, SR_UNSUPPORTED, "%s: byteorder: found \"%s\", expected \"little\"", m->path,
                       sr_show((const char *)order->data, (size_t)order->bytes).text);
    if (pickle->bytes > SR_PICKLE_CAP)
        return sr_fail(m->err, SR_LIMIT, "%s: data.pkl: found %" PRId64 " bytes, expected at most %d", m->path,
                       pickle->bytes, SR_PICKLE_CAP);
    m->c = sr_cursor_over(pickle->data, (size_t)pickle->bytes);
    struct value top;
    s = run(m, &top);
    return s == SR_OK ? flatten(m, &top) : s;
}

sr_status sr_pickle_parse(sr_file *file, int shard, sr_err *err) {
    struct machine m = {.file = file, .shard = shard, .path = sr_show_path(file->shard[shard].path), .err = err};
    file->container = "PyTorch";
    sr_status s = read_archive(&m);
    sr_names_free(&m.zip.names);
    sr_arena_free(&m.names);
    sr_arena_free(&m.arena);
    return s;
}
