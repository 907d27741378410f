/* A body that must be taken, and what it said: what the tests of several routes share. */
#ifndef MB_TESTS_PROTO_BODY_H
#define MB_TESTS_PROTO_BODY_H

#include <string.h>

#include "proto/completion.h"
#include "proto/wire_error.h"
#include "tests/check_main.h"

/* The decoder under test: main sets it. */
static enum mb_status (*decode)(const char *text, size_t n, struct mb_completion *ret,
                                struct mb_wire_error *err);
static struct mb_completion c;
static struct mb_wire_error err;

static inline void setup(void)
{
    mb_completion_init(&c);
    memset(&err, 0, sizeof err);
}

static inline void teardown(void)
{
    mb_completion_fini(&c);
}

static inline void take(const char *text)
{
    mb_completion_fini(&c);
    enum mb_status st = decode(text, strlen(text), &c, &err);
    ck_assert_msg(st == MB_OK, "%s: %s", text, err.message);
}

/* What is refused, which field it is, and a word of the reason. */
struct bad_body {
    const char *text, *param, *says;
};

static inline void refuse(const struct bad_body *b)
{
    enum mb_status st = decode(b->text, strlen(b->text), &c, &err);
    ck_assert_msg(st == MB_E_INVALID, "%s was taken", b->text);
    ck_assert_int_eq(err.http, 400);
    ck_assert_str_eq(err.type, "invalid_request_error");
    ck_assert_str_eq(err.param, b->param);
    ck_assert_msg(strstr(err.message, b->says) != NULL, "%s: %s", b->text, err.message);
    ck_assert_ptr_null(c.prompts); /* nothing was written */
    ck_assert_ptr_null(c.chat.messages);
}

#endif
