#include "server/trainer/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* true the first time in this folder. */
static bool is_first(const char *folder)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/fault", folder);
    int fd = n > 0 && (size_t) n < sizeof path
                 ? open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600)
                 : -1;
    if (fd < 0) {
        return false;
    }
    (void) close(fd);
    return true;
}

static void happen(const char *what)
{
    if (strcmp(what, "kill") == 0) {
        (void) raise(SIGKILL);
    } else if (strcmp(what, "exit") == 0) {
        _exit(3);
    } else if (strcmp(what, "memory") == 0) {
        struct rlimit none = { 0, 0 };
        (void) setrlimit(RLIMIT_AS, &none);
    }
    while (strcmp(what, "hang") == 0) {
        (void) pause();
    }
}

void mbd_fault_after(const struct mb_task *t, const struct mb_task_event *e, const char *kind)
{
    char what[16], event[16];
    unsigned long long step;
    const char *fault = getenv("MB_TRAINER_FAULT");
    if (fault && sscanf(fault, "%15[a-z]@%15[a-z]:%llu", what, event, &step) == 3 &&
        strcmp(event, kind) == 0 && step == e->step && is_first(t->folder)) {
        happen(what);
    }
}
