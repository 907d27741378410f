/* mbool epochs: the versions of a model that a daemon has in memory. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/asking.h"
#include "clients/cli/command.h"
#include "proto/json/epochs_json.h"

enum { HOST, JSON };

static const struct mbc_option options[] = {
    [HOST] = MBC_HOST_OPTION,
    [JSON] = { "json", NULL, "print what the daemon says" },
    { 0 },
};

static int run_epochs(int argc, char **argv);

const struct mbc_command mbc_epochs = {
    .name = "epochs",
    .arguments = "MODEL [--host HOST]",
    .summary = "list the versions of a model that a daemon has in memory",
    .details =
        "An epoch is a model's checkpoint, or what a flip delta makes of it. '*' marks the one\n"
        "that MODEL is, '<' the one that 'mbool rollback MODEL' would make it again. OWN MB is\n"
        "the memory of the pages that it does not share with the checkpoint.",
    .options = options,
    .run = run_epochs,
};

struct arguments {
    const char *host;
    bool json;
};

static bool take(void *arguments, int option, const char *value)
{
    struct arguments *a = arguments;
    if (option == HOST) {
        a->host = value;
    } else {
        a->json = true;
    }
    return true;
}

static void print_epochs(const struct mb_epoch_listed *list, size_t n, bool pinned)
{
    printf("  %-16s  %-19s  %8s  %8s  %-24s  %s\n", "EPOCH", "LOADED", "REQUESTS", "OWN MB",
           "FROM", "MODELS");
    for (size_t i = 0; i < n; i++) {
        const struct mb_epoch_listed *e = &list[i];
        char loaded[32] = "-";
        time_t when = (time_t) e->created;
        struct tm local;
        if (when > 0 && localtime_r(&when, &local)) {
            (void) strftime(loaded, sizeof loaded, "%Y-%m-%d %H:%M:%S", &local);
        }
        printf("%c %-16s  %-19s  %8" PRIu64 "  %8.1f  %-24s  %s\n",
               e->current    ? '*'
               : e->rollback ? '<'
                             : ' ',
               e->id, loaded, e->requests, (double) e->private_bytes / 1e6, e->source,
               e->models[0] ? e->models : "-");
    }
    if (pinned) {
        printf("pinned: only a person changes which one it is\n");
    }
}

static enum mb_status show(const struct arguments *a, const char *model, struct mb_error *err)
{
    struct mbc_transport *t;
    struct mb_bytes body = { 0 };
    struct mb_epoch_listed *list = NULL;
    char path[MB_MODEL_NAME_MAX + 64];
    size_t n = 0;
    bool pinned = false;
    enum mb_status st = mbc_reach(a->host, &t, err);
    if (st != MB_OK) {
        return st;
    }
    (void) snprintf(path, sizeof path, "/v1/mbool/models/%s/epochs", model);
    st = mbc_get(t, path, &body, err);
    if (st == MB_OK) {
        st = mb_epochs_decode((const char *) body.at, body.len, &list, &n, &pinned, err);
    }
    if (st == MB_OK && a->json) {
        printf("%s\n", mb_bytes_text(&body));
    } else if (st == MB_OK) {
        print_epochs(list, n, pinned);
    }
    free(list);
    mb_bytes_fini(&body);
    mbc_transport_free(t);
    return st;
}

static int run_epochs(int argc, char **argv)
{
    struct arguments a = { 0 };
    const char *model;
    int status;
    if (!mbc_parse_line(&mbc_epochs, argc, argv, "a model", take, &a, &model, &status)) {
        return status;
    }
    if (!mb_is_model_name(model, strlen(model))) {
        return mbc_usage_error(&mbc_epochs, "'%s' is no name of a model", model);
    }
    struct mb_error err = { 0 };
    return show(&a, model, &err) == MB_OK ? MBC_DONE : mbc_report_error(&mbc_epochs, &err);
}
