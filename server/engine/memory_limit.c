#include "server/engine/memory_limit.h"

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The number in a memory.max file; "max", or no such file, is no limit. */
static uint64_t read_limit(const char *path)
{
    char text[32];
    FILE *f = fopen(path, "re");
    if (!f) {
        return UINT64_MAX;
    }
    bool got = fgets(text, sizeof text, f) != NULL;
    (void) fclose(f);
    if (!got || !isdigit((unsigned char) text[0])) {
        return UINT64_MAX;
    }
    return strtoull(text, NULL, 10);
}

/* The path of the line "0::/path" of a /proc/<pid>/cgroup file: the one of version 2. */
static bool read_group(const char *self, char *ret, size_t n)
{
    char line[PATH_MAX];
    bool found = false;
    FILE *f = fopen(self, "re");
    if (!f) {
        return false;
    }
    while (!found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        found = strncmp(line, "0::/", 4) == 0 && strlen(line + 3) < n;
    }
    (void) fclose(f);
    if (found) {
        memcpy(ret, line + 3, strlen(line + 3) + 1);
    }
    return found;
}

uint64_t mbd_cgroup_memory_limit(const char *self, const char *root)
{
    char group[PATH_MAX], path[2 * PATH_MAX];
    if (!read_group(self, group, sizeof group)) {
        return UINT64_MAX;
    }
    uint64_t limit = UINT64_MAX;
    for (;;) {
        int n = snprintf(path, sizeof path, "%s%s/memory.max", root, group);
        if (n > 0 && (size_t) n < sizeof path) {
            uint64_t here = read_limit(path);
            limit = here < limit ? here : limit;
        }
        char *slash = strrchr(group, '/');
        if (!slash) {
            return limit; /* the root was read as "" */
        }
        *slash = '\0'; /* the group above */
    }
}

uint64_t mbd_memory_limit(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t machine = pages > 0 && page > 0 ? (uint64_t) pages * (uint64_t) page : UINT64_MAX;
    uint64_t group = mbd_cgroup_memory_limit("/proc/self/cgroup", "/sys/fs/cgroup");
    return group < machine ? group : machine;
}
