#include "core/tokenizer/tokenizer.h"
#include "core/checkpoint/reader.h"

enum mb_status mb_checkpoint_tokenizer(const struct mb_checkpoint *c, struct mb_tokenizer **ret,
                                       struct mb_error *err)
{
    const struct mb_section *s = mb_checkpoint_find(c, "tokenizer");
    if (!s) {
        return mb_fail(err, MB_E_NOTFOUND, 0, "checkpoint: there is no section 'tokenizer'");
    }
    struct mb_tokenizer *t = NULL;
    enum mb_status st =
        mb_tokenizer_from_bytes(mb_checkpoint_data(c, s), (size_t) s->bytes, &t, err);
    if (st != MB_OK) {
        return st;
    }
    uint32_t n_ids = mb_tokenizer_n_vocab(t), n_vocab = mb_checkpoint_shape(c)->n_vocab;
    if (n_ids > n_vocab) {
        mb_tokenizer_free(t);
        return mb_fail(err, MB_E_FORMAT, 0,
                       "tokenizer: ids go up to %u, the model's vocabulary has %u",
                       (unsigned) n_ids - 1, (unsigned) n_vocab);
    }
    *ret = t;
    return MB_OK;
}
