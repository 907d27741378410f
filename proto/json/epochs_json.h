/* What is asked and said of the epochs of a model: POST /v1/mbool/models/{model}/promote, rollback and
 * pin, GET /v1/mbool/models/{model}/epochs.
 *
 * Owns:    what an encoder returns is malloc'ed and the caller's; NULL when memory is refused.
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_EPOCHS_JSON_H
#define MB_PROTO_EPOCHS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/completion.h"
#include "proto/wire_error.h"

#define MB_EPOCH_ID_MAX 16 /* a digest as hexadecimal digits */

/* {"to": a model's name, or an epoch's id} */
struct mb_promotion {
    char to[MB_MODEL_NAME_MAX + 1];
};
/* ret is written on success only. Errors: MB_E_INVALID or MB_E_NOMEM, with *err filled. */
enum mb_status mb_promotion_decode(const char *text, size_t n, struct mb_promotion *ret,
                                   struct mb_wire_error *err);
char *mb_promotion_encode(const struct mb_promotion *p);
/* {"pinned": true or false}; true when it is not said. An empty body says nothing. */
enum mb_status mb_pinning_decode(const char *text, size_t n, bool *ret,
                                 struct mb_wire_error *err);
char *mb_pinning_encode(bool pinned);

/* What a model is after one of these. */
struct mb_model_epoch {
    const char *model, *epoch, *fingerprint;
    const char *before; /* the epoch that it was; the same when nothing changed */
    bool pinned;
};
char *mb_model_epoch_encode(const struct mb_model_epoch *m);

struct mb_epoch_card {
    const char *id, *fingerprint;
    const char *parent; /* the checkpoint's that it is a delta of; NULL: it is a checkpoint */
    const char *source; /* the name of the file that it came from */
    int64_t created;    /* seconds since 1970, when this daemon loaded it */
    bool current;       /* the model that was asked for is this one */
    const char *const *models; /* [n_models] all names that are */
    size_t n_models;
    uint64_t requests; /* that run on it */
    uint64_t private_bytes;
};
struct mb_epoch_list {
    const char *model, *base;
    const char *rollback_to; /* an epoch; NULL: to none */
    bool pinned;
    const struct mb_epoch_card *epochs; /* [n_epochs] */
    size_t n_epochs;
};
char *mb_epoch_list_encode(const struct mb_epoch_list *l);

/* ---- for clients ------------------------------------------------------------------------- */

struct mb_epoch_listed {
    char id[MB_EPOCH_ID_MAX + 1], parent[MB_EPOCH_ID_MAX + 1]; /* parent "": none */
    char source[256];
    char models[512]; /* with commas between; cut when they are many */
    int64_t created;
    bool current, rollback;
    uint64_t requests, private_bytes;
};
/* GET .../epochs. *ret is an array of *ret_n, malloc'ed; NULL for none.
 * Errors: MB_E_FORMAT, MB_E_NOMEM. */
enum mb_status mb_epochs_decode(const char *text, size_t n, struct mb_epoch_listed **ret,
                                size_t *ret_n, bool *ret_pinned, struct mb_error *err);
/* The answer to promote, rollback and pin. Errors: MB_E_FORMAT. */
struct mb_model_epoch_told {
    char model[MB_MODEL_NAME_MAX + 1], epoch[MB_EPOCH_ID_MAX + 1], before[MB_EPOCH_ID_MAX + 1];
    bool pinned;
};
enum mb_status mb_model_epoch_decode(const char *text, size_t n,
                                     struct mb_model_epoch_told *ret, struct mb_error *err);

#endif
