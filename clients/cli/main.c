/* mbool: work on model files, and on daemons. */
#include <errno.h>
#include <string.h>

#include "clients/cli/command.h"
#include "clients/cli/help.h"

const struct mbc_command *const mbc_commands[] = {
    &mbc_run,      &mbc_chat,    &mbc_complete, &mbc_models, &mbc_ps,      &mbc_epochs,
    &mbc_export,   &mbc_promote, &mbc_rollback, &mbc_pin,    &mbc_convert, &mbc_inspect,
    &mbc_verify,   &mbc_eval,    &mbc_generate, &mbc_bench,  &mbc_files,   &mbc_jobs,
    &mbc_finetune, &mbc_synth,   &mbc_pretrain, &mbc_delta,  NULL,
};

static int run(int argc, char **argv)
{
    if (argc < 2) {
        mbc_print_commands(stderr);
        return MBC_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "help") == 0) {
        return mbc_help(argc - 1, argv + 1);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        mbc_print_commands(stdout);
        return MBC_DONE;
    }
    if (strcmp(name, "--version") == 0) {
        printf("mbool %s\n", MB_VERSION);
        return MBC_DONE;
    }
    for (size_t i = 0; mbc_commands[i]; i++) {
        if (strcmp(mbc_commands[i]->name, name) == 0) {
            mbc_end_on_interrupt(mbc_commands[i]);
            return mbc_commands[i]->run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "mbool: there is no command '%s'\n\n", name);
    mbc_print_commands(stderr);
    return MBC_USAGE;
}

/* What was printed may have been lost: a full disk fails as late as here. */
int main(int argc, char **argv)
{
    int status = run(argc, argv);
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "mbool: standard output: %s\n", strerror(errno ? errno : EIO));
        return status == MBC_DONE ? MBC_FAILED : status;
    }
    return status;
}
