/* Any bytes as a JSON schema: refused, or a grammar through whose masks texts can be drawn that are JSON;
 * no mask is empty before the end, and what is in a mask is accepted. */
#include <jansson.h>
#include <stdlib.h>

#include "tests/core/constrain/constrain_rig.h"
#include "tests/fuzz/fuzz.h"

enum { TOKENS_MAX = 120, TOKENS_FREE = 20 };

static const struct mb_token_trie *vocabulary(void)
{
    static struct mb_token_trie *trie; /* once: it takes longer than an input */
    struct mb_error err;
    if (!trie) {
        rig_ok(mb_token_trie_new(crossing_tokenizer(), &trie, &err), &err);
    }
    return trie;
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    struct mb_error err;
    const struct mb_token_trie *trie = vocabulary();
    struct mb_constraint *c = constraint_of(trie, (const char *) at, n, &err);
    if (!c) {
        return 0;
    }
    struct mb_bytes text = { 0 };
    if (random_text(c, trie->tokenizer, n, TOKENS_FREE, TOKENS_MAX, &text)) {
        json_t *root = json_loadb((const char *) text.at, text.len,
                                  JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (!root) {
            abort();
        }
        json_decref(root);
    }
    mb_bytes_fini(&text);
    mb_constraint_free(c);
    return 0;
}
