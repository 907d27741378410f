/* How core tells of long work: it calls what it was given, and never prints.
 *
 * Threads: called from the thread that started the work, never from two at once. */
#ifndef MB_CORE_PROGRESS_H
#define MB_CORE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct mb_progress {
    /* what: "blocks.3.ffn_up"; done of total in units of work that take like time.
     * Returns false to ask the work to stop; it then ends with MB_E_CANCELLED. */
    bool (*report)(void *self, const char *what, uint64_t done, uint64_t total);
    void *self;
};

static inline bool mb_progress_report(const struct mb_progress *p, const char *what,
                                      uint64_t done, uint64_t total)
{
    return !p || !p->report || p->report(p->self, what, done, total);
}

#endif
