/* A chat with a model of a daemon: one message and its answer, or turns at a terminal with all
 * that was said before. */
#ifndef MBC_CONVERSATION_H
#define MBC_CONVERSATION_H

#include "clients/cli/asking.h"

struct mbc_conversation {
    struct mbc_transport *transport;
    const struct mbc_asking *asking;
    const char *model;
    const char *system; /* the first message, or NULL */
    bool may_complete;  /* a model that has no chat template completes the message instead */

    /* What follows is the conversation's own. */
    bool completes;
    struct mbc_turn {
        const char *role; /* a constant */
        struct mb_bytes text;
    } * turns;
    size_t n_turns, cap;
};

/* Says message and shows the answer; with NULL, what standard input holds, or, at a terminal, line
 * after line until its end. Ctrl-C ends an answer there, and between answers the chat.
 * Errors: MB_E_CANCELLED after Ctrl-C; the daemon's. */
enum mb_status mbc_converse(struct mbc_conversation *c, const char *message,
                            struct mb_error *err);

void mbc_conversation_fini(struct mbc_conversation *c);

#endif
