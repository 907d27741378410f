/* mbool run: talk with a model, whether or not a daemon serves it yet. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/cli/conversation.h"
#include "clients/cli/own_daemon.h"
#include "core/checkpoint/reader.h"
#include "proto/json/answer_json.h"

enum { SYSTEM = MBC_ASKING_OPTIONS, MBOOLD };

static const struct mbc_option options[] = {
    MBC_ASKING_TABLE,
    [SYSTEM] = { "system", "TEXT", "what the model is told before the first message" },
    [MBOOLD] = { "mboold", "FILE", "the daemon to start (default: beside mbool, or in PATH)" },
    { 0 },
};

static int run_run(int argc, char **argv);

const struct mbc_command mbc_run = {
    .name = "run",
    .arguments = "MODEL [MESSAGE]",
    .summary = "talk with a model; starts a daemon when there is none",
    .details =
        "MODEL is an .mbool file, or a name that 'mbool models' lists. A file that the daemon at\n"
        "HOST serves, by its digest, is talked with there; else a daemon of its own is started on\n"
        "a free port of this machine, and ends with the command. Without MESSAGE, what standard\n"
        "input holds is the message; at a terminal, every line is one, and the model is told\n"
        "what was said before. A model without a chat template goes on with the text instead.\n"
        "MBOOL_API_KEY is sent as the API key, but not to a daemon of its own.",
    .options = options,
    .run = run_run,
};

struct run {
    struct mbc_asking asking;
    const char *system, *mboold, *model, *message;
    char name[MB_MODEL_NAME_MAX + 1]; /* of the model at the daemon */
    struct mbc_transport *transport;
    struct mbc_own_daemon daemon;
};

/* Is model a file, rather than a name? Names may hold slashes, too, but nobody calls a model
 * "./x" or "x.mbool": when such a file is not there, that is what is wrong. */
static bool is_file(const char *model)
{
    struct stat s;
    size_t n = strlen(model);
    return (stat(model, &s) == 0 && S_ISREG(s.st_mode)) || model[0] == '/' ||
           strncmp(model, "./", 2) == 0 || strncmp(model, "../", 3) == 0 ||
           (n > 6 && strcmp(model + n - 6, ".mbool") == 0);
}

/* The file's name without folders and suffix, of characters that names may have. */
static void name_of(const char *path, char *ret, size_t n)
{
    const char *slash = strrchr(path, '/');
    path = slash ? slash + 1 : path;
    size_t len = strlen(path);
    len -= len > 6 && strcmp(path + len - 6, ".mbool") == 0 ? 6 : 0;
    len = len < n - 1 ? len : n - 1;
    for (size_t i = 0; i < len; i++) {
        ret[i] = isalnum((unsigned char) path[i]) || strchr("._-", path[i]) ? path[i] : '-';
    }
    ret[len] = '\0';
}

/* Does the daemon that t reaches serve a model of that fingerprint? Then name is its name there.
 * No daemon is no error: it serves none. */
static bool find_served(struct mbc_transport *t, const char *fingerprint, char *name, size_t n)
{
    struct mb_bytes body = { 0 };
    struct mb_model_listed *list = NULL;
    size_t n_list = 0;
    struct mb_error err;
    bool found = false;
    if (mbc_get(t, "/v1/models", &body, &err) == MB_OK &&
        mb_models_decode((const char *) body.at, body.len, &list, &n_list, &err) == MB_OK) {
        for (size_t i = 0; i < n_list && !found; i++) {
            found = strcmp(list[i].fingerprint, fingerprint) == 0;
            (void) snprintf(name, n, "%s", list[i].id);
        }
    }
    free(list);
    mb_bytes_fini(&body);
    return found;
}

static enum mb_status start_own(struct run *r, struct mb_error *err)
{
    bool told = isatty(STDERR_FILENO);
    name_of(r->model, r->name, sizeof r->name);
    if (told) {
        fprintf(stderr, "starting a daemon for %s ...", r->model);
    }
    enum mb_status st = mbc_own_daemon_start(r->mboold, r->name, r->model, &r->daemon, err);
    if (told) {
        fprintf(stderr, "\r\033[K");
    }
    struct mbc_host host;
    if (st == MB_OK) {
        st = mbc_host_parse(r->daemon.host, NULL, &host, err);
    }
    if (st == MB_OK) {
        mbc_transport_retarget(r->transport, &host);
    }
    return st;
}

/* A file: a daemon that serves just these weights will do; else one is started. */
static enum mb_status reach_file(struct run *r, struct mb_error *err)
{
    struct mb_checkpoint *c;
    enum mb_status st = mb_checkpoint_open(r->model, &c, err);
    if (st != MB_OK) {
        return st;
    }
    char fingerprint[64];
    (void) snprintf(fingerprint, sizeof fingerprint, "mbool-%s-%016" PRIx64, MB_VERSION,
                    mb_checkpoint_digest(c));
    mb_checkpoint_free(c);
    if (find_served(r->transport, fingerprint, r->name, sizeof r->name)) {
        return MB_OK;
    }
    return mbc_interrupted() ? mb_fail(err, MB_E_CANCELLED, 0, "interrupted")
                             : start_own(r, err);
}

static enum mb_status run(struct run *r, struct mb_error *err)
{
    enum mb_status st = mbc_reach(r->asking.host, &r->transport, err);
    if (st == MB_OK && is_file(r->model)) {
        st = reach_file(r, err);
    } else if (st == MB_OK) {
        (void) snprintf(r->name, sizeof r->name, "%s", r->model);
    }
    if (st == MB_OK) {
        struct mbc_conversation c = { .transport = r->transport,
                                      .asking = &r->asking,
                                      .model = r->name,
                                      .system = r->system,
                                      .may_complete = true };
        st = mbc_converse(&c, r->message, err);
        mbc_conversation_fini(&c);
    }
    mbc_own_daemon_stop(&r->daemon);
    mbc_transport_free(r->transport);
    return st;
}

static int run_run(int argc, char **argv)
{
    struct run r = { .asking = { .command = &mbc_run }, .daemon = { .log = -1 } };
    const char *value;
    int first, status, option;
    while ((option = mbc_next_option(&mbc_run, argc, argv, &value, &first, &status)) >= 0) {
        if (option == SYSTEM) {
            r.system = value;
        } else if (option == MBOOLD) {
            r.mboold = value;
        } else if (!mbc_asking_take(&r.asking, option, value)) {
            return MBC_USAGE;
        }
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    if (argc - first < 1 || argc - first > 2) {
        return mbc_usage_error(&mbc_run, "wants MODEL and at most one MESSAGE; got %d",
                               argc - first);
    }
    r.model = argv[first];
    r.message = argc - first == 2 ? argv[first + 1] : NULL;
    mbc_catch_interrupt();
    struct mb_error err = { 0 };
    return run(&r, &err) == MB_OK ? MBC_DONE : mbc_report_error(&mbc_run, &err);
}
