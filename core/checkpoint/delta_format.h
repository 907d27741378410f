/* The bytes of a delta, exactly as FORMAT.md describes them, and what its two ends share. Private to
 * the delta's files.
 *
 * Threads: values. */
#ifndef MB_CORE_DELTA_FORMAT_H
#define MB_CORE_DELTA_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "core/checkpoint/reader.h"

#define MB_DELTA_MAGIC   "\x89MBD\r\n\x1a\n" /* as that of checkpoints */
#define MB_DELTA_VERSION 1

struct mb_delta_header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t header_bytes; /* of this struct */
    uint64_t file_bytes;
    uint64_t base_digest, target_digest;
    uint64_t base_bytes, target_bytes;
    uint32_t piece_bytes;
    uint32_t n_pieces;
    uint64_t table_checksum; /* of the n_pieces entries that follow this header */
    uint64_t n_signs, n_flips, n_others;
    uint8_t reserved[152]; /* zero */
    uint64_t header_checksum;
};
static_assert(sizeof(struct mb_delta_header) == 256, "FORMAT.md: delta header");
static_assert(offsetof(struct mb_delta_header, piece_bytes) == 56, "FORMAT.md: delta header");
static_assert(offsetof(struct mb_delta_header, reserved) == 96, "FORMAT.md: delta header");

struct mb_delta_entry {
    uint64_t index;    /* of the piece: it is bytes [index * piece_bytes, ...) of both files */
    uint64_t offset;   /* of its compressed bytes in the delta */
    uint32_t bytes;    /* compressed */
    uint32_t reserved; /* zero */
    uint64_t checksum; /* of the compressed bytes */
};
static_assert(sizeof(struct mb_delta_entry) == 32, "FORMAT.md: delta entry");

/* Are both versions of one model: the same shape, tokenizer, chat template (S4) and layout?
 * Errors: MB_E_INVALID, naming what differs. */
enum mb_status mb_delta_check_pair(const struct mb_checkpoint *base,
                                   const struct mb_checkpoint *target, struct mb_error *err);

#endif
