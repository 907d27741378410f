/* Conversations about the little world: somebody asks for a story, or about one, or what an
 * animal can do; the answers are true in that world, and a checker can tell.
 *
 * Threads: pure functions on the caller's memory. */
#ifndef MB_SAMPLE_STORY_H
#define MB_SAMPLE_STORY_H

#include "deploy/sample/world/grammar.h"

#define TALK_TURNS_MAX 5

struct talk {
    struct {
        struct mb_bytes user, assistant;
    } turns[TALK_TURNS_MAX];
    size_t n_turns;
};
void talk_fini(struct talk *t);

struct talk_options {
    bool first_person, rhyme;
    bool new_animals; /* stories about the animals that the model has not met */
    bool held_out;    /* only of what is otherwise left out: one in ten of animal and wish */
    bool stories;     /* every talk begins with a story */
};

/* The talk of that number: the same for the same seed, number and options. Replaces *ret. */
void talk_make(const struct talk_options *o, uint64_t seed, uint64_t number, struct talk *ret);

/* What a reader understood so far. */
struct memory {
    struct facts story;
    bool told; /* there is a story to ask about */
};
void memory_clear(struct memory *m);

/* A question about the story in memory, which was told: the same for the same seed and number.
 * Replaces *ret. */
void talk_ask(const struct memory *m, uint64_t seed, uint64_t number, struct mb_bytes *ret);

enum verdict {
    GOOD,      /* it follows the grammar, makes sense, and answers what was asked */
    OFF_TOPIC, /* it follows the grammar and makes sense, but is about something else */
    BROKEN,    /* it does not */
    UNASKED,   /* the question itself is not understood */
    VERDICTS
};

/* Judges an answer. Stories in either person, with or without a rhyme, are fine; *ret_style
 * (may be NULL) tells which. *ret_reached: how far a broken answer was understood. */
struct style {
    bool story, first_person, rhyme;
};
enum verdict talk_check(struct memory *m, const char *user, const char *assistant,
                        struct style *ret_style, size_t *ret_reached);

#endif
