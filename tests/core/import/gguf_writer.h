/* Writes GGUF files for tests: keys and tensors in the order of the calls. */
#ifndef MB_TESTS_GGUF_WRITER_H
#define MB_TESTS_GGUF_WRITER_H

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/import/gguf.h"
#include "tests/check_main.h"

enum { GGUF_ALIGNMENT = 32 };

/* Types of tensors as files number them. */
enum { GGUF_F32 = 0, GGUF_F16 = 1, GGUF_Q8_0 = 8, GGUF_Q4_K = 12, GGUF_BF16 = 30 };

struct gguf_writer {
    struct mb_bytes keys, tensors, data;
    uint64_t n_keys, n_tensors;
};

static inline void gguf_string(struct mb_bytes *b, const char *text)
{
    mb_bytes_put_u64(b, strlen(text));
    mb_bytes_put_text(b, text);
}

static inline void gguf_key(struct gguf_writer *w, const char *key, uint32_t type)
{
    gguf_string(&w->keys, key);
    mb_bytes_put_u32(&w->keys, type);
    w->n_keys++;
}

static inline void gguf_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    gguf_key(w, key, MB_GGUF_U32);
    mb_bytes_put_u32(&w->keys, v);
}

static inline void gguf_f32(struct gguf_writer *w, const char *key, float v)
{
    gguf_key(w, key, MB_GGUF_F32);
    mb_bytes_put_f32(&w->keys, v);
}

static inline void gguf_text(struct gguf_writer *w, const char *key, const char *v)
{
    gguf_key(w, key, MB_GGUF_TEXT);
    gguf_string(&w->keys, v);
}

/* The caller puts the n items into w->keys. */
static inline void gguf_list(struct gguf_writer *w, const char *key, uint32_t item_type,
                             uint64_t n)
{
    gguf_key(w, key, MB_GGUF_LIST);
    mb_bytes_put_u32(&w->keys, item_type);
    mb_bytes_put_u64(&w->keys, n);
}

/* rows 0: a vector of cols. */
static inline void gguf_tensor(struct gguf_writer *w, const char *name, uint32_t type,
                               uint64_t rows, uint64_t cols, const void *at, size_t n)
{
    gguf_string(&w->tensors, name);
    mb_bytes_put_u32(&w->tensors, rows ? 2 : 1);
    mb_bytes_put_u64(&w->tensors, cols);
    if (rows) {
        mb_bytes_put_u64(&w->tensors, rows);
    }
    mb_bytes_put_u32(&w->tensors, type);
    mb_bytes_put_u64(&w->tensors, w->data.len);
    mb_bytes_put(&w->data, at, n);
    while (w->data.len % GGUF_ALIGNMENT) {
        mb_bytes_put_u8(&w->data, 0);
    }
    w->n_tensors++;
}

/* The file, in a block of exactly its size; empties w. *ret_data, when not NULL, is where the
 * data begins. */
static inline uint8_t *gguf_finish_at(struct gguf_writer *w, size_t *ret_n, size_t *ret_data)
{
    struct mb_bytes b = { 0 };
    mb_bytes_put_text(&b, "GGUF");
    mb_bytes_put_u32(&b, 3);
    mb_bytes_put_u64(&b, w->n_tensors);
    mb_bytes_put_u64(&b, w->n_keys);
    mb_bytes_put(&b, w->keys.at, w->keys.len);
    mb_bytes_put(&b, w->tensors.at, w->tensors.len);
    while (w->n_tensors && b.len % GGUF_ALIGNMENT) {
        mb_bytes_put_u8(&b, 0);
    }
    if (ret_data) {
        *ret_data = b.len;
    }
    mb_bytes_put(&b, w->data.at, w->data.len);
    ck_assert(!b.failed && !w->keys.failed && !w->tensors.failed && !w->data.failed);
    uint8_t *exact = malloc(b.len);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, b.at, b.len);
    *ret_n = b.len;
    mb_bytes_fini(&b);
    mb_bytes_fini(&w->keys);
    mb_bytes_fini(&w->tensors);
    mb_bytes_fini(&w->data);
    w->n_keys = w->n_tensors = 0;
    return exact;
}

static inline uint8_t *gguf_finish(struct gguf_writer *w, size_t *ret_n)
{
    return gguf_finish_at(w, ret_n, NULL);
}

#endif
