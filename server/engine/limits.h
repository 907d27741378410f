/* How much of the machine this process may use: all of it, or less when its control group (a
 * container, a service) says so. Caches and workers are sized by it.
 *
 * Both versions of control groups are read: version 2, and the controllers of version 1. A limit
 * of a group holds for those below it, so every group above this process counts as far as it can
 * be seen; what can not be read is no limit.
 *
 * Threads: any. */
#ifndef MBD_LIMITS_H
#define MBD_LIMITS_H

#include <stdint.h>

/* Bytes: the least of physical memory and memory.max (memory.limit_in_bytes). */
uint64_t mbd_memory_limit(void);

/* Processors: 1 or more, n_allowed (those that this process may run on) or less when its CPU quota
 * is less. A quota is rounded to the nearest: a group that used it up stands still for the rest of
 * the period, and workers that wait for each other use it too. Measured with 1000 tokens of a model
 * of 0.3 billion weights, 4.2 s with one worker: two take 3.1 s with a quota of 1.5, and 5.3 s with
 * one of 1.1. */
uint32_t mbd_processor_limit(uint32_t n_allowed);

/* The parts that control groups say, for tests: self is what /proc/self/cgroup names, root where
 * the hierarchies are mounted. UINT64_MAX, or thousandths of a processor, UINT64_MAX as well, when
 * there is no limit. */
uint64_t mbd_cgroup_memory_limit(const char *self, const char *root);
uint64_t mbd_cgroup_millicpus(const char *self, const char *root);
uint32_t mbd_processors_for(uint64_t millicpus, uint32_t n_allowed);

#endif
