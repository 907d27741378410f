/* A mboold of one's own: it serves one file on a free port of this machine, and ends with the
 * command that started it. */
#ifndef MBC_OWN_DAEMON_H
#define MBC_OWN_DAEMON_H

#include <sys/types.h>

#include "clients/http/host.h"
#include "proto/status.h"

struct mbc_own_daemon {
    pid_t pid;     /* 0: none */
    int log;       /* what it wrote to standard error: a file without a name; -1: none */
    char host[64]; /* "127.0.0.1:40123" */
};

/* Starts program (NULL: mboold beside this program, in the build folder, or in PATH) with file
 * as the model name, and waits until it listens.
 * Errors: MB_E_IO with the last line that it logged; MB_E_CANCELLED after Ctrl-C. */
enum mb_status mbc_own_daemon_start(const char *program, const char *name, const char *file,
                                    struct mbc_own_daemon *ret, struct mb_error *err);

/* Asks it to end and waits; one that does not within some seconds is killed. A zeroed struct, or
 * one that was stopped, is fine. */
void mbc_own_daemon_stop(struct mbc_own_daemon *d);

#endif
