/* An epoch: one version of a model's weights that never changes (S1).
 *
 * A model begins with one epoch, its checkpoint's; fine-tuning adds others, which differ from it by a
 * flip delta and share all else: shape and tokenizer (S4), and the memory of every page that did
 * not change. So one engine runs all epochs of a model side by side.
 *
 * Life:    whoever loads it makes it, with one reference. Names hold references to what they are,
 *          and were; a request holds one from its submission to its end (S2). The registry holds
 *          one of its own and drops it last, on a thread where unmapping may take its time.
 * Threads: immutable but for the counts; references are taken and dropped on any thread. */
#ifndef MBD_EPOCH_H
#define MBD_EPOCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/model/model.h"

#define MBD_EPOCH_ID_MAX    16
#define MBD_FINGERPRINT_MAX 63

struct mbd_epoch {
    struct mb_model *model;                    /* a reference */
    char id[MBD_EPOCH_ID_MAX + 1];             /* the digest of its checkpoint: 16 hex digits */
    char fingerprint[MBD_FINGERPRINT_MAX + 1]; /* "mbool-<version>-<id>": equal ones answer
                                                   alike (A1) */
    char parent[MBD_EPOCH_ID_MAX + 1];         /* of what it is a delta; "" for a checkpoint */
    char *source;                              /* the file it came from */
    int64_t created;                           /* seconds since 1970, when it was loaded */
    uint64_t private_bytes; /* of pages that it does not share with its parent */

    atomic_uint n_refs, n_requests;
    struct mbd_epoch *next; /* among those that are to be unmapped (keeper.h) */
};

/* Takes over the caller's reference on model, on success. source is copied.
 * Errors: MB_E_NOMEM. */
enum mb_status mbd_epoch_new(struct mb_model *model, const char *source, int64_t created,
                             struct mbd_epoch **ret, struct mb_error *err);
struct mbd_epoch *mbd_epoch_ref(struct mbd_epoch *e);
void mbd_epoch_unref(struct mbd_epoch *e); /* NULL is allowed; the last one unmaps and frees */
bool mbd_epoch_is_last(const struct mbd_epoch *e); /* is the caller's the only reference? */

/* A request's reference: counted, too, as a request in flight. */
struct mbd_epoch *mbd_epoch_begin(struct mbd_epoch *e);
void mbd_epoch_end(struct mbd_epoch *e); /* NULL is allowed */
unsigned mbd_epoch_requests(const struct mbd_epoch *e);

#endif
