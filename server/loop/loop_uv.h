/* The loop as libuv's, for the other files of this folder. */
#ifndef MBD_LOOP_UV_H
#define MBD_LOOP_UV_H

#include <uv.h>

#include "server/loop/loop.h"

struct mbd_loop {
    uv_loop_t uv;
};

/* Fills *err with what libuv says of code, which is negative. */
enum mb_status mbd_uv_fail(struct mb_error *err, int code, const char *what);

#endif
