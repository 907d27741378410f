/* For test_jsonschema.py: draws texts through the masks of schemas.
 *
 *     walk_schemas COUNT [TOKENIZER.json] < schemas, one a line
 *
 * writes for each line "refused LINE MESSAGE" or COUNT times "text LINE BYTES" and the bytes. */
#include "core/import/tokenizer_json.h"
#include "tests/core/constrain/constrain_rig.h"

static struct mb_tokenizer *tokenizer_of(const char *path)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *spec = NULL;
    struct mb_tokenizer *t = NULL;
    if (mb_tokenizer_json_read(path, NULL, NULL, NULL, &spec, &err) != MB_OK ||
        mb_tokenizer_new(spec, &t, &err) != MB_OK) {
        fprintf(stderr, "%s\n", err.what);
        exit(EXIT_FAILURE);
    }
    mb_bpe_spec_free(spec);
    return t;
}

static void draw(const struct mb_token_trie *trie, size_t line, const char *schema, size_t n,
                 unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct mb_error err = { 0 };
        struct mb_constraint *c = constraint_of(trie, schema, n, &err);
        if (!c) {
            printf("refused %zu %s\n", line, err.what);
            return;
        }
        struct mb_bytes text = { 0 };
        static const unsigned free_tokens[] = { 0, 8, 40, 150 };
        if (random_text(c, trie->tokenizer, line * 1000 + i, free_tokens[i % 4], 4000, &text)) {
            printf("text %zu %zu\n", line, text.len);
            (void) fwrite(mb_bytes_text(&text), 1, text.len, stdout);
            printf("\n");
        } else {
            printf("endless %zu\n", line);
        }
        mb_bytes_fini(&text);
        mb_constraint_free(c);
    }
}

int main(int argc, char **argv)
{
    struct mb_tokenizer *t = argc > 2 ? tokenizer_of(argv[2]) : crossing_tokenizer();
    struct mb_token_trie *trie = NULL;
    struct mb_error err = { 0 };
    if (mb_token_trie_new(t, &trie, &err) != MB_OK) {
        fprintf(stderr, "%s\n", err.what);
        return EXIT_FAILURE;
    }
    char *line = NULL;
    size_t cap = 0, number = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0; number++) {
        draw(trie, number, line, (size_t) n, argc > 1 ? (unsigned) atoi(argv[1]) : 1);
    }
    free(line);
    mb_token_trie_free(trie);
    mb_tokenizer_free(t);
    return EXIT_SUCCESS;
}
