/* mbool files: what a daemon has to fine-tune on. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/asking.h"
#include "clients/cli/command.h"

enum { HOST, JSON };

static const struct mbc_option options[] = {
    [HOST] = MBC_HOST_OPTION,
    [JSON] = { "json", NULL, "print what the daemon says" },
    { 0 },
};

static int run_files(int argc, char **argv);

const struct mbc_command mbc_files = {
    .name = "files",
    .arguments = "list|upload|show|delete [FILE|ID] [--host HOST]",
    .summary = "bring files to a daemon, to fine-tune on",
    .details = "  list             what is there\n"
               "  upload FILE      JSON lines of prompts or messages; prints its id\n"
               "  show ID          one of them\n"
               "  delete ID\n",
    .options = options,
    .run = run_files,
};

struct arguments {
    const char *host, *action, *what;
    bool json;
};

static const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "-";
}

static void print_file(const json_t *f)
{
    char made[32] = "-";
    time_t when = (time_t) json_integer_value(json_object_get(f, "created_at"));
    struct tm local;
    if (localtime_r(&when, &local)) {
        (void) strftime(made, sizeof made, "%Y-%m-%d %H:%M:%S", &local);
    }
    printf("%-21s  %12lld  %-19s  %-9s  %s\n", text_of(f, "id"),
           (long long) json_integer_value(json_object_get(f, "bytes")), made,
           text_of(f, "status"), text_of(f, "filename"));
    if (json_is_string(json_object_get(f, "status_details"))) {
        printf("  %s\n", text_of(f, "status_details"));
    }
}

static void print_reply(const struct arguments *a, const json_t *reply)
{
    const json_t *one;
    size_t i;
    const json_t *data = json_object_get(reply, "data");
    if (strcmp(a->action, "upload") == 0) {
        printf("%s\n", text_of(reply, "id"));
        if (json_is_string(json_object_get(reply, "status_details"))) {
            fprintf(stderr, "mbool files: %s\n", text_of(reply, "status_details"));
        }
        return;
    }
    if (strcmp(a->action, "delete") == 0) {
        return;
    }
    printf("%-21s  %12s  %-19s  %-9s  %s\n", "FILE", "BYTES", "UPLOADED", "STATUS", "NAME");
    if (!data) {
        print_file(reply);
    }
    json_array_foreach (data, i, one) {
        print_file(one);
    }
}

static enum mb_status act(const struct arguments *a, struct mb_error *err)
{
    struct mbc_transport *t;
    struct mb_bytes body = { 0 };
    char path[160];
    bool upload = strcmp(a->action, "upload") == 0;
    enum mb_status st = mbc_reach(a->host, &t, err);
    if (st != MB_OK) {
        return st;
    }
    (void) snprintf(path, sizeof path, "/v1/files%s%.100s", a->what && !upload ? "/" : "",
                    a->what && !upload ? a->what : "");
    const struct mbc_request r = { .path = path,
                                   .upload = upload ? a->what : NULL,
                                   .remove = strcmp(a->action, "delete") == 0 };
    st = mbc_send(t, &r, &body, err);
    json_t *reply = NULL;
    if (st == MB_OK && !(reply = json_loadb((const char *) body.at, body.len, 0, NULL))) {
        st = mb_fail(err, MB_E_FORMAT, 0, "the answer is no JSON");
    }
    if (st == MB_OK && a->json) {
        printf("%s\n", mb_bytes_text(&body));
    } else if (st == MB_OK) {
        print_reply(a, reply);
    }
    json_decref(reply);
    mb_bytes_fini(&body);
    mbc_transport_free(t);
    return st;
}

static int run_files(int argc, char **argv)
{
    struct arguments a = { 0 };
    const char *value = NULL;
    int first = 0, status = MBC_DONE, option;
    while ((option = mbc_next_option(&mbc_files, argc, argv, &value, &first, &status)) >= 0) {
        a.json |= option == JSON;
        a.host = option == HOST ? value : a.host;
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    a.action = first < argc ? argv[first] : "list";
    a.what = first + 1 < argc ? argv[first + 1] : NULL;
    bool list = strcmp(a.action, "list") == 0;
    bool known = list || strcmp(a.action, "upload") == 0 || strcmp(a.action, "show") == 0 ||
                 strcmp(a.action, "delete") == 0;
    if (!known || list != !a.what || argc - first > 2) {
        return mbc_usage_error(&mbc_files, "list, upload FILE, show ID or delete ID?");
    }
    struct mb_error err = { 0 };
    return act(&a, &err) == MB_OK ? MBC_DONE : mbc_report_error(&mbc_files, &err);
}
