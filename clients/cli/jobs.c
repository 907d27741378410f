/* mbool jobs: fine-tuning by a daemon, while it serves. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/asking.h"
#include "clients/cli/command.h"
#include "clients/cli/jobs_watch.h"
#include "proto/job.h"

enum option {
    HOST,
    JSON,
    DATA,
    VALID,
    SUFFIX,
    SEED,
    EPOCHS,
    BATCH_SIZE,
    RATE,
    STEPS,
    BATCH_TOKENS,
    OPTIMIZER,
    KERNELS_TRAINED,
    TEACHER,
    FLIP_RATE,
    SNAPSHOT_EVERY,
    PROMOTE,
    MARGIN,
    SKIP,
    DRY_RUN,
    WATCH
};

static const struct mbc_option options[] = {
    [HOST] = MBC_HOST_OPTION,
    [JSON] = { "json", NULL, "print what the daemon says" },
    [DATA] = { "data", "FILE", "to learn from: a file to bring, or the id of one (create)" },
    [VALID] = { "valid", "FILE", "to measure on, the same (create)" },
    [SUFFIX] = { "suffix", "NAME", "part of the new model's name (create)" },
    [SEED] = { "seed", "S", "of the data's order and of chance (default: drawn)" },
    [EPOCHS] = { "epochs", "N", "times over all data (default 3)" },
    [BATCH_SIZE] = { "batch-size", "N", "examples of a batch, at most" },
    [RATE] = { "learning-rate-multiplier", "X", "of the sizes of steps (default 1)" },
    [STEPS] = { "steps", "N", "batches to learn from, instead of epochs" },
    [BATCH_TOKENS] = { "batch-tokens", "N", "tokens of a batch, at most (default 2048)" },
    [OPTIMIZER] = { "optimizer", "HOW", "accumulate or stochastic (default accumulate)" },
    [KERNELS_TRAINED] = { "kernels-trained", "W", "which sign matrices flip: all, last" },
    [TEACHER] = { "teacher", "NAME", "a float model that the daemon has as --teacher" },
    [FLIP_RATE] = { "flip-rate", "X",
                    "share of weights that may flip in a step (default 0.05)" },
    [SNAPSHOT_EVERY] = { "snapshot-every", "N", "steps between checkpoints (default: three)" },
    [PROMOTE] = { "promote", "WHEN", "what goes live by itself: manual, always, if_better" },
    [MARGIN] = { "promote-margin", "X", "of validation loss, for if_better (default 0)" },
    [SKIP] = { "skip", "PERCENT", "of lines that may be wrong (default 0)" },
    [DRY_RUN] = { "dry-run", NULL, "read and count, and train nothing" },
    [WATCH] = { "watch", NULL, "create, and then watch" },
    { NULL, NULL, NULL },
};

static int run_jobs(int argc, char **argv);

const struct mbc_command mbc_jobs = {
    .name = "jobs",
    .arguments = "list|create|show|watch|cancel|pause|resume [MODEL|ID] [--host HOST]",
    .summary = "fine-tune a model of a daemon, while it serves",
    .details = "  list               what was asked for, newest first\n"
               "  create MODEL       with --data; prints the job's id\n"
               "  show ID            one of them\n"
               "  watch ID           its events as they come, and the loss as a curve\n"
               "  cancel ID          its checkpoints stay\n"
               "  pause ID           after a step, with a snapshot\n"
               "  resume ID          to the same bits\n",
    .options = options,
    .run = run_jobs,
};

struct arguments {
    const char *host, *action, *what;
    const char *value[WATCH + 1];
    bool json, dry_run, watch;
};

/* ---- the body of a job ------------------------------------------------------------------- */

/* An option that is a number or a word of the request. */
static const struct {
    enum option option;
    const char *name; /* in mbool, unless it has hyper */
    bool hyper, is_number;
} fields[] = {
    { EPOCHS, "n_epochs", true, true },
    { BATCH_SIZE, "batch_size", true, true },
    { RATE, "learning_rate_multiplier", true, true },
    { STEPS, "steps", false, true },
    { BATCH_TOKENS, "batch_tokens", false, true },
    { OPTIMIZER, "optimizer", false, false },
    { KERNELS_TRAINED, "kernels_trained", false, false },
    { TEACHER, "teacher", false, false },
    { FLIP_RATE, "flip_rate", false, true },
    { SNAPSHOT_EVERY, "snapshot_every", false, true },
    { PROMOTE, "promote", false, false },
    { MARGIN, "promote_margin", false, true },
    { SKIP, "invalid_sample_skip_percentage", false, true },
};

