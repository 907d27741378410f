/* make_seeds FOLDER: writes the checkpoints of the corpus there. */
#include <stdio.h>

#include "tests/fuzz/seeds.h"

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_seeds FOLDER\n");
        return 2;
    }
    for (size_t i = 0; i < N_SEEDS; i++) {
        char path[4096];
        struct mb_error err = { 0 };
        (void) snprintf(path, sizeof path, "%s/%s", argv[1], seeds[i].name);
        if (tiny_write(path, &seeds[i].options, &err) != MB_OK) {
            fprintf(stderr, "%s\n", err.what);
            return 1;
        }
    }
    return 0;
}
