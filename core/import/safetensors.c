#include "core/import/safetensors.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/file.h"
#include "core/import/json.h"

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE  "model.safetensors.index.json"

enum { FILE_NAME_MAX = 128 };

struct shard {
    char name[FILE_NAME_MAX];
    struct mb_file_map map; /* empty when the bytes are someone else's */
};

struct mb_safetensors {
    struct shard *shards;
    size_t n_shards;
    struct mb_safetensor *tensors; /* by name once complete */
    size_t n_tensors, cap;
};

static const struct {
    const char *name;
    enum mb_safetensor_dtype dtype;
    uint32_t bytes;
} dtypes[] = {
    { "F32", MB_SAFETENSOR_F32, 4 },       { "F16", MB_SAFETENSOR_F16, 2 },
    { "BF16", MB_SAFETENSOR_BF16, 2 },     { "BOOL", MB_SAFETENSOR_OTHER, 1 },
    { "U8", MB_SAFETENSOR_OTHER, 1 },      { "I8", MB_SAFETENSOR_OTHER, 1 },
    { "F8_E4M3", MB_SAFETENSOR_OTHER, 1 }, { "F8_E5M2", MB_SAFETENSOR_OTHER, 1 },
    { "U16", MB_SAFETENSOR_OTHER, 2 },     { "I16", MB_SAFETENSOR_OTHER, 2 },
    { "U32", MB_SAFETENSOR_OTHER, 4 },     { "I32", MB_SAFETENSOR_OTHER, 4 },
    { "U64", MB_SAFETENSOR_OTHER, 8 },     { "I64", MB_SAFETENSOR_OTHER, 8 },
    { "F64", MB_SAFETENSOR_OTHER, 8 },
};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

/* Names reach terminals and logs, so that only printable ASCII without spaces is one. */
static bool is_plain_name(const char *name, size_t cap)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++) {
        if (name[i] < '!' || name[i] > '~') {
            return false;
        }
    }
    return n > 0 && n < cap;
}

/* The data of one file, and where errors say they are. */
struct source {
    const char *file;
    const uint8_t *data;
    uint64_t bytes;
    uint32_t index;
};

static enum mb_status bad_tensor(struct mb_error *err, const struct source *from,
                                 const struct mb_safetensor *t, const char *why)
{
    return mb_fail(err, MB_E_FORMAT, 0, "%s: tensor '%s': %s", from->file, t->name, why);
}

/* Sets dims, and *ret_elements to their product. */
static enum mb_status read_shape(const struct source *from, const json_t *shape,
                                 struct mb_safetensor *t, size_t *ret_elements,
                                 struct mb_error *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > MB_SAFETENSORS_DIMS_MAX) {
        return bad_tensor(err, from, t, "shape: not a list of at most 8 numbers");
    }
    size_t elements = 1;
    t->n_dims = (uint32_t) json_array_size(shape);
    for (uint32_t i = 0; i < t->n_dims; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0) {
            return bad_tensor(err, from, t, "shape: not a list of numbers of at least 0");
        }
        t->dims[i] = (uint64_t) json_integer_value(dim);
        if (!mb_checked_mul(elements, t->dims[i], &elements)) {
            return bad_tensor(err, from, t, "shape: the product is too large");
        }
    }
    *ret_elements = elements;
    return MB_OK;
}

static enum mb_status read_extent(const struct source *from, const json_t *offsets,
                                  size_t bytes_wanted, struct mb_safetensor *t,
                                  struct mb_error *err)
{
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e)) {
        return bad_tensor(err, from, t, "data_offsets: not two integers");
    }
    json_int_t begin = json_integer_value(b), end = json_integer_value(e);
    if (begin < 0 || end < begin || (uint64_t) end > from->bytes) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "%s: tensor '%s': data_offsets: [%lld, %lld] is not inside the %llu "
                       "bytes of data",
                       from->file, t->name, (long long) begin, (long long) end,
                       (unsigned long long) from->bytes);
    }
    if ((uint64_t) (end - begin) != bytes_wanted) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "%s: tensor '%s': data_offsets: %lld bytes, the shape asks for %zu",
                       from->file, t->name, (long long) (end - begin), bytes_wanted);
    }
    t->data = from->data + begin;
    t->bytes = bytes_wanted;
    return MB_OK;
}

