/* A whole fine-tuning, from files to a file: what the command runs, and the daemon's trainer.
 *
 *     MODEL.mbool + data [+ teacher] -> steps -> OUT.mbool
 *
 * While it runs, OUT.mbool.state is what an interrupted run goes on from, to the same bits; at
 * the end OUT.mbool takes its place. Both are written aside, synced and renamed. A snapshot
 * writes both, so that OUT.mbool can be served from then on.
 *
 * Exact:   the same files, options and seed give the same OUT.mbool, interrupted or not, at any
 *          number of threads on one kind of processor.
 * Threads: one caller at a time per pool. */
#ifndef MB_CORE_FINETUNE_FINETUNE_H
#define MB_CORE_FINETUNE_FINETUNE_H

#include "core/finetune/trainer.h"
#include "core/import/examples.h"

#define MB_FINETUNE_TOKENS_DEFAULT 2048 /* of a batch */
#define MB_FINETUNE_TOKENS_MAX     (1u << 20)
#define MB_FINETUNE_WINDOW_DEFAULT 512 /* or the context, if that is less */
#define MB_FINETUNE_STATE          ".state"

struct mb_finetune_options {
    const char *model, *data, *output;
    const char *valid, *teacher; /* or NULL */
    struct mb_train_options train;
    uint32_t batch_tokens;
    uint32_t batch_examples; /* of a batch, at most; 0: any number */
    uint32_t window;         /* tokens of a sequence; 0 for the default */
    uint32_t n_epochs;       /* not 0: so often over all data, and train.n_steps is not read */
    uint64_t snapshot_every; /* steps; 0 for never */
    uint32_t
        snapshots_max; /* with snapshot_every: seldom enough that there are no more; 0: any */
    uint64_t valid_every; /* steps; 0 for the beginning and the end only, and with
                                snapshots_max before each snapshot */
    double bad_share;     /* of the lines of data and valid: examples.h */
    bool resume;
    bool read_only; /* end when everything is read and found to fit: nothing is written */
};

enum mb_finetune_event_kind {
    MB_FINETUNE_READY,    /* everything is read */
    MB_FINETUNE_STEP,     /* report is of the step */
    MB_FINETUNE_VALID,    /* valid is of the model after report.step steps */
    MB_FINETUNE_SNAPSHOT, /* written */
    MB_FINETUNE_DONE,     /* the output is written */
};

struct mb_finetune_event {
    enum mb_finetune_event_kind kind;
    struct mb_train_report
        report; /* of the last step; zero before the first but for n_weights */
    struct mb_losses valid;
    uint32_t batch_tokens; /* of the step */
    uint64_t n_steps, n_done;
    uint64_t n_examples, n_learned; /* of the data: sequences, tokens to be predicted */
    struct mb_examples_report lines;
    double state_bytes; /* of training, per weight */
};

/* Told of what happens; stop, asked after each step, may end the run with a snapshot. Either may be
 * NULL. Called from the thread that runs. */
struct mb_finetune_watch {
    void (*tell)(void *self, const struct mb_finetune_event *e);
    bool (*stop)(void *self);
    void *self;
};

struct mb_finetune_options mb_finetune_defaults(void);

/* Errors: those of reading and writing the files; MB_E_INVALID for options, data or teacher that do
 * not fit the model; MB_E_CANCELLED when it was stopped, and its state written. */
enum mb_status mb_finetune(const struct mb_finetune_options *o, struct mb_pool *pool,
                           const struct mb_finetune_watch *watch, struct mb_error *err);

#endif
