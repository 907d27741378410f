/* Bounds are compared digit by digit, as one does on paper. A state knows which digit comes next,
 * and whether all digits so far were those of the lower bound, and those of the upper; once a digit
 * differed the rest is free on that side. */
#include "core/constrain/number.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DIGITS = 15,   /* significant ones that a double holds, whatever they are */
    WHOLE_MIN = 9, /* digits before the point that bounded numbers may have at least */
};

#define NUMBER_MAX 999999999999999.0 /* of DIGITS digits */

/* A magnitude: value = digit[0] digit[1] ... as a decimal with the point where the user says. */
struct magnitude {
    uint8_t digit[DIGITS];
    bool open; /* the number itself is outside */
};

struct range {
    struct mb_grammar *g;
    uint32_t rule, to;
    unsigned n_whole, n_digits; /* digits before the point, and in all */
    struct magnitude lo, hi;
    uint32_t next[DIGITS + 1][2][2]; /* [i][tight lo][tight hi]: before digit i */
    bool has_next[DIGITS + 1][2][2];
};

/* ---- decimals ---------------------------------------------------------------------------- */

/* |x| as up to 17 digits, the shortest that read back as x, and how many of them stand before
 * the point (0 or less for small ones). Returns the number of digits, 0 for 0. */
static int decimal(double x, char digits[20], int *ret_whole)
{
    char text[40];
    for (int precision = 0; precision < 17; precision++) {
        (void) snprintf(text, sizeof text, "%.*e", precision, fabs(x));
        if (strtod(text, NULL) == fabs(x)) {
            break;
        }
    }
    int n = 0;
    const char *c = text;
    for (; *c && *c != 'e'; c++) {
        if (*c >= '0' && *c <= '9') {
            digits[n++] = *c;
        }
    }
    *ret_whole = atoi(c + 1) + 1;
    while (n > 0 && digits[n - 1] == '0') {
        n--;
    }
    return x == 0 ? 0 : n;
}

/* Digits that |x| needs before and behind the point; false when together more than DIGITS. */
static bool digits_of(double x, unsigned *whole, unsigned *fraction)
{
    char digits[20];
    int point, n = decimal(x, digits, &point);
    int w = point > 1 ? point : 1, f = n > point ? n - point : 0;
    w = n == 0 ? 1 : w;
    f = n == 0 ? 0 : f;
    if (w + f > DIGITS) {
        return false;
    }
    *whole = (unsigned) w > *whole ? (unsigned) w : *whole;
    *fraction = (unsigned) f > *fraction ? (unsigned) f : *fraction;
    return true;
}

/* x as it is, or the nearest number of DIGITS digits that is not below it (up), or not above. */
static double rounded(double x, bool up)
{
    unsigned whole = 1, fraction = 0;
    if (digits_of(x, &whole, &fraction)) {
        return x;
    }
    for (double limit = 10; fabs(x) >= limit && whole < DIGITS; limit *= 10) {
        whole++;
    }
    char text[64];
    int places = DIGITS - (int) whole;
    (void) snprintf(text, sizeof text, "%.*f", places, x);
    double y = strtod(text, NULL);
    if (up ? y < x : y > x) {
        double unit = pow(10, -places);
        (void) snprintf(text, sizeof text, "%.*f", places, up ? y + unit : y - unit);
        y = strtod(text, NULL);
    }
    return y;
}

static struct magnitude magnitude_of(const struct range *r, double x, bool open)
{
    struct magnitude m = { .open = open };
    char digits[20];
    int point, n = decimal(x, digits, &point);
    for (int i = 0; i < n; i++) {
        int at = (int) r->n_whole - point + i;
        assert(at >= 0 && at < (int) r->n_digits);
        m.digit[at] = (uint8_t) (digits[i] - '0');
    }
    return m;
}

static struct magnitude largest(const struct range *r)
{
    struct magnitude m = { 0 };
    memset(m.digit, 9, r->n_digits);
    return m;
}

/* ---- paths ------------------------------------------------------------------------------- */

static bool all_zero(const struct range *r, const struct magnitude *m, unsigned first)
{
    for (unsigned i = first; i < r->n_digits; i++) {
        if (m->digit[i] != 0) {
            return false;
        }
    }
    return true;
}