/* A JSON number as it was typed, so that the daemon judges its range; NULL when it is none. */
static json_t *number_of(const char *text)
{
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!json_is_number(v)) {
        json_decref(v);
        return NULL;
    }
    return v;
}

static enum mb_status put_fields(const struct arguments *a, json_t *hyper, json_t *own,
                                 struct mb_error *err)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const char *text = a->value[fields[i].option];
        json_t *v = !text ? NULL : fields[i].is_number ? number_of(text) : json_string(text);
        if (text && (!v || json_object_set_new(fields[i].hyper ? hyper : own, fields[i].name,
                                               v) != 0)) {
            return mb_fail(err, MB_E_INVALID, 0, "--%s: '%s' is no number",
                           options[fields[i].option].name, text);
        }
    }
    return MB_OK;
}

static enum mb_status encode(const struct arguments *a, const char *data, const char *valid,
                             char **ret, struct mb_error *err)
{
    json_t *hyper = json_object(), *own = json_pack("{s:b}", "dry_run", (int) a->dry_run);
    json_t *seed = a->value[SEED] ? number_of(a->value[SEED]) : NULL;
    enum mb_status st = put_fields(a, hyper, own, err);
    if (st == MB_OK && a->value[SEED] && !seed) {
        st = mb_fail(err, MB_E_INVALID, 0, "--seed: '%s' is no number", a->value[SEED]);
    }
    json_t *root = json_pack("{s:s,s:s,s:s*,s:s*,s:o*,s:{s:s,s:{s:o}},s:o}", "model", a->what,
                             "training_file", data, "validation_file", valid, "suffix",
                             a->value[SUFFIX], "seed", seed, "method", "type", "supervised",
                             "supervised", "hyperparameters", hyper, "mbool", own);
    if (st == MB_OK && !(*ret = root ? json_dumps(root, JSON_COMPACT) : NULL)) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for a request");
    }
    json_decref(root);
    return st;
}

/* ---- asking ------------------------------------------------------------------------------ */

static enum mb_status send(struct mbc_transport *t, const struct mbc_request *r, bool json,
                           json_t **ret, struct mb_error *err)
{
    struct mb_bytes body = { 0 };
    enum mb_status st = mbc_send(t, r, &body, err);
    if (st == MB_OK && !(*ret = json_loadb((const char *) body.at, body.len, 0, NULL))) {
        st = mb_fail(err, MB_E_FORMAT, 0, "the answer is no JSON");
    }
    if (st == MB_OK && json) {
        printf("%s\n", mb_bytes_text(&body));
    }
    mb_bytes_fini(&body);
    return st;
}

/* The id of a file: name itself when it is one, or of what is brought there now. */
static enum mb_status bring(struct mbc_transport *t, const char *name, char ret[64],
                            struct mb_error *err)
{
    json_t *reply = NULL;
    ret[0] = '\0';
    if (!name || strncmp(name, "file-", 5) == 0) {
        (void) snprintf(ret, 64, "%s", name ? name : "");
        return MB_OK;
    }
    const struct mbc_request r = { .path = "/v1/files", .upload = name };
    enum mb_status st = send(t, &r, false, &reply, err);
    if (st == MB_OK) {
        const char *id = json_string_value(json_object_get(reply, "id"));
        (void) snprintf(ret, 64, "%s", id ? id : "");
        fprintf(stderr, "%s is %s\n", name, ret);
    }
    json_decref(reply);
    return st;
}

static enum mb_status create(struct mbc_transport *t, const struct arguments *a,
                             struct mb_error *err)
{
    char data[64], valid[64], *body = NULL;
    json_t *reply = NULL;
    enum mb_status st = bring(t, a->value[DATA], data, err);
    if (st == MB_OK && (st = bring(t, a->value[VALID], valid, err)) == MB_OK) {
        st = encode(a, data, valid[0] ? valid : NULL, &body, err);
    }
    if (st == MB_OK) {
        const struct mbc_request r = { .path = "/v1/fine_tuning/jobs",
                                       .json = body,
                                       .n_json = strlen(body) };
        st = send(t, &r, a->json && !a->watch, &reply, err);
    }
    const char *id = json_string_value(json_object_get(reply, "id"));
    if (st == MB_OK && !a->json) {
        printf("%s\n", id ? id : "-");
        (void) fflush(stdout);
    }
    if (st == MB_OK && a->watch && id) {
        st = mbc_jobs_watch(t, id, a->json, err);
    }
    free(body);
    json_decref(reply);
    return st;
}

