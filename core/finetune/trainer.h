/* Fine-tuning of a Boolean model: batches in, a better model out. One step is the gradient
 * engine's run with this trainer as the sink: each layer is updated as its gradient arrives.
 *
 *     rate(t) = warm-up to 1 over the first share of the steps, times (1 + cos(pi t / n)) / 2
 *
 * multiplies every step size and the flip budget. Defaults (trainer.c) were measured: README.md.
 *
 * Memory:  the gradient engine's; the draft's; per weight the flipper's; 16 bytes for each
 *          element of norms and input scales, and of a float16 embedding and head if trained.
 * Exact:   the same model, teacher, batches, options: the same bits, interrupted or not, at any
 *          number of threads on one kind of processor.
 * Life:    _new/_free. Threads: one at a time; the pool's workers run inside. */
#ifndef MB_CORE_FINETUNE_TRAINER_H
#define MB_CORE_FINETUNE_TRAINER_H

#include "core/finetune/draft.h"
#include "core/finetune/flip.h"
#include "core/finetune/gradient.h"

#define MB_TRAIN_STEPS_MAX (1u << 30)

struct mb_train_options {
    struct mb_gradient_options gradient;
    struct mb_flip_options flip;
    uint64_t n_steps;
    double warm_up;     /* share of the steps, 0..1 */
    double step;        /* of weights, in half distances of their matrix's levels */
    double coef_step;   /* of coefficients, in those of their group; 0 leaves them */
    double vector_step; /* of norms and input scales, in units of their size; 0 leaves them */
    double budget;      /* share of a matrix's weights that may flip in one step */
    uint64_t refresh_every; /* steps between closed-form coefficients; 0 for never */
    bool vocabulary;        /* train embedding and head too */
    uint64_t seed;
};

/* What was measured to work; the caller fills in pool, ops, sizes of batches, loss and steps. */
struct mb_train_options mb_train_defaults(void);

struct mb_train_report {
    struct mb_losses losses;     /* before the update */
    uint64_t step;               /* that was done, from 1 */
    double rate;                 /* of the schedule */
    struct mb_flip_counts flips; /* of this step */
    struct mb_flip_counts total; /* of all steps; n_moved weights of n_weights have moved */
    uint64_t n_weights;          /* Boolean ones that are trained */
};

struct mb_trainer;

/* base is Boolean; teacher, a float model of the same shape, or NULL. Both are held by reference.
 * Errors: MB_E_INVALID, MB_E_NOMEM. */
enum mb_status mb_trainer_new(struct mb_model *base, struct mb_model *teacher,
                              const struct mb_train_options *o, struct mb_trainer **ret,
                              struct mb_error *err);
void mb_trainer_free(struct mb_trainer *t); /* NULL is allowed */

/* Errors: those of the gradient engine. A step that fails leaves the model half updated. */
enum mb_status mb_trainer_step(struct mb_trainer *t, const struct mb_train_batch *b,
                               struct mb_train_report *ret, struct mb_error *err);
/* The losses alone. */
enum mb_status mb_trainer_losses(struct mb_trainer *t, const struct mb_train_batch *b,
                                 struct mb_losses *ret, struct mb_error *err);

const struct mb_draft *mb_trainer_draft(const struct mb_trainer *t);
struct mb_gradient *mb_trainer_gradient(const struct mb_trainer *t);
uint64_t mb_trainer_steps_done(const struct mb_trainer *t);
double mb_trainer_state_bytes(const struct mb_trainer *t); /* per Boolean weight */
/* Of matrix i of mb_draft_linears; all 0 when it is not trained. *ret_weights is its size. */
struct mb_flip_counts mb_trainer_counts(const struct mb_trainer *t, size_t i,
                                        uint64_t *ret_weights);

/* The state after the last step, to go on from, piece by piece: at most one matrix is held twice.
 * Errors: those of put; MB_E_NOMEM. */
typedef enum mb_status mb_trainer_put_fn(void *self, const struct mb_bytes *piece,
                                         struct mb_error *err);
enum mb_status mb_trainer_save(const struct mb_trainer *t, mb_trainer_put_fn *put, void *self,
                               struct mb_error *err);
/* Errors: MB_E_FORMAT when the whole of from is not of a trainer made alike. */
enum mb_status mb_trainer_load(struct mb_trainer *t, struct mb_cursor *from,
                               struct mb_error *err);

#endif
