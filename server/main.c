/* mboold: serves models over HTTP.
 *
 * Exit statuses: 0 it ended as it should; 1 it failed; 2 the configuration was wrong. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/access/key.h"
#include "server/config/document.h"
#include "server/config/table.h"
#include "server/daemon.h"
#include "server/health.h"
#include "server/trainer/trainer.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_CONFIGURATION = 2 };

static int print(void (*put)(struct mb_bytes *))
{
    struct mb_bytes text = { 0 };
    put(&text);
    bool ok = !text.failed && fputs(mb_bytes_text(&text), stdout) >= 0 && fflush(stdout) == 0;
    mb_bytes_fini(&text);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

/* The key goes to a person, its line into the file. */
static enum mb_status new_key(const char *name, struct mb_error *err)
{
    char key[MBD_KEY_NEW_CHARACTERS + 1], line[MBD_KEY_LINE_MAX];
    enum mb_status st = mbd_key_draw(key, err);
    if (st == MB_OK) {
        st = mbd_key_line(name, key, line, err);
    }
    if (st == MB_OK && (printf("%s\n", line) < 0 || fflush(stdout) != 0 ||
                        fprintf(stderr, "the key, which is shown this once: %s\n", key) < 0)) {
        st = mb_fail(err, MB_E_IO, errno, "new-key: write");
    }
    explicit_bzero(key, sizeof key);
    return st;
}

static enum mb_status hash_key(const char *name, struct mb_error *err)
{
    char key[MBD_KEY_TEXT_MAX + 2] = "", line[MBD_KEY_LINE_MAX];
    if (!fgets(key, sizeof key, stdin)) {
        return mb_fail(err, MB_E_INVALID, 0, "hash-key: no key on standard input");
    }
    key[strcspn(key, "\r\n")] = '\0';
    enum mb_status st = mbd_key_line(name, key, line, err);
    explicit_bzero(key, sizeof key);
    if (st == MB_OK && (printf("%s\n", line) < 0 || fflush(stdout) != 0)) {
        st = mb_fail(err, MB_E_IO, errno, "hash-key: write");
    }
    return st;
}

static int act(enum mbd_action action, const struct mbd_options *o)
{
    struct mb_error err;
    enum mb_status st = MB_OK;
    switch (action) {
    case MBD_ACTION_HELP:
        return print(mbd_table_help);
    case MBD_ACTION_PRINT_DEFAULTS:
        return print(mbd_table_defaults);
    case MBD_ACTION_VERSION:
        return printf("mboold %s\n", MB_VERSION) > 0 ? EXIT_DONE : EXIT_FAILED;
    case MBD_ACTION_CHECK_CONFIG:
        st = mbd_daemon_check(o, &err);
        break;
    case MBD_ACTION_CHECK_HEALTH:
        st = mbd_health_ask(o, &err);
        break;
    case MBD_ACTION_NEW_KEY:
        st = new_key(o->key_name, &err);
        break;
    case MBD_ACTION_HASH_KEY:
        st = hash_key(o->key_name, &err);
        break;
    case MBD_ACTION_RUN:
        st = mbd_daemon_run(o, &err);
        break;
    }
    if (st != MB_OK) {
        fprintf(stderr, "mboold: %s\n", err.what);
        return EXIT_FAILED;
    }
    if (action == MBD_ACTION_CHECK_CONFIG) {
        printf("mboold: the configuration is good\n");
    }
    return EXIT_DONE;
}

/* Whoever started us may have closed 0, 1 or 2. The next files to be opened would get these
 * numbers, and what is written to standard error would end up in a client's socket; libuv, too,
 * asserts that it never closes one of them. */
static bool open_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        /* The lowest number that is free is this one: those below are open. */
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd) {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    if (!open_standard_files()) {
        return EXIT_FAILED;
    }
    if (argc == 2 && strcmp(argv[1], "--trainer") == 0) { /* started by a daemon, for it */
        return mbd_trainer_main();
    }
    if (argc == 2 && strncmp(argv[1], "--help=", 7) == 0) { /* for those who package it */
        mbd_document_fn *put = mbd_document_find(argv[1] + 7);
        if (put) {
            return print(put);
        }
    }
    struct mbd_options o;
    struct mb_error err;
    enum mbd_action action;
    mbd_options_init(&o);
    int status = EXIT_CONFIGURATION;
    if (mbd_options_load(&o, argc, (const char *const *) argv, (const char *const *) environ,
                         &action, &err) == MB_OK) {
        status = act(action, &o);
    } else {
        fprintf(stderr, "mboold: %s\n", err.what);
    }
    mbd_options_fini(&o);
    return status;
}
