/* mbool promote, rollback and pin: which version of a model answers. Three commands in one file: they
 * differ in a path and a body. */
#include <stdlib.h>
#include <string.h>

#include "clients/cli/asking.h"
#include "clients/cli/command.h"
#include "proto/json/epochs_json.h"

enum { HOST, JSON, THIRD };

static const struct mbc_option promote_options[] = {
    [HOST] = MBC_HOST_OPTION,
    [JSON] = { "json", NULL, "print what the daemon says" },
    [THIRD] = { "to", "WHAT", "another name of the same model, or an epoch (required)" },
    { 0 },
};
static const struct mbc_option rollback_options[] = {
    [HOST] = MBC_HOST_OPTION,
    [JSON] = { "json", NULL, "print what the daemon says" },
    { 0 },
};
static const struct mbc_option pin_options[] = {
    [HOST] = MBC_HOST_OPTION,
    [JSON] = { "json", NULL, "print what the daemon says" },
    [THIRD] = { "off", NULL, "let it go again" },
    { 0 },
};

static int run_promote(int argc, char **argv);
static int run_rollback(int argc, char **argv);
static int run_pin(int argc, char **argv);

const struct mbc_command mbc_promote = {
    .name = "promote",
    .arguments = "MODEL --to WHAT [--host HOST]",
    .summary = "let a model be another of its versions",
    .details =
        "From then on MODEL answers with the weights of WHAT: a fine-tuned model, a checkpoint\n"
        "of a job, or an epoch that 'mbool epochs' lists. Requests that run stay with what it\n"
        "was, to their end.",
    .options = promote_options,
    .run = run_promote,
};
const struct mbc_command mbc_rollback = {
    .name = "rollback",
    .arguments = "MODEL [--host HOST]",
    .summary = "let a model be again what it was before its last change",
    .details = NULL,
    .options = rollback_options,
    .run = run_rollback,
};
const struct mbc_command mbc_pin = {
    .name = "pin",
    .arguments = "MODEL [--off] [--host HOST]",
    .summary = "keep a model as it is, whatever jobs promote",
    .details = "A person's 'mbool promote' and 'mbool rollback' change it all the same.",
    .options = pin_options,
    .run = run_pin,
};

struct arguments {
    const struct mbc_command *command;
    const char *host, *to;
    bool json, off;
};

static bool take(void *arguments, int option, const char *value)
{
    struct arguments *a = arguments;
    switch (option) {
    case HOST:
        a->host = value;
        return true;
    case JSON:
        a->json = true;
        return true;
    default:
        a->to = value;
        a->off = true;
        return true;
    }
}

static void print_told(const struct arguments *a, const struct mb_model_epoch_told *m)
{
    if (a->command == &mbc_pin) {
        printf("%s is %s at %s\n", m->model, m->pinned ? "pinned" : "not pinned", m->epoch);
    } else if (strcmp(m->epoch, m->before) == 0) {
        printf("%s is %s already\n", m->model, m->epoch);
    } else {
        printf("%s is %s now; it was %s\n", m->model, m->epoch, m->before);
    }
}

/* json: the body, malloc'ed; NULL when memory was refused. */
static enum mb_status change(const struct arguments *a, const char *model, const char *json,
                             struct mb_error *err)
{
    struct mbc_transport *t;
    struct mb_bytes body = { 0 };
    struct mb_model_epoch_told told;
    char path[MB_MODEL_NAME_MAX + 64];
    if (!json) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a request");
    }
    enum mb_status st = mbc_reach(a->host, &t, err);
    if (st != MB_OK) {
        return st;
    }
    (void) snprintf(path, sizeof path, "/v1/mbool/models/%s/%s", model, a->command->name);
    st = mbc_post(t, path, json, &body, err);
    if (st == MB_OK) {
        st = mb_model_epoch_decode((const char *) body.at, body.len, &told, err);
    }
    if (st == MB_OK && a->json) {
        printf("%s\n", mb_bytes_text(&body));
    } else if (st == MB_OK) {
        print_told(a, &told);
    }
    mb_bytes_fini(&body);
    mbc_transport_free(t);
    return st;
}

static char *body_of(const struct arguments *a)
{
    struct mb_promotion p = { .to = "" };
    if (a->command == &mbc_promote) {
        (void) snprintf(p.to, sizeof p.to, "%s", a->to);
        return mb_promotion_encode(&p);
    }
    return a->command == &mbc_pin ? mb_pinning_encode(!a->off) : strdup("{}");
}

static int run(const struct mbc_command *command, int argc, char **argv)
{
    struct arguments a = { .command = command };
    const char *model;
    int status;
    if (!mbc_parse_line(command, argc, argv, "a model", take, &a, &model, &status)) {
        return status;
    }
    if (!mb_is_model_name(model, strlen(model))) {
        return mbc_usage_error(command, "'%s' is no name of a model", model);
    }
    if (command == &mbc_promote && (!a.to || !mb_is_model_name(a.to, strlen(a.to)))) {
        return mbc_usage_error(command, "--to wants the name of a model, or an epoch");
    }
    struct mb_error err = { 0 };
    char *json = body_of(&a);
    enum mb_status st = change(&a, model, json, &err);
    free(json);
    return st == MB_OK ? MBC_DONE : mbc_report_error(command, &err);
}

static int run_promote(int argc, char **argv)
{
    return run(&mbc_promote, argc, argv);
}

static int run_rollback(int argc, char **argv)
{
    return run(&mbc_rollback, argc, argv);
}

static int run_pin(int argc, char **argv)
{
    return run(&mbc_pin, argc, argv);
}
