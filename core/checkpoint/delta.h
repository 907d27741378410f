/* Flip deltas: what a fine-tuned checkpoint changes in the one it comes from.
 *
 * Both files have the same sections at the same places, but for the provenance, which stands
 * last; so a delta is the exclusive or of their bytes, compressed, and turns either into the
 * other. Written bits are flips: most of a delta is zeros. It names both ends by their
 * digests, and fits nothing else.
 *
 *     header   256 bytes: magic, version, both digests and sizes, how many weights flipped
 *     table    an entry for each piece of MB_DELTA_PIECE bytes in which the files differ
 *     data     each piece's exclusive or, zstd
 *
 * All numbers are little endian; FORMAT.md has the bytes.
 *
 * Life:    _open/_free. Threads: immutable after _open. */
#ifndef MB_CORE_DELTA_H
#define MB_CORE_DELTA_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/progress.h"
#include "core/checkpoint/reader.h"
#include "proto/status.h"

#define MB_DELTA_PIECE ((size_t) 1 << 20)

struct mb_delta;

struct mb_delta_info {
    uint64_t base_digest, target_digest;
    uint64_t base_bytes, target_bytes;
    uint64_t bytes;    /* of the delta itself */
    uint64_t n_signs;  /* of all Boolean matrices */
    uint64_t n_flips;  /* of these, that differ */
    uint64_t n_others; /* bytes of anything else that differ, provenance left out */
    uint32_t n_pieces;
};

/* Writes what makes target of base, aside, synced and renamed. The same two give the same bytes.
 * Errors: MB_E_INVALID when the two differ in shape, tokenizer, chat template (S4) or layout,
 * naming what; MB_E_IO, MB_E_NOMEM, MB_E_CANCELLED. */
enum mb_status mb_delta_make(const struct mb_checkpoint *base,
                             const struct mb_checkpoint *target, const char *path,
                             const struct mb_progress *p, struct mb_error *err);

/* Checks structure and checksums of header and table. Errors: MB_E_FORMAT, naming the field. */
enum mb_status mb_delta_open(const char *path, struct mb_delta **ret, struct mb_error *err);
/* The same over bytes that outlive the delta. */
enum mb_status mb_delta_of_memory(const void *at, size_t n, struct mb_delta **ret,
                                  struct mb_error *err);
void mb_delta_free(struct mb_delta *d); /* NULL is allowed */
const struct mb_delta_info *mb_delta_info(const struct mb_delta *d);

/* Writes the other end as a checkpoint file: the target when from is the base, the base when it
 * is the target. It is verified, every checksum, before it gets its name.
 * Errors: MB_E_INVALID when from is neither end; MB_E_FORMAT for a damaged piece; MB_E_IO. */
enum mb_status mb_delta_write(const struct mb_delta *d, const struct mb_checkpoint *from,
                              const char *path, const struct mb_progress *p,
                              struct mb_error *err);

/* Opens the other end without a file of its own: a private mapping of the file at path (one end)
 * with the differences applied. Only what is another version of the same model is opened (S4). It costs the memory of the pages that differ, whose size goes to
 * *ret_private_bytes (may be NULL); all others stay shared with every mapping of the file. Only
 * its digest is checked: whoever serves it calls mb_checkpoint_verify.
 * Errors: as above; MB_E_INVALID, too, when it is another model, naming what differs. */
enum mb_status mb_delta_map(const struct mb_delta *d, const char *path,
                            struct mb_checkpoint **ret, uint64_t *ret_private_bytes,
                            struct mb_error *err);
/* The same of a descriptor, which stays the caller's; name is for messages. */
enum mb_status mb_delta_map_fd(const struct mb_delta *d, int fd, const char *name,
                               struct mb_checkpoint **ret, uint64_t *ret_private_bytes,
                               struct mb_error *err);

#endif
