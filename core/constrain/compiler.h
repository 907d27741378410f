/* Between the files that compile a schema.
 *
 *     schema.c      a value: its alternatives, its types; the rules still to be written
 *     parts.c       which schemas apply at a place: $ref, allOf and anyOf taken apart
 *     scalars.c     strings and numbers
 *     containers.c  objects and arrays
 *     constants.c   enum and const
 *
 * Errors are sticky: after the first, work goes on without effect until somebody looks.
 *
 * Threads: one compiler, one thread. */
#ifndef MB_CORE_COMPILER_H
#define MB_CORE_COMPILER_H

#include "core/constrain/grammar.h"
#include "proto/json_value.h"

#define MB_PARTS_MAX        32        /* schemas that apply to one value */
#define MB_ALTERNATIVES_MAX 65536     /* of all values, all products of anyOf counted */
#define MB_COMPILE_WORK_MAX 100000000 /* names looked at: about half a second */
#define MB_KEYWORD_WORK     16 /* a schema is asked for its keywords one after the other */

/* The schemas that all apply to one value, each once. */
struct mb_parts {
    const struct mb_json_value *at[MB_PARTS_MAX]; /* objects */
    uint8_t parent[MB_PARTS_MAX]; /* the part that named it; MB_PARTS_MAX is none */
    uint8_t n;
    uint8_t n_taken;
    const struct mb_json_value
        *taken[2 * MB_PARTS_MAX]; /* anyOf and oneOf that were chosen from */
    bool never;                   /* nothing is valid */
};

enum mb_type {
    MB_TYPE_NULL = 1,
    MB_TYPE_BOOLEAN = 2,
    MB_TYPE_INTEGER = 4,
    MB_TYPE_NUMBER = 8, /* what is no integer */
    MB_TYPE_STRING = 16,
    MB_TYPE_ARRAY = 32,
    MB_TYPE_OBJECT = 64,
    MB_TYPE_ANY = 127,
};

enum mb_key_kind { MB_KEY_OBJECT, MB_KEY_ARRAY, MB_KEY_CONSTANT, MB_KEY_STRING };

/* What a rule is for: equal keys share one. */
struct mb_rule_key {
    enum mb_key_kind kind;
    uint32_t min, max; /* characters of a string */
    uint32_t n;
    const struct mb_json_value
        *at[MB_PARTS_MAX]; /* schemas; a constant; patterns and formats */
};

/* The rules so far: those before n_written have their bodies. */
struct mb_rule_memo {
    struct mb_memo_entry {
        struct mb_rule_key *key; /* owned */
        uint32_t rule;
    } * at; /* [n] */
    uint32_t n, n_written, cap;
    uint32_t *slots; /* [2 cap], cap a power of two: a hash table of 1 + index */
};

struct mb_compiler {
    const struct mb_json_value *root;
    struct mb_grammar *g;
    struct mb_rule_memo memo;
    uint32_t n_alternatives;
    uint64_t work;
    enum mb_status status; /* sticky */
    struct mb_error *err;
};

/* Notes an error unless there is one; "schema: " goes before it. */
void mb_compiler_fail(struct mb_compiler *c, enum mb_status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Counts what is about to be looked through, since names and constants are searched one by one; an
 * error when it is too much. */
void mb_compiler_work(struct mb_compiler *c, uint64_t units);
/* Nothing further can be of use. */
bool mb_compiler_stopped(const struct mb_compiler *c);

/* --- parts.c --- */

/* Adds a schema, what it refers to and its allOf. */
void mb_parts_add(struct mb_compiler *c, struct mb_parts *p, const struct mb_json_value *schema,
                  unsigned parent);
/* The next anyOf or oneOf to choose from, and whose it is; NULL when there is none. Marks it. */
const struct mb_json_value *mb_parts_choice(struct mb_parts *p, unsigned *ret_owner);
/* The types that all parts allow. */
unsigned mb_parts_types(struct mb_compiler *c, const struct mb_parts *p);
/* Does schema itself allow the type that v has? */
bool mb_part_allows_type(struct mb_compiler *c, const struct mb_json_value *part,
                         const struct mb_json_value *v);
/* A keyword's value as a count; absent leaves *ret. */
bool mb_part_count(struct mb_compiler *c, const struct mb_json_value *part, const char *keyword,
                   uint32_t *ret);
/* A keyword's value as a number; false when it is absent. */
bool mb_part_number(struct mb_compiler *c, const struct mb_json_value *part,
                    const char *keyword, double *ret);

/* --- schema.c --- */

/* Paths of the values that all n schemas allow. */
void mb_value_paths(struct mb_compiler *c, const struct mb_json_value *const *schemas, size_t n,
                    uint32_t from, uint32_t to);
/* The rule of a key, where a new one's body is still to be written. */
uint32_t mb_memo_rule(struct mb_compiler *c, const struct mb_rule_key *key);
/* A call of the rule of a key. */
void mb_call_paths(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t from,
                   uint32_t to);

/* --- scalars.c --- */

void mb_string_paths(struct mb_compiler *c, const struct mb_parts *p, uint32_t from,
                     uint32_t to);
/* Like the bodies below, but it makes its rule, too. */
uint32_t mb_string_body(struct mb_compiler *c, const struct mb_rule_key *key);
void mb_number_paths(struct mb_compiler *c, const struct mb_parts *p, bool integer,
                     uint32_t from, uint32_t to);
/* Does a number, or the length of a string, keep what the parts say of it? */
bool mb_scalar_in_bounds(struct mb_compiler *c, const struct mb_parts *p,
                         const struct mb_json_value *v);

/* --- containers.c --- */

void mb_object_body(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t rule);
void mb_array_body(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t rule);

/* --- constants.c --- */

bool mb_parts_have_constants(const struct mb_parts *p);
void mb_constant_paths(struct mb_compiler *c, const struct mb_parts *p, uint32_t from,
                       uint32_t to);
void mb_constant_body(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t rule);

#endif
