/* What 'mbool bench' prints: a line a point for people, as it comes; or one JSON object.
 *
 * Threads: one caller. */
#ifndef MBC_BENCH_REPORT_H
#define MBC_BENCH_REPORT_H

#include "clients/cli/bench_points.h"

/* All points, in the order of measuring. */
struct mbc_bench_results {
    struct mbc_bench_point prompts[MBC_BENCH_POINTS_MAX];
    struct mbc_bench_point decodes[MBC_BENCH_POINTS_MAX * MBC_BENCH_POINTS_MAX];
    size_t n_prompts, n_decodes;
};

void mbc_bench_print_head(const struct mbc_bench *b); /* machine and model */
void mbc_bench_print_titles(bool decode);
void mbc_bench_print_point(const struct mbc_bench_point *p);

void mbc_bench_print_json(const struct mbc_bench *b, const struct mbc_bench_results *r);

#endif
