/* The bytes of a model's checkpoint, which all its epochs share.
 *
 * Either the file itself, mapped; or a copy of it in memory that has no name and is sealed: nobody
 * can write to it, cut it short or let it grow, so that nothing that becomes of the file can touch
 * what is served (a file that is cut short while it is mapped ends its readers with SIGBUS). The
 * copy lies in huge pages where the system allows shared memory to have them.
 *
 * Every mapping is made from the descriptor, also when another file has taken the name by now. It
 * can be handed to a child process, which then maps the same pages; it is never named to anyone.
 *
 * Life:    _open/_close. Threads: immutable after _open. */
#ifndef MBD_WEIGHTS_H
#define MBD_WEIGHTS_H

#include <stdbool.h>

#include "core/checkpoint/reader.h"
#include "server/config/options.h"

struct mbd_weights {
    int fd;     /* to read by; closed on exec */
    char *file; /* it came from */
    bool sealed;
};

/* Errors: those of opening and reading file; MB_E_NOMEM when the copy does not fit the memory. */
enum mb_status mbd_weights_open(const char *file, enum mbd_weights_kind kind,
                                struct mbd_weights *ret, struct mb_error *err);
void mbd_weights_close(struct mbd_weights *w); /* what failed to be opened is allowed */

/* Maps them as a checkpoint: structure checked, bytes not read. */
enum mb_status mbd_weights_map(const struct mbd_weights *w, struct mb_checkpoint **ret,
                               struct mb_error *err);

#endif
