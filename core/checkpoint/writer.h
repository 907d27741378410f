/* Writing an .mbool checkpoint: sections are added one by one (so that memory is one tensor,
 * not the model), then committed: header and table last, synced, renamed.
 *
 * Life:    open -> add ... -> commit or abort. Threads: one thread at a time. */
#ifndef MB_CORE_WRITER_H
#define MB_CORE_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "core/model/shape.h"
#include "core/tensor/bool_matrix.h"
#include "proto/status.h"

struct mb_checkpoint_writer;

/* sections_max bounds how many sections will be added: their table's place is kept at
 * the front. What is added must be a section that FORMAT.md knows, of the size that shape asks
 * for; else MB_E_INVALID naming the field. */
enum mb_status mb_checkpoint_writer_open(const char *path, const struct mb_shape *shape,
                                         size_t sections_max, struct mb_checkpoint_writer **ret,
                                         struct mb_error *err);

/* Names are unique, of 1..55 characters [a-z0-9._]. */
enum mb_status mb_checkpoint_add_bytes(struct mb_checkpoint_writer *w, const char *name,
                                       const void *at, size_t n, struct mb_error *err);
enum mb_status mb_checkpoint_add_f64(struct mb_checkpoint_writer *w, const char *name,
                                     const double *at, size_t n, struct mb_error *err);
enum mb_status mb_checkpoint_add_f32(struct mb_checkpoint_writer *w, const char *name,
                                     const float *at, size_t n, struct mb_error *err);
/* Row-major float16, n_rows x n_cols; a vector is one row. */
enum mb_status mb_checkpoint_add_f16(struct mb_checkpoint_writer *w, const char *name,
                                     const uint16_t *at, uint32_t n_rows, uint32_t n_cols,
                                     struct mb_error *err);
enum mb_status mb_checkpoint_add_bool(struct mb_checkpoint_writer *w, const char *name,
                                      const struct mb_bool_matrix *m, struct mb_error *err);

/* Frees w, whatever the outcome. Errors: MB_E_INVALID when a section is missing, MB_E_IO. */
enum mb_status mb_checkpoint_writer_commit(struct mb_checkpoint_writer *w,
                                           struct mb_error *err);
void mb_checkpoint_writer_abort(struct mb_checkpoint_writer *w); /* NULL is allowed */

#endif
