/* Sentences as patterns that are read both ways: filled in to make a text, and matched against
 * a text to find what it says. What one makes, the other understands; so the coherence of a
 * text is a question with an answer.
 *
 * A pattern is text with alternatives "[a|b|]" (not nested) and slots "{animal}". Slots stand
 * for a fact of the story, in some form; all slots of one fact must agree. */
#ifndef MB_SAMPLE_GRAMMAR_H
#define MB_SAMPLE_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"

/* What a story is about. Values are rows of the lexicon's tables, or UNKNOWN. */
enum fact { HERO, ANIMAL, PLACE, WISH, HELPER, HELPER_ANIMAL, TRAIT, FACTS };

#define UNKNOWN (-1)

struct facts {
    int of[FACTS];
    bool first_person; /* the hero tells the story */
    bool rhyme;        /* it ends with a rhyme */
};

void facts_clear(struct facts *f);
size_t fact_rows(enum fact fact); /* of its table */

/* A stream of random numbers. */
struct dice {
    uint64_t seed, stream, n;
};
size_t dice_throw(struct dice *d, size_t sides); /* 0..sides-1 */

/* Appends a text of the pattern; every fact that it has a slot for is known. */
void pattern_fill(const char *pattern, const struct facts *f, struct dice *d,
                  struct mb_bytes *ret);

/* A text made of patterns one after the other. Which one stands at i may depend on the facts
 * known by then; NULL is the end. */
typedef const char *next_pattern(const void *self, const struct facts *f, size_t i);

/* Whether all of text is the patterns that next gives, with " " or a line's end between them,
 * and ok (may be NULL) holds for the facts found. Known facts must be the text's; unknown ones
 * are found out. *ret_reached is how far any reading came, for messages. */
bool patterns_match(next_pattern *next, const void *self, const char *text, struct facts *f,
                    bool (*ok)(const struct facts *), size_t *ret_reached);

#endif
