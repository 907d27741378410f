/* mbool complete: asks a daemon to go on with a text. */
#include <string.h>

#include "clients/cli/asking.h"
#include "clients/cli/command.h"

static const struct mbc_option options[] = {
    MBC_ASKING_TABLE,
    { 0 },
};

static int run_complete(int argc, char **argv);

const struct mbc_command mbc_complete = {
    .name = "complete",
    .arguments = "MODEL [TEXT]",
    .summary = "ask a daemon to go on with a text",
    .details =
        "MODEL is a name that 'mbool models' lists. Without TEXT, or with '-', standard\n"
        "input is what it goes on with. MBOOL_API_KEY is sent as the API key.",
    .options = options,
    .run = run_complete,
};

static enum mb_status complete(struct mbc_asking *a, const char *model, const char *text,
                               struct mb_error *err)
{
    struct mbc_transport *t;
    struct mb_bytes input = { 0 };
    enum mb_status st = mbc_reach(a->host, &t, err);
    if (st != MB_OK) {
        return st;
    }
    bool from_input = !text || strcmp(text, "-") == 0;
    if (from_input) {
        st = mbc_read_input(&input, err);
    } else {
        mb_bytes_put_text(&input, text);
    }
    if (st == MB_OK) {
        struct mb_request r = { .model = model, .prompt = mb_bytes_text(&input) };
        r.n_prompt = input.len;
        struct mbc_said said;
        st = mbc_ask(t, a, &r, &said, err);
        if (st == MB_OK) {
            mbc_said_print(a, &said);
            if (strcmp(said.finish, "interrupted") == 0) {
                st = mb_fail(err, MB_E_CANCELLED, 0, "interrupted");
            }
        } else if (said.text.len > 0 && !a->json) {
            (void) putchar('\n');
        }
        mbc_said_fini(&said);
    }
    mb_bytes_fini(&input);
    mbc_transport_free(t);
    return st;
}

static int run_complete(int argc, char **argv)
{
    struct mbc_asking a = { .command = &mbc_complete };
    const char *value;
    int first, status, option;
    while ((option = mbc_next_option(&mbc_complete, argc, argv, &value, &first, &status)) >=
           0) {
        if (!mbc_asking_take(&a, option, value)) {
            return MBC_USAGE;
        }
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    if (argc - first < 1 || argc - first > 2) {
        return mbc_usage_error(&mbc_complete, "wants MODEL and at most one TEXT; got %d",
                               argc - first);
    }
    mbc_catch_interrupt();
    struct mb_error err = { 0 };
    enum mb_status st =
        complete(&a, argv[first], argc - first == 2 ? argv[first + 1] : NULL, &err);
    return st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_complete, &err);
}
