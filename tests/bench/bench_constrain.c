/* How long masks take: for each schema, texts are drawn through them, and the time of the first mask of
 * each kind (which is found) and of all is told.
 *
 *     bench_constrain TOKENIZER.json */
#include <time.h>

#include "core/import/tokenizer_json.h"
#include "tests/core/constrain/constrain_rig.h"

static double now_us(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double) t.tv_sec + 1e-3 * (double) t.tv_nsec;
}

static const struct {
    const char *name, *schema;
} rows[] = {
    { "any object", "{\"type\":\"object\"}" },
    { "five members",
      "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
      "\"integer\",\"minimum\":0,\"maximum\":120},\"tags\":{\"type\":\"array\",\"items\":{"
      "\"type\":\"string\"}},\"kind\":{\"enum\":[\"cat\",\"dog\"]},\"note\":{\"type\":["
      "\"string\",\"null\"]}},\"required\":[\"name\",\"age\",\"tags\",\"kind\",\"note\"],"
      "\"additionalProperties\":false}" },
    { "a counted string", "{\"type\":\"string\",\"minLength\":200,\"maxLength\":400}" },
    { "a pattern", "{\"type\":\"string\",\"pattern\":\"^(\\\\w+ ){20,60}\\\\w+$\"}" },
};

static void measure(const struct mb_token_trie *trie, size_t row)
{
    enum { TEXTS = 20, TOKENS = 200 };
    struct mb_error err;
    double compile = 0, masks = 0, accepts = 0, worst = 0;
    size_t n = 0;
    for (uint64_t seed = 0; seed < TEXTS; seed++) {
        double t0 = now_us();
        struct mb_constraint *c =
            constraint_of(trie, rows[row].schema, strlen(rows[row].schema), &err);
        compile += now_us() - t0;
        for (uint64_t i = 0; i < TOKENS && c && !mb_constraint_is_complete(c); i++, n++) {
            double t1 = now_us();
            const uint64_t *mask = mb_constraint_mask(c, true);
            double t2 = now_us();
            uint32_t token = choose(trie->tokenizer, mask, seed, i, 40);
            double t3 = now_us();
            rig_ok(mb_constraint_accept(c, token) ? MB_OK : MB_E_INVALID, &err);
            accepts += now_us() - t3;
            masks += t2 - t1;
            worst = t2 - t1 > worst ? t2 - t1 : worst;
        }
        mb_constraint_free(c);
    }
    printf(
        "%-18s compile %7.1f us   mask %7.1f us, worst %7.1f us   accept %5.2f us   %zu tokens\n",
        rows[row].name, compile / TEXTS, masks / (double) n, worst, accepts / (double) n, n);
}

int main(int argc, char **argv)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *spec = NULL;
    struct mb_tokenizer *t = NULL;
    struct mb_token_trie *trie = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: bench_constrain TOKENIZER.json\n");
        return EXIT_FAILURE;
    }
    rig_ok(mb_tokenizer_json_read(argv[1], NULL, NULL, NULL, &spec, &err), &err);
    rig_ok(mb_tokenizer_new(spec, &t, &err), &err);
    double t0 = now_us();
    rig_ok(mb_token_trie_new(t, &trie, &err), &err);
    printf("%u tokens, a tree of %u nodes in %.1f ms\n", trie->n_tokens, trie->n_nodes,
           1e-3 * (now_us() - t0));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        measure(trie, i);
    }
    mb_token_trie_free(trie);
    mb_tokenizer_free(t);
    mb_bpe_spec_free(spec);
    return EXIT_SUCCESS;
}
