/* A grammar of JSON texts: a nondeterministic automaton over bytes for each container and each
 * string, which call one another.
 *
 * JSON shows its nesting: a string begins and ends with '"', an object with '{' and '}', an array
 * with '[' and ']', and whether a byte is such a bracket depends on what came before it alone,
 * never on which of several alternatives is meant. So every string, object and array is a *rule* of
 * its own, entered by its opening bracket and left by its closing one, and all alternatives enter
 * and leave together: a visibly pushdown language (Alur and Madhusudan 2004), whose automaton can
 * be made deterministic frame by frame (automaton.h).
 *
 *     root:    gap {"a"} gap ... as edges          OBJECT rule: the bytes between { and }
 *     edges:   EPSILON   BYTES lo..hi   CALL rule (an opening bracket, the rule, its closing one)
 *     states:  GAP  white space may stand here, and leads back here
 *              CLOSE  the closing bracket of the rule may stand here
 *              ACCEPT  the text may end here (of the root only)
 *
 * Life:    _init, states and edges, _finish; then immutable. _fini any time.
 * Bound:   MB_GRAMMAR_STATES_MAX states, as many rules, and four times as many edges. Building goes
 *          on beyond it without effect, and _finish says so: nobody else needs to ask.
 * Threads: one at a time until finished, then any. */
#ifndef MB_CORE_GRAMMAR_H
#define MB_CORE_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

#define MB_GRAMMAR_STATES_MAX (1u << 16) /* a string of at most 7,000 characters, counted */
#define MB_GRAMMAR_EDGES_MAX  (4 * MB_GRAMMAR_STATES_MAX)
#define MB_GRAMMAR_DEPTH_MAX  64 /* frames of a text: brackets and strings that are open */

enum mb_rule_kind {
    MB_RULE_ROOT,
    MB_RULE_OBJECT,
    MB_RULE_ARRAY,
    MB_RULE_STRING,
    MB_RULE_KINDS
};

enum mb_nfa_flags { MB_NFA_GAP = 1, MB_NFA_CLOSE = 2, MB_NFA_ACCEPT = 4 };

enum mb_nfa_edge_kind { MB_NFA_EPSILON, MB_NFA_BYTES, MB_NFA_CALL };

struct mb_nfa_edge {
    uint32_t next; /* of the same state's edges; 0 is none */
    uint32_t to;
    uint32_t rule; /* of CALL */
    uint8_t kind, lo, hi;
};

struct mb_nfa_state {
    uint32_t edges; /* the first; 0 is none */
    uint32_t rule;  /* that it is part of */
    uint16_t
        free; /* of a string, between characters: so many more of any that need no escape may
                       follow; MB_GRAMMAR_FREE: as many as one likes */
    uint8_t flags;
    uint8_t need; /* frames to be opened at once on the shallowest way to the rule's end;
                     MB_GRAMMAR_NEVER when there is no way */
};

#define MB_GRAMMAR_NEVER 255
#define MB_GRAMMAR_FREE  UINT16_MAX

struct mb_rule {
    enum mb_rule_kind kind;
    uint32_t entry; /* the state behind the opening bracket */
};

struct mb_grammar {
    struct mb_nfa_state *states;
    uint32_t n_states, states_cap;
    struct mb_nfa_edge *edges; /* edges[0] is no edge */
    uint32_t n_edges, edges_cap;
    struct mb_rule *rules; /* rules[0] is the root */
    uint32_t n_rules, rules_cap;
    bool overflow, no_memory; /* sticky */

    /* By _finish. */
    uint8_t need_max; /* the largest of any state but NEVER */
    uint8_t class_of[256];
    uint32_t n_classes;      /* of bytes that no edge tells apart */
    uint8_t class_byte[256]; /* [n_classes] one byte of each */
};

/* With the root's rule and its entry. false when memory is refused; _finish says it too. */
bool mb_grammar_init(struct mb_grammar *g);
void mb_grammar_fini(struct mb_grammar *g);

/* A rule and its entry state; 0 on overflow. */
uint32_t mb_grammar_rule(struct mb_grammar *g, enum mb_rule_kind kind);
/* A state of a rule; any state of the grammar on overflow. */
uint32_t mb_grammar_state(struct mb_grammar *g, uint32_t rule, unsigned flags);
void mb_grammar_epsilon(struct mb_grammar *g, uint32_t from, uint32_t to);
void mb_grammar_bytes(struct mb_grammar *g, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to);
void mb_grammar_byte(struct mb_grammar *g, uint32_t from, uint8_t byte, uint32_t to);
void mb_grammar_call(struct mb_grammar *g, uint32_t from, uint32_t rule, uint32_t to);
/* A path that spells at[0, n), n >= 0. */
void mb_grammar_spell(struct mb_grammar *g, uint32_t from, const void *at, size_t n,
                      uint32_t to);

/* Works out need and the classes of bytes.
 * Errors: MB_E_LIMIT beyond the bounds; MB_E_INVALID when no text of at most
 *         MB_GRAMMAR_DEPTH_MAX frames is in the language; MB_E_NOMEM. */
enum mb_status mb_grammar_finish(struct mb_grammar *g, struct mb_error *err);

#endif
