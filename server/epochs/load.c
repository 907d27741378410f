#include "server/epochs/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "core/checkpoint/delta.h"

/* Takes over c, which w belongs to. */
static enum mb_status epoch_of(struct mb_checkpoint *c, const char *source,
                               struct mbd_epoch **ret, struct mb_error *err)
{
    struct mb_model *m = NULL;
    enum mb_status st = mb_model_from_checkpoint(c, &m, err);
    if (st != MB_OK) {
        mb_checkpoint_free(c);
        return st;
    }
    st = mbd_epoch_new(m, source, (int64_t) time(NULL), ret, err);
    if (st != MB_OK) {
        mb_model_unref(m);
    }
    return st;
}

enum mb_status mbd_load_delta(const struct mbd_weights *w, const char *delta,
                              const struct mb_progress *p, struct mbd_epoch **ret,
                              struct mb_error *err)
{
    struct mb_delta *d = NULL;
    struct mb_checkpoint *c = NULL;
    uint64_t private_bytes = 0;
    enum mb_status st = mb_delta_open(delta, &d, err);
    if (st != MB_OK) {
        return st;
    }
    uint64_t parent = mb_delta_info(d)->base_digest;
    st = mb_delta_map_fd(d, w->fd, w->file, &c, &private_bytes, err);
    mb_delta_free(d);
    if (st != MB_OK) {
        return st;
    }
    st = mb_checkpoint_verify(c, p, err);
    if (st != MB_OK) {
        mb_checkpoint_free(c);
        return st;
    }
    st = epoch_of(c, delta, ret, err);
    if (st == MB_OK) {
        (*ret)->private_bytes = private_bytes;
        (void) snprintf((*ret)->parent, sizeof(*ret)->parent, "%016" PRIx64, parent);
    }
    return st;
}
