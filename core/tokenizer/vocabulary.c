#include "core/tokenizer/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checksum.h"

/* The slot of the text, or the free one where it belongs; *ret_probes tells how far that was.
 * */
static size_t slot_of(const struct mb_vocabulary *v, const uint8_t *at, size_t n,
                      size_t *ret_probes)
{
    size_t i = (size_t) mb_checksum(at, n) & v->mask;
    size_t probes = 0;
    while (v->slots[i] != MB_NO_ID) {
        struct mb_bpe_text t = v->spec->tokens[v->slots[i]].text;
        if (t.n == n && memcmp(mb_bpe_at(v->spec, t), at, n) == 0) {
            break;
        }
        i = (i + 1) & v->mask;
        probes++;
    }
    *ret_probes = probes;
    return i;
}

enum mb_status mb_vocabulary_init(struct mb_vocabulary *v, const struct mb_bpe_spec *spec,
                                  struct mb_error *err)
{
    size_t n_slots = 16;
    while (n_slots < 2 * (size_t) spec->n_tokens) {
        n_slots *= 2;
    }
    *v = (struct mb_vocabulary) { .spec = spec, .mask = n_slots - 1 };
    v->slots = malloc(n_slots * sizeof *v->slots);
    if (!v->slots) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for the vocabulary");
    }
    memset(v->slots, 0xff, n_slots * sizeof *v->slots);
    for (uint32_t id = 0; id < spec->n_tokens; id++) {
        const struct mb_bpe_token *t = &spec->tokens[id];
        if (!(t->flags & MB_TOKEN_PRESENT) || t->text.n == 0) {
            continue;
        }
        size_t probes;
        size_t i = slot_of(v, mb_bpe_at(spec, t->text), t->text.n, &probes);
        if (v->slots[i] != MB_NO_ID) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "tokenizer: tokens %u and %u have the same text", v->slots[i], id);
        }
        if (probes > MB_PROBES_MAX) {
            return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: token %u: texts chosen to collide",
                           id);
        }
        v->slots[i] = id;
    }
    return MB_OK;
}

void mb_vocabulary_fini(struct mb_vocabulary *v)
{
    free(v->slots);
    v->slots = NULL;
}

uint32_t mb_vocabulary_find(const struct mb_vocabulary *v, const uint8_t *at, size_t n)
{
    size_t probes;
    return v->slots[slot_of(v, at, n, &probes)];
}
