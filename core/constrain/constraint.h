/* What a model may say next so that its text becomes valid: a mask over its vocabulary before each
 * token, and a step after it.
 *
 *     schema -> grammar -> automaton  --\
 *     tokenizer -> token_trie  ----------> constraint: mask, accept, mask, accept, ...
 *
 * Between the tokens of JSON at most one space, or one new line and MB_INDENT_MAX spaces: a model that
 * would rather say nothing must go on. A text has at most MB_GRAMMAR_DEPTH_MAX - 1 brackets and strings
 * that are open at once.
 *
 * Exact:   the masks are a function of the schema, the tokenizer and the tokens so far (A1). Every token of
 *          a mask goes on towards a valid text; of those that do, tokens of several bytes may be
 *          missing when a schema's automaton is too large to be worked out in a step's time. Single ones
 *          only when the frames of a text fill the automaton's memory by themselves (thousands of
 *          alternatives, nested dozens deep): then a mask may be empty, and the text is stuck.
 * Cost:    of a mask that was made before, V / 8 bytes to copy; of a new one, the nodes of the tree
 *          that can be reached. Bounded by WORK_MAX in automaton states.
 * Memory:  everything at _new, about 6 MB + 8 V bytes that are touched as they are needed. Accepting and
 *          masking allocate nothing.
 * Life:    _new/_free; one for each text.
 * Threads: one at a time. */
#ifndef MB_CORE_CONSTRAINT_H
#define MB_CORE_CONSTRAINT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/constrain/grammar.h"
#include "core/constrain/token_trie.h"

#define MB_INDENT_MAX 24

struct mb_constraint;

/* Takes over *g, on success only. trie is borrowed for life. n_vocab: logits of the model, which may
 * be more than the tokenizer has ids.
 * Errors: MB_E_UNSUPPORTED when the vocabulary can not spell JSON byte by byte; MB_E_NOMEM. */
enum mb_status mb_constraint_new(struct mb_grammar *g, const struct mb_token_trie *trie,
                                 uint32_t n_vocab, struct mb_constraint **ret,
                                 struct mb_error *err);
void mb_constraint_free(struct mb_constraint *c); /* NULL is allowed */

/* The most memory that c may come to use. */
size_t mb_constraint_bytes(const struct mb_constraint *c);

/* Bit i % 64 of word i / 64: token i may come next. The tokenizer's end of sequence may where the text
 * is valid as it is, unless without_eos. Empty before the text is complete only if it
 * is stuck, see above. Shapes:
 * [(n_vocab + 63) / 64], valid until the next call. */
const uint64_t *mb_constraint_mask(struct mb_constraint *c, bool without_eos);

/* The token was drawn. false, and nothing changed, for one that may not come next. An end of sequence
 * changes nothing. */
bool mb_constraint_accept(struct mb_constraint *c, uint32_t token);

/* The text is valid as it is. */
bool mb_constraint_may_end(const struct mb_constraint *c);
/* It is, and nothing may follow. */
bool mb_constraint_is_complete(const struct mb_constraint *c);

/* logits[i] = -inf for all tokens outside of the mask. Shapes: logits [n_vocab]. */
void mb_mask_logits(const uint64_t *mask, float *logits, uint32_t n_vocab);

#endif
