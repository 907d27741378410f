/* A GGUF file (llama.cpp's format, versions 2 and 3, little endian): keys with values, and
 * tensors. Values and tensors are views into the file's bytes, at any alignment.
 *
 *     u32 magic "GGUF", version; u64 n_tensors, n_keys
 *     n_keys of     text key, u32 type, value     (text: u64 length and bytes)
 *     n_tensors of  text name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset
 *     zeros up to a multiple of general.alignment, then the data that offsets count from
 *
 * Nothing in it is trusted: every text, list and tensor lies inside the file, keys and names are
 * unique, and no two tensors overlap. dims[0] is the length of a row, so that the order is the
 * reverse of safetensors'. Lists of lists, which no model has, are refused.
 *
 * Life:    _of_memory/_free; the bytes outlive it. Threads: immutable after _of_memory. */
#ifndef MB_CORE_GGUF_H
#define MB_CORE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"
#include "proto/status.h"

#define MB_GGUF_KEYS_MAX    4096u  /* real files have about 40 */
#define MB_GGUF_TENSORS_MAX 65536u /* 9 a layer and 3 */
#define MB_GGUF_NAME_MAX    128u   /* of a key or a tensor, with its terminator */
#define MB_GGUF_DIMS_MAX    4u
#define MB_GGUF_ITEMS_MAX   (1u << 24) /* of a list; Llama 3 has 280147 merges */

/* What a value is, as the file numbers it. */
enum mb_gguf_type {
    MB_GGUF_U8,
    MB_GGUF_I8,
    MB_GGUF_U16,
    MB_GGUF_I16,
    MB_GGUF_U32,
    MB_GGUF_I32,
    MB_GGUF_F32,
    MB_GGUF_BOOL,
    MB_GGUF_TEXT,
    MB_GGUF_LIST,
    MB_GGUF_U64,
    MB_GGUF_I64,
    MB_GGUF_F64,
    MB_GGUF_TYPES
};

struct mb_gguf_value {
    char key[MB_GGUF_NAME_MAX]; /* printable ASCII */
    enum mb_gguf_type type;
    enum mb_gguf_type item_type; /* of a list; never a list */
    size_t n;                    /* items of a list, else 1 */
    const uint8_t *at;           /* the items as in the file; of a text, its bytes */
    size_t bytes;
};

enum mb_gguf_dtype {
    MB_GGUF_TENSOR_F32,
    MB_GGUF_TENSOR_F16,
    MB_GGUF_TENSOR_BF16,
    MB_GGUF_TENSOR_Q8_0
};

/* Q8_0: blocks of 32 weights along a row, each a float16 scale and 32 int8. */
#define MB_GGUF_Q8_0_WEIGHTS 32u
#define MB_GGUF_Q8_0_BYTES   34u

struct mb_gguf_tensor {
    char name[MB_GGUF_NAME_MAX]; /* printable ASCII */
    enum mb_gguf_dtype dtype;
    uint32_t n_dims;                 /* 1.. */
    uint64_t dims[MB_GGUF_DIMS_MAX]; /* each at least 1; those from n_dims on are 1 */
    const uint8_t *data;
    size_t bytes;
};

struct mb_gguf;

bool mb_gguf_is(const uint8_t *at, size_t n); /* does it begin as a GGUF file does? */

/* Errors: MB_E_FORMAT naming the key or tensor and what is wrong with it; MB_E_LIMIT;
 * MB_E_UNSUPPORTED for a version, a byte order, a type of tensor by name ("tensor 'x': type Q4_K
 * is not supported; supported: F32, F16, BF16, Q8_0"); MB_E_NOMEM. */
enum mb_status mb_gguf_of_memory(const void *at, size_t n, struct mb_gguf **ret,
                                 struct mb_error *err);
void mb_gguf_free(struct mb_gguf *g); /* NULL is allowed */

/* NULL when there is none. O(log n). */
const struct mb_gguf_value *mb_gguf_find(const struct mb_gguf *g, const char *key);

size_t mb_gguf_tensors(const struct mb_gguf *g);
/* In the order of their names. */
const struct mb_gguf_tensor *mb_gguf_tensor_at(const struct mb_gguf *g, size_t i);
const struct mb_gguf_tensor *mb_gguf_tensor(const struct mb_gguf *g, const char *name);

/* The value of a key. Absent leaves *ret as it is when optional, else MB_E_FORMAT, as for a
 * value of another type or outside min..max. Any type of integer counts as one. */
enum mb_gguf_need { MB_GGUF_OPTIONAL, MB_GGUF_REQUIRED };
enum mb_status mb_gguf_u32(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                           uint32_t min, uint32_t max, uint32_t *ret, struct mb_error *err);
enum mb_status mb_gguf_f64(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                           double min, double max, double *ret, struct mb_error *err);
enum mb_status mb_gguf_bool(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                            bool *ret, struct mb_error *err);
/* *ret is of type MB_GGUF_TEXT: not terminated. */
enum mb_status mb_gguf_text(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                            const struct mb_gguf_value **ret, struct mb_error *err);
enum mb_status mb_gguf_list(const struct mb_gguf *g, const char *key, enum mb_gguf_need need,
                            enum mb_gguf_type item_type, const struct mb_gguf_value **ret,
                            struct mb_error *err);

/* The next item of a list of texts, of which c began at (at, bytes). */
const uint8_t *mb_gguf_next_text(struct mb_cursor *c, size_t *ret_n);
/* Is the text these characters? */
bool mb_gguf_text_is(const struct mb_gguf_value *v, const char *text);

#endif
