#include "core/import/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"

#define MAGIC 0x46554747u /* "GGUF" */

enum {
    VERSION_MIN = 2, /* version 1 had 32-bit lengths */
    VERSION_MAX = 3,
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MAX = 65536,
};

struct mb_gguf {
    struct mb_gguf_value *values;   /* by key */
    struct mb_gguf_tensor *tensors; /* by name once complete */
    size_t n_values, n_tensors;
};

static const uint8_t scalar_bytes[MB_GGUF_TYPES] = {
    [MB_GGUF_U8] = 1,  [MB_GGUF_I8] = 1,  [MB_GGUF_U16] = 2, [MB_GGUF_I16] = 2,
    [MB_GGUF_U32] = 4, [MB_GGUF_I32] = 4, [MB_GGUF_F32] = 4, [MB_GGUF_BOOL] = 1,
    [MB_GGUF_U64] = 8, [MB_GGUF_I64] = 8, [MB_GGUF_F64] = 8,
};

static const char *const type_names[MB_GGUF_TYPES] = {
    "u8",   "i8",     "u16",  "i16", "u32", "i32", "f32",
    "bool", "string", "list", "u64", "i64", "f64",
};

/* Types of tensors by the file's number. Those without bytes are known by name only. */
static const struct {
    const char *name;
    uint32_t block, bytes; /* weights of a block, and its bytes */
    enum mb_gguf_dtype dtype;
} dtypes[] = {
    { "F32", 1, 4, MB_GGUF_TENSOR_F32 },
    { "F16", 1, 2, MB_GGUF_TENSOR_F16 },
    { "Q4_0", 0, 0, 0 },
    { "Q4_1", 0, 0, 0 },
    { "Q4_2", 0, 0, 0 },
    { "Q4_3", 0, 0, 0 },
    { "Q5_0", 0, 0, 0 },
    { "Q5_1", 0, 0, 0 },
    { "Q8_0", MB_GGUF_Q8_0_WEIGHTS, MB_GGUF_Q8_0_BYTES, MB_GGUF_TENSOR_Q8_0 },
    { "Q8_1", 0, 0, 0 },
    { "Q2_K", 0, 0, 0 },
    { "Q3_K", 0, 0, 0 },
    { "Q4_K", 0, 0, 0 },
    { "Q5_K", 0, 0, 0 },
    { "Q6_K", 0, 0, 0 },
    { "Q8_K", 0, 0, 0 },
    { "IQ2_XXS", 0, 0, 0 },
    { "IQ2_XS", 0, 0, 0 },
    { "IQ3_XXS", 0, 0, 0 },
    { "IQ1_S", 0, 0, 0 },
    { "IQ4_NL", 0, 0, 0 },
    { "IQ3_S", 0, 0, 0 },
    { "IQ2_S", 0, 0, 0 },
    { "IQ4_XS", 0, 0, 0 },
    { "I8", 0, 0, 0 },
    { "I16", 0, 0, 0 },
    { "I32", 0, 0, 0 },
    { "I64", 0, 0, 0 },
    { "F64", 0, 0, 0 },
    { "IQ1_M", 0, 0, 0 },
    { "BF16", 1, 2, MB_GGUF_TENSOR_BF16 },
};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

bool mb_gguf_is(const uint8_t *at, size_t n)
{
    struct mb_cursor c = mb_cursor_of(at, n);
    return mb_cursor_u32(&c) == MAGIC && !c.failed;
}

const uint8_t *mb_gguf_next_text(struct mb_cursor *c, size_t *ret_n)
{
    uint64_t n = mb_cursor_u64(c);
    if (n > c->left) {
        c->failed = true;
        n = 0;
    }
    *ret_n = (size_t) n;
    return mb_cursor_take(c, (size_t) n);
}

/* Names reach terminals and logs, so that only printable ASCII without spaces is one. what and
 * i say which in errors. */
static enum mb_status read_name(struct mb_cursor *c, const char *what, size_t i,
                                char ret[MB_GGUF_NAME_MAX], struct mb_error *err)
{
    size_t n;
    const uint8_t *at = mb_gguf_next_text(c, &n);
    if (c->failed) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s %zu: its name ends beyond the file", what, i);
    }
    bool plain = n > 0 && n < MB_GGUF_NAME_MAX;
    for (size_t k = 0; plain && k < n; k++) {
        plain = at[k] >= '!' && at[k] <= '~';
    }
    if (!plain) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "%s %zu: its name is not 1..%u printable ASCII characters", what, i,
                       MB_GGUF_NAME_MAX - 1);
    }
    memcpy(ret, at, n);
    ret[n] = '\0';
    return MB_OK;
}

