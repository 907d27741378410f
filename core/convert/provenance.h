/* Where a checkpoint comes from and how it was made, as lines "key: value" for people and
 * programs: the name of the source folder or file, a checksum of each file that was read, every option,
 * the program's version. Nothing in it differs from run to run: no date, no path.
 *
 * Threads: pure. */
#ifndef MB_CORE_PROVENANCE_H
#define MB_CORE_PROVENANCE_H

#include "core/base/bytes.h"
#include "core/convert/convert.h"

/* Appends to ret. Reads the source's files once, whole. Errors: MB_E_IO, MB_E_NOMEM. */
enum mb_status mb_provenance(const char *dir, const struct mb_convert_options *o,
                             uint64_t n_tokens, struct mb_bytes *ret, struct mb_error *err);

#endif
