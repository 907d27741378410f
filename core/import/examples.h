/* Files to learn from, as people write them: plain text, or JSON lines in OpenAI's two forms,
 *
 *     {"prompt": "...", "completion": "..."}
 *     {"messages": [{"role": "system" | "user" | "assistant" | "tool", "content": "..."}, ...]}
 *
 * Of a prompt nothing is learned; of messages, what assistants say (but for a message of
 * "weight": 0), to the end of the turn. Messages become text by the model's chat template;
 * without one they stand after each other, a line each.
 *
 * A file that begins with '{' after white space is JSON lines; anything else is text.
 *
 * Threads: one at a time per dataset. */
#ifndef MB_CORE_IMPORT_EXAMPLES_H
#define MB_CORE_IMPORT_EXAMPLES_H

#include "core/base/bytes.h"
#include "core/finetune/dataset.h"
#include "core/tokenizer/tokenizer.h"

#define MB_EXAMPLE_LINE_MAX     (16u << 20) /* bytes: some times the longest context */
#define MB_EXAMPLE_MESSAGES_MAX 1024

/* Appends the text of messages, a JSON array in n bytes; with prompt, up to where an assistant is
 * about to speak. */
typedef enum mb_status mb_chat_text_fn(void *self, const char *messages, size_t n, bool prompt,
                                       struct mb_bytes *ret, struct mb_error *err);

struct mb_examples_options {
    const struct mb_tokenizer *tokenizer;
    size_t window;              /* tokens of an example, at most */
    mb_chat_text_fn *chat_text; /* the chat template; NULL for none */
    void *chat_self;
    double bad_share; /* 0..1: of the JSON lines so many may be wrong, and are left out */
};

struct mb_examples_report {
    size_t n_lines;   /* JSON lines that gave an example */
    size_t n_skipped; /* lines with nothing to learn within the window */
    size_t n_cut;     /* examples longer than the window */
    size_t n_bad;     /* lines that are wrong, and were left out */
};

/* Adds what the file holds to d. Errors: those of mb_file_map; MB_E_FORMAT naming file, line and
 * field; MB_E_INVALID when nothing was added; MB_E_LIMIT, MB_E_NOMEM. */
enum mb_status mb_examples_read(const char *path, const struct mb_examples_options *o,
                                struct mb_dataset *d, struct mb_examples_report *ret,
                                struct mb_error *err);

/* Are the file's lines examples? What can be said without a model: they are JSON lines of either
 * form. n_lines counts those that are good.
 * Errors: as above, for the first line that is wrong; *ret is of the lines before it then. */
enum mb_status mb_examples_check(const char *path, struct mb_examples_report *ret,
                                 struct mb_error *err);

#endif
