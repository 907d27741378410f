#include "deploy/sample/world/story.h"

#include <assert.h>
#include <string.h>

#include "core/base/rng.h"
#include "deploy/sample/world/lexicon.h"

/* A question and its answer. The question is always in the third person. */
struct exchange {
    const char *question, *answer;
};

static const char *const requests[] = {
    ("[Tell|Please tell] me a story about {an_animal} named {name} who lives {place} and wants "
     "to {wish}."),
    "[Tell|Please tell] me a story about {an_animal} who wants to {wish}.",
    "Can you tell me a story about {an_animal} named {name}?",
    "I would like a story about {name} the {animal}, who lives {place}.",
    "Tell me how {name} the {animal} {fulfilled}.",
    "[Tell|Please tell] me a story about {an_animal}.",
    "[Tell me|I would like] a story about somebody who lives {place}.",
    "[Tell me a story.|Can you tell me a story?|I would like a story.]",
};

static const struct exchange about_story[] = {
    { "Who helped {name}?", "{helper} the {helper_animal} helped {hero_}." },
    { "Where did {name} live?", "{Hero} lived {place}." },
    { "What did {name} want?", "{Hero} wanted to {wish}." },
    { "What kind of animal was {name}?", "{Hero} was {an_animal}." },
    { "What kind of animal was {helper}?", "{Helper} was {a_helper_animal}." },
    { "Why could {helper} help?", "Because {a_helper_animal} can {trait}." },
    { "What happened in the end?",
      "In the end {hero} {fulfilled}, and {helper} helped {him}." },
};

static const struct exchange about_world[] = {
    { "Can {an_animal} {trait}?", "{Yes}, {an_animal} {can} {trait}." },
    { "[Hello!|Hi!|Good morning!]", "Hello! Give me an animal, a place or a wish, and I will "
                                    "tell you a story." },
    { "[Who are you?|What are you?|What can you do?]",
      "I am a small model made of bits, and I tell stories about animals." },
    { "[Thank you!|Thanks!]",
      "[You are welcome.|You are welcome. Come back for another story.]" },
};

#define N(a) (sizeof(a) / sizeof *(a))

/* A story, pattern by pattern. */
static const char *story_pattern(const void *self, const struct facts *f, size_t i)
{
    static const char *const parts[] = {
        [2] = "[More than anything, {hero} wanted to {wish}.|Most of all, {hero} wanted to "
              "{wish}.|{Hero} had one great wish: to {wish}.]",
        [4] = "[{Hero} sat down and sighed.|{Hero} cried a little.|{Hero} felt very small.]",
        [5] = "[Then|Just then|That evening], {a_helper_animal} named {helper} came by.",
        [6] = "\"Why are you so sad?\" asked {helper}, and {hero} told the whole story.",
        [7] = "[{Helper} smiled.|\"I can help you,\" said {helper}.|{Helper} did not think for "
              "long.]",
        [9] = "[And so {hero} {fulfilled}.|That is how {hero} {fulfilled} at last.]",
        [10] =
            "[From that day on, {helper} and {hero} were the best of friends.|{Hero} thanked "
            "{helper}, and they ate cake until the moon came up.|What is hard alone is easy "
            "with a friend.]",
        [11] =
            "[The moon came up, the lamp burned low, and that is all there is to know.|So if "
            "a thing is hard for one, just ask a friend and it is done.|The day was long, the "
            "night is deep, now close your eyes and go to sleep.]",
    };
    switch (i) {
    case 0:
        return f->first_person
                   ? "I am {name} the {animal}, and [this is my story|this is what happened to "
                     "me]. I lived {place}."
                   : "[Once upon a time|Long ago|One fine day], there was a "
                     "[little|kind|curious|brave] {animal} named {hero}. {He} lived {place}.";
    case 1:
        return world_places[f->of[PLACE]].detail;
    case 3:
        return world_wishes[f->of[WISH]].tried;
    case 8:
        return world_wishes[f->of[WISH]].helped;
    case 11:
        return f->rhyme ? parts[11] : NULL;
    default:
        return i < N(parts) ? parts[i] : NULL;
    }
}