static enum mb_status bad_value(struct mb_error *err, const struct mb_gguf_value *v,
                                const char *why)
{
    return mb_fail(err, MB_E_FORMAT, 0, "key '%s': %s", v->key, why);
}

/* The items of a list are as long as they are: texts are walked, others multiplied. */
static enum mb_status read_list(struct mb_cursor *c, struct mb_gguf_value *v,
                                struct mb_error *err)
{
    uint32_t type = mb_cursor_u32(c);
    uint64_t n = mb_cursor_u64(c);
    if (c->failed || type >= MB_GGUF_TYPES) {
        return bad_value(err, v, "not a list of a known type");
    }
    if (type == MB_GGUF_LIST) {
        return mb_fail(
            err, MB_E_UNSUPPORTED, 0,
            "key '%s': a list of lists is not supported; supported: lists of numbers "
            "and of strings",
            v->key);
    }
    if (n > MB_GGUF_ITEMS_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "key '%s': %llu items are more than %u", v->key,
                       (unsigned long long) n, MB_GGUF_ITEMS_MAX);
    }
    v->item_type = (enum mb_gguf_type) type;
    v->n = (size_t) n;
    v->at = c->at;
    if (type == MB_GGUF_TEXT) {
        size_t ignored;
        for (size_t i = 0; i < v->n && !c->failed; i++) {
            (void) mb_gguf_next_text(c, &ignored);
        }
    } else {
        (void) mb_cursor_take(c, v->n * scalar_bytes[type]);
    }
    if (c->failed) {
        return bad_value(err, v, "the list ends beyond the file");
    }
    v->bytes = (size_t) (c->at - v->at);
    return MB_OK;
}

static enum mb_status read_value(struct mb_cursor *c, size_t i, struct mb_gguf_value *v,
                                 struct mb_error *err)
{
    *v = (struct mb_gguf_value) { .n = 1 };
    enum mb_status st = read_name(c, "key", i, v->key, err);
    if (st != MB_OK) {
        return st;
    }
    uint32_t type = mb_cursor_u32(c);
    if (c->failed || type >= MB_GGUF_TYPES) {
        return bad_value(err, v, "not of a known type");
    }
    v->type = (enum mb_gguf_type) type;
    if (type == MB_GGUF_LIST) {
        return read_list(c, v, err);
    }
    if (type == MB_GGUF_TEXT) {
        v->at = mb_gguf_next_text(c, &v->bytes);
    } else {
        v->bytes = scalar_bytes[type];
        v->at = mb_cursor_take(c, v->bytes);
    }
    if (c->failed) {
        return bad_value(err, v, "ends beyond the file");
    }
    if (type == MB_GGUF_BOOL && *v->at > 1) {
        return bad_value(err, v, "neither true nor false");
    }
    return MB_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct mb_gguf_value *) a)->key,
                  ((const struct mb_gguf_value *) b)->key);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct mb_gguf_tensor *) a)->name,
                  ((const struct mb_gguf_tensor *) b)->name);
}

static int by_data(const void *a, const void *b)
{
    const struct mb_gguf_tensor *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static enum mb_status read_values(struct mb_gguf *g, struct mb_cursor *c, struct mb_error *err)
{
    for (size_t i = 0; i < g->n_values; i++) {
        enum mb_status st = read_value(c, i, &g->values[i], err);
        if (st != MB_OK) {
            return st;
        }
    }
    qsort(g->values, g->n_values, sizeof *g->values, by_key);
    for (size_t i = 1; i < g->n_values; i++) {
        if (strcmp(g->values[i - 1].key, g->values[i].key) == 0) {
            return bad_value(err, &g->values[i], "given twice");
        }
    }
    return MB_OK;
}

static enum mb_status bad_tensor(struct mb_error *err, const struct mb_gguf_tensor *t,
                                 const char *why)
{
    return mb_fail(err, MB_E_FORMAT, 0, "tensor '%s': %s", t->name, why);
}

/* Sets dtype and bytes. */
static enum mb_status size_tensor(struct mb_gguf_tensor *t, uint32_t type, struct mb_error *err)
{
    if (type >= N_DTYPES) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "tensor '%s': type %u is not supported; supported: F32, F16, BF16, Q8_0",
                       t->name, (unsigned) type);
    }
    if (dtypes[type].bytes == 0) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "tensor '%s': type %s is not supported; supported: F32, F16, BF16, Q8_0",
                       t->name, dtypes[type].name);
    }
    t->dtype = dtypes[type].dtype;
    if (t->dims[0] % dtypes[type].block != 0) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "tensor '%s': rows of %llu are not blocks of %u, as %s has", t->name,
                       (unsigned long long) t->dims[0], dtypes[type].block, dtypes[type].name);
    }
    size_t n = (size_t) t->dims[0] / dtypes[type].block;
    for (uint32_t i = 1; i < MB_GGUF_DIMS_MAX; i++) {
        if (!mb_checked_mul(n, t->dims[i], &n)) {
            return bad_tensor(err, t, "dimensions: the product is too large");
        }
    }
    if (!mb_checked_mul(n, dtypes[type].bytes, &t->bytes)) {
        return bad_tensor(err, t, "dimensions: the product is too large");
    }
    return MB_OK;
}

