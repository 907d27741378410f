/* What a JSON text will cost a parser, counted before it runs: a parser recurses once a level,
 * allocates for each value, and hashes each member of an object, which takes far longer than the
 * other bytes.
 *
 * Threads: pure. */
#ifndef MB_PROTO_JSON_TALLY_H
#define MB_PROTO_JSON_TALLY_H

#include <stddef.h>

/* Zeroed before the first text. */
struct mb_json_tally {
    size_t depth;      /* levels of the deepest array or object */
    size_t containers; /* arrays and objects */
    size_t members;    /* of objects */
    size_t values;     /* one a text, and one more with each comma */
};

/* Adds a text. What is not JSON is left for the parser to refuse: it stops at the same byte or
 * before. */
void mb_json_tally(const char *text, size_t n, struct mb_json_tally *t);

#endif
