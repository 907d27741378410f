/* Goal:   the heap, the linked list and the cuts between words give what the definition gives.
 * Method: random vocabularies over a few letters, merges in random order of rank; random words,
 *         merged by the definition itself (look for the lowest rank, leftmost, again and again)
 *         and by mb_bpe_merge. */
#include "core/base/rng.h"
#include "core/tokenizer/bpe.h"
#include "tests/core/tokenizer/small.h"

enum { LETTERS_MAX = 9, MERGES = 40, WORD_MAX = 60, VOCABULARIES = 150, WORDS = 60 };

static uint64_t draws;

static uint32_t below(uint32_t n)
{
    return (uint32_t) (mb_rng_u64(1, 2, draws++) % n);
}

static void text_of(const struct mb_bpe_spec *s, uint32_t id, char ret[64])
{
    struct mb_bpe_text t = s->tokens[id].text;
    memcpy(ret, mb_bpe_at(s, t), t.n);
    ret[t.n] = '\0';
}

static bool has_merge(const struct mb_bpe_spec *s, uint32_t left, uint32_t right)
{
    for (uint32_t i = 0; i < s->n_merges; i++) {
        if (s->merges[i].left == left && s->merges[i].right == right) {
            return true;
        }
    }
    return false;
}

static struct mb_bpe_spec *random_spec(uint32_t n_letters)
{
    static const char *const letters[LETTERS_MAX] = { "a",      "b",    "c", "é", "d",
                                                      "\u2581", "🦙", "e", "f" };
    struct mb_bpe_spec *s = mb_bpe_spec_new();
    for (uint32_t i = 0; i < n_letters; i++) {
        (void) small_token(s, letters[i], 0);
    }
    for (int tries = 0; tries < MERGES; tries++) {
        uint32_t left = below(s->n_tokens), right = below(s->n_tokens);
        char a[64], b[64];
        text_of(s, left, a);
        text_of(s, right, b);
        if (strlen(a) + strlen(b) <= 12 && !has_merge(s, left, right)) {
            small_merge(s, a, b);
        }
    }
    for (uint32_t i = s->n_merges; i > 1; i--) { /* ranks in any order */
        uint32_t j = below(i);
        struct mb_bpe_merge swap = s->merges[i - 1];
        s->merges[i - 1] = s->merges[j];
        s->merges[j] = swap;
    }
    return s;
}

/* The definition. Returns the new number of ids. */
static size_t merge_plainly(const struct mb_bpe_spec *s, uint32_t *ids, size_t n)
{
    for (uint32_t rank = 0; rank < s->n_merges; rank++) {
        for (size_t i = 0; i + 1 < n; i++) {
            if (ids[i] == s->merges[rank].left && ids[i + 1] == s->merges[rank].right) {
                ids[i] = s->merges[rank].result;
                memmove(ids + i + 1, ids + i + 2, (n - i - 2) * sizeof *ids);
                return merge_plainly(s, ids, n - 1);
            }
        }
    }
    return n;
}

START_TEST(merges_as_defined)
{
    struct mb_bpe b = { 0 };
    for (int v = 0; v < VOCABULARIES; v++) {
        uint32_t n_letters = 1 + below(LETTERS_MAX);
        struct mb_bpe_spec *s = random_spec(n_letters);
        struct mb_merges m;
        struct mb_error err = { 0 };
        mb_assert_ok(mb_merges_init(&m, s, &err), &err);
        for (int w = 0; w < WORDS; w++) {
            uint32_t want[WORD_MAX];
            size_t n = below(WORD_MAX);
            mb_bpe_clear(&b);
            for (size_t i = 0; i < n; i++) {
                want[i] = below(n_letters);
                ck_assert(mb_bpe_push(&b, want[i]));
            }
            n = merge_plainly(s, want, n);
            ck_assert(mb_bpe_merge(&b, &m));
            ck_assert_msg(b.n == n, "vocabulary %d, word %d: %zu ids, not %zu", v, w, b.n, n);
            for (size_t i = 0; i < n; i++) {
                ck_assert_msg(b.symbols[i].id == want[i], "vocabulary %d, word %d, id %zu", v,
                              w, i);
            }
        }
        mb_merges_fini(&m);
        mb_bpe_spec_free(s);
    }
    mb_bpe_fini(&b);
}
END_TEST

START_TEST(of_one_pair_twice_the_later_holds)
{
    struct mb_bpe_spec *s = mb_bpe_spec_new();
    (void) small_token(s, "a", 0);
    (void) small_token(s, "b", 0);
    small_merge(s, "a", "b");
    small_merge(s, "b", "a");
    small_merge(s, "a", "b");
    struct mb_tokenizer *t = small_tokenizer(s);
    SMALL_EXPECT(t, "aba", 0, "a|ba");
    mb_tokenizer_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bpe");
    TCase *t = tcase_create("merges");
    tcase_add_test(t, merges_as_defined);
    tcase_add_test(t, of_one_pair_twice_the_later_holds);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