/* May the number end before digit i? Those behind are zero. */
static bool may_end(const struct range *r, unsigned i, bool tight_lo, bool tight_hi)
{
    bool above = !tight_lo || (all_zero(r, &r->lo, i) && !r->lo.open);
    bool below = !tight_hi || !(all_zero(r, &r->hi, i) && r->hi.open);
    return above && below;
}

static uint32_t before_digit(struct range *r, unsigned i, bool tight_lo, bool tight_hi);

/* From a state: the digits that may stand at i, first at least. */
static void digit_edges(struct range *r, uint32_t from, unsigned i, bool tight_lo,
                        bool tight_hi, unsigned first)
{
    unsigned lo = tight_lo ? r->lo.digit[i] : 0, hi = tight_hi ? r->hi.digit[i] : 9;
    for (unsigned d = lo > first ? lo : first; d <= hi; d++) {
        uint32_t next = before_digit(r, i + 1, tight_lo && d == lo, tight_hi && d == hi);
        mb_grammar_byte(r->g, from, (uint8_t) ('0' + d), next);
    }
}

/* The state behind i digits: more of them, a point, or the end. */
static uint32_t before_digit(struct range *r, unsigned i, bool tight_lo, bool tight_hi)
{
    if (r->has_next[i][tight_lo][tight_hi]) {
        return r->next[i][tight_lo][tight_hi];
    }
    uint32_t s = mb_grammar_state(r->g, r->rule, 0);
    r->next[i][tight_lo][tight_hi] = s;
    r->has_next[i][tight_lo][tight_hi] = true;
    if (i >= r->n_whole && may_end(r, i, tight_lo, tight_hi)) {
        mb_grammar_epsilon(r->g, s, r->to);
    }
    if (i == r->n_whole && i < r->n_digits) {
        uint32_t point = mb_grammar_state(r->g, r->rule, 0);
        mb_grammar_byte(r->g, s, '.', point);
        digit_edges(r, point, i, tight_lo, tight_hi, 0);
    } else if (i < r->n_digits) {
        digit_edges(r, s, i, tight_lo, tight_hi, 0);
    }
    return s;
}

/* The numbers lo..hi from a state, without sign: of each count of digits before the point. */
static void magnitudes(struct range *r, uint32_t from)
{
    memset(r->has_next, 0, sizeof r->has_next);
    for (unsigned n = 1; n <= r->n_whole; n++) {
        unsigned first = r->n_whole - n;
        bool below = false, tight_hi = true; /* the digits left out are zero */
        for (unsigned i = 0; i < first; i++) {
            below = below || r->lo.digit[i] != 0;
            tight_hi = tight_hi && r->hi.digit[i] == 0;
        }
        if (!below) {
            digit_edges(r, from, first, true, tight_hi, n > 1 ? 1 : 0);
        }
    }
}

static int compare(const struct magnitude *a, const struct magnitude *b)
{
    return memcmp(a->digit, b->digit, sizeof a->digit);
}

static bool is_empty(const struct range *r)
{
    int order = compare(&r->lo, &r->hi);
    return order > 0 || (order == 0 && (r->lo.open || r->hi.open));
}

static void positive(struct range *r, uint32_t from, const struct mb_number_bounds *b)
{
    if (b->has_hi && (b->hi < 0 || (b->hi == 0 && b->hi_open))) {
        return;
    }
    bool bounded = b->has_lo && b->lo >= 0;
    r->lo = bounded ? magnitude_of(r, b->lo, b->lo_open) : (struct magnitude) { 0 };
    r->hi = b->has_hi ? magnitude_of(r, b->hi, b->hi_open) : largest(r);
    if (!is_empty(r)) {
        magnitudes(r, from);
    }
}

/* -0 is left out: it is 0. */
static void negative(struct range *r, uint32_t from, const struct mb_number_bounds *b)
{
    if (b->has_lo && b->lo >= 0) {
        return;
    }
    bool bounded = b->has_hi && b->hi < 0;
    r->lo = bounded ? magnitude_of(r, b->hi, b->hi_open) : (struct magnitude) { .open = true };
    r->hi = b->has_lo ? magnitude_of(r, b->lo, b->lo_open) : largest(r);
    if (!is_empty(r)) {
        uint32_t minus = mb_grammar_state(r->g, r->rule, 0);
        mb_grammar_byte(r->g, from, '-', minus);
        magnitudes(r, minus);
    }
}

