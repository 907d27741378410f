/* Names of models, and what they are now: a base, and one of its epochs.
 *
 *     model tiny ----------> base tiny.mbool --- engine, tokenizer, memory
 *       epoch 3f.. (now)         |
 *       epoch 91.. (before)      +-- epochs 91.., 3f.., c0..
 *     ft:tiny:stories:1 ----->   |
 *       epoch c0.. (now)  -------+
 *
 * A request is given the epoch that its model is when it is admitted, and keeps it (S2). So a swap is
 * a pointer: publish makes a new epoch from a flip delta, away from the control thread and at the
 * lowest priority, and gives it a name; promote lets another name be it; rollback lets it be again
 * what it was before. An epoch that no name is, was within --epochs-max, and that no request runs
 * on, is unmapped, on a thread of its own.
 *
 * Life:    _new; _add each model, and _add_epoch; _start the engines; _stop them; _free. Between _stop
 *          and _free requests may still be read and dropped. Threads: the control thread. */
#ifndef MBD_REGISTRY_H
#define MBD_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/config/options.h"
#include "server/log/log.h"
#include "server/registry/base.h"

/* Names at once: models of the start, fine-tuned ones, and their checkpoints. */
#define MBD_NAMES_MAX      256
/* Epochs that are being loaded or wait for it. */
#define MBD_PUBLISHING_MAX 32

struct mbd_entry {
    char name[MB_MODEL_NAME_MAX + 1];
    struct mbd_base *base;
    struct mbd_epoch *epoch;    /* what it is now: a reference */
    struct mbd_epoch **history; /* [n_history] what it was, newest last: a reference each */
    size_t n_history;
    int64_t since;  /* seconds since 1970, when it became what it is */
    bool pinned;    /* only a person changes what it is */
    bool published; /* came after the start, and can be taken back */
};

struct mbd_registry;

struct mbd_registry_options {
    enum mbd_weights_kind weights;
    uint32_t epochs_max;         /* 0..MBD_EPOCHS_MAX that a name was, and can be again */
    const struct mbd_log *log;   /* borrowed; NULL: silent */
    struct mbd_metrics *metrics; /* borrowed; may be NULL */
};

enum mb_status mbd_registry_new(const struct mbd_registry_options *o, struct mbd_registry **ret,
                                struct mb_error *err);
void mbd_registry_free(struct mbd_registry *r); /* NULL is allowed; stops what still runs */

/* Opens a checkpoint: structure checked, weights mapped, tokenizer built.
 * Errors: those of opening, with the name and the file before them. */
enum mb_status mbd_registry_add(struct mbd_registry *r, const struct mbd_model_option *m,
                                struct mb_error *err);
/* Before the start: an epoch of a model under a name of its own, every byte verified.
 * Errors: as mbd_registry_publish and what it would tell done. */
enum mb_status mbd_registry_add_epoch(struct mbd_registry *r, const struct mbd_epoch_option *o,
                                      struct mb_error *err);
/* Could every model have an engine with these options? Errors: those of _start that the options
 * alone are the cause of, with the model's name before them. */
enum mb_status mbd_registry_check(const struct mbd_registry *r,
                                  const struct mbd_engine_options *o, struct mb_error *err);
/* An engine for every model, each with these options; o->wake is called, too, when there is something
 * for _pump. Errors: those of mbd_engine_new, with the model's name before them. */
enum mb_status mbd_registry_start(struct mbd_registry *r, const struct mbd_engine_options *o,
                                  struct mb_error *err);
/* Tells what was published or failed, and lets go of epochs that nobody needs. After every wake. */
void mbd_registry_pump(struct mbd_registry *r);
void mbd_registry_drain(struct mbd_registry *r);
/* Ends the engines, cancelling what is left; publications that have not ended are told
 * MB_E_CANCELLED. */
void mbd_registry_stop(struct mbd_registry *r);

size_t mbd_registry_count(const struct mbd_registry *r); /* of names */
const struct mbd_entry *mbd_registry_at(const struct mbd_registry *r, size_t i);
/* name NULL: the only model of the start, or NULL when there are several. Until the next change. */
const struct mbd_entry *mbd_registry_find(const struct mbd_registry *r, const char *name);
/* Models of the start, each with a base of its own. */
size_t mbd_registry_bases(const struct mbd_registry *r);
const struct mbd_base *mbd_registry_base(const struct mbd_registry *r, size_t i);

/* Did every engine go round its loop within the last timeout_ns? */
bool mbd_registry_alive(const struct mbd_registry *r, uint64_t timeout_ns);

/* ---- epochs ------------------------------------------------------------------------------ */

/* epoch is borrowed, and NULL when st is not MB_OK: then err says why. Never called by
 * mbd_registry_publish itself. */
typedef void mbd_published_fn(void *arg, enum mb_status st, const struct mb_error *err,
                              const struct mbd_epoch *epoch);

struct mbd_publication {
    const char *model; /* any name of the base that the delta is against */
    const char *name;  /* a new one; or one that was published, which becomes this epoch */
    const char *delta; /* a file; it is not read any more once done was called */
    bool automatic;    /* no person asked: a pinned name refuses */
    mbd_published_fn *done;
    void *arg;
};
/* Loads an epoch, and gives it a name once it is whole: until then nothing has changed, nor if it
 * fails. What publication holds is copied. One after the other, in the order of their coming.
 * Errors: MB_E_NOTFOUND for model; MB_E_INVALID for a name that is none or is a model of the start;
 *         MB_E_CONFLICT when it is pinned or of another base; MB_E_LIMIT, MB_E_UNAVAILABLE when
 *         draining, MB_E_NOMEM. To done: those of mbd_load_delta, and these again. */
enum mb_status mbd_registry_publish(struct mbd_registry *r, const struct mbd_publication *p,
                                    struct mb_error *err);
/* From now on name is what to is: another name of the same base, or the id of an epoch that lives.
 * What it is already stays as it is. automatic: no person asked.
 * Errors: MB_E_NOTFOUND for either; MB_E_CONFLICT when to is of another base, or name is pinned and
 *         the promotion automatic; MB_E_NOMEM. */
enum mb_status mbd_registry_promote(struct mbd_registry *r, const char *name, const char *to,
                                    bool automatic, struct mb_error *err);
/* name is again what it was before the last change. Errors: MB_E_NOTFOUND; MB_E_CONFLICT when that is
 * not known any more. */
enum mb_status mbd_registry_rollback(struct mbd_registry *r, const char *name,
                                     struct mb_error *err);
/* A pinned name refuses what is automatic. Errors: MB_E_NOTFOUND. */
enum mb_status mbd_registry_pin(struct mbd_registry *r, const char *name, bool pinned,
                                struct mb_error *err);
/* Takes a name back; what runs under it goes on to its end. Errors: MB_E_NOTFOUND; MB_E_CONFLICT for a
 * model of the start. */
enum mb_status mbd_registry_unpublish(struct mbd_registry *r, const char *name,
                                      struct mb_error *err);
/* The bytes of the checkpoint of a name's base, for a child process that is to map the same pages:
 * borrowed, closed on exec unless the child is given it. -1: there is no such name. */
int mbd_registry_descriptor(const struct mbd_registry *r, const char *name);

#endif
