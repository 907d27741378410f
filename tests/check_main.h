/* The few lines that every test program shares: run a suite, turn failures into an exit status,
 * and say what was skipped. tests/run counts the lines that these print. */
#ifndef MB_TESTS_CHECK_MAIN_H
#define MB_TESTS_CHECK_MAIN_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* Leaves a test that can not run here, and says why; it is counted as skipped, not passed. */
#define mb_skip(...)         \
    do {                     \
        printf("SKIPPED ");  \
        printf(__VA_ARGS__); \
        printf("\n");        \
        fflush(stdout);      \
        return;              \
    } while (0)

/* 1 in a build with a sanitizer, which is 3 to 20 times slower: where a test walks the same code
 * on small and on real models, the small ones are enough there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MB_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MB_SANITIZED 1
#endif
#endif
#ifndef MB_SANITIZED
#define MB_SANITIZED 0
#endif

/* Fails unless st is MB_OK, printing what err says. */
#define mb_assert_ok(st, err) \
    ck_assert_msg((st) == MB_OK, "%s: %s", mb_status_name(st), (err)->what)

static inline int mb_run_suite(Suite *s)
{
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int n_failed = srunner_ntests_failed(r);
    printf("CHECKS %d RUN %d FAILED\n", srunner_ntests_run(r), n_failed);
    srunner_free(r);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* "<MB_DATA>/<name>" in a static buffer, or NULL when the folder of real models is not there.
 * Set by tests/meson.build to the folder shared/data beside the checkout. */
static inline const char *mb_data_path(const char *name)
{
    static char path[4096];
    const char *root = getenv("MB_DATA");
    if (!root || !*root) {
        return NULL;
    }
    (void) snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "r");
    if (!f) {
        return NULL;
    }
    (void) fclose(f);
    return path;
}

#endif
