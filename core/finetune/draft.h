/* A private copy of a Boolean model that may be written to: what training works on. Its bits,
 * scales and coefficients have the layout of a checkpoint, so it runs, and is written, as any
 * model. Embedding and head are copied only to be trained; else they are the base's own.
 *
 * Memory:  that of the base's blocks once more. Life: _init/_fini; holds a reference on its base.
 * Threads: one at a time. */
#ifndef MB_CORE_FINETUNE_DRAFT_H
#define MB_CORE_FINETUNE_DRAFT_H

#include <stdbool.h>

#include "core/checkpoint/reader.h"
#include "core/model/model.h"

struct mb_draft {
    struct mb_model *base;
    struct mb_model *model; /* views of the below; valid until _fini */

    /* The blocks' linear layers [layer * MB_BLOCK_LINEARS + l], then embedding and head, whose
     * bits are NULL when they are not copied or not Boolean. */
    struct mb_bool_draft *linears;
    float *norms;         /* [2 n_layers + 1][D]: attn, ffn of each block, then the final one */
    uint16_t **scales;    /* [layer * MB_BLOCK_INPUTS + i], then the head's; NULL where none */
    uint16_t *half_embed; /* float16 embedding and head, or NULL */
    uint16_t *half_head;
};

static inline size_t mb_draft_linears(const struct mb_shape *s)
{
    return (size_t) s->n_layers * MB_BLOCK_LINEARS + 2;
}

/* base's blocks are Boolean. Errors: MB_E_INVALID naming a layer that is not, MB_E_NOMEM. */
enum mb_status mb_draft_init(struct mb_draft *d, struct mb_model *base, bool with_vocabulary,
                             struct mb_error *err);
void mb_draft_fini(struct mb_draft *d); /* a zeroed one is allowed */

/* Writes the draft as a checkpoint with the words of from (tokenizer, chat template), and
 * from's provenance with the lines note added; whole or not at all. */
enum mb_status mb_draft_write(const struct mb_draft *d, const struct mb_checkpoint *from,
                              const char *note, const char *path, struct mb_error *err);

#endif