/* A hero can not do it alone, and the helper can. */
static bool coherent(const struct facts *f)
{
    unsigned needs = 1u << world_wishes[f->of[WISH]].needs;
    return f->of[HERO] != f->of[HELPER] && f->of[ANIMAL] != f->of[HELPER_ANIMAL] &&
           !(world_animals[f->of[ANIMAL]].traits & needs) &&
           world_animals[f->of[HELPER_ANIMAL]].traits & needs;
}

void talk_fini(struct talk *t)
{
    for (size_t i = 0; i < TALK_TURNS_MAX; i++) {
        mb_bytes_fini(&t->turns[i].user);
        mb_bytes_fini(&t->turns[i].assistant);
    }
    t->n_turns = 0;
}

static bool is_held_out(const struct facts *f)
{
    return mb_rng_u64(0, (uint64_t) f->of[ANIMAL], (uint64_t) f->of[WISH]) % 10 == 0;
}

/* The trait by which the helper helps, for questions about it. */
static void set_trait(struct facts *f)
{
    f->of[TRAIT] = (int) world_wishes[f->of[WISH]].needs;
}

static struct facts draw_story(const struct talk_options *o, struct dice *d)
{
    struct facts f;
    facts_clear(&f);
    f.first_person = o->first_person;
    f.rhyme = o->rhyme;
    size_t n_new = n_world_animals - n_world_old_animals;
    do {
        f.of[HERO] = (int) dice_throw(d, n_world_names);
        f.of[HELPER] = (int) dice_throw(d, n_world_names);
        f.of[ANIMAL] = (int) (o->new_animals ? n_world_old_animals + dice_throw(d, n_new)
                                             : dice_throw(d, n_world_old_animals));
        f.of[HELPER_ANIMAL] = (int) dice_throw(d, n_world_old_animals);
        f.of[PLACE] = (int) dice_throw(d, n_world_places);
        f.of[WISH] = (int) dice_throw(d, n_world_wishes);
    } while (!coherent(&f) || (!o->new_animals && is_held_out(&f) != o->held_out));
    set_trait(&f);
    return f;
}

static void add_exchange(struct talk *t, const struct exchange *e, const struct facts *f,
                         struct dice *d)
{
    struct facts third = *f;
    third.first_person = false;
    pattern_fill(e->question, &third, d, &t->turns[t->n_turns].user);
    pattern_fill(e->answer, f, d, &t->turns[t->n_turns].assistant);
    t->n_turns++;
}

static void add_story(struct talk *t, const struct facts *f, struct dice *d)
{
    struct facts third = *f;
    third.first_person = false;
    pattern_fill(requests[dice_throw(d, N(requests))], &third, d, &t->turns[t->n_turns].user);
    struct mb_bytes *out = &t->turns[t->n_turns].assistant;
    const char *p;
    for (size_t i = 0; (p = story_pattern(NULL, f, i)); i++) {
        if (i > 0) {
            mb_bytes_put_text(out, i == 2 || i == 5 || i == 9 ? "\n" : " ");
        }
        pattern_fill(p, f, d, out);
    }
    t->n_turns++;
}

void talk_make(const struct talk_options *o, uint64_t seed, uint64_t number, struct talk *ret)
{
    talk_fini(ret);
    struct dice d = { .seed = seed, .stream = number };
    if (!o->stories && dice_throw(&d, 10) == 0) {
        struct facts f;
        facts_clear(&f);
        f.of[ANIMAL] = (int) dice_throw(&d, n_world_old_animals);
        f.of[TRAIT] = (int) dice_throw(&d, TRAITS);
        size_t i = dice_throw(&d, 2) ? 0 : dice_throw(&d, N(about_world));
        add_exchange(ret, &about_world[i], &f, &d);
        return;
    }
    struct facts f = draw_story(o, &d);
    add_story(ret, &f, &d);
    size_t n = dice_throw(&d, TALK_TURNS_MAX);
    for (size_t i = 0; i < n; i++) {
        add_exchange(ret, &about_story[dice_throw(&d, N(about_story))], &f, &d);
    }
}

