/* Goal:   the checker can be trusted: what the generator makes is good, and what is not is not.
 * Method: talks of every style are checked; then each is damaged in ways that a model would
 *         (another name half-way, a helper who can not help, a sentence left out, an answer about
 *         another story) and must be judged so. */
#include <stdlib.h>
#include <string.h>

#include "deploy/sample/world/lexicon.h"
#include "deploy/sample/world/story.h"
#include "tests/check_main.h"

static const struct talk_options styles[] = {
    { .stories = false },
    { .first_person = true },
    { .rhyme = true, .stories = true },
    { .new_animals = true, .stories = true },
    { .held_out = true, .stories = true },
};
enum { STYLES = sizeof styles / sizeof *styles };

static const char request[] =
    "Please tell me a story about a fox named Pip who lives by the sea and "
    "wants to cross the wide river.";
static const char story[] =
    "Long ago, there was a kind fox named Pip. He lived by the sea. The waves there never stopped "
    "talking.\nPip had one great wish: to cross the wide river. He put one foot into the water, "
    "but it was much too fast. Pip felt very small.\nThen, a duck named Mia came by. \"Why are "
    "you so sad?\" asked Mia, and Pip told the whole story. Mia smiled. Mia swam to the other "
    "side with a rope, and Pip held on to it all the way.\nAnd so Pip crossed the wide river. "
    "What is hard alone is easy with a friend.";

static enum verdict judge(const char *user, const char *assistant)
{
    struct memory m;
    memory_clear(&m);
    return talk_check(&m, user, assistant, NULL, NULL);
}

/* The story with the nth place of from changed to to; the caller frees it. */
static char *changed(const char *from, const char *to, size_t nth)
{
    const char *at = strstr(story, from);
    for (; at && nth > 0; nth--) {
        at = strstr(at + 1, from);
    }
    ck_assert_ptr_nonnull(at);
    char *ret = malloc(sizeof story + strlen(to));
    ck_assert_ptr_nonnull(ret);
    sprintf(ret, "%.*s%s%s", (int) (at - story), story, to, at + strlen(from));
    return ret;
}

static void expect_change(const char *from, const char *to, size_t nth, enum verdict want)
{
    char *text = changed(from, to, nth);
    ck_assert_msg(judge(request, text) == want, "%s -> %s (%zu)", from, to, nth);
    free(text);
}

START_TEST(what_is_made_is_good)
{
    struct talk t = { 0 };
    for (uint64_t i = 0; i < 2000; i++) {
        const struct talk_options *o = &styles[i % STYLES];
        talk_make(o, 3, i, &t);
        struct memory m;
        memory_clear(&m);
        for (size_t turn = 0; turn < t.n_turns; turn++) {
            struct style style;
            size_t reached;
            const char *answer = mb_bytes_text(&t.turns[turn].assistant);
            enum verdict v =
                talk_check(&m, mb_bytes_text(&t.turns[turn].user), answer, &style, &reached);
            ck_assert_msg(v == GOOD, "%s\n%s\nunderstood up to %zu",
                          mb_bytes_text(&t.turns[turn].user), answer, reached);
            ck_assert(!style.story || style.first_person == o->first_person);
            ck_assert(!style.story || style.rhyme == o->rhyme);
        }
    }
    talk_fini(&t);
}
END_TEST

START_TEST(the_same_number_makes_the_same_talk)
{
    struct talk a = { 0 }, b = { 0 };
    talk_make(&styles[0], 1, 7, &a);
    talk_make(&styles[0], 1, 7, &b);
    ck_assert_uint_eq(a.n_turns, b.n_turns);
    ck_assert_str_eq(mb_bytes_text(&a.turns[0].assistant),
                     mb_bytes_text(&b.turns[0].assistant));
    talk_make(&styles[0], 2, 7, &b);
    ck_assert_str_ne(mb_bytes_text(&a.turns[0].assistant),
                     mb_bytes_text(&b.turns[0].assistant));
    talk_fini(&a);
    talk_fini(&b);
}
END_TEST

START_TEST(a_story_that_is_not_coherent_is_broken)
{
    ck_assert_int_eq(judge(request, story), GOOD);
    expect_change("Pip", "Tom", 1, BROKEN);        /* another hero half-way */
    expect_change("He", "She", 0, BROKEN);         /* another sex */
    expect_change("a duck", "a horse", 0, BROKEN); /* can not swim */
    expect_change("a duck", "a fox", 0, BROKEN);
    expect_change("a duck", "an duck", 0, BROKEN);
    expect_change("Mia", "Lily", 1, BROKEN); /* another helper half-way */
    expect_change("crossed", "mended", 0, BROKEN);
    expect_change("The waves", "The trees", 0, BROKEN);
    expect_change("Pip felt very small.\n", "", 0, BROKEN);
    expect_change(" What is hard alone is easy with a friend.", "", 0, BROKEN);
    expect_change("friend.", "friend. The end.", 0, BROKEN);
    expect_change("And so Pip crossed the wide river.", "And so Pip crossed the river.", 0,
                  BROKEN);
    ck_assert_int_eq(judge(request, ""), BROKEN);
}
END_TEST

