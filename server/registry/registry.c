#include "server/registry/registry.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/checkpoint/reader.h"
#include "server/clock.h"
#include "server/engine/engine_check.h"

struct mbd_registry {
    size_t n;
    struct mbd_entry entries[MBD_MODELS_MAX];
};

enum mb_status mbd_registry_new(struct mbd_registry **ret, struct mb_error *err)
{
    struct mbd_registry *r = calloc(1, sizeof *r);
    if (!r) {
        return mb_fail(err, MB_E_NOMEM, 0, "registry: no memory");
    }
    *ret = r;
    return MB_OK;
}

static void entry_fini(struct mbd_entry *e)
{
    assert(!e->engine);
    mb_template_free(e->chat);
    mb_token_trie_free(e->trie);
    mb_tokenizer_free(e->tokenizer);
    mb_model_unref(e->model);
    *e = (struct mbd_entry) { 0 };
}

void mbd_registry_free(struct mbd_registry *r)
{
    if (!r) {
        return;
    }
    mbd_registry_stop(r);
    for (size_t i = 0; i < r->n; i++) {
        entry_fini(&r->entries[i]);
    }
    free(r);
}

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
static void load_chat(struct mbd_entry *e, const struct mb_checkpoint *c)
{
    struct mb_error err;
    const struct mb_section *s = mb_checkpoint_find(c, "chat_template");
    if (!s || s->kind != MB_SECTION_BYTES) {
        (void) snprintf(e->chat_error, sizeof e->chat_error, "it has no chat template");
        return;
    }
    const char *text = mb_checkpoint_data(c, s);
    if (mb_template_new(text, (size_t) s->bytes, &e->chat, &err) != MB_OK) {
        (void) snprintf(e->chat_error, sizeof e->chat_error, "%.190s", err.what);
        return;
    }
    e->call_form = call_form_of(e->chat, text, (size_t) s->bytes);
}

static enum mb_status load(struct mbd_entry *e, const char *file, struct mb_error *err)
{
    struct mb_checkpoint *c = NULL;
    enum mb_status st = mb_checkpoint_open(file, &c, err);
    if (st == MB_OK) {
        st = mb_checkpoint_tokenizer(c, &e->tokenizer, err);
    }
    if (st == MB_OK) {
        st = mb_token_trie_new(e->tokenizer, &e->trie, err);
    }
    if (st == MB_OK) {
        load_chat(e, c);
        st = mb_model_from_checkpoint(c, &e->model, err);
    }
    if (st != MB_OK) {
        mb_checkpoint_free(c);
    }
    return st;
}

enum mb_status mbd_registry_add(struct mbd_registry *r, const struct mbd_model_option *m,
                                struct mb_error *err)
{
    assert(r->n < MBD_MODELS_MAX && !mbd_registry_find(r, m->name));
    struct mbd_entry e = { 0 };
    struct mb_error why;
    enum mb_status st = load(&e, m->file, &why);
    if (st != MB_OK) {
        entry_fini(&e);
        return mb_fail(err, st, 0, "model '%s' from '%.160s': %s", m->name, m->file, why.what);
    }
    (void) snprintf(e.name, sizeof e.name, "%s", m->name);
    (void) snprintf(e.fingerprint, sizeof e.fingerprint, "mbool-%s-%016" PRIx64, MB_VERSION,
                    e.model->digest);
    e.created = (int64_t) time(NULL);
    e.context_max = e.model->shape.context;
    r->entries[r->n++] = e;
    return MB_OK;
}

enum mb_status mbd_registry_check(const struct mbd_registry *r,
                                  const struct mbd_engine_options *o, struct mb_error *err)
{
    for (size_t i = 0; i < r->n; i++) {
        const struct mbd_entry *e = &r->entries[i];
        struct mb_error why;
        enum mb_status st = mbd_engine_check(o, &e->model->shape, e->tokenizer, &why);
        if (st != MB_OK) {
            return mb_fail(err, st, 0, "model '%s': %s", e->name, why.what);
        }
    }
    return MB_OK;
}

enum mb_status mbd_registry_start(struct mbd_registry *r, const struct mbd_engine_options *o,
                                  struct mb_error *err)
{
    for (size_t i = 0; i < r->n; i++) {
        struct mbd_entry *e = &r->entries[i];
        struct mb_error why;
        enum mb_status st = mbd_engine_new(e->model, e->tokenizer, o, &e->engine, &why);
        if (st != MB_OK) {
            return mb_fail(err, st, 0, "model '%s': %s", e->name, why.what);
        }
        struct mbd_engine_stats stats;
        mbd_engine_stats(e->engine, &stats);
        e->context_max = stats.context_max;
    }
    return MB_OK;
}

void mbd_registry_drain(struct mbd_registry *r)
{
    for (size_t i = 0; i < r->n; i++) {
        mbd_engine_drain(r->entries[i].engine);
    }
}

void mbd_registry_stop(struct mbd_registry *r)
{
    for (size_t i = 0; i < r->n; i++) {
        mbd_engine_free(r->entries[i].engine);
        r->entries[i].engine = NULL;
    }
}

size_t mbd_registry_count(const struct mbd_registry *r)
{
    return r->n;
}

const struct mbd_entry *mbd_registry_at(const struct mbd_registry *r, size_t i)
{
    assert(i < r->n);
    return &r->entries[i];
}

const struct mbd_entry *mbd_registry_find(const struct mbd_registry *r, const char *name)
{
    if (!name) {
        return r->n == 1 ? &r->entries[0] : NULL;
    }
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->entries[i].name, name) == 0) {
            return &r->entries[i];
        }
    }
    return NULL;
}

bool mbd_registry_alive(const struct mbd_registry *r, uint64_t timeout_ns)
{
    uint64_t now = mbd_now_ns();
    for (size_t i = 0; i < r->n; i++) {
        struct mbd_engine_stats stats;
        mbd_engine_stats(r->entries[i].engine, &stats);
        if (stats.heartbeat_ns + timeout_ns < now) {
            return false;
        }
    }
    return true;
}
