/* A template as a tree. Private to the template engine.
 *
 * Life:    built once by the parser in the template's arena; never changes.
 * Threads: shared, constant. */
#ifndef MB_CORE_TEMPLATE_NODE_H
#define MB_CORE_TEMPLATE_NODE_H

#include "core/base/arena.h"
#include "core/template/value.h"
#include "proto/status.h"

enum mb_node_kind {
    /* expressions: what the fields hold */
    MB_NODE_CONSTANT,  /* value */
    MB_NODE_NAME,      /* value: the name */
    MB_NODE_LIST,      /* list: elements */
    MB_NODE_TUPLE,     /* list: elements */
    MB_NODE_DICT,      /* list: key, value, key, value... */
    MB_NODE_ATTRIBUTE, /* left . value */
    MB_NODE_ITEM,      /* left [ right ] */
    MB_NODE_SLICE,     /* left [ list: three, of which any may be NOTHING ] */
    MB_NODE_CALL,      /* left ( list: arguments, of which some may be NAMED ) */
    MB_NODE_FILTER,    /* left | value ( list ) */
    MB_NODE_TEST,      /* left is value ( list ); not, when negated */
    MB_NODE_NOT,       /* not left */
    MB_NODE_NEGATIVE,  /* - left */
    MB_NODE_POSITIVE,  /* + left */
    MB_NODE_AND,       /* left and right */
    MB_NODE_OR,
    MB_NODE_BINARY,   /* left op right: enum mb_operator */
    MB_NODE_JOINED,   /* list: a ~ b ~ c */
    MB_NODE_COMPARE,  /* left, then list: RELATIONs */
    MB_NODE_RELATION, /* op left: enum mb_relation */
    MB_NODE_CHOICE,   /* left if right else other, which may be NULL */
    MB_NODE_NAMED,    /* value = left */
    MB_NODE_NOTHING,
    MB_NODE_CAPTURED, /* what a block wrote, for the filters behind it */

    /* statements */
    MB_NODE_TEXT,         /* value */
    MB_NODE_OUTPUT,       /* left */
    MB_NODE_FOR,          /* for left in right, if other; body; otherwise */
    MB_NODE_IF,           /* if left; body; otherwise, which may be one more IF: elif */
    MB_NODE_SET,          /* set left = right */
    MB_NODE_SET_BLOCK,    /* set left; body; right: filters over CAPTURED, or NULL */
    MB_NODE_FILTER_BLOCK, /* right: filters over CAPTURED; body */
    MB_NODE_WITH,         /* list: SETs; body */
    MB_NODE_MACRO,        /* macro value ( list: NAMEDs, left NULL without a default ); body */
    MB_NODE_CALL_BLOCK,   /* left: a CALL; right: a MACRO for caller */
    MB_NODE_BREAK,
    MB_NODE_CONTINUE,
};

enum mb_relation {
    MB_EQUAL,
    MB_UNEQUAL,
    MB_BELOW,
    MB_AT_MOST,
    MB_ABOVE,
    MB_AT_LEAST,
    MB_IN,
    MB_NOT_IN,
};

struct mb_node {
    enum mb_node_kind kind;
    uint32_t line;
    uint8_t op;
    bool negated;
    bool takes_more, takes_named; /* of a macro: it uses varargs, kwargs */
    bool takes_caller;
    struct mb_jinja_value value;
    struct mb_node *left, *right, *other;
    struct mb_node *list, *body, *otherwise; /* first of several, which next goes through */
    struct mb_node *next;
};

/* Builds the tree of text, which must outlive it, in arena; *ret is NULL for an empty one.
 * Errors: MB_E_FORMAT, MB_E_UNSUPPORTED, MB_E_LIMIT, MB_E_NOMEM, each with the line. */
enum mb_status mb_template_parse(const char *text, size_t n, struct mb_arena *arena,
                                 struct mb_node **ret, struct mb_error *err);

#endif
