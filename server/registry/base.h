/* A base: what all epochs of a model have in common (S4): the bytes of its checkpoint, tokenizer, chat
 * template, and the one engine that runs them.
 *
 * Life:    the registry's, from the start to the end of the daemon.
 * Threads: the control thread; tokenizer, trie and template may be read from any. */
#ifndef MBD_BASE_H
#define MBD_BASE_H

#include <stdint.h>

#include "core/constrain/token_trie.h"
#include "core/template/template.h"
#include "core/tokenizer/tokenizer.h"
#include "proto/json/tool_calls_json.h"
#include "server/engine/engine.h"
#include "server/epochs/epoch.h"
#include "server/epochs/weights.h"

struct mbd_base {
    char name[MB_MODEL_NAME_MAX + 1]; /* of the model that it was opened for */
    struct mbd_weights weights;
    struct mb_shape shape;
    uint64_t bytes; /* of the checkpoint */
    struct mb_tokenizer *tokenizer;
    struct mb_token_trie *trie;  /* of the tokenizer, for answers held to a format */
    struct mb_template *chat;    /* NULL when chats can not be written: chat_error says why */
    enum mb_call_form call_form; /* how this model calls tools; NONE: it was not told of any */
    char chat_error[200];
    struct mbd_engine *engine; /* NULL until started */
    uint32_t context_max;      /* positions of a sequence; known once started */
    struct mbd_epoch **epochs; /* [n_epochs] those that live, oldest first: a reference each */
    size_t n_epochs, epochs_cap;
};

/* Opens a checkpoint: structure checked, weights mapped, tokenizer built. Its epoch is the first of
 * epochs, and stays. Errors: those of opening. */
enum mb_status mbd_base_open(const char *name, const char *file, enum mbd_weights_kind kind,
                             struct mbd_base **ret, struct mb_error *err);
void mbd_base_free(struct mbd_base *b); /* NULL is allowed; its engine is gone before */

/* Takes over the caller's reference on e, on success. What has the id of one that lives is that one,
 * and e is let go: *ret is borrowed. Errors: MB_E_NOMEM. */
enum mb_status mbd_base_add(struct mbd_base *b, struct mbd_epoch *e, struct mbd_epoch **ret,
                            struct mb_error *err);
/* One that lives, by its id, or NULL. */
struct mbd_epoch *mbd_base_find(const struct mbd_base *b, const char *id);
/* Takes out one that nobody but b holds, with its reference; NULL when all are held. Never the
 * checkpoint's own, which costs no memory and can always be gone back to. */
struct mbd_epoch *mbd_base_take_unused(struct mbd_base *b);

#endif
