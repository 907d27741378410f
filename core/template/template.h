/* Chat templates: the Jinja that models bring along to write messages as one prompt.
 *
 * The language is Jinja's as transformers sets it up (trim_blocks, lstrip_blocks, break and
 * continue, tojson without escapes, raise_exception, strftime_now), the values are
 * Python's; README.md says what is left out. A template is a program of somebody else, and
 * what it works on is from anybody: it reaches nothing but its variables, and every bound
 * below ends it with an error.
 *
 * Life:    compiled once from text, rendered any number of times.
 * Threads: any number may render one template at the same time.
 * Memory:  a render takes what it needs and gives it back at its end. */
#ifndef MB_CORE_TEMPLATE_H
#define MB_CORE_TEMPLATE_H

#include <stddef.h>
#include <time.h>

#include "core/base/bytes.h"
#include "proto/status.h"

#define MB_TEMPLATE_TEXT_MAX   (1u << 20)  /* bytes of a template: what a checkpoint may hold */
#define MB_TEMPLATE_OUTPUT_MAX (32u << 20) /* bytes: some times the largest body of a request */
#define MB_TEMPLATE_MEMORY_MAX \
    (128u << 20)                        /* bytes of values: a body's, and what is made of it */
#define MB_TEMPLATE_WORK_MAX  20000000u /* steps: about a second */
#define MB_TEMPLATE_DEPTH_MAX 400       /* levels of nesting; each takes some of the stack */

struct mb_template;

/* Compiles text, which is copied. Errors: MB_E_FORMAT with the line of what is no Jinja,
 * MB_E_UNSUPPORTED for what is Jinja and left out, MB_E_LIMIT, MB_E_NOMEM. */
enum mb_status mb_template_new(const char *text, size_t n, struct mb_template **ret,
                               struct mb_error *err);
void mb_template_free(struct mb_template *t); /* NULL is allowed */

enum mb_variable_kind {
    MB_VARIABLE_NONE, /* None */
    MB_VARIABLE_TRUE,
    MB_VARIABLE_FALSE,
    MB_VARIABLE_TEXT, /* a string: text as it is */
    MB_VARIABLE_JSON, /* what text, a JSON document, says */
};

/* What the template finds under a name. Borrowed. JSON of an object without a name is as many
 * variables as it has members. Of several with one name the last counts. */
struct mb_variable {
    const char *name;
    enum mb_variable_kind kind;
    const char *text;
    size_t n;
};

/* Does the template mention this name anywhere? What it does not mention it can not use:
 * tools. */
bool mb_template_mentions(const struct mb_template *t, const char *name);

/* Appends what t makes of the variables to ret. now is what strftime_now tells; NULL when
 * nobody knows the time, and then the function is undefined.
 * Errors: MB_E_INVALID when the template refuses what it is given (raise_exception) or does
 *         with it what can not be done, MB_E_LIMIT for a bound, MB_E_FORMAT for a variable
 *         that is no JSON, MB_E_NOMEM; ret is as before. */
enum mb_status mb_template_render(const struct mb_template *t,
                                  const struct mb_variable *variables, size_t n_variables,
                                  const struct tm *now, struct mb_bytes *ret,
                                  struct mb_error *err);

#endif
