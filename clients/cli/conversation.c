#include "clients/cli/conversation.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "Every line is a message; one that ends in \\ goes on in the next.\n"
                           "  /clear   forget what was said\n"
                           "  /help    print this\n"
                           "  /bye     leave (so does Ctrl-D)\n"
                           "Ctrl-C ends an answer; between answers, the chat.\n";

void mbc_conversation_fini(struct mbc_conversation *c)
{
    for (size_t i = 0; i < c->n_turns; i++) {
        mb_bytes_fini(&c->turns[i].text);
    }
    free(c->turns);
    c->turns = NULL;
    c->n_turns = c->cap = 0;
}

static enum mb_status add_turn(struct mbc_conversation *c, const char *role, const void *text,
                               size_t n, struct mb_error *err)
{
    if (c->n_turns == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        struct mbc_turn *longer = realloc(c->turns, cap * sizeof *longer);
        if (!longer) {
            return mb_fail(err, MB_E_NOMEM, 0, "no memory for a conversation");
        }
        c->turns = longer;
        c->cap = cap;
    }
    struct mbc_turn *turn = &c->turns[c->n_turns];
    *turn = (struct mbc_turn) { .role = role };
    mb_bytes_put(&turn->text, text, n);
    if (turn->text.failed) {
        mb_bytes_fini(&turn->text);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a conversation");
    }
    c->n_turns++;
    return MB_OK;
}

/* Forgets the n oldest turns. */
static void forget_turns(struct mbc_conversation *c, size_t n)
{
    assert(n <= c->n_turns);
    for (size_t i = 0; i < n; i++) {
        mb_bytes_fini(&c->turns[i].text);
    }
    c->n_turns -= n;
    if (c->n_turns > 0) {
        memmove(c->turns, c->turns + n, c->n_turns * sizeof *c->turns);
    }
}

/* A message that got no answer is taken back, so that roles keep alternating. */
static void drop_last_turn(struct mbc_conversation *c)
{
    assert(c->n_turns > 0);
    mb_bytes_fini(&c->turns[--c->n_turns].text);
}

static enum mb_status ask_once(struct mbc_conversation *c, struct mbc_said *ret,
                               struct mb_error *err)
{
    struct mb_request r = { .model = c->model };
    const struct mb_bytes *last = &c->turns[c->n_turns - 1].text;
    if (c->completes) {
        r.prompt = last->len ? (const char *) last->at : "";
        r.n_prompt = last->len;
        return mbc_ask(c->transport, c->asking, &r, ret, err);
    }
    struct mb_request_message *m = calloc(c->n_turns + 1, sizeof *m);
    if (!m) {
        *ret = (struct mbc_said) { 0 };
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a conversation");
    }
    size_t n = 0;
    if (c->system) {
        m[n++] = (struct mb_request_message) { "system", c->system, strlen(c->system) };
    }
    for (size_t i = 0; i < c->n_turns; i++) {
        const struct mb_bytes *text = &c->turns[i].text;
        m[n++] =
            (struct mb_request_message) { c->turns[i].role,
                                          text->len ? (const char *) text->at : "", text->len };
    }
    r.messages = m;
    r.n_messages = n;
    enum mb_status st = mbc_ask(c->transport, c->asking, &r, ret, err);
    free(m);
    return st;
}

/* Is it that chats can not be had, of this model or of this server? */
static bool has_no_chat(enum mb_status st, const char *code)
{
    return strcmp(code, "no_chat_template") == 0 ||
           (st == MB_E_NOTFOUND && strcmp(code, "model_not_found") != 0);
}

/* Asks for the answer to the last turn. When all that was said no longer fits the context, the
 * oldest exchanges are forgotten, one after the other. */
static enum mb_status ask(struct mbc_conversation *c, struct mbc_said *ret,
                          struct mb_error *err)
{
    for (;;) {
        enum mb_status st = ask_once(c, ret, err);
        if (st == MB_OK) {
            return st;
        }
        if (strcmp(ret->code, "context_length_exceeded") == 0 && c->n_turns > 2 &&
            !c->completes) {
            forget_turns(c, 2);
            fprintf(stderr, "mbool %s: the context is full; the oldest exchange is forgotten\n",
                    c->asking->command->name);
        } else if (c->may_complete && !c->completes && has_no_chat(st, ret->code)) {
            c->completes = true;
            if (isatty(STDERR_FILENO)) {
                fprintf(stderr,
                        "mbool %s: this model is not made for chats; it goes on with "
                        "your text\n",
                        c->asking->command->name);
            }
        } else {
            return st;
        }
        mbc_said_fini(ret);
    }
}

