#include "server/engine/limits.h"

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MILLI = 1000 };

static const char self_file[] = "/proc/self/cgroup";
static const char root_dir[] = "/sys/fs/cgroup";

/* One line of a group's file. */
struct line {
    char text[64];
};

static bool read_line(const char *dir, const char *file, struct line *ret)
{
    char path[2 * PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", dir, file);
    FILE *f = n > 0 && (size_t) n < sizeof path ? fopen(path, "re") : NULL;
    if (!f) {
        return false;
    }
    bool got = fgets(ret->text, sizeof ret->text, f) != NULL;
    (void) fclose(f);
    return got;
}

/* "max", "-1" and no such file are no limit. */
static uint64_t number(const char *text)
{
    return isdigit((unsigned char) text[0]) ? strtoull(text, NULL, 10) : UINT64_MAX;
}

static uint64_t read_number(const char *dir, const char *file)
{
    struct line l;
    return read_line(dir, file, &l) ? number(l.text) : UINT64_MAX;
}

/* ---- what one group says ----------------------------------------------------------------- */

static uint64_t memory_v2(const char *dir)
{
    return read_number(dir, "memory.max");
}

static uint64_t memory_v1(const char *dir)
{
    return read_number(dir, "memory.limit_in_bytes");
}

/* Of times in microseconds. No real quota comes near the bound, which keeps the product whole. */
static uint64_t millicpus(uint64_t quota, uint64_t period)
{
    bool limited = quota < UINT64_MAX / MILLI && period > 0 && period != UINT64_MAX;
    return limited ? quota * MILLI / period : UINT64_MAX;
}

/* "200000 100000" or "max 100000". */
static uint64_t cpu_v2(const char *dir)
{
    struct line l;
    if (!read_line(dir, "cpu.max", &l)) {
        return UINT64_MAX;
    }
    const char *space = strchr(l.text, ' ');
    return space ? millicpus(number(l.text), number(space + 1)) : UINT64_MAX;
}

static uint64_t cpu_v1(const char *dir)
{
    return millicpus(read_number(dir, "cpu.cfs_quota_us"),
                     read_number(dir, "cpu.cfs_period_us"));
}

/* ---- from this process's group up to the root -------------------------------------------- */

/* Does a list with commas between, "cpu,cpuacct", have name? */
static bool has_name(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ',')) {
        if (strcspn(at, ",") == n && strncmp(at, name, n) == 0) {
            return true;
        }
    }
    return false;
}

/* The path of the line "0::/path" (controller "") or "4:cpu,cpuacct:/path" of a /proc/<pid>/cgroup
 * file, into ret, which has room for PATH_MAX. */
static bool read_group(const char *self, const char *controller, char *ret)
{
    char line[PATH_MAX];
    bool found = false;
    FILE *f = fopen(self, "re");
    if (!f) {
        return false;
    }
    while (!found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path || path[1] != '/') {
            continue;
        }
        *path = '\0';
        found = controller[0] ? has_name(list + 1, controller) : list[1] == '\0';
        if (found) {
            memcpy(ret, path + 1, strlen(path + 1) + 1);
        }
    }
    (void) fclose(f);
    return found;
}

/* The least of what read says of the group and of each above it. In a container the path may be one
 * of the host that is not there to be seen; the root then is the container's own group. */
static uint64_t least(const char *self, const char *root, const char *controller,
                      uint64_t (*read)(const char *dir))
{
    char group[PATH_MAX], dir[PATH_MAX];
    if (!read_group(self, controller, group)) {
        return UINT64_MAX;
    }
    uint64_t limit = UINT64_MAX;
    for (;;) {
        int n = snprintf(dir, sizeof dir, "%s%s%s%s", root, controller[0] ? "/" : "",
                         controller, group);
        if (n > 0 && (size_t) n < sizeof dir) {
            uint64_t here = read(dir);
            limit = here < limit ? here : limit;
        }
        char *slash = strrchr(group, '/');
        if (!slash) {
            return limit; /* the root was read as "" */
        }
        *slash = '\0'; /* the group above */
    }
}

static uint64_t least_of_both(const char *self, const char *root, const char *controller,
                              uint64_t (*v2)(const char *dir), uint64_t (*v1)(const char *dir))
{
    uint64_t a = least(self, root, "", v2), b = least(self, root, controller, v1);
    return a < b ? a : b;
}

uint64_t mbd_cgroup_memory_limit(const char *self, const char *root)
{
    return least_of_both(self, root, "memory", memory_v2, memory_v1);
}

uint64_t mbd_cgroup_millicpus(const char *self, const char *root)
{
    return least_of_both(self, root, "cpu", cpu_v2, cpu_v1);
}

/* ---- for this process -------------------------------------------------------------------- */

uint64_t mbd_memory_limit(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t machine = pages > 0 && page > 0 ? (uint64_t) pages * (uint64_t) page : UINT64_MAX;
    uint64_t group = mbd_cgroup_memory_limit(self_file, root_dir);
    return group < machine ? group : machine;
}

uint32_t mbd_processors_for(uint64_t millicpus, uint32_t n_allowed)
{
    uint64_t nearest = millicpus / MILLI + (millicpus % MILLI >= MILLI / 2);
    uint64_t n = nearest < n_allowed ? nearest : n_allowed;
    return n > 1 ? (uint32_t) n : 1;
}

uint32_t mbd_processor_limit(uint32_t n_allowed)
{
    return mbd_processors_for(mbd_cgroup_millicpus(self_file, root_dir), n_allowed);
}
