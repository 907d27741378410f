/* The daemon's clock. Core reads none; every timestamp of the server is one of these.
 *
 * Units:   nanoseconds of CLOCK_MONOTONIC; never 0, so that 0 can mean "not yet".
 * Threads: any. */
#ifndef MBD_CLOCK_H
#define MBD_CLOCK_H

#include <stdint.h>
#include <time.h>

#define MBD_SECOND_NS UINT64_C(1000000000)

static inline uint64_t mbd_now_ns(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t); /* can not fail for this clock on Linux */
    return (uint64_t) t.tv_sec * MBD_SECOND_NS + (uint64_t) t.tv_nsec + 1;
}

#endif