static enum mb_status take_turn(struct mbc_conversation *c, const char *text, size_t n,
                                bool *ret_interrupted, struct mb_error *err)
{
    enum mb_status st = add_turn(c, "user", text, n, err);
    if (st != MB_OK) {
        return st;
    }
    struct mbc_said said;
    st = ask(c, &said, err);
    if (st == MB_OK) {
        mbc_said_print(c->asking, &said);
        *ret_interrupted = strcmp(said.finish, "interrupted") == 0;
        st = add_turn(c, "assistant", said.text.len ? said.text.at : (const uint8_t *) "",
                      said.text.len, err);
    } else if (said.text.len > 0 && !c->asking->json) {
        (void) putchar('\n');
    }
    if (st != MB_OK) {
        drop_last_turn(c);
    }
    mbc_said_fini(&said);
    return st;
}

static enum mb_status say_once(struct mbc_conversation *c, const char *message,
                               struct mb_error *err)
{
    struct mb_bytes input = { 0 };
    bool interrupted = false;
    enum mb_status st = MB_OK;
    if (message) {
        mb_bytes_put_text(&input, message);
    } else {
        st = mbc_read_input(&input, err);
    }
    if (st == MB_OK) {
        st = take_turn(c, mb_bytes_text(&input), input.len, &interrupted, err);
    }
    mb_bytes_fini(&input);
    return st == MB_OK && interrupted ? mb_fail(err, MB_E_CANCELLED, 0, "interrupted") : st;
}

/* ---- at a terminal ----------------------------------------------------------------------- */

/* The next message: a line, or several joined by backslashes at their ends. false at the end of
 * input, and after Ctrl-C. */
static bool read_message(struct mb_bytes *ret)
{
    char *line = NULL;
    size_t cap = 0;
    bool more = true, got = true;
    mb_bytes_clear(ret);
    for (const char *prompt = ">>> "; more && got; prompt = "... ") {
        fprintf(stderr, "%s", prompt);
        ssize_t n = mbc_wait_input() ? getline(&line, &cap, stdin) : -1;
        got = n >= 0 && !mbc_interrupted();
        if (!got) {
            break;
        }
        n -= n > 0 && line[n - 1] == '\n';
        more = n > 0 && line[n - 1] == '\\';
        mb_bytes_put(ret, line, (size_t) (n - more));
        if (more) {
            mb_bytes_put_u8(ret, '\n');
        }
    }
    free(line);
    (void) mb_bytes_text(ret);
    return got && !ret->failed;
}

/* What a line with a slash says; false: to leave. */
static bool obey(struct mbc_conversation *c, const char *line)
{
    if (strcmp(line, "/bye") == 0 || strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) {
        return false;
    }
    if (strcmp(line, "/clear") == 0) {
        mbc_conversation_fini(c);
        fprintf(stderr, "forgotten\n");
    } else {
        fprintf(stderr, "%s", help);
    }
    return true;
}

static enum mb_status say_lines(struct mbc_conversation *c, struct mb_error *err)
{
    struct mb_bytes line = { 0 };
    fprintf(stderr, "%s; /help tells more\n", c->model);
    bool more = true;
    while (more && read_message(&line)) {
        const char *text = mb_bytes_text(&line);
        bool interrupted = false;
        if (text[0] == '/') {
            more = obey(c, text);
        } else if (line.len > 0) {
            enum mb_status st = take_turn(c, text, line.len, &interrupted, err);
            if (st != MB_OK) { /* said, and the next message may do better */
                fprintf(stderr, "mbool %s: %s\n", c->asking->command->name, err->what);
            }
            mbc_forget_interrupt();
        }
    }
    mb_bytes_fini(&line);
    if (mbc_interrupted()) {
        return mb_fail(err, MB_E_CANCELLED, 0, "interrupted");
    }
    if (more) { /* Ctrl-D leaves the cursor behind the prompt */
        fprintf(stderr, "\n");
    }
    return MB_OK;
}

enum mb_status mbc_converse(struct mbc_conversation *c, const char *message,
                            struct mb_error *err)
{
    if (message || !isatty(STDIN_FILENO)) {
        return say_once(c, message, err);
    }
    return say_lines(c, err);
}
