/* A slot: the place in the engine of one sequence at a time, and what turns its logits to
 * events.
 *
 *     logits -> constraint -> sampler -> token -> decoder -> text -> stops -> what may be shown -> ring
 *
 * Memory:  everything at _init; a token allocates nothing.
 * Threads: the engine's. draw may run on a worker of the engine's pool; it touches its slot
 *          only. */
#ifndef MBD_SLOT_H
#define MBD_SLOT_H

#include <stdint.h>

#include "core/base/bytes.h"
#include "core/infer/kv_cache.h"
#include "core/infer/sample.h"
#include "core/tokenizer/tokenizer.h"
#include "server/metrics/metrics.h"
#include "server/requests/request.h"

struct mbd_slot {
    struct mbd_request *request; /* NULL: free; else a reference */
    uint64_t order;              /* of admission */
    uint32_t n_prompt;           /* tokens of the prompt */
    uint32_t n_stored;           /* positions in the KV cache */
    uint32_t
        recent[MB_KV_BLOCK]; /* the tokens there, of the last of them: position p at p modulo
                                     MB_KV_BLOCK */
    uint32_t n_drawn;        /* tokens that the sampler drew */
    uint64_t last_ns;        /* when the last was told; before the first, the submission */
    struct mb_sampled drawn; /* the last one */
    bool stuck;              /* no token may follow: its constraint outgrew its memory */
    struct mb_sampler *sampler;
    uint32_t n_vocab;
    struct mb_decoder decoder;
    struct mb_bytes decoded, shown; /* of one token; cleared for each */
};

enum mb_status mbd_slot_init(struct mbd_slot *s, const struct mb_kernels *kernels,
                             uint32_t n_vocab, struct mb_error *err);
void mbd_slot_fini(struct mbd_slot *s);

/* Takes over the caller's reference on r, which becomes PREFILL. So many positions are stored
 * already. */
void mbd_slot_start(struct mbd_slot *s, struct mbd_request *r, uint32_t n_stored,
                    uint64_t order, uint64_t now_ns);
/* Does somebody want to know how likely the tokens of the prompt are that is being stored? Then the
 * logits of every position go to score. */
bool mbd_slot_scores(const struct mbd_slot *s);
void mbd_slot_score(struct mbd_slot *s, uint32_t position, const float *logits);
/* Draws the next token from logits [n_vocab], where what a constraint forbids becomes -inf. */
void mbd_slot_draw(struct mbd_slot *s, float *logits);
/* Tells the token that was drawn, and returns why the sequence ends with it, if it does. */
enum mb_finish mbd_slot_tell(struct mbd_slot *s, uint64_t now_ns, struct mbd_metrics *metrics);
/* Ends the request: tells its final state, gives the reference back, and frees the slot. */
void mbd_slot_end(struct mbd_slot *s, enum mbd_request_state state, enum mb_finish finish,
                  enum mb_status status, uint64_t now_ns);

/* The weights that its sequence runs on. */
const struct mb_model *mbd_slot_model(const struct mbd_slot *s);
/* The next position to be stored, and the token that belongs there: of the prompt, or the one
 * drawn last. */
uint32_t mbd_slot_next(const struct mbd_slot *s);
uint32_t mbd_slot_token(const struct mbd_slot *s, uint32_t position);
/* Are the hidden states of its prompt wanted? Then those of each position that a step stored are added,
 * in order: hidden is [D]. No token is drawn. */
bool mbd_slot_wants_hidden(const struct mbd_slot *s);
void mbd_slot_add_hidden(struct mbd_slot *s, const float *hidden, uint32_t width);
/* The tokens of a whole block of stored positions, [MB_KV_BLOCK]: any of the prompt, or the last that
 * was filled. */
const uint32_t *mbd_slot_block(const struct mbd_slot *s, uint32_t block);
/* The next n positions are stored. */
void mbd_slot_stored(struct mbd_slot *s, uint32_t n);

#endif
