/* mbool models: what a daemon serves. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/asking.h"
#include "clients/cli/command.h"
#include "proto/json/answer_json.h"

enum { HOST, JSON };

static const struct mbc_option options[] = {
    [HOST] = MBC_HOST_OPTION,
    [JSON] = { "json", NULL, "print what the daemon says: OpenAI's list of models" },
    { 0 },
};

static int run_models(int argc, char **argv);

const struct mbc_command mbc_models = {
    .name = "models",
    .arguments = "[--host HOST]",
    .summary = "list the models of a daemon",
    .details = NULL,
    .options = options,
    .run = run_models,
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

static void print_models(const struct mb_model_listed *list, size_t n)
{
    int width = 5;
    for (size_t i = 0; i < n; i++) {
        int len = (int) strlen(list[i].id);
        width = len > width ? len : width;
    }
    printf("%-*s  %8s  %-19s  %s\n", width, "MODEL", "CONTEXT", "LOADED", "FINGERPRINT");
    for (size_t i = 0; i < n; i++) {
        char loaded[32] = "-", context[16] = "-";
        time_t when = (time_t) list[i].created;
        struct tm local;
        if (when > 0 && localtime_r(&when, &local)) {
            (void) strftime(loaded, sizeof loaded, "%Y-%m-%d %H:%M:%S", &local);
        }
        if (list[i].context_max > 0) {
            (void) snprintf(context, sizeof context, "%u", (unsigned) list[i].context_max);
        }
        printf("%-*s  %8s  %-19s  %s\n", width, list[i].id, context, loaded,
               list[i].fingerprint[0] ? list[i].fingerprint : "-");
    }
}

static enum mb_status show_models(const struct arguments *a, struct mb_error *err)
{
    struct mbc_transport *t;
    struct mb_bytes body = { 0 };
    enum mb_status st = mbc_reach(a->host, &t, err);
    if (st != MB_OK) {
        return st;
    }
    struct mb_model_listed *list = NULL;
    size_t n = 0;
    st = mbc_get(t, "/v1/models", &body, err);
    if (st == MB_OK) {
        st = mb_models_decode((const char *) body.at, body.len, &list, &n, err);
    }
    if (st == MB_OK && a->json) {
        printf("%s\n", mb_bytes_text(&body));
    } else if (st == MB_OK) {
        print_models(list, n);
    }
    free(list);
    mb_bytes_fini(&body);
    mbc_transport_free(t);
    return st;
}

static int run_models(int argc, char **argv)
{
    struct arguments a = { 0 };
    int status;
    if (!mbc_parse_options(&mbc_models, argc, argv, take, &a, &status)) {
        return status;
    }
    struct mb_error err = { 0 };
    return show_models(&a, &err) == MB_OK ? MBC_DONE : mbc_report_error(&mbc_models, &err);
}
