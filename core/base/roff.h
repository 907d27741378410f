/* Text for manual pages (the man macros of roff), so that what programs say of themselves is
 * taken as it is.
 *
 * Threads: one at a time per object. */
#ifndef MB_CORE_ROFF_H
#define MB_CORE_ROFF_H

#include "core/base/bytes.h"

/* Appends text so that it shows as it stands: backslashes, dashes, and lines that begin like a
 * request are escaped. It must begin a line, or be inside one. */
void mb_roff_put(struct mb_bytes *b, const char *text);

/* Appends paragraphs: an empty line parts two of them, and lines that begin with a space are
 * shown as they stand, unfilled. Ends with a line feed. */
void mb_roff_put_paragraphs(struct mb_bytes *b, const char *text);

/* The page's title line and its section NAME. summary begins in lower case. */
void mb_roff_begin(struct mb_bytes *b, const char *name, int section, const char *version,
                   const char *summary);

#endif