static enum mb_status read_tensor(const struct source *from, const char *name,
                                  const json_t *entry, struct mb_safetensor *ret,
                                  struct mb_error *err)
{
    struct mb_safetensor t = { .file = from->index };
    if (!is_plain_name(name, sizeof t.name)) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "%s: a tensor's name is not 1..%zu printable ASCII characters",
                       from->file, sizeof t.name - 1);
    }
    (void) snprintf(t.name, sizeof t.name, "%s", name);

    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    size_t d = 0;
    while (d < N_DTYPES && (!dtype || strcmp(dtypes[d].name, dtype) != 0)) {
        d++;
    }
    if (d == N_DTYPES) {
        return bad_tensor(err, from, &t, "dtype: missing or not known");
    }
    t.dtype = dtypes[d].dtype;
    t.dtype_name = dtypes[d].name;

    size_t elements = 0, bytes;
    enum mb_status st = read_shape(from, json_object_get(entry, "shape"), &t, &elements, err);
    if (st != MB_OK) {
        return st;
    }
    if (!mb_checked_mul(elements, dtypes[d].bytes, &bytes)) {
        return bad_tensor(err, from, &t, "shape: the product is too large");
    }
    st = read_extent(from, json_object_get(entry, "data_offsets"), bytes, &t, err);
    if (st == MB_OK) {
        *ret = t;
    }
    return st;
}

static struct mb_safetensor *new_tensor(struct mb_safetensors *s)
{
    if (s->n_tensors == s->cap) {
        size_t cap = s->cap == 0 ? 64 : s->cap * 2; /* bounded by MB_SAFETENSORS_MAX */
        struct mb_safetensor *grown = realloc(s->tensors, cap * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        s->tensors = grown;
        s->cap = cap;
    }
    return &s->tensors[s->n_tensors++];
}

static int by_data(const void *a, const void *b)
{
    const struct mb_safetensor *x = a, *y = b;
    if (x->data != y->data) {
        return x->data < y->data ? -1 : 1;
    }
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty ones first */
}

/* Tensors n_before.. are those of this file: they must tile its data. */
static enum mb_status check_tiling(struct mb_safetensors *s, size_t n_before,
                                   const struct source *from, struct mb_error *err)
{
    size_t n = s->n_tensors - n_before;
    struct mb_safetensor *mine = n > 0 ? s->tensors + n_before : NULL;
    if (n > 0) {
        qsort(mine, n, sizeof *mine, by_data);
    }
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t begin = (uint64_t) (mine[i].data - from->data);
        if (begin != end) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "%s: tensor '%s': data_offsets: begins at %llu, %s %llu where the "
                           "tensor before it ends",
                           from->file, mine[i].name, (unsigned long long) begin,
                           begin < end ? "overlapping; it must be" : "leaving a hole from",
                           (unsigned long long) end);
        }
        end = begin + mine[i].bytes;
    }
    if (end != from->bytes) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: %llu bytes of data, the tensors end at %llu",
                       from->file, (unsigned long long) from->bytes, (unsigned long long) end);
    }
    return MB_OK;
}

static enum mb_status read_tensors(struct mb_safetensors *s, const struct source *from,
                                   json_t *header, struct mb_error *err)
{
    size_t n_before = s->n_tensors;
    const char *name;
    json_t *entry;
    json_object_foreach (header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            continue;
        }
        if (s->n_tensors == MB_SAFETENSORS_MAX) {
            return mb_fail(err, MB_E_LIMIT, 0, "%s: more than %d tensors", from->file,
                           MB_SAFETENSORS_MAX);
        }
        struct mb_safetensor t, *place;
        enum mb_status st = read_tensor(from, name, entry, &t, err);
        if (st != MB_OK) {
            return st;
        }
        place = new_tensor(s);
        if (!place) {
            return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory for its tensors", from->file);
        }
        *place = t;
    }
    return check_tiling(s, n_before, from, err);
}