START_TEST(any_cut_breaks_a_story)
{
    char text[sizeof story];
    for (size_t n = 0; n + 1 < sizeof story; n++) {
        memcpy(text, story, n);
        text[n] = '\0';
        ck_assert_int_eq(judge(request, text), BROKEN);
    }
}
END_TEST

START_TEST(an_answer_to_something_else_is_off_topic)
{
    ck_assert_int_eq(judge("Tell me a story about a bear.", story), OFF_TOPIC);
    ck_assert_int_eq(
        judge("Tell me a story about a fox who wants to mend the music box.", story),
        OFF_TOPIC);
    ck_assert_int_eq(judge("Can you tell me a story about a fox named Ivy?", story), OFF_TOPIC);
    ck_assert_int_eq(judge("Can you tell me a story about a fox named Pip?", story), GOOD);
    ck_assert_int_eq(judge("Tell me a story.", story), GOOD);
    ck_assert_int_eq(judge("What is the capital of France?", story), UNASKED);
}
END_TEST

START_TEST(questions_are_about_the_story_told)
{
    struct memory m;
    memory_clear(&m);
    ck_assert_int_eq(talk_check(&m, "Who helped Pip?", "Mia the duck helped Pip.", NULL, NULL),
                     UNASKED);
    ck_assert_int_eq(talk_check(&m, request, story, NULL, NULL), GOOD);
    ck_assert_int_eq(talk_check(&m, "Who helped Pip?", "Mia the duck helped Pip.", NULL, NULL),
                     GOOD);
    ck_assert_int_eq(talk_check(&m, "Who helped Pip?", "Mia the duck helped me.", NULL, NULL),
                     GOOD);
    ck_assert_int_eq(talk_check(&m, "Who helped Pip?", "Mia the otter helped Pip.", NULL, NULL),
                     OFF_TOPIC);
    ck_assert_int_eq(talk_check(&m, "Who helped Pip?", "Mia helped.", NULL, NULL), BROKEN);
    ck_assert_int_eq(
        talk_check(&m, "Why could Mia help?", "Because a duck can swim.", NULL, NULL), GOOD);
    ck_assert_int_eq(
        talk_check(&m, "Why could Mia help?", "Because a duck can fly.", NULL, NULL),
        OFF_TOPIC);
    ck_assert_int_eq(talk_check(&m, "Who helped Tom?", "Mia the duck helped Tom.", NULL, NULL),
                     UNASKED);
}
END_TEST

START_TEST(questions_to_a_story_are_understood)
{
    struct memory m;
    memory_clear(&m);
    ck_assert_int_eq(talk_check(&m, request, story, NULL, NULL), GOOD);
    struct mb_bytes first = { 0 }, again = { 0 };
    bool about_who = false, about_where = false;
    for (uint64_t i = 0; i < 200; i++) {
        talk_ask(&m, 7, i, &first);
        talk_ask(&m, 7, i, &again);
        const char *question = mb_bytes_text(&first);
        ck_assert_str_eq(question, mb_bytes_text(&again));
        /* Understood, and the story is not forgotten over it. */
        ck_assert_int_eq(talk_check(&m, question, "I do not know.", NULL, NULL), BROKEN);
        ck_assert(m.told);
        about_who = about_who || strcmp(question, "Who helped Pip?") == 0;
        about_where = about_where || strcmp(question, "Where did Pip live?") == 0;
    }
    ck_assert(about_who && about_where);
    mb_bytes_fini(&first);
    mb_bytes_fini(&again);
}
END_TEST

START_TEST(what_animals_can_do)
{
    ck_assert_int_eq(judge("Can an owl fly?", "Yes, an owl can fly."), GOOD);
    ck_assert_int_eq(judge("Can a bear fly?", "No, a bear can not fly."), GOOD);
    ck_assert_int_eq(judge("Can a bear fly?", "Yes, a bear can fly."), BROKEN);
    ck_assert_int_ne(judge("Can a bear fly?", "Yes, an owl can fly."), GOOD);
}
END_TEST

/* Every wish can be granted to some animal by another, old or new. */
START_TEST(every_wish_has_heroes_and_helpers)
{
    for (size_t w = 0; w < n_world_wishes; w++) {
        unsigned needs = 1u << world_wishes[w].needs;
        size_t can = 0;
        for (size_t a = 0; a < n_world_old_animals; a++) {
            can += (world_animals[a].traits & needs) != 0;
        }
        ck_assert_msg(can >= 2 && can + 10 <= n_world_old_animals, "%s", world_wishes[w].wish);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("storyworld");
    TCase *c = tcase_create("all");
    tcase_add_test(c, what_is_made_is_good);
    tcase_add_test(c, the_same_number_makes_the_same_talk);
    tcase_add_test(c, a_story_that_is_not_coherent_is_broken);
    tcase_add_test(c, any_cut_breaks_a_story);
    tcase_add_test(c, an_answer_to_something_else_is_off_topic);
    tcase_add_test(c, questions_are_about_the_story_told);
    tcase_add_test(c, questions_to_a_story_are_understood);
    tcase_add_test(c, what_animals_can_do);
    tcase_add_test(c, every_wish_has_heroes_and_helpers);
    suite_add_tcase(s, c);
    return mb_run_suite(s);
}
