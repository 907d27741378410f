/* A grammar made deterministic while it is used: sets of its states are numbered as they are met.
 *
 * A text has a frame for each bracket and string that is open. A frame's state is a set of the
 * grammar's states, all of rules that were entered together; the frame below waits in its own.
 *
 *     step    a byte within a frame
 *     open    an opening bracket: the new frame is in the entries of the rules that can be called
 *     after   a closing bracket: the frame below goes on behind the calls of those rules that were
 *             complete
 *     gap     white space: only what may stand behind a gap is left
 *
 * A text has at most MB_GRAMMAR_DEPTH_MAX frames. So that none ever stands where only deeper ones could
 * end it, a state knows how much room it has (up to the grammar's need_max; more makes no
 * difference) and leaves out what needs more.
 *
 * Exact:   a number stands for the same set and room until _reset, and is a function of the calls
 *          since.
 * Memory:  everything at _new; pages are touched as they are needed.
 * Threads: one at a time. */
#ifndef MB_CORE_AUTOMATON_H
#define MB_CORE_AUTOMATON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/constrain/grammar.h"

#define MB_DFA_UNKNOWN 0u /* never returned */
#define MB_DFA_DEAD    1u /* nothing goes on from here */

struct mb_dfa_state {
    uint32_t set, n_set; /* where in the pool, and how many */
    uint32_t gap;
    uint32_t open[MB_RULE_KINDS][2]; /* [..][0] with one frame's room less, [1] with as much */
    uint16_t free;                   /* the most of its states */
    uint8_t kind;                    /* enum mb_rule_kind of the frame */
    uint8_t room;
    bool closes, accepts;
};

struct mb_automaton {
    const struct mb_grammar *g; /* borrowed */
    uint32_t n_states, states_max;
    struct mb_dfa_state *states;
    uint32_t *next;     /* [states_max][g->n_classes] */
    uint32_t *slots;    /* [2 states_max] hash table of states */
    uint32_t *pool;     /* [pool_max] the sets */
    uint32_t *old_pool; /* [pool_max] during a reset */
    uint32_t n_pool, pool_max;
    struct mb_dfa_after {
        uint32_t below, top, state;
    } * after;             /* [MB_DFA_AFTER] */
    uint32_t *state_stamp; /* [g->n_states] met in the round `stamp` */
    uint32_t *rule_stamp;  /* [g->n_rules] */
    uint32_t *found;       /* [g->n_states] the set in the making */
    uint32_t n_found, stamp;
    int64_t budget; /* states and edges that may still be looked at; set by the user */
    bool
        full; /* sticky until set false: something was answered DEAD for want of room or budget,
                       and may be answered otherwise another time */
};

/* g is finished, and borrowed for life. */
enum mb_status mb_automaton_init(struct mb_automaton *a, const struct mb_grammar *g,
                                 struct mb_error *err);
void mb_automaton_fini(struct mb_automaton *a);

size_t mb_automaton_bytes(const struct mb_automaton *a); /* that it may come to use */

/* Each returns a state, or MB_DFA_DEAD. */
uint32_t mb_automaton_start(struct mb_automaton *a);
uint32_t mb_automaton_step(struct mb_automaton *a, uint32_t state, uint8_t byte);
/* room of the new frame: 0..need_max. */
uint32_t mb_automaton_open(struct mb_automaton *a, uint32_t state, enum mb_rule_kind kind,
                           uint8_t room);
uint32_t mb_automaton_after(struct mb_automaton *a, uint32_t below, uint32_t top);
uint32_t mb_automaton_gap(struct mb_automaton *a, uint32_t state);

/* More than three quarters of the room are used. */
bool mb_automaton_is_crowded(const struct mb_automaton *a);
/* Forgets all states but the n given, and gives those their new numbers. */
void mb_automaton_reset(struct mb_automaton *a, uint32_t *const states[], size_t n);

#endif