static enum mb_status read_file(struct mb_safetensors *s, const void *at, size_t n,
                                const char *file, uint32_t index, struct mb_error *err)
{
    struct mb_cursor c = mb_cursor_of(at, n);
    uint64_t header_bytes = mb_cursor_u64(&c);
    if (c.failed) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: %zu bytes are too few for a header", file, n);
    }
    if (header_bytes > c.left) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "%s: header length: %llu bytes, the file has %zu more", file,
                       (unsigned long long) header_bytes, c.left);
    }
    if (header_bytes > MB_SAFETENSORS_HEADER_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "%s: header length: %llu is more than %u", file,
                       (unsigned long long) header_bytes, MB_SAFETENSORS_HEADER_MAX);
    }
    const uint8_t *header_at = mb_cursor_take(&c, (size_t) header_bytes);
    struct source from = { .file = file, .data = c.at, .bytes = c.left, .index = index };
    json_t *header;
    enum mb_status st = mb_json_parse(header_at, (size_t) header_bytes, file, &header, err);
    if (st != MB_OK) {
        return st;
    }
    st = read_tensors(s, &from, header, err);
    json_decref(header);
    return st;
}

static int by_name(const void *a, const void *b)
{
    const struct mb_safetensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* All files are read: order the tensors by name. */
static enum mb_status complete(struct mb_safetensors *s, struct mb_error *err)
{
    if (s->n_tensors > 0) {
        qsort(s->tensors, s->n_tensors, sizeof *s->tensors, by_name);
    }
    for (size_t i = 1; i < s->n_tensors; i++) {
        if (strcmp(s->tensors[i - 1].name, s->tensors[i].name) == 0) {
            return mb_fail(err, MB_E_FORMAT, 0, "tensor '%s' is in two shards",
                           s->tensors[i].name);
        }
    }
    return MB_OK;
}

static enum mb_status join(char ret[PATH_MAX], const char *dir, const char *file,
                           struct mb_error *err)
{
    int n = snprintf(ret, PATH_MAX, "%s/%s", dir, file);
    if (n < 0 || n >= PATH_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "the path is too long: '%.200s'", dir);
    }
    return MB_OK;
}

static enum mb_status read_shard(struct mb_safetensors *s, const char *dir, size_t i,
                                 struct mb_error *err)
{
    char path[PATH_MAX];
    struct shard *shard = &s->shards[i];
    enum mb_status st = join(path, dir, shard->name, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_file_map(path, &shard->map, err);
    if (st != MB_OK) {
        return st;
    }
    return read_file(s, shard->map.at, shard->map.n, shard->name, (uint32_t) i, err);
}

/* The place of the shard of that name, added when new. Tensors of one shard mostly follow one
 * another, so that the search begins at the last one added. */
static enum mb_status add_shard(struct mb_safetensors *s, const char *name,
                                struct mb_error *err)
{
    if (!is_plain_name(name, FILE_NAME_MAX) || strchr(name, '/') || name[0] == '.') {
        return mb_fail(err, MB_E_FORMAT, 0,
                       INDEX_FILE
                       ": weight_map: a shard must be a plain file name in the same folder");
    }
    for (size_t i = s->n_shards; i > 0; i--) {
        if (strcmp(s->shards[i - 1].name, name) == 0) {
            return MB_OK;
        }
    }
    if (s->n_shards == MB_SAFETENSORS_FILES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, INDEX_FILE ": weight_map: more than %d shards",
                       MB_SAFETENSORS_FILES_MAX);
    }
    struct shard *grown = realloc(s->shards, (s->n_shards + 1) * sizeof *grown);
    if (!grown) {
        return mb_fail(err, MB_E_NOMEM, 0, INDEX_FILE ": no memory for its shards");
    }
    s->shards = grown;
    s->shards[s->n_shards] = (struct shard) { 0 };
    (void) snprintf(s->shards[s->n_shards].name, FILE_NAME_MAX, "%s", name);
    s->n_shards++;
    return MB_OK;
}

/* Every tensor of the index must be in the shard that the index says. */
static enum mb_status check_index(const struct mb_safetensors *s, json_t *weight_map,
                                  struct mb_error *err)
{
    const char *name;
    json_t *file;
    json_object_foreach (weight_map, name, file) {
        const struct mb_safetensor *t = mb_safetensors_find(s, name);
        if (!t || strcmp(s->shards[t->file].name, json_string_value(file)) != 0) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           INDEX_FILE ": weight_map: tensor '%.127s' is not in '%.127s'",
                           is_plain_name(name, MB_SAFETENSORS_NAME_MAX) ? name : "?",
                           json_string_value(file));
        }
    }
    return MB_OK;
}

