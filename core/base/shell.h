/* Text for shell scripts, such as completions.
 *
 * Threads: one at a time per object. */
#ifndef MB_CORE_SHELL_H
#define MB_CORE_SHELL_H

#include "core/base/bytes.h"

/* Appends text in single quotes, which bash, zsh and fish take as it stands; characters of
 * special have a backslash put before them, for what reads the words then. */
void mb_shell_put_quoted(struct mb_bytes *b, const char *text, const char *special);

#endif
