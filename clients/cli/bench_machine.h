/* What this machine can do at most, measured: the rates that floors are computed from.
 *
 * What reading gives depends on who else is on the machine: on a shared one it was seen to
 * halve and double within a minute. It can therefore be measured again, close to what is
 * compared with it.
 *
 * Life:    _open/_close. Threads: one caller; the pool's threads inside. */
#ifndef MBC_BENCH_MACHINE_H
#define MBC_BENCH_MACHINE_H

#include "core/base/parallel.h"
#include "core/kernels/peak.h"
#include "proto/status.h"

/* What can be a step's limit. The order is that of reports. */
enum mbc_unit { MBC_UNIT_READ, MBC_UNIT_POPCOUNT, MBC_UNIT_U8S8, MBC_UNIT_FMA, MBC_UNITS };

struct mbc_machine {
    size_t n_threads;
    /* Of one thread while the others rest, and of all together, per second: bytes read from
     * memory, bits counted, products of bytes added, float32 multiply-adds. */
    double one[MBC_UNITS], all[MBC_UNITS];

    struct mb_peaks peaks;
    struct mb_pool *pool; /* borrowed */
    uint64_t *memory;     /* MBC_READ_BYTES of it */
};

/* "memory", "popcount", "u8s8", "fma" */
const char *mbc_unit_name(enum mbc_unit u);

#define MBC_READ_BYTES ((size_t) 1 << 28) /* well beyond the caches */

/* Measures all, by the loops of core/kernels/peak.h that cpu allows; the best of several turns,
 * as whatever disturbs only ever slows. Takes about a second. Errors: MB_E_NOMEM. */
enum mb_status mbc_machine_open(struct mbc_machine *m, struct mb_pool *pool, mb_cpu_flags cpu,
                                struct mb_error *err);
void mbc_machine_close(struct mbc_machine *m); /* a zeroed one is allowed */

/* Bytes a second that all threads together read now. Takes some 50 milliseconds. */
double mbc_machine_read(const struct mbc_machine *m);

#endif
