/* For those who make a checkpoint's memory themselves. */
#ifndef MB_CORE_READER_MAP_H
#define MB_CORE_READER_MAP_H

#include "core/base/file.h"
#include "core/checkpoint/reader.h"

/* The first n bytes of a mapping as a checkpoint; on success the checkpoint owns the mapping.
 * Errors: those of mb_checkpoint_open. */
enum mb_status mb_checkpoint_of_map(struct mb_file_map map, size_t n,
                                    struct mb_checkpoint **ret, struct mb_error *err);

#endif
