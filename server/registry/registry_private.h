/* What the registry's files share. Private to server/registry.
 *
 * Threads: the control thread. */
#ifndef MBD_REGISTRY_PRIVATE_H
#define MBD_REGISTRY_PRIVATE_H

#include "server/epochs/keeper.h"
#include "server/registry/registry.h"

/* A publication on its way. */
struct mbd_publishing {
    struct mbd_loading loading; /* first: what the keeper hands back */
    struct mbd_base *base;
    char name[MB_MODEL_NAME_MAX + 1];
    char *delta;
    bool automatic;
    mbd_published_fn *done;
    void *arg;
};

struct mbd_registry {
    struct mbd_registry_options o;
    struct mbd_keeper *keeper; /* NULL until started */
    bool draining;
    size_t n_publishing;
    size_t n_bases;
    struct mbd_base *bases[MBD_MODELS_MAX];
    size_t n;
    struct mbd_entry *entries[MBD_NAMES_MAX]; /* models of the start first */
};

/* A new name for an epoch of base, which it takes its own reference on. Errors: MB_E_LIMIT,
 * MB_E_NOMEM. */
enum mb_status mbd_registry_put(struct mbd_registry *r, const char *name, struct mbd_base *base,
                                struct mbd_epoch *epoch, bool published, struct mb_error *err);
void mbd_entry_free(struct mbd_entry *e);
/* The same entry, to be changed. */
struct mbd_entry *mbd_registry_entry(const struct mbd_registry *r, const char *name);
/* Lets go of epochs that nobody needs, and tells the metrics how many are left. */
void mbd_registry_sweep(struct mbd_registry *r);

#endif
