#include "server/loop/process.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "server/loop/loop_uv.h"

/* Three handles of libuv, each of which keeps this until its close callback. */
struct mbd_process {
    uv_process_t uv;
    uv_pipe_t in, out; /* the child's standard input and output, seen from here */
    unsigned n_open;   /* handles not yet closed */
    struct mbd_process_calls calls;
    bool freed, exited, read_all;
    int status, signal;
    size_t n_line;
    bool too_long; /* the rest of this line is thrown away */
    char line[MBD_PROCESS_LINE_MAX + 1];
    char block[16 * 1024];
};

struct message {
    uv_write_t uv;
    char text[];
};

static void on_closed(uv_handle_t *h)
{
    struct mbd_process *p = h->data;
    if (--p->n_open == 0) {
        free(p);
    }
}

static void close_one(void *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, on_closed);
    }
}

/* ---- its output -------------------------------------------------------------------------- */

static void end_line(struct mbd_process *p)
{
    p->line[p->n_line] = '\0';
    size_t n = p->n_line;
    p->n_line = 0;
    p->too_long = false;
    if (!p->freed && n > 0) {
        p->calls.line(p->calls.arg, p->line, n);
    }
}

static void end_if_over(struct mbd_process *p)
{
    if (p->exited && p->read_all && !p->freed) {
        p->calls.end(p->calls.arg, p->status, p->signal);
    }
}

static void on_block(uv_handle_t *h, size_t wanted, uv_buf_t *ret)
{
    (void) wanted;
    struct mbd_process *p = h->data;
    *ret = uv_buf_init(p->block, sizeof p->block);
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct mbd_process *p = stream->data;
    for (ssize_t i = 0; i < n && !p->freed; i++) {
        if (buf->base[i] == '\n') {
            end_line(p);
        } else if (p->n_line < MBD_PROCESS_LINE_MAX && !p->too_long) {
            p->line[p->n_line++] = buf->base[i];
        } else {
            p->too_long = true;
        }
    }
    if (n < 0 && !p->freed) {
        (void) uv_read_stop(stream);
        p->read_all = true;
        end_if_over(p);
    }
}

static void on_exit_of_child(uv_process_t *uv, int64_t status, int signal)
{
    struct mbd_process *p = uv->data;
    p->exited = true;
    p->status = (int) status;
    p->signal = signal;
    if (p->freed) {
        close_one(&p->uv);
    }
    end_if_over(p);
}

/* ---- life -------------------------------------------------------------------------------- */

static int spawn(struct mbd_process *p, struct mbd_loop *l, const char *file,
                 const char *const *argv, int fd)
{
    uv_stdio_container_t stdio[4] = {
        { .flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *) &p->in },
        { .flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *) &p->out },
        { .flags = UV_INHERIT_FD, .data.fd = 2 },
        { .flags = UV_INHERIT_FD, .data.fd = fd },
    };
    uv_process_options_t o = {
        .exit_cb = on_exit_of_child,
        .file = file,
        .args = (char **) argv, /* libuv changes nothing there */
        .stdio = stdio,
        .stdio_count = fd < 0 ? 3 : 4,
    };
    return uv_spawn(&l->uv, &p->uv, &o);
}

enum mb_status mbd_process_new(struct mbd_loop *l, const char *file, const char *const *argv,
                               int fd, const struct mbd_process_calls *calls,
                               struct mbd_process **ret, struct mb_error *err)
{
    struct mbd_process *p = calloc(1, sizeof *p);
    if (!p) {
        return mb_fail(err, MB_E_NOMEM, 0, "process: no memory");
    }
    p->calls = *calls;
    p->n_open = 3;
    (void) uv_pipe_init(&l->uv, &p->in, 0); /* these two can not fail */
    (void) uv_pipe_init(&l->uv, &p->out, 0);
    p->uv.data = p->in.data = p->out.data = p;
    int code = spawn(p, l, file, argv, fd); /* makes p->uv a handle even when it fails */
    if (code == 0) {
        code = uv_read_start((uv_stream_t *) &p->out, on_block, on_output);
    }
    if (code < 0) {
        mbd_process_free(p);
        return mbd_uv_fail(err, code, file);
    }
    *ret = p;
    return MB_OK;
}

void mbd_process_free(struct mbd_process *p)
{
    if (!p) {
        return;
    }
    p->freed = true;
    close_one(&p->in);
    close_one(&p->out);
    if (!p->exited && p->uv.pid > 0) {
        (void) uv_process_kill(&p->uv, SIGKILL);
        return; /* it is waited for: libuv leaves a zombie of a child whose handle is closed */
    }
    close_one(&p->uv);
}

/* ---- speaking with it -------------------------------------------------------------------- */

static void on_written(uv_write_t *uv, int status)
{
    (void) status; /* that it is gone is known by its exit */
    free(uv->data);
}

enum mb_status mbd_process_send(struct mbd_process *p, const char *text, size_t n,
                                struct mb_error *err)
{
    assert(!p->freed);
    struct message *m = malloc(sizeof *m + n);
    if (!m) {
        return mb_fail(err, MB_E_NOMEM, 0, "process: no memory");
    }
    memcpy(m->text, text, n);
    m->uv.data = m;
    uv_buf_t buf = uv_buf_init(m->text, (unsigned) n);
    int code = uv_write(&m->uv, (uv_stream_t *) &p->in, &buf, 1, on_written);
    if (code < 0) {
        free(m);
        return mbd_uv_fail(err, code, "write to a process");
    }
    return MB_OK;
}

void mbd_process_signal(struct mbd_process *p, int signal)
{
    if (!p->exited) {
        (void) uv_process_kill(&p->uv, signal);
    }
}

pid_t mbd_process_pid(const struct mbd_process *p)
{
    return p->uv.pid;
}