/* An integer's bounds are integers. */
static struct mb_number_bounds whole_bounds(const struct mb_number_bounds *bounds)
{
    struct mb_number_bounds b = *bounds;
    if (b.has_lo) {
        b.lo = b.lo_open ? floor(b.lo) + 1 : ceil(b.lo);
        b.lo_open = false;
    }
    if (b.has_hi) {
        b.hi = b.hi_open ? ceil(b.hi) - 1 : floor(b.hi);
        b.hi_open = false;
    }
    return b;
}

static enum mb_status bounded_path(struct mb_grammar *g, uint32_t from,
                                   const struct mb_number_bounds *bounds, uint32_t to,
                                   struct mb_error *err)
{
    struct mb_number_bounds b = bounds->integer ? whole_bounds(bounds) : *bounds;
    unsigned whole = 1, fraction = 0;
    b.has_lo = b.has_lo && b.lo >= -NUMBER_MAX; /* else it excludes nothing that is spelled */
    b.has_hi = b.has_hi && b.hi <= NUMBER_MAX;
    b.lo = b.has_lo ? rounded(b.lo, true) : 0;
    b.hi = b.has_hi ? rounded(b.hi, false) : 0;
    if ((b.has_lo && !digits_of(b.lo, &whole, &fraction)) ||
        (b.has_hi && !digits_of(b.hi, &whole, &fraction)) || whole + fraction > DIGITS) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "minimum, maximum: more than %d digits are not supported", DIGITS);
    }
    struct range r = { .g = g, .rule = g->states[from].rule, .to = to, .n_digits = DIGITS };
    if (b.integer) {
        r.n_whole = DIGITS;
    } else {
        unsigned room = DIGITS - fraction;
        r.n_whole = whole > WHOLE_MIN ? whole : WHOLE_MIN < room ? WHOLE_MIN : room;
    }
    positive(&r, from, &b);
    negative(&r, from, &b);
    return MB_OK;
}

/* ---- without bounds ---------------------------------------------------------------------- */

/* From a state up to n digits, each of which may be the last and then leads to `to`. Returns the
 * state before the first. */
static uint32_t up_to_digits(struct mb_grammar *g, uint32_t rule, unsigned n, uint32_t to)
{
    uint32_t next = to;
    for (unsigned i = 0; i < n; i++) {
        uint32_t s = mb_grammar_state(g, rule, 0);
        mb_grammar_bytes(g, s, '0', '9', next);
        if (next != to) {
            mb_grammar_bytes(g, s, '0', '9', to);
        }
        next = s;
    }
    return next;
}

static void free_path(struct mb_grammar *g, uint32_t from, bool integer, uint32_t to)
{
    uint32_t rule = g->states[from].rule;
    uint32_t unsigned_ = mb_grammar_state(g, rule, 0), whole = mb_grammar_state(g, rule, 0);
    mb_grammar_byte(g, from, '-', unsigned_);
    mb_grammar_epsilon(g, from, unsigned_);
    mb_grammar_byte(g, unsigned_, '0', whole);
    mb_grammar_bytes(g, unsigned_, '1', '9', whole);
    uint32_t more = up_to_digits(g, rule, DIGITS - 1, whole);
    mb_grammar_bytes(g, unsigned_, '1', '9', more);
    mb_grammar_epsilon(g, whole, to);
    if (integer) {
        return;
    }
    uint32_t mantissa = mb_grammar_state(g, rule, 0), e = mb_grammar_state(g, rule, 0);
    mb_grammar_byte(g, whole, '.', up_to_digits(g, rule, DIGITS, mantissa));
    mb_grammar_epsilon(g, whole, mantissa);
    mb_grammar_epsilon(g, mantissa, to);
    mb_grammar_byte(g, mantissa, 'e', e);
    mb_grammar_byte(g, mantissa, 'E', e);
    uint32_t exponent = up_to_digits(g, rule, 2, to);
    mb_grammar_byte(g, e, '+', exponent);
    mb_grammar_byte(g, e, '-', exponent);
    mb_grammar_epsilon(g, e, exponent);
}

enum mb_status mb_number_path(struct mb_grammar *g, uint32_t from,
                              const struct mb_number_bounds *bounds, uint32_t to,
                              struct mb_error *err)
{
    if (bounds->has_lo || bounds->has_hi) {
        return bounded_path(g, from, bounds, to, err);
    }
    free_path(g, from, bounds->integer, to);
    return MB_OK;
}
