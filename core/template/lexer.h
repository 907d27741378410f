/* The text of a template as tokens, with white space cut as trim_blocks and lstrip_blocks
 * and the signs at the tags say. Private to the template engine.
 *
 * Life:    _init borrows the text, in which each line ends in one \n and nothing else.
 * Threads: one thread. */
#ifndef MB_CORE_TEMPLATE_LEXER_H
#define MB_CORE_TEMPLATE_LEXER_H

#include "core/base/arena.h"
#include "core/template/value.h"
#include "proto/status.h"

enum mb_token_kind {
    MB_TOKEN_END,
    MB_TOKEN_TEXT, /* between tags */
    MB_TOKEN_OUTPUT_BEGIN,
    MB_TOKEN_OUTPUT_END,
    MB_TOKEN_TAG_BEGIN,
    MB_TOKEN_TAG_END,
    MB_TOKEN_NAME,
    MB_TOKEN_CONSTANT, /* a string or a number */
    MB_TOKEN_SIGN,     /* an operator or a bracket */
};

struct mb_token {
    enum mb_token_kind kind;
    uint32_t line;
    struct mb_jinja_value value; /* of text, names and constants */
    char sign[3];                /* terminated */
};

enum { MB_BRACKETS_MAX = 200 }; /* open at a time */

struct mb_lexer {
    const char *text;
    size_t n, at;
    uint32_t line;
    bool in_output, in_tag;
    bool entered;       /* its first token was told */
    bool line_starting; /* what comes next is the first of its line */
    char open[MB_BRACKETS_MAX];
    size_t n_open;
    struct mb_arena *arena; /* for strings with escapes */
    struct mb_error *err;
};

void mb_lexer_init(struct mb_lexer *l, const char *text, size_t n, struct mb_arena *arena,
                   struct mb_error *err);

/* Errors: MB_E_FORMAT for what is no token, MB_E_LIMIT, MB_E_NOMEM. */
enum mb_status mb_lexer_next(struct mb_lexer *l, struct mb_token *ret);

#endif
