/* Names of models, and what they are now: weights, tokenizer, and the engine that runs them.
 *
 * Life:    _new; _add each model; _start the engines; _stop them; _free. Between _stop and
 * _free requests may still be read and dropped. Threads: the control thread. */
#ifndef MBD_REGISTRY_H
#define MBD_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/constrain/token_trie.h"
#include "core/model/model.h"
#include "core/template/template.h"
#include "core/tokenizer/tokenizer.h"
#include "proto/json/tool_calls_json.h"
#include "server/config/options.h"
#include "server/engine/engine.h"

struct mbd_entry {
    char name[MB_MODEL_NAME_MAX + 1];
    struct mb_model *model;
    struct mb_tokenizer *tokenizer;
    struct mb_token_trie *trie;  /* of the tokenizer, for answers held to a format */
    struct mb_template *chat;    /* NULL when chats can not be written: chat_error says why */
    enum mb_call_form call_form; /* how this model calls tools; NONE: it was not told of any */
    char chat_error[200];
    struct mbd_engine *engine; /* NULL until started */
    int64_t created;           /* seconds since 1970, when it was loaded */
    uint32_t context_max;      /* positions of a sequence; known once started */
    char fingerprint[64];      /* "mbool-<version>-<digest>": equal ones answer alike (A1) */
};

struct mbd_registry;

enum mb_status mbd_registry_new(struct mbd_registry **ret, struct mb_error *err);
void mbd_registry_free(struct mbd_registry *r); /* NULL is allowed; stops what still runs */

/* Opens a checkpoint: structure checked, weights mapped, tokenizer built.
 * Errors: those of opening, with the name and the file before them. */
enum mb_status mbd_registry_add(struct mbd_registry *r, const struct mbd_model_option *m,
                                struct mb_error *err);
/* Could every model have an engine with these options? Errors: those of _start that the options
 * alone are the cause of, with the model's name before them. */
enum mb_status mbd_registry_check(const struct mbd_registry *r,
                                  const struct mbd_engine_options *o, struct mb_error *err);
/* An engine for every model, each with these options. Errors: those of mbd_engine_new, with the
 * model's name before them. */
enum mb_status mbd_registry_start(struct mbd_registry *r, const struct mbd_engine_options *o,
                                  struct mb_error *err);
void mbd_registry_drain(struct mbd_registry *r);
/* Ends the engines, cancelling what is left. */
void mbd_registry_stop(struct mbd_registry *r);

size_t mbd_registry_count(const struct mbd_registry *r);
const struct mbd_entry *mbd_registry_at(const struct mbd_registry *r, size_t i);
/* name NULL: the only one there is, or NULL when there are several. */
const struct mbd_entry *mbd_registry_find(const struct mbd_registry *r, const char *name);

/* Did every engine go round its loop within the last timeout_ns? */
bool mbd_registry_alive(const struct mbd_registry *r, uint64_t timeout_ns);

#endif
