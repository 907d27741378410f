/* Numbers out of a page of Prometheus' text format (0.0.4), such as /metrics answers.
 *
 * Threads: pure. */
#ifndef MBC_METRICS_TEXT_H
#define MBC_METRICS_TEXT_H

#include <stdbool.h>

/* The sum of all series of that name whose labels hold label, such as "outcome=\"stop\"" (NULL:
 * all of them). false when there is none: *ret is then 0. Numbers that are not finite are left
 * out of the sum. */
bool mbc_metrics_sum(const char *page, const char *name, const char *label, double *ret);

/* The q-quantile (0..1) of a histogram, as Prometheus' histogram_quantile interpolates it; series
 * of several labels count together. false when nothing was observed. */
bool mbc_metrics_quantile(const char *page, const char *name, double q, double *ret);

#endif
