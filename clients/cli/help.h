/* What mbool says of itself as a whole, from the table of its commands: the list of them, the
 * manual page mbool(1), and completions for shells. */
#ifndef MBC_HELP_H
#define MBC_HELP_H

#include <stdio.h>

/* "usage: ..." and the commands. */
void mbc_print_commands(FILE *to);

/* mbool help [COMMAND], and for those who package it: --man, --completion=bash|zsh|fish.
 * Returns the exit status. */
int mbc_help(int argc, char **argv);

#endif
