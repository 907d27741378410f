#include "server/registry/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/checkpoint/reader.h"

/* How the template shows calls is how the model makes them. */
static enum mb_call_form call_form_of(const struct mb_template *t, const char *text, size_t n)
{
    static const char marked[] = "<tool_call>", bare[] = "\"parameters\"";
    if (!mb_template_mentions(t, "tools")) {
        return MB_CALLS_NONE;
    }
    if (memmem(text, n, marked, sizeof marked - 1)) {
        return MB_CALLS_MARKED;
    }
    return memmem(text, n, bare, sizeof bare - 1) ? MB_CALLS_BARE : MB_CALLS_NONE;
}

/* A model whose template is missing or broken completes all the same; chats are refused. */
static void load_chat(struct mbd_base *b, const struct mb_checkpoint *c)
{
    struct mb_error err;
    const struct mb_section *s = mb_checkpoint_find(c, "chat_template");
    if (!s || s->kind != MB_SECTION_BYTES) {
        (void) snprintf(b->chat_error, sizeof b->chat_error, "it has no chat template");
        return;
    }
    const char *text = mb_checkpoint_data(c, s);
    if (mb_template_new(text, (size_t) s->bytes, &b->chat, &err) != MB_OK) {
        (void) snprintf(b->chat_error, sizeof b->chat_error, "%.190s", err.what);
        return;
    }
    b->call_form = call_form_of(b->chat, text, (size_t) s->bytes);
}

/* Takes over c. */
static enum mb_status add_first(struct mbd_base *b, struct mb_checkpoint *c,
                                struct mb_error *err)
{
    struct mb_model *m = NULL;
    struct mbd_epoch *e = NULL;
    enum mb_status st = mb_model_from_checkpoint(c, &m, err);
    if (st != MB_OK) {
        mb_checkpoint_free(c);
        return st;
    }
    st = mbd_epoch_new(m, b->weights.file, (int64_t) time(NULL), &e, err);
    if (st != MB_OK) {
        mb_model_unref(m);
        return st;
    }
    st = mbd_base_add(b, e, &e, err);
    if (st != MB_OK) {
        mbd_epoch_unref(e);
    }
    return st;
}

static enum mb_status fill(struct mbd_base *b, struct mb_checkpoint *c, struct mb_error *err)
{
    enum mb_status st = mb_checkpoint_tokenizer(c, &b->tokenizer, err);
    if (st == MB_OK) {
        st = mb_token_trie_new(b->tokenizer, &b->trie, err);
    }
    if (st != MB_OK) {
        mb_checkpoint_free(c);
        return st;
    }
    load_chat(b, c);
    b->shape = *mb_checkpoint_shape(c);
    b->bytes = mb_checkpoint_bytes(c);
    b->context_max = b->shape.context;
    return add_first(b, c, err);
}

enum mb_status mbd_base_open(const char *name, const char *file, enum mbd_weights_kind kind,
                             struct mbd_base **ret, struct mb_error *err)
{
    struct mb_checkpoint *c = NULL;
    struct mbd_base *b = calloc(1, sizeof *b);
    if (!b) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a model");
    }
    (void) snprintf(b->name, sizeof b->name, "%s", name);
    enum mb_status st = mbd_weights_open(file, kind, &b->weights, err);
    if (st == MB_OK) {
        st = mbd_weights_map(&b->weights, &c, err);
    }
    if (st == MB_OK) {
        st = fill(b, c, err);
    }
    if (st != MB_OK) {
        mbd_base_free(b);
        return st;
    }
    *ret = b;
    return MB_OK;
}

void mbd_base_free(struct mbd_base *b)
{
    if (!b) {
        return;
    }
    assert(!b->engine);
    for (size_t i = 0; i < b->n_epochs; i++) {
        mbd_epoch_unref(b->epochs[i]);
    }
    free(b->epochs);
    mb_template_free(b->chat);
    mb_token_trie_free(b->trie);
    mb_tokenizer_free(b->tokenizer);
    mbd_weights_close(&b->weights);
    free(b);
}

struct mbd_epoch *mbd_base_find(const struct mbd_base *b, const char *id)
{
    for (size_t i = 0; i < b->n_epochs; i++) {
        if (strcmp(b->epochs[i]->id, id) == 0) {
            return b->epochs[i];
        }
    }
    return NULL;
}

static bool make_room(struct mbd_base *b)
{
    if (b->n_epochs < b->epochs_cap) {
        return true;
    }
    size_t cap = b->epochs_cap > 0 ? 2 * b->epochs_cap : 8;
    struct mbd_epoch **more = realloc(b->epochs, cap * sizeof(struct mbd_epoch *));
    if (more) {
        b->epochs = more;
        b->epochs_cap = cap;
    }
    return more != NULL;
}

enum mb_status mbd_base_add(struct mbd_base *b, struct mbd_epoch *e, struct mbd_epoch **ret,
                            struct mb_error *err)
{
    struct mbd_epoch *same = mbd_base_find(b, e->id);
    if (!same && !make_room(b)) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for an epoch");
    }
    if (same) {
        mbd_epoch_unref(e);
    } else {
        b->epochs[b->n_epochs++] = e;
    }
    *ret = same ? same : e;
    return MB_OK;
}

struct mbd_epoch *mbd_base_take_unused(struct mbd_base *b)
{
    for (size_t i = 1; i < b->n_epochs; i++) {
        struct mbd_epoch *e = b->epochs[i];
        if (mbd_epoch_is_last(e)) {
            memmove(&b->epochs[i], &b->epochs[i + 1],
                    (--b->n_epochs - i) * sizeof(struct mbd_epoch *));
            return e;
        }
    }
    return NULL;
}
