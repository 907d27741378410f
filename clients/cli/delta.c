/* mbool delta: what a fine-tuned checkpoint changes in the one it comes from. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "clients/cli/command.h"
#include "core/checkpoint/delta.h"

enum { OUTPUT, JSON };

static const struct mbc_option options[] = {
    [OUTPUT] = { "output", "FILE", "the file to write (make, apply, revert)" },
    [JSON] = { "json", NULL, "print one JSON object (inspect)" },
    { NULL, NULL, NULL },
};

static int run_delta(int argc, char **argv);

const struct mbc_command mbc_delta = {
    .name = "delta",
    .arguments = "make|apply|revert|inspect FILE...",
    .summary = "join versions of a model by what flipped between them",
    .details =
        "  make BASE TARGET -o DELTA       what turns BASE into TARGET\n"
        "  apply DELTA BASE -o FILE        the target\n"
        "  revert DELTA TARGET -o FILE     the base\n"
        "  inspect DELTA                   which two it joins, and how far apart they are\n"
        "\n"
        "A delta fits nothing but its two ends, known by their digests; what it makes is\n"
        "the same file, byte for byte.",
    .options = options,
    .run = run_delta,
};

struct arguments {
    const char *action, *output;
    bool json;
    char **files;
    int n_files;
};

static struct mb_progress begin(const struct arguments *a)
{
    return mbc_progress_begin(strcmp(a->action, "make") == 0 ? "compare" : "apply");
}

static enum mb_status make(const struct arguments *a, struct mb_error *err)
{
    struct mb_checkpoint *base = NULL, *target = NULL;
    enum mb_status st = mb_checkpoint_open(a->files[0], &base, err);
    if (st == MB_OK) {
        st = mb_checkpoint_open(a->files[1], &target, err);
    }
    if (st == MB_OK) {
        struct mb_progress bar = begin(a);
        st = mb_delta_make(base, target, a->output, &bar, err);
        mbc_progress_end();
    }
    mb_checkpoint_free(base);
    mb_checkpoint_free(target);
    return st;
}

/* The end that the action starts from, so that apply can not revert unasked. */
static enum mb_status check_end(const struct arguments *a, const struct mb_delta *d,
                                const struct mb_checkpoint *c, struct mb_error *err)
{
    const struct mb_delta_info *i = mb_delta_info(d);
    bool reverts = strcmp(a->action, "revert") == 0;
    uint64_t want = reverts ? i->target_digest : i->base_digest;
    if (mb_checkpoint_digest(c) == want) {
        return MB_OK;
    }
    return mb_fail(err, MB_E_INVALID, 0,
                   "'%s' is %016" PRIx64 "; the delta's %s is %016" PRIx64, a->files[1],
                   mb_checkpoint_digest(c), reverts ? "target" : "base", want);
}

static enum mb_status apply(const struct arguments *a, struct mb_error *err)
{
    struct mb_delta *d = NULL;
    struct mb_checkpoint *from = NULL;
    enum mb_status st = mb_delta_open(a->files[0], &d, err);
    if (st == MB_OK) {
        st = mb_checkpoint_open(a->files[1], &from, err);
    }
    if (st == MB_OK) {
        st = check_end(a, d, from, err);
    }
    if (st == MB_OK) {
        struct mb_progress bar = begin(a);
        st = mb_delta_write(d, from, a->output, &bar, err);
        mbc_progress_end();
    }
    mb_checkpoint_free(from);
    mb_delta_free(d);
    return st;
}

static void print_json(const struct mb_delta_info *i)
{
    char base[17], target[17];
    (void) snprintf(base, sizeof base, "%016" PRIx64, i->base_digest);
    (void) snprintf(target, sizeof target, "%016" PRIx64, i->target_digest);
    json_t *root =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "base", base, "target",
                  target, "base_bytes", (json_int_t) i->base_bytes, "target_bytes",
                  (json_int_t) i->target_bytes, "bytes", (json_int_t) i->bytes, "pieces",
                  (json_int_t) i->n_pieces, "signs", (json_int_t) i->n_signs, "flips",
                  (json_int_t) i->n_flips, "other_bytes", (json_int_t) i->n_others);
    (void) json_dumpf(root, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(root);
}

static void print_text(const struct mb_delta_info *i)
{
    printf("base    %016" PRIx64 "  %" PRIu64 " bytes\n", i->base_digest, i->base_bytes);
    printf("target  %016" PRIx64 "  %" PRIu64 " bytes\n", i->target_digest, i->target_bytes);
    double share = i->n_signs > 0 ? 100.0 * (double) i->n_flips / (double) i->n_signs : 0;
    printf("flips   %" PRIu64 " of %" PRIu64 " signs (%.3f %%)\n", i->n_flips, i->n_signs,
           share);
    printf("others  %" PRIu64 " bytes of coefficients, scales and norms\n", i->n_others);
    printf("delta   %" PRIu64 " bytes in %u pieces\n", i->bytes, (unsigned) i->n_pieces);
}

static enum mb_status inspect(const struct arguments *a, struct mb_error *err)
{
    struct mb_delta *d;
    enum mb_status st = mb_delta_open(a->files[0], &d, err);
    if (st != MB_OK) {
        return st;
    }
    if (a->json) {
        print_json(mb_delta_info(d));
    } else {
        print_text(mb_delta_info(d));
    }
    mb_delta_free(d);
    return MB_OK;
}

static const struct action {
    const char *name;
    int n_files;
    bool writes;
    enum mb_status (*run)(const struct arguments *a, struct mb_error *err);
    const char *files;
} actions[] = {
    { "make", 2, true, make, "BASE TARGET -o DELTA" },
    { "apply", 2, true, apply, "DELTA BASE -o FILE" },
    { "revert", 2, true, apply, "DELTA TARGET -o FILE" },
    { "inspect", 1, false, inspect, "DELTA" },
};

static int run_action(const struct arguments *a)
{
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        const struct action *w = &actions[i];
        if (strcmp(w->name, a->action) != 0) {
            continue;
        }
        if (a->n_files != w->n_files || (a->output != NULL) != w->writes) {
            return mbc_usage_error(&mbc_delta, "wanted is: mbool delta %s %s", w->name,
                                   w->files);
        }
        struct mb_error err = { 0 };
        return w->run(a, &err) == MB_OK ? MBC_DONE : mbc_report_error(&mbc_delta, &err);
    }
    return mbc_usage_error(&mbc_delta, "'%s' is none of make, apply, revert, inspect",
                           a->action);
}

static int run_delta(int argc, char **argv)
{
    struct arguments a = { .json = false };
    const char *value = NULL;
    int first = 0, status = MBC_DONE, option;
    while ((option = mbc_next_option(&mbc_delta, argc, argv, &value, &first, &status)) >= 0) {
        if (option == OUTPUT) {
            a.output = value;
        } else {
            a.json = true;
        }
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    if (argc == first) {
        return mbc_usage_error(&mbc_delta, "make, apply, revert or inspect?");
    }
    a.action = argv[first];
    a.files = argv + first + 1;
    a.n_files = argc - first - 1;
    return run_action(&a);
}
