/* mbool export: what a daemon serves, as a file. */
#include <stdio.h>
#include <string.h>

#include "clients/cli/asking.h"
#include "clients/cli/command.h"
#include "core/base/file.h"
#include "core/checkpoint/reader.h"
#include "proto/completion.h"

enum { OUTPUT, HOST };

static const struct mbc_option options[] = {
    [OUTPUT] = { "output", "FILE", "the checkpoint to write (required)" },
    [HOST] = MBC_HOST_OPTION,
    { 0 },
};

static int run_export(int argc, char **argv);

const struct mbc_command mbc_export = {
    .name = "export",
    .arguments = "MODEL -o FILE [--host HOST]",
    .summary = "write a model of a daemon, as it is now, to a checkpoint of its own",
    .details =
        "MODEL is any name that the daemon serves: also a fine-tuned model, or one of its\n"
        "checkpoints, which the daemon itself keeps as differences. Every checksum is\n"
        "verified before FILE is there; what stops half-way leaves nothing behind.",
    .options = options,
    .run = run_export,
};

struct arguments {
    const char *output, *host;
};

static bool take(void *arguments, int option, const char *value)
{
    struct arguments *a = arguments;
    *(option == OUTPUT ? &a->output : &a->host) = value;
    return true;
}

struct download {
    struct mb_file_writer *file;
    enum mb_status st; /* of writing */
    struct mb_error err;
};

static bool put(void *self, const void *at, size_t n)
{
    struct download *d = self;
    d->st = mb_file_writer_put(d->file, at, n, &d->err);
    return d->st == MB_OK;
}

static enum mb_status verify(struct mb_file_writer *file, struct mb_error *err)
{
    const char *path;
    struct mb_checkpoint *c = NULL;
    enum mb_status st = mb_file_writer_flush(file, &path, err);
    if (st == MB_OK) {
        st = mb_checkpoint_open(path, &c, err);
    }
    if (st == MB_OK) {
        struct mb_progress bar = mbc_progress_begin("verify");
        st = mb_checkpoint_verify(c, &bar, err);
        mbc_progress_end();
    }
    mb_checkpoint_free(c);
    return st;
}

static enum mb_status fetch(struct mbc_transport *t, const char *model, const char *output,
                            struct mb_error *err)
{
    struct download d = { .st = MB_OK };
    char path[MB_MODEL_NAME_MAX + 64];
    (void) snprintf(path, sizeof path, "/v1/mbool/models/%s/checkpoint", model);
    enum mb_status st = mb_file_writer_open(output, &d.file, err);
    if (st != MB_OK) {
        return st;
    }
    st = mbc_download(t, path, put, &d, err);
    if (d.st != MB_OK) {
        *err = d.err;
        st = d.st;
    }
    if (st == MB_OK) {
        st = verify(d.file, err);
    }
    if (st == MB_OK) {
        return mb_file_writer_commit(d.file, err);
    }
    mb_file_writer_abort(d.file);
    return st;
}

static int run_export(int argc, char **argv)
{
    struct arguments a = { 0 };
    const char *model;
    int status;
    struct mb_error err = { 0 };
    struct mbc_transport *t;
    if (!mbc_parse_line(&mbc_export, argc, argv, "a model", take, &a, &model, &status)) {
        return status;
    }
    if (!mb_is_model_name(model, strlen(model))) {
        return mbc_usage_error(&mbc_export, "'%s' is no name of a model", model);
    }
    if (!a.output) {
        return mbc_usage_error(&mbc_export, "give the file to write with -o FILE");
    }
    mbc_catch_interrupt();
    enum mb_status st = mbc_reach(a.host, &t, &err);
    if (st == MB_OK) {
        st = fetch(t, model, a.output, &err);
        mbc_transport_free(t);
    }
    return st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_export, &err);
}
