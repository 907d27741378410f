/* What an unfinished conversion has finished, in a file beside its output: "<output>.part".
 *
 *     header   magic "MBPART1\n", u64 length of the key, the key
 *     records  u32 length of the name, u64 length of the data, the name, the data
 *
 * each followed by the u64 checksum of its bytes. The key is all that decides the bytes of the
 * output, as text; a file with another key is of no use and is replaced. Records are in the
 * order of the conversion. Each is synced before the next is begun, so that a crash costs at
 * most the one in hand: reading ends at the first that is torn or damaged, and writing goes on
 * there.
 *
 * Life:    open -> next and pass, or add ... -> keep or remove. One process at a time per file.
 * Threads: one at a time. */
#ifndef MB_CORE_PART_H
#define MB_CORE_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"
#include "proto/status.h"

struct mb_part;

/* Some of a record's data. */
struct mb_part_piece {
    const void *at;
    size_t n;
};

/* With anew, what an earlier conversion left is not used.
 * Errors: MB_E_UNAVAILABLE when another process has the file, MB_E_INVALID when it is no regular
 * file, MB_E_IO, MB_E_NOMEM. */
enum mb_status mb_part_open(const char *output, const struct mb_bytes *key, bool anew,
                            struct mb_part **ret, struct mb_error *err);

/* Records that were found. */
size_t mb_part_found(const struct mb_part *p);

/* The next record's data, if it has this name; valid until the next record is added, of any
 * alignment. Otherwise an empty piece with at NULL. */
struct mb_part_piece mb_part_next(const struct mb_part *p, const char *name);
/* That record is taken: what is asked for or added comes behind it. */
void mb_part_pass(struct mb_part *p);

/* Appends a record behind those that were taken; any others are dropped. The data is up to
 * MB_PART_PIECES_MAX pieces end to end. Errors: MB_E_IO, MB_E_NOMEM. */
#define MB_PART_PIECES_MAX 4
enum mb_status mb_part_add(struct mb_part *p, const char *name,
                           const struct mb_part_piece *pieces, size_t n_pieces,
                           struct mb_error *err);

/* Both end p, and allow NULL. keep leaves a file only if it has a record. */
void mb_part_keep(struct mb_part *p);
void mb_part_remove(struct mb_part *p);

#endif
