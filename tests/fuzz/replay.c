/* Feeds a fuzz target every file of the folders given, and the start of each: a file cut short
 * at any byte is what targets see most. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "tests/fuzz/fuzz.h"

enum { CUTS_MAX = 2000 };

/* A copy of exactly n bytes, so that a sanitizer sees the first byte read beyond. */
static void feed(const uint8_t *at, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) {
        abort();
    }
    if (n > 0) {
        memcpy(copy, at, n);
    }
    (void) LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static int replay(const char *path)
{
    struct mb_error err;
    struct mb_file_map m;
    if (mb_file_map(path, &m, &err) != MB_OK) {
        fprintf(stderr, "%s\n", err.what);
        return EXIT_FAILURE;
    }
    size_t step = m.n / CUTS_MAX + 1;
    for (size_t n = 0; n < m.n; n += step) {
        feed(m.at, n);
    }
    feed(m.at, m.n);
    mb_file_unmap(&m);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    unsigned n_files = 0, n_failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            perror(argv[i]);
            return EXIT_FAILURE;
        }
        for (struct dirent *entry; (entry = readdir(dir));) {
            char path[4096];
            if (entry->d_name[0] == '.') {
                continue;
            }
            (void) snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            n_failed += replay(path) != EXIT_SUCCESS;
            n_files++;
        }
        (void) closedir(dir);
    }
    printf("CHECKS %u RUN %u FAILED\n", n_files, n_failed);
    return n_files > 0 && n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