void memory_clear(struct memory *m)
{
    *m = (struct memory) { .told = false };
    facts_clear(&m->story);
}

void talk_ask(const struct memory *m, uint64_t seed, uint64_t number, struct mb_bytes *ret)
{
    assert(m->told);
    struct dice d = { .seed = seed, .stream = number };
    struct facts third = m->story;
    third.first_person = false;
    mb_bytes_clear(ret);
    pattern_fill(about_story[dice_throw(&d, N(about_story))].question, &third, &d, ret);
}

static const char *only_pattern(const void *pattern, const struct facts *f, size_t i)
{
    return i == 0 ? pattern : NULL;
}

static bool matches(const char *pattern, const char *text, struct facts *f, size_t *ret_reached)
{
    size_t reached = 0;
    bool yes = patterns_match(only_pattern, pattern, text, f, NULL, &reached);
    if (ret_reached && reached > *ret_reached) {
        *ret_reached = reached;
    }
    return yes;
}

/* A story in any style with the facts of f, which it completes. */
static bool read_story(const char *text, struct facts *f, size_t *ret_reached)
{
    for (unsigned style = 0; style < 4; style++) {
        struct facts g = *f;
        g.first_person = style & 1;
        g.rhyme = style >> 1;
        size_t reached = 0;
        bool yes = patterns_match(story_pattern, NULL, text, &g, coherent, &reached);
        *ret_reached = reached > *ret_reached ? reached : *ret_reached;
        if (yes) {
            *f = g;
            set_trait(f);
            return true;
        }
    }
    return false;
}

static enum verdict check_story(struct memory *m, struct facts asked, const char *text,
                                struct style *ret_style, size_t *ret_reached)
{
    enum verdict v = GOOD;
    if (!read_story(text, &asked, ret_reached)) {
        facts_clear(&asked);
        v = read_story(text, &asked, ret_reached) ? OFF_TOPIC : BROKEN;
    }
    m->told = v != BROKEN;
    m->story = asked;
    *ret_style = (struct style) { true, asked.first_person, asked.rhyme };
    return v;
}

/* An answer is off topic when it answers with other facts. */
static enum verdict check_answer(const struct exchange *e, const struct facts *f,
                                 const char *text, size_t *ret_reached)
{
    struct facts g = *f;
    if (matches(e->answer, text, &g, ret_reached)) {
        return GOOD;
    }
    g.first_person = !g.first_person;
    if (matches(e->answer, text, &g, ret_reached)) {
        return GOOD;
    }
    facts_clear(&g);
    return matches(e->answer, text, &g, ret_reached) ? OFF_TOPIC : BROKEN;
}

enum verdict talk_check(struct memory *m, const char *user, const char *assistant,
                        struct style *ret_style, size_t *ret_reached)
{
    struct style style = { 0 };
    size_t reached = 0;
    ret_style = ret_style ? ret_style : &style;
    ret_reached = ret_reached ? ret_reached : &reached;
    *ret_style = style;
    *ret_reached = 0;
    struct facts f;
    for (size_t i = 0; i < N(requests); i++) {
        facts_clear(&f);
        if (matches(requests[i], user, &f, NULL)) {
            return check_story(m, f, assistant, ret_style, ret_reached);
        }
    }
    for (size_t i = 0; m->told && i < N(about_story); i++) {
        f = m->story;
        f.first_person = false;
        if (matches(about_story[i].question, user, &f, NULL)) {
            return check_answer(&about_story[i], &m->story, assistant, ret_reached);
        }
    }
    for (size_t i = 0; i < N(about_world); i++) {
        facts_clear(&f);
        if (matches(about_world[i].question, user, &f, NULL)) {
            return check_answer(&about_world[i], &f, assistant, ret_reached);
        }
    }
    return UNASKED;
}
