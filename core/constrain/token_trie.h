/* A vocabulary as a tree of bytes: tokens that begin alike share what is alike, so that a set of
 * allowed tokens is found without spelling each of them.
 *
 * Nodes lie in preorder, so a walk is a loop over an array that now and then skips a subtree.
 * Special tokens, tokens without text and those longer than MB_TRIE_DEPTH_MAX are left out.
 *
 * Life:    one for each tokenizer, which it borrows for life. Immutable.
 * Threads: any. */
#ifndef MB_CORE_TOKEN_TRIE_H
#define MB_CORE_TOKEN_TRIE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/tokenizer/tokenizer.h"
#include "proto/status.h"

#define MB_TRIE_DEPTH_MAX 256 /* bytes of a token */

struct mb_trie_node {
    uint32_t end;   /* the first node behind its subtree */
    uint32_t token; /* tokens[token .. next node's token) end here */
    uint16_t depth; /* 1.. */
    uint8_t byte;
    uint8_t
        rest; /* bit k: at it or below it is a token that is not in plain[k]; and MB_TRIE_ALL */
};

/* Tokens of whole characters, none of which needs an escape in JSON, and not more of them than: where any
 * such string may come, they all may, and the walk needs only the rest. */
#define MB_TRIE_PLAINS 4
#define MB_TRIE_ALL    0x80
extern const uint16_t mb_trie_plain_chars[MB_TRIE_PLAINS]; /* ascending */

struct mb_token_trie {
    const struct mb_tokenizer *tokenizer;
    uint32_t n_nodes;
    struct mb_trie_node *nodes; /* [n_nodes + 1], the last one for its token only */
    uint32_t n_tokens;
    uint32_t *tokens;                /* [n_tokens] */
    uint64_t *plain[MB_TRIE_PLAINS]; /* masks, [(ids of the tokenizer + 63) / 64] */
    uint32_t n_words;
    unsigned depth;    /* of the deepest node */
    unsigned brackets; /* the most of { [ and " that one token has */
    uint32_t
        json_ids; /* among so many of the first ids there is a token for each byte of UTF-8 text but
                          control characters: whatever a text may go on with, it can. 0: there is
                          none for some */
};

enum mb_status mb_token_trie_new(const struct mb_tokenizer *t, struct mb_token_trie **ret,
                                 struct mb_error *err);
void mb_token_trie_free(struct mb_token_trie *t); /* NULL is allowed */

#endif
