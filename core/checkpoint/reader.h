/* Reading an .mbool checkpoint (FORMAT.md): map it, check its structure, hand out views.
 *
 * Opening reads the header and the section table, not the weights: a 7 GB file opens in
 * microseconds. Nothing in the file is trusted: every count has a cap, every extent is checked
 * against the real size, every size against the one that the shape gives.
 *
 * Life:    _open/_free. Threads: immutable after _open. */
#ifndef MB_CORE_READER_H
#define MB_CORE_READER_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/progress.h"
#include "core/model/shape.h"
#include "core/tensor/bool_matrix.h"
#include "proto/status.h"

struct mb_checkpoint;

enum mb_status mb_checkpoint_open(const char *path, struct mb_checkpoint **ret,
                                  struct mb_error *err);
/* The same of a descriptor, which stays the caller's; name is for messages. */
enum mb_status mb_checkpoint_open_fd(int fd, const char *name, struct mb_checkpoint **ret,
                                     struct mb_error *err);
/* The same over bytes in memory that outlive the checkpoint (64-byte aligned): for tests,
 * fuzzing, and sealed shared memory. */
enum mb_status mb_checkpoint_of_memory(const void *at, size_t n, struct mb_checkpoint **ret,
                                       struct mb_error *err);
void mb_checkpoint_free(struct mb_checkpoint *c); /* NULL is allowed */

const struct mb_shape *mb_checkpoint_shape(const struct mb_checkpoint *c);
uint64_t mb_checkpoint_bytes(const struct mb_checkpoint *c);  /* size of the file */
uint64_t mb_checkpoint_digest(const struct mb_checkpoint *c); /* of the section table, which
                                                                holds every checksum */

/* The whole file, mb_checkpoint_bytes long, 64-byte aligned. */
const void *mb_checkpoint_memory(const struct mb_checkpoint *c);

/* What a section holds. */
enum mb_section_kind {
    MB_SECTION_BYTES = 1, /* opaque: "tokenizer", "chat_template", "provenance" */
    MB_SECTION_F64,       /* vector: "rope.inv_freq" */
    MB_SECTION_F32,       /* vector: norms */
    MB_SECTION_F16,       /* vector or row-major matrix: input scales, float16 embedding */
    MB_SECTION_BOOL,      /* Boolean matrix */
    MB_SECTION_KINDS
};

struct mb_section {
    const char *name; /* terminated, borrowed */
    enum mb_section_kind kind;
    uint64_t offset, bytes, checksum;
    uint32_t n_rows, n_cols;      /* of vectors: 1 x n; of bytes: 0 x 0 */
    struct mb_bool_shape boolean; /* for MB_SECTION_BOOL */
    float scale_all;              /* for MB_SECTION_BOOL */
};

size_t mb_checkpoint_sections(const struct mb_checkpoint *c);
/* How many entries fit before the first section: what a writer must keep free to place sections
 * where they are here. */
size_t mb_checkpoint_sections_max(const struct mb_checkpoint *c);
const struct mb_section *mb_checkpoint_section(const struct mb_checkpoint *c, size_t i);
/* NULL when there is none of that name. O(log n). */
const struct mb_section *mb_checkpoint_find(const struct mb_checkpoint *c, const char *name);
const void *mb_checkpoint_data(const struct mb_checkpoint *c, const struct mb_section *s);
/* For MB_SECTION_BOOL. */
struct mb_bool_matrix mb_checkpoint_bool(const struct mb_checkpoint *c,
                                         const struct mb_section *s);

/* The tokenizer of the file, owned by the caller. Errors: MB_E_NOTFOUND when there is none (a file
 * may be computed with all the same); MB_E_FORMAT, also when it has ids that the model has not. */
struct mb_tokenizer;
enum mb_status mb_checkpoint_tokenizer(const struct mb_checkpoint *c, struct mb_tokenizer **ret,
                                       struct mb_error *err);

/* Reads everything: checksums of all sections, then mb_bool_check of every Boolean matrix,
 * finite floats, and a tokenizer that builds. Errors: MB_E_FORMAT naming the section. */
enum mb_status mb_checkpoint_verify(const struct mb_checkpoint *c, const struct mb_progress *p,
                                    struct mb_error *err);

#endif
