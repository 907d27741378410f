/* How much memory this process may use: the machine's, or less when a control group (a
 * container) says so. Caches are sized by it.
 *
 * Threads: any. */
#ifndef MBD_MEMORY_LIMIT_H
#define MBD_MEMORY_LIMIT_H

#include <stdint.h>

/* Bytes: the least of physical memory and the memory.max of the process's cgroup (version 2)
 * and of each group above it. What can not be read is no limit. */
uint64_t mbd_memory_limit(void);

/* The cgroup part, for tests: self is what /proc/self/cgroup names, root where the hierarchy is
 * mounted. UINT64_MAX when there is no limit. */
uint64_t mbd_cgroup_memory_limit(const char *self, const char *root);

#endif
