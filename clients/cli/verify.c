/* mbool verify: reads every byte of a checkpoint, and says whether it is what it claims. */
#include <inttypes.h>
#include <jansson.h>

#include "clients/cli/command.h"
#include "core/checkpoint/reader.h"

enum option { JSON };

static const struct mbc_option options[] = {
    [JSON] = { "json", NULL, "print one JSON object" },
    { NULL, NULL, NULL },
};

static int run_verify(int argc, char **argv);

const struct mbc_command mbc_verify = {
    .name = "verify",
    .arguments = "FILE",
    .summary = "check every byte of a checkpoint",
    .details = "Checks structure, all checksums, and what checksums can not show: padding,\n"
               "coefficients, finite numbers, and that the tokenizer can be built.",
    .options = options,
    .run = run_verify,
};

static void print_json(const struct mb_checkpoint *c, const struct mb_error *err)
{
    json_t *root = json_pack("{s:b}", "ok", err == NULL);
    if (c) {
        char digest[17];
        (void) snprintf(digest, sizeof digest, "%016" PRIx64, mb_checkpoint_digest(c));
        (void) json_object_set_new(root, "bytes",
                                   json_integer((json_int_t) mb_checkpoint_bytes(c)));
        (void) json_object_set_new(root, "sections",
                                   json_integer((json_int_t) mb_checkpoint_sections(c)));
        (void) json_object_set_new(root, "digest", json_string(digest));
    }
    if (err) {
        json_t *what = json_string(err->what); /* may hold a path, which need not be UTF-8 */
        (void) json_object_set_new(root, "error", what ? what : json_null());
    }
    (void) json_dumpf(root, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(root);
}

static int verify(const char *path, bool json)
{
    struct mb_error err = { 0 };
    struct mb_checkpoint *c = NULL;
    enum mb_status st = mb_checkpoint_open(path, &c, &err);
    if (st == MB_OK) {
        struct mb_progress bar = mbc_progress_begin("verify");
        st = mb_checkpoint_verify(c, &bar, &err);
        mbc_progress_end();
    }
    if (json) {
        print_json(c, st == MB_OK ? NULL : &err);
    } else if (st == MB_OK) {
        printf("%s: ok, %" PRIu64 " bytes in %zu sections, digest %016" PRIx64 "\n", path,
               mb_checkpoint_bytes(c), mb_checkpoint_sections(c), mb_checkpoint_digest(c));
    }
    mb_checkpoint_free(c);
    return st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_verify, &err);
}

static bool take(void *arguments, int option, const char *value)
{
    (void) value;
    bool *json = arguments;
    *json |= option == JSON;
    return true;
}

static int run_verify(int argc, char **argv)
{
    const char *path;
    int status;
    bool json = false;
    if (!mbc_parse_line(&mbc_verify, argc, argv, "a checkpoint", take, &json, &path, &status)) {
        return status;
    }
    return verify(path, json);
}