/* ---- showing ----------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "-";
}

static void print_job(const json_t *j)
{
    const json_t *own = json_object_get(j, "mbool"), *error = json_object_get(j, "error");
    char steps[48];
    (void) snprintf(steps, sizeof steps, "%lld/%lld",
                    (long long) json_integer_value(json_object_get(own, "step")),
                    (long long) json_integer_value(json_object_get(own, "total_steps")));
    printf("%-22s  %-16s  %-13s  %-20s  %s\n", text_of(j, "id"), text_of(j, "status"), steps,
           text_of(j, "model"), text_of(j, "fine_tuned_model"));
    if (json_is_object(error)) {
        printf("  %s\n", text_of(error, "message"));
    }
}

static void print_jobs(const json_t *reply)
{
    const json_t *one, *data = json_object_get(reply, "data");
    size_t i;
    printf("%-22s  %-16s  %-13s  %-20s  %s\n", "JOB", "STATUS", "STEP", "OF", "MODEL");
    if (!data) {
        print_job(reply);
    }
    json_array_foreach (data, i, one) {
        print_job(one);
    }
}

/* list, show, cancel, pause, resume. */
static enum mb_status ask(struct mbc_transport *t, const struct arguments *a,
                          struct mb_error *err)
{
    char path[200];
    json_t *reply = NULL;
    bool get = !a->what || strcmp(a->action, "show") == 0;
    (void) snprintf(path, sizeof path, "/v1/fine_tuning/jobs%s%.64s%s%s", a->what ? "/" : "",
                    a->what ? a->what : "", get ? "" : "/", get ? "" : a->action);
    const struct mbc_request r = { .path = path, .json = get ? NULL : "{}", .n_json = 2 };
    enum mb_status st = send(t, &r, a->json, &reply, err);
    if (st == MB_OK && !a->json) {
        print_jobs(reply);
    }
    json_decref(reply);
    return st;
}

static enum mb_status act(const struct arguments *a, struct mb_error *err)
{
    struct mbc_transport *t;
    enum mb_status st = mbc_reach(a->host, &t, err);
    if (st != MB_OK) {
        return st;
    }
    if (strcmp(a->action, "create") == 0) {
        st = create(t, a, err);
    } else if (strcmp(a->action, "watch") == 0) {
        st = mbc_jobs_watch(t, a->what, a->json, err);
    } else {
        st = ask(t, a, err);
    }
    mbc_transport_free(t);
    return st;
}

static bool is_action(const char *action)
{
    static const char *const all[] = { "list",   "create", "show",  "watch",
                                       "cancel", "pause",  "resume" };
    bool known = false;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        known |= strcmp(all[i], action) == 0;
    }
    return known;
}

static int run_jobs(int argc, char **argv)
{
    struct arguments a = { 0 };
    const char *value = NULL;
    int first = 0, status = MBC_DONE, option;
    while ((option = mbc_next_option(&mbc_jobs, argc, argv, &value, &first, &status)) >= 0) {
        a.value[option] = value;
        a.json |= option == JSON;
        a.dry_run |= option == DRY_RUN;
        a.watch |= option == WATCH;
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    a.host = a.value[HOST];
    a.action = first < argc ? argv[first] : "list";
    a.what = first + 1 < argc ? argv[first + 1] : NULL;
    if (!is_action(a.action) || argc - first > 2 ||
        (strcmp(a.action, "list") == 0) != !a.what) {
        return mbc_usage_error(&mbc_jobs,
                               "list, create MODEL, or show, watch, cancel, pause or "
                               "resume ID?");
    }
    if (strcmp(a.action, "create") == 0 && !a.value[DATA]) {
        return mbc_usage_error(&mbc_jobs, "create wants --data");
    }
    struct mb_error err = { 0 };
    return act(&a, &err) == MB_OK ? MBC_DONE : mbc_report_error(&mbc_jobs, &err);
}