static enum mb_status read_index(struct mb_safetensors *s, const char *dir, json_t *index,
                                 struct mb_error *err)
{
    json_t *weight_map = json_object_get(index, "weight_map");
    if (json_object_size(weight_map) == 0 ||
        json_object_size(weight_map) > MB_SAFETENSORS_MAX) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       INDEX_FILE ": weight_map: not an object of 1..%d tensors",
                       MB_SAFETENSORS_MAX);
    }
    const char *name;
    json_t *file;
    json_object_foreach (weight_map, name, file) {
        enum mb_status st =
            add_shard(s, json_is_string(file) ? json_string_value(file) : "", err);
        if (st != MB_OK) {
            return st;
        }
    }
    for (size_t i = 0; i < s->n_shards; i++) {
        enum mb_status st = read_shard(s, dir, i, err);
        if (st != MB_OK) {
            return st;
        }
    }
    enum mb_status st = complete(s, err);
    return st == MB_OK ? check_index(s, weight_map, err) : st;
}

static enum mb_status open_sharded(struct mb_safetensors *s, const char *dir,
                                   struct mb_error *err)
{
    char path[PATH_MAX];
    json_t *index;
    enum mb_status st = join(path, dir, INDEX_FILE, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_json_load(path, &index, err);
    if (st == MB_E_NOTFOUND) {
        return mb_fail(err, st, 0, "'%s' has neither " SINGLE_FILE " nor " INDEX_FILE, dir);
    }
    if (st != MB_OK) {
        return st;
    }
    st = read_index(s, dir, index, err);
    json_decref(index);
    return st;
}

/* The one file of its name, in memory or yet to be mapped. */
static enum mb_status begin_single(struct mb_safetensors *s, const char *file,
                                   struct mb_error *err)
{
    s->shards = calloc(1, sizeof *s->shards);
    if (!s->shards) {
        return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", file);
    }
    (void) snprintf(s->shards[0].name, sizeof s->shards[0].name, "%s", file);
    s->n_shards = 1;
    return MB_OK;
}

static enum mb_status open_single(struct mb_safetensors *s, const char *dir,
                                  struct mb_error *err)
{
    enum mb_status st = begin_single(s, SINGLE_FILE, err);
    if (st == MB_OK) {
        st = read_shard(s, dir, 0, err);
    }
    return st == MB_OK ? complete(s, err) : st;
}

enum mb_status mb_safetensors_open(const char *dir, struct mb_safetensors **ret,
                                   struct mb_error *err)
{
    struct mb_safetensors *s = calloc(1, sizeof *s);
    if (!s) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the tensors of '%s'", dir);
    }
    enum mb_status st = open_single(s, dir, err);
    if (st == MB_E_NOTFOUND) {
        free(s->shards);
        *s = (struct mb_safetensors) { 0 };
        st = open_sharded(s, dir, err);
    }
    if (st != MB_OK) {
        mb_safetensors_free(s);
        return st;
    }
    *ret = s;
    return MB_OK;
}

enum mb_status mb_safetensors_of_memory(const void *at, size_t n, const char *file,
                                        struct mb_safetensors **ret, struct mb_error *err)
{
    struct mb_safetensors *s = calloc(1, sizeof *s);
    if (!s) {
        return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", file);
    }
    enum mb_status st = begin_single(s, file, err);
    if (st == MB_OK) {
        st = read_file(s, at, n, file, 0, err);
    }
    if (st == MB_OK) {
        st = complete(s, err);
    }
    if (st != MB_OK) {
        mb_safetensors_free(s);
        return st;
    }
    *ret = s;
    return MB_OK;
}

void mb_safetensors_free(struct mb_safetensors *s)
{
    if (!s) {
        return;
    }
    for (size_t i = 0; i < s->n_shards; i++) {
        mb_file_unmap(&s->shards[i].map);
    }
    free(s->shards);
    free(s->tensors);
    free(s);
}

size_t mb_safetensors_count(const struct mb_safetensors *s)
{
    return s->n_tensors;
}

const struct mb_safetensor *mb_safetensors_at(const struct mb_safetensors *s, size_t i)
{
    return i < s->n_tensors ? &s->tensors[i] : NULL;
}

const struct mb_safetensor *mb_safetensors_find(const struct mb_safetensors *s,
                                                const char *name)
{
    size_t lo = 0, hi = s->n_tensors;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, s->tensors[mid].name);
        if (order == 0) {
            return &s->tensors[mid];
        }
        if (order < 0) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return NULL;
}