/* *ret_offset counts from the data, whose place is not known yet. */
static enum mb_status read_tensor(struct mb_cursor *c, size_t i, struct mb_gguf_tensor *t,
                                  uint64_t *ret_offset, struct mb_error *err)
{
    *t = (struct mb_gguf_tensor) { .dims = { 1, 1, 1, 1 } };
    enum mb_status st = read_name(c, "tensor", i, t->name, err);
    if (st != MB_OK) {
        return st;
    }
    t->n_dims = mb_cursor_u32(c);
    if (c->failed || t->n_dims < 1 || t->n_dims > MB_GGUF_DIMS_MAX) {
        return bad_tensor(err, t, "dimensions: not 1..4 of them");
    }
    for (uint32_t k = 0; k < t->n_dims; k++) {
        t->dims[k] = mb_cursor_u64(c);
        if (t->dims[k] == 0) { /* also what reading past the end gives */
            return bad_tensor(err, t, "dimensions: one is 0");
        }
    }
    uint32_t type = mb_cursor_u32(c);
    *ret_offset = mb_cursor_u64(c);
    if (c->failed) {
        return bad_tensor(err, t, "ends beyond the file");
    }
    return size_tensor(t, type, err);
}

static enum mb_status place_tensor(struct mb_gguf_tensor *t, uint64_t offset,
                                   uint32_t alignment, const uint8_t *data, size_t bytes,
                                   struct mb_error *err)
{
    if (offset % alignment != 0) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "tensor '%s': offset: %llu is no multiple of general.alignment %u",
                       t->name, (unsigned long long) offset, (unsigned) alignment);
    }
    if (!mb_extent_fits(offset, t->bytes, bytes)) {
        return mb_fail(
            err, MB_E_FORMAT, 0,
            "tensor '%s': offset: %llu and %zu bytes are not inside the %zu bytes of "
            "data",
            t->name, (unsigned long long) offset, t->bytes, bytes);
    }
    t->data = data + offset;
    return MB_OK;
}

/* All tensors are placed: none is on another, and no name is given twice. */
static enum mb_status complete(struct mb_gguf *g, struct mb_error *err)
{
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_data);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const struct mb_gguf_tensor *a = &g->tensors[i - 1], *b = a + 1;
        if (b->data < a->data + a->bytes) {
            return mb_fail(err, MB_E_FORMAT, 0, "tensor '%s': offset: overlaps tensor '%s'",
                           b->name, a->name);
        }
    }
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_name);
    for (size_t i = 1; i < g->n_tensors; i++) {
        if (strcmp(g->tensors[i - 1].name, g->tensors[i].name) == 0) {
            return bad_tensor(err, &g->tensors[i], "given twice");
        }
    }
    return MB_OK;
}

/* at is the file, whose header c has been read up to the tensors. */
static enum mb_status read_tensors(struct mb_gguf *g, const uint8_t *at, size_t n,
                                   struct mb_cursor *c, struct mb_error *err)
{
    uint32_t alignment = ALIGNMENT_DEFAULT;
    enum mb_status st = mb_gguf_u32(g, "general.alignment", MB_GGUF_OPTIONAL, 8, ALIGNMENT_MAX,
                                    &alignment, err);
    if (st == MB_OK && (alignment & (alignment - 1)) != 0) {
        st = mb_fail(err, MB_E_FORMAT, 0, "key 'general.alignment': %u is no power of two",
                     (unsigned) alignment);
    }
    uint64_t *offsets = st == MB_OK ? calloc(g->n_tensors + 1, sizeof *offsets) : NULL;
    if (st == MB_OK && !offsets) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for the tensors");
    }
    for (size_t i = 0; i < g->n_tensors && st == MB_OK; i++) {
        st = read_tensor(c, i, &g->tensors[i], &offsets[i], err);
    }
    size_t begin = (size_t) (c->at - at);
    if (!mb_checked_align(begin, alignment, &begin) || begin > n) {
        begin = n; /* a file without tensors may end with its header */
    }
    for (size_t i = 0; i < g->n_tensors && st == MB_OK; i++) {
        st = place_tensor(&g->tensors[i], offsets[i], alignment, at + begin, n - begin, err);
    }
    free(offsets);
    return st == MB_OK ? complete(g, err) : st;
}

