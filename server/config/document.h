/* The table of options as documents for those who package mboold: manual pages and completions
 * for shells.
 *
 * Threads: pure. */
#ifndef MBD_DOCUMENT_H
#define MBD_DOCUMENT_H

#include "core/base/bytes.h"

/* "man": mboold(8); "conf": mboold.conf(5); "bash", "zsh", "fish": completions. Returns what
 * appends the document, or NULL when there is none of that name. */
typedef void mbd_document_fn(struct mb_bytes *ret);
mbd_document_fn *mbd_document_find(const char *name);

#endif
