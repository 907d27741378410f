/* What there is in the little world of the sample model: animals and what they can do, names,
 * places, wishes. Rows are values; the grammar (grammar.h) puts them into sentences. */
#ifndef MB_SAMPLE_LEXICON_H
#define MB_SAMPLE_LEXICON_H

#include <stdbool.h>
#include <stddef.h>

enum trait {
    CAN_FLY,
    CAN_SWIM,
    CAN_CLIMB,
    CAN_DIG,
    CAN_SING,
    CAN_READ,
    IS_STRONG,
    IS_TINY,
    SEES_IN_THE_DARK,
    TRAITS
};

struct animal {
    const char *name;    /* "fox" */
    const char *article; /* "a" or "an" */
    unsigned traits;     /* bits 1 << enum trait */
};

struct name {
    const char *text;
    bool female;
};

struct place {
    const char *where;  /* "in the forest", after a verb */
    const char *detail; /* a sentence about it */
};

/* The sentences may have slots and alternatives (grammar.h). */
struct wish {
    const char *wish;      /* after "to" */
    const char *fulfilled; /* the same in the past */
    enum trait needs;      /* what a helper must be able to do, and the hero is not */
    const char *tried;     /* how the hero fails alone */
    const char *helped;    /* how the helper's trait makes it happen */
};

extern const char *const world_traits[TRAITS]; /* after "can": "fly" */
extern const struct animal world_animals[];
extern const size_t n_world_animals;
extern const size_t n_world_old_animals; /* the first ones; the rest are for teaching later */
extern const struct name world_names[];
extern const size_t n_world_names;
extern const struct place world_places[];
extern const size_t n_world_places;
extern const struct wish world_wishes[];
extern const size_t n_world_wishes;

#endif