static enum mb_status check_version(uint32_t version, struct mb_error *err)
{
    if (version >= VERSION_MIN && version <= VERSION_MAX) {
        return MB_OK;
    }
    bool swapped = version > 0 && (version & 0xffffffu) == 0;
    return mb_fail(err, MB_E_UNSUPPORTED, 0,
                   "GGUF version %u%s is not supported; supported: 2 and 3, little endian",
                   (unsigned) (swapped ? version >> 24 : version),
                   swapped ? ", big endian" : "");
}

static enum mb_status read_counts(struct mb_gguf *g, struct mb_cursor *c, struct mb_error *err)
{
    uint64_t n_tensors = mb_cursor_u64(c), n_values = mb_cursor_u64(c);
    if (c->failed) {
        return mb_fail(err, MB_E_FORMAT, 0, "too short for a header");
    }
    if (n_tensors > MB_GGUF_TENSORS_MAX || n_values > MB_GGUF_KEYS_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "%llu tensors and %llu keys are more than %u and %u",
                       (unsigned long long) n_tensors, (unsigned long long) n_values,
                       MB_GGUF_TENSORS_MAX, MB_GGUF_KEYS_MAX);
    }
    g->n_tensors = (size_t) n_tensors;
    g->n_values = (size_t) n_values;
    g->tensors = calloc(g->n_tensors + 1, sizeof *g->tensors);
    g->values = calloc(g->n_values + 1, sizeof *g->values);
    return g->tensors && g->values ? MB_OK
                                   : mb_fail(err, MB_E_NOMEM, 0, "no memory for its header");
}

enum mb_status mb_gguf_of_memory(const void *at, size_t n, struct mb_gguf **ret,
                                 struct mb_error *err)
{
    struct mb_cursor c = mb_cursor_of(at, n);
    uint32_t magic = mb_cursor_u32(&c), version = mb_cursor_u32(&c);
    if (c.failed || magic != MAGIC) {
        return mb_fail(err, MB_E_FORMAT, 0, "magic is not GGUF");
    }
    struct mb_gguf *g = calloc(1, sizeof *g);
    if (!g) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory");
    }
    enum mb_status st;
    if ((st = check_version(version, err)) != MB_OK ||
        (st = read_counts(g, &c, err)) != MB_OK || (st = read_values(g, &c, err)) != MB_OK ||
        (st = read_tensors(g, at, n, &c, err)) != MB_OK) {
        mb_gguf_free(g);
        return st;
    }
    *ret = g;
    return MB_OK;
}

void mb_gguf_free(struct mb_gguf *g)
{
    if (g) {
        free(g->values);
        free(g->tensors);
        free(g);
    }
}

static int key_order(const void *key, const void *value)
{
    return strcmp(key, ((const struct mb_gguf_value *) value)->key);
}

const struct mb_gguf_value *mb_gguf_find(const struct mb_gguf *g, const char *key)
{
    return bsearch(key, g->values, g->n_values, sizeof *g->values, key_order);
}

size_t mb_gguf_tensors(const struct mb_gguf *g)
{
    return g->n_tensors;
}

