/* A child process that is spoken with by lines: its standard input is written, its standard
 * output is read; its standard error is ours. It holds no other descriptor of this process.
 *
 * Life:    _new starts it. _free may be called any time, from its callbacks too; a child that
 *          still runs is killed by it, and no callback comes any more.
 * Bound:   a line of MBD_PROCESS_LINE_MAX bytes; of a longer one the beginning is told.
 * Threads: the loop's own. */
#ifndef MBD_PROCESS_H
#define MBD_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

#include "server/loop/loop.h"

#define MBD_PROCESS_LINE_MAX ((size_t) 64 * 1024)

struct mbd_process;

struct mbd_process_calls {
    /* A line of its output, terminated, without the line feed. */
    void (*line)(void *arg, const char *text, size_t n);
    /* Once: it has ended, and all its output was told. Either its exit status, or the signal
     * that ended it, which is 0 when none did. */
    void (*end)(void *arg, int status, int signal);
    void *arg;
};

/* argv ends with NULL; argv[0] is its name, file what is run. It gets fd as its descriptor 3;
 * -1: it has none.
 * Errors: MB_E_IO with what the system says; MB_E_NOMEM. */
enum mb_status mbd_process_new(struct mbd_loop *l, const char *file, const char *const *argv,
                               int fd, const struct mbd_process_calls *calls,
                               struct mbd_process **ret, struct mb_error *err);
void mbd_process_free(struct mbd_process *p); /* NULL is allowed */

/* Copied, and written when the child reads. What it does not read before it ends is lost. */
enum mb_status mbd_process_send(struct mbd_process *p, const char *text, size_t n,
                                struct mb_error *err);
void mbd_process_signal(struct mbd_process *p, int signal);
pid_t mbd_process_pid(const struct mbd_process *p);

#endif
