/* mbool chat: a conversation with a model that a daemon serves. */
#include "clients/cli/conversation.h"

enum { SYSTEM = MBC_ASKING_OPTIONS };

static const struct mbc_option options[] = {
    MBC_ASKING_TABLE,
    [SYSTEM] = { "system", "TEXT", "what the model is told before the first message" },
    { 0 },
};

static int run_chat(int argc, char **argv);

const struct mbc_command mbc_chat = {
    .name = "chat",
    .arguments = "MODEL [MESSAGE]",
    .summary = "talk with a model of a daemon",
    .details =
        "MODEL is a name that 'mbool models' lists, of a model with a chat template. Without\n"
        "MESSAGE, what standard input holds is the message; at a terminal, every line is one,\n"
        "and the model is told what was said before. MBOOL_API_KEY is sent as the API key.",
    .options = options,
    .run = run_chat,
};

static enum mb_status chat(struct mbc_asking *a, const char *system, const char *model,
                           const char *message, struct mb_error *err)
{
    struct mbc_transport *t;
    enum mb_status st = mbc_reach(a->host, &t, err);
    if (st != MB_OK) {
        return st;
    }
    struct mbc_conversation c = {
        .transport = t, .asking = a, .model = model, .system = system
    };
    st = mbc_converse(&c, message, err);
    mbc_conversation_fini(&c);
    mbc_transport_free(t);
    return st;
}

static int run_chat(int argc, char **argv)
{
    struct mbc_asking a = { .command = &mbc_chat };
    const char *value, *system = NULL;
    int first, status, option;
    while ((option = mbc_next_option(&mbc_chat, argc, argv, &value, &first, &status)) >= 0) {
        if (option == SYSTEM) {
            system = value;
        } else if (!mbc_asking_take(&a, option, value)) {
            return MBC_USAGE;
        }
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    if (argc - first < 1 || argc - first > 2) {
        return mbc_usage_error(&mbc_chat, "wants MODEL and at most one MESSAGE; got %d",
                               argc - first);
    }
    mbc_catch_interrupt();
    struct mb_error err = { 0 };
    enum mb_status st =
        chat(&a, system, argv[first], argc - first == 2 ? argv[first + 1] : NULL, &err);
    return st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_chat, &err);
}