const struct mb_gguf_tensor *mb_gguf_tensor_at(const struct mb_gguf *g, size_t i)
{
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

static int name_order(const void *name, const void *tensor)
{
    return strcmp(name, ((const struct mb_gguf_tensor *) tensor)->name);
}

const struct mb_gguf_tensor *mb_gguf_tensor(const struct mb_gguf *g, const char *name)
{
    return bsearch(name, g->tensors, g->n_tensors, sizeof *g->tensors, name_order);
}

/* *ret is NULL for an absent optional key. */
static enum mb_status get(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                          const struct mb_gguf_value **ret, struct mb_error *err)
{
    *ret = mb_gguf_find(g, key);
    return *ret || need == MB_GGUF_OPTIONAL
               ? MB_OK
               : mb_fail(err, MB_E_FORMAT, 0, "key '%s': missing", key);
}

static enum mb_status wrong_type(const struct mb_gguf_value *v, const char *wanted,
                                 struct mb_error *err)
{
    return mb_fail(err, MB_E_FORMAT, 0, "key '%s': %s, not %s", v->key, type_names[v->type],
                   wanted);
}

/* false when v is no integer, or a negative one. */
static bool integer_of(const struct mb_gguf_value *v, uint64_t *ret)
{
    struct mb_cursor c = mb_cursor_of(v->at, v->bytes);
    int64_t i;
    switch (v->type) {
    case MB_GGUF_U8:
        *ret = mb_cursor_u8(&c);
        return true;
    case MB_GGUF_U16:
        *ret = mb_cursor_u16(&c);
        return true;
    case MB_GGUF_U32:
        *ret = mb_cursor_u32(&c);
        return true;
    case MB_GGUF_U64:
        *ret = mb_cursor_u64(&c);
        return true;
    case MB_GGUF_I8:
        i = (int8_t) mb_cursor_u8(&c);
        break;
    case MB_GGUF_I16:
        i = (int16_t) mb_cursor_u16(&c);
        break;
    case MB_GGUF_I32:
        i = (int32_t) mb_cursor_u32(&c);
        break;
    case MB_GGUF_I64:
        i = (int64_t) mb_cursor_u64(&c);
        break;
    default:
        return false;
    }
    *ret = i < 0 ? 0 : (uint64_t) i;
    return i >= 0;
}

enum mb_status mb_gguf_u32(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                           uint32_t min, uint32_t max, uint32_t *ret, struct mb_error *err)
{
    const struct mb_gguf_value *v;
    uint64_t x;
    enum mb_status st = get(g, key, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (!integer_of(v, &x)) {
        return wrong_type(v, "an integer of at least 0", err);
    }
    if (x < min || x > max) {
        return mb_fail(err, MB_E_FORMAT, 0, "key '%s': %llu is not in %u..%u", key,
                       (unsigned long long) x, (unsigned) min, (unsigned) max);
    }
    *ret = (uint32_t) x;
    return MB_OK;
}

enum mb_status mb_gguf_f64(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                           double min, double max, double *ret, struct mb_error *err)
{
    const struct mb_gguf_value *v;
    enum mb_status st = get(g, key, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (v->type != MB_GGUF_F32 && v->type != MB_GGUF_F64) {
        return wrong_type(v, "a float", err);
    }
    struct mb_cursor c = mb_cursor_of(v->at, v->bytes);
    double x = v->type == MB_GGUF_F32 ? (double) mb_cursor_f32(&c) : mb_cursor_f64(&c);
    if (!(x >= min && x <= max)) { /* so that NaN is refused */
        return mb_fail(err, MB_E_FORMAT, 0, "key '%s': %g is not in %g..%g", key, x, min, max);
    }
    *ret = x;
    return MB_OK;
}

enum mb_status mb_gguf_bool(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                            bool *ret, struct mb_error *err)
{
    const struct mb_gguf_value *v;
    enum mb_status st = get(g, key, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (v->type != MB_GGUF_BOOL) {
        return wrong_type(v, "a bool", err);
    }
    *ret = *v->at != 0;
    return MB_OK;
}

enum mb_status mb_gguf_text(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                            const struct mb_gguf_value **ret, struct mb_error *err)
{
    const struct mb_gguf_value *v;
    enum mb_status st = get(g, key, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (v->type != MB_GGUF_TEXT) {
        return wrong_type(v, "a string", err);
    }
    *ret = v;
    return MB_OK;
}

enum mb_status mb_gguf_list(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                            enum mb_gguf_type item_type, const struct mb_gguf_value **ret,
                            struct mb_error *err)
{
    const struct mb_gguf_value *v;
    enum mb_status st = get(g, key, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (v->type != MB_GGUF_LIST || v->item_type != item_type) {
        return mb_fail(err, MB_E_FORMAT, 0, "key '%s': not a list of %s", key,
                       type_names[item_type]);
    }
    *ret = v;
    return MB_OK;
}

bool mb_gguf_text_is(const struct mb_gguf_value *v, const char *text)
{
    return v->bytes == strlen(text) && (v->bytes == 0 || memcmp(v->at, text, v->bytes) == 0);
}
