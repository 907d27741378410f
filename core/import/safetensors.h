/* The tensors of a folder: model.safetensors, or the shards that model.safetensors.index.json
 * lists. Files are mapped; a tensor is a view into one of them, at any alignment.
 *
 * A file is: u64 bytes of the header, the header (JSON: name -> dtype, shape, data_offsets),
 * the data. Nothing in it is trusted: every extent lies in the file, is as long as the shape
 * says, and begins where the one before it ends, as the format demands (so none overlap).
 *
 * Life:    _open/_free. Threads: immutable after _open. */
#ifndef MB_CORE_SAFETENSORS_H
#define MB_CORE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

#define MB_SAFETENSORS_HEADER_MAX (16u << 20) /* about 130 bytes a tensor; 9 tensors a layer */
#define MB_SAFETENSORS_MAX        65536       /* tensors of a folder */
#define MB_SAFETENSORS_FILES_MAX  1024
#define MB_SAFETENSORS_NAME_MAX   128 /* with its terminator */
#define MB_SAFETENSORS_DIMS_MAX   8

enum mb_safetensor_dtype {
    MB_SAFETENSOR_F32,
    MB_SAFETENSOR_F16,
    MB_SAFETENSOR_BF16,
    MB_SAFETENSOR_OTHER, /* known by size only; dtype_name says which */
};

struct mb_safetensor {
    char name[MB_SAFETENSORS_NAME_MAX]; /* printable ASCII */
    enum mb_safetensor_dtype dtype;
    const char *dtype_name; /* "BF16", as in the file */
    uint32_t n_dims;
    uint64_t dims[MB_SAFETENSORS_DIMS_MAX];
    const uint8_t *data;
    uint64_t bytes;
    uint32_t file; /* which shard it came from */
};

struct mb_safetensors;

/* Errors: MB_E_NOTFOUND when dir has neither file, or lacks a shard; MB_E_FORMAT naming the
 * file, tensor and field; MB_E_LIMIT; MB_E_NOMEM; those of mb_file_map. */
enum mb_status mb_safetensors_open(const char *dir, struct mb_safetensors **ret,
                                   struct mb_error *err);
/* The same of one file in memory that outlives the result; file names it in errors. */
enum mb_status mb_safetensors_of_memory(const void *at, size_t n, const char *file,
                                        struct mb_safetensors **ret, struct mb_error *err);
void mb_safetensors_free(struct mb_safetensors *s); /* NULL is allowed */

size_t mb_safetensors_count(const struct mb_safetensors *s);
/* In the order of their names. */
const struct mb_safetensor *mb_safetensors_at(const struct mb_safetensors *s, size_t i);
/* NULL when there is none of that name. O(log n). */
const struct mb_safetensor *mb_safetensors_find(const struct mb_safetensors *s,
                                                const char *name);

#endif
