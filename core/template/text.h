/* What methods and filters do with strings. Positions and lengths are in characters, as in
 * Python. Private to the template engine.
 *
 * Threads: one render's. */
#ifndef MB_CORE_TEMPLATE_TEXT_H
#define MB_CORE_TEMPLATE_TEXT_H

#include "core/template/value.h"

enum mb_letter_case {
    MB_CASE_UPPER,
    MB_CASE_LOWER,
    MB_CASE_SWAPPED,
    MB_CASE_CAPITAL, /* the first character upper, the rest lower */
    MB_CASE_TITLE,   /* str.title: a letter after none is upper, all others lower */
    MB_CASE_HEADING, /* the filter title: upper after blanks, hyphens and opening brackets */
};
bool mb_text_recase(struct mb_render *r, struct mb_jinja_value text, enum mb_letter_case to,
                    struct mb_jinja_value *ret);

enum mb_text_sides { MB_LEFT = 1, MB_RIGHT = 2 };
/* Without the characters of chars, or blanks when it is absent or None, at the sides. */
bool mb_text_strip(struct mb_render *r, struct mb_jinja_value text, struct mb_jinja_value chars,
                   unsigned sides, struct mb_jinja_value *ret);

/* The first times of old replaced; all when times is below 0. */
bool mb_text_replace(struct mb_render *r, struct mb_jinja_value text, struct mb_jinja_value old,
                     struct mb_jinja_value other, int64_t times, struct mb_jinja_value *ret);

/* A list of the parts between separators, or between runs of blanks when separator is absent or
 * None; at most times cuts, from the right when backward; all when times is below 0. */
bool mb_text_split(struct mb_render *r, struct mb_jinja_value text,
                   struct mb_jinja_value separator, int64_t times, bool backward,
                   struct mb_jinja_value *ret);

/* A list of lines, as str.splitlines finds them. */
bool mb_text_lines(struct mb_render *r, struct mb_jinja_value text, bool keep_ends,
                   struct mb_jinja_value *ret);

/* The byte where part first (last, when backward) occurs, or -1. */
ptrdiff_t mb_text_find(struct mb_jinja_value text, struct mb_jinja_value part, bool backward);
/* What finding, and not finding, takes: units of work. */
uint64_t mb_text_find_work(struct mb_jinja_value text, struct mb_jinja_value part,
                           bool backward);
bool mb_text_starts(struct mb_jinja_value text, struct mb_jinja_value part);
bool mb_text_ends(struct mb_jinja_value text, struct mb_jinja_value part);

/* Filled with fill to width characters on the side or sides. */
bool mb_text_pad(struct mb_render *r, struct mb_jinja_value text, int64_t width,
                 struct mb_jinja_value fill, unsigned sides, struct mb_jinja_value *ret);

/* With & < > ' " as HTML wants them. */
bool mb_text_escape(struct mb_render *r, struct mb_jinja_value text,
                    struct mb_jinja_value *ret);

/* Python's str.isspace of one character, which has four more than Unicode's White_Space. */
bool mb_text_is_blank(uint32_t c);

/* Do all characters, of which there is one at least, have the property; or for is_cased: is
 * there a cased one, and none of the other case? */
typedef bool mb_character_fn(uint32_t c);
bool mb_text_all(struct mb_jinja_value text, mb_character_fn *has);
bool mb_text_is_cased(struct mb_jinja_value text, mb_character_fn *wanted,
                      mb_character_fn *other);

#endif
