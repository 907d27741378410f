#include "clients/http/metrics_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MAX = 64 };

/* One line of the page: name{labels} value. The labels are n_labels bytes between the braces. */
struct sample {
    const char *labels;
    size_t n_labels;
    double value;
};

/* The end of the labels that start at text: the brace outside of quotes, or NULL. */
static const char *find_brace(const char *text)
{
    bool quoted = false;
    for (; *text && *text != '\n'; text++) {
        if (quoted && *text == '\\' && text[1]) {
            text++;
        } else if (*text == '"') {
            quoted = !quoted;
        } else if (*text == '}' && !quoted) {
            return text;
        }
    }
    return NULL;
}

/* Reads the line at text when it is a sample of that name. */
static bool read_sample(const char *text, const char *name, struct sample *ret)
{
    size_t n = strlen(name);
    if (strncmp(text, name, n) != 0 || (text[n] != '{' && text[n] != ' ')) {
        return false;
    }
    struct sample s = { .labels = text + n };
    const char *at = text + n;
    if (*at == '{') {
        const char *brace = find_brace(at + 1);
        if (!brace) {
            return false;
        }
        s.labels = at + 1;
        s.n_labels = (size_t) (brace - s.labels);
        at = brace + 1;
    }
    char *end;
    if (*at != ' ') { /* strtod would go on to the next line for a number */
        return false;
    }
    at += strspn(at, " ");
    s.value = strtod(at, &end);
    if (*at == '\n' || end == at) {
        return false;
    }
    *ret = s;
    return true;
}

static const char *next_line(const char *text)
{
    const char *end = strchr(text, '\n');
    return end ? end + 1 : text + strlen(text);
}

bool mbc_metrics_sum(const char *page, const char *name, const char *label, double *ret)
{
    bool found = false;
    *ret = 0;
    for (const char *line = page; *line; line = next_line(line)) {
        struct sample s;
        if (read_sample(line, name, &s) && isfinite(s.value) &&
            (!label || memmem(s.labels, s.n_labels, label, strlen(label)))) {
            *ret += s.value;
            found = true;
        }
    }
    return found;
}

struct bucket {
    double le, n; /* n: how many were at most le */
};

static int order(const void *a, const void *b)
{
    const struct bucket *x = a, *y = b;
    return x->le < y->le ? -1 : x->le > y->le;
}

/* Adds a bucket to those of the same bound. */
static void add_bucket(struct bucket *buckets, size_t *n, double le, double count)
{
    for (size_t i = 0; i < *n; i++) {
        if (buckets[i].le == le) {
            buckets[i].n += count;
            return;
        }
    }
    if (*n < BUCKETS_MAX) {
        buckets[(*n)++] = (struct bucket) { le, count };
    }
}

bool mbc_metrics_quantile(const char *page, const char *name, double q, double *ret)
{
    struct bucket buckets[BUCKETS_MAX];
    size_t n = 0;
    char series[128];
    (void) snprintf(series, sizeof series, "%s_bucket", name);
    for (const char *line = page; *line; line = next_line(line)) {
        struct sample s;
        const char *le;
        if (read_sample(line, series, &s) &&
            (le = memmem(s.labels, s.n_labels, "le=\"", 4)) != NULL) {
            add_bucket(buckets, &n, strtod(le + 4, NULL), s.value);
        }
    }
    qsort(buckets, n, sizeof buckets[0], order);
    if (n == 0 || !isinf(buckets[n - 1].le) || !(buckets[n - 1].n > 0)) {
        return false;
    }
    double rank = q * buckets[n - 1].n;
    size_t i = 0;
    while (i + 1 < n && buckets[i].n < rank) {
        i++;
    }
    if (i + 1 == n) { /* beyond the last bound: that much at least */
        *ret = n > 1 ? buckets[n - 2].le : 0;
        return n > 1;
    }
    double low = i > 0 ? buckets[i - 1].le : 0, before = i > 0 ? buckets[i - 1].n : 0;
    double inside = buckets[i].n - before;
    *ret = inside > 0 ? low + (buckets[i].le - low) * (rank - before) / inside : buckets[i].le;
    return true;
}
