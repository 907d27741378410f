/* mbool as a user runs it. */
#ifndef MB_TESTS_CLIENTS_COMMAND_H
#define MB_TESTS_CLIENTS_COMMAND_H

#include <stdarg.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "tests/check_main.h"

/* Runs "mbool <line>", its output, terminated, into n bytes at out; standard error joins it when
 * both is set. Returns the exit status. */
static inline int run_command(char *out, size_t n, bool both, const char *fmt, va_list args)
{
    char line[4096], command[8192];
    (void) vsnprintf(line, sizeof line, fmt, args);
    (void) snprintf(command, sizeof command, "%s/clients/mbool %s%s", getenv("MB_BUILD"), line,
                    both ? " 2>&1" : "");
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    out[fread(out, 1, n - 1, f)] = '\0';
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
