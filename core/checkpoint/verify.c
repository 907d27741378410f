/* The slow half of distrust: reading every byte. */
#include <math.h>
#include <string.h>

#include "core/base/checksum.h"
#include "core/base/half.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/reader.h"
#include "core/model/model.h"
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/utf8.h"

/* How much is read between two calls of progress. */
enum { STEP_BYTES = 8 << 20 };

struct verify {
    const struct mb_checkpoint *c;
    const struct mb_progress *progress;
    uint64_t done;
};

static enum mb_status report(struct verify *v, const char *what, struct mb_error *err)
{
    if (!mb_progress_report(v->progress, what, v->done, mb_checkpoint_bytes(v->c))) {
        return mb_fail(err, MB_E_CANCELLED, 0, "checkpoint: verify: stopped");
    }
    return MB_OK;
}

/* Bytes between sections, which no checksum covers. */
static enum mb_status check_zeros(const struct verify *v, uint64_t from, uint64_t to,
                                  struct mb_error *err)
{
    const uint8_t *at = mb_checkpoint_memory(v->c);
    for (uint64_t i = from; i < to; i++) {
        if (at[i] != 0) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "checkpoint: byte %llu: not zero, and in no section",
                           (unsigned long long) i);
        }
    }
    return MB_OK;
}

static enum mb_status check_sum(struct verify *v, const struct mb_section *s,
                                struct mb_error *err)
{
    struct mb_checksum_state *sum = mb_checksum_new();
    if (!sum) {
        return mb_fail(err, MB_E_NOMEM, 0, "checkpoint: no memory for a checksum");
    }
    enum mb_status st = MB_OK;
    const uint8_t *at = mb_checkpoint_data(v->c, s);
    for (uint64_t i = 0; i < s->bytes && st == MB_OK; i += STEP_BYTES) {
        uint64_t n = s->bytes - i < STEP_BYTES ? s->bytes - i : STEP_BYTES;
        mb_checksum_update(sum, at + i, (size_t) n);
        v->done = s->offset + i + n;
        st = report(v, s->name, err);
    }
    uint64_t got = mb_checksum_digest(sum);
    mb_checksum_free(sum);
    if (st == MB_OK && got != s->checksum) {
        st = mb_fail(err, MB_E_FORMAT, 0, "checksum: %016llx, the table says %016llx",
                     (unsigned long long) got, (unsigned long long) s->checksum);
    }
    return st;
}

/* The value of element i of a section of floats. */
static double element(const struct mb_section *s, const void *at, size_t i)
{
    switch (s->kind) {
    case MB_SECTION_F64:
        return ((const double *) at)[i];
    case MB_SECTION_F32:
        return (double) ((const float *) at)[i];
    default:
        return (double) mb_f16_to_f32(((const uint16_t *) at)[i]);
    }
}

static enum mb_status check_floats(const struct verify *v, const struct mb_section *s,
                                   struct mb_error *err)
{
    const void *at = mb_checkpoint_data(v->c, s);
    size_t n = (size_t) s->n_rows * s->n_cols;
    for (size_t i = 0; i < n; i++) {
        double x = element(s, at, i);
        if (!isfinite(x)) {
            return mb_fail(err, MB_E_FORMAT, 0, "element %zu is not finite", i);
        }
        if (s->kind == MB_SECTION_F64 && (x < 0 || x > MB_INV_FREQ_MAX)) { /* rope.inv_freq */
            return mb_fail(err, MB_E_FORMAT, 0, "element %zu: %g is outside 0..%g", i, x,
                           MB_INV_FREQ_MAX);
        }
    }
    return MB_OK;
}

static enum mb_status check_bool(const struct verify *v, const struct mb_section *s,
                                 struct mb_error *err)
{
    struct mb_bool_matrix m = mb_checkpoint_bool(v->c, s);
    const uint8_t *at = mb_checkpoint_data(v->c, s);
    for (size_t i = mb_format_scale_at(&s->boolean) + mb_bool_scale_bytes(&s->boolean);
         i < mb_format_coef_at(&s->boolean); i++) {
        if (at[i] != 0) {
            return mb_fail(err, MB_E_FORMAT, 0, "byte %zu, after the scales, is not zero", i);
        }
    }
    return mb_bool_check(&m, err);
}

static enum mb_status check_bytes(const struct verify *v, const struct mb_section *s,
                                  struct mb_error *err)
{
    const uint8_t *at = mb_checkpoint_data(v->c, s);
    size_t n = (size_t) s->bytes;
    if (strcmp(s->name, "tokenizer") == 0) {
        struct mb_tokenizer *t;
        enum mb_status st = mb_checkpoint_tokenizer(v->c, &t, err);
        if (st == MB_OK) {
            mb_tokenizer_free(t);
        }
        return st;
    }
    if (n > 0 && memchr(at, '\0', n)) {
        return mb_fail(err, MB_E_FORMAT, 0, "a text with a zero byte");
    }
    return mb_utf8_valid(at, n) ? MB_OK : mb_fail(err, MB_E_FORMAT, 0, "not UTF-8");
}

static enum mb_status check_content(const struct verify *v, const struct mb_section *s,
                                    struct mb_error *err)
{
    switch (s->kind) {
    case MB_SECTION_F64:
    case MB_SECTION_F32:
    case MB_SECTION_F16:
        return check_floats(v, s, err);
    case MB_SECTION_BOOL:
        return check_bool(v, s, err);
    default:
        return check_bytes(v, s, err);
    }
}

enum mb_status mb_checkpoint_verify(const struct mb_checkpoint *c, const struct mb_progress *p,
                                    struct mb_error *err)
{
    struct verify v = { .c = c, .progress = p };
    size_t n = mb_checkpoint_sections(c);
    uint64_t end = sizeof(struct mb_format_header) + n * sizeof(struct mb_format_entry);
    for (size_t i = 0; i < n; i++) {
        const struct mb_section *s = mb_checkpoint_section(c, i);
        struct mb_error why = { 0 };
        enum mb_status st = check_zeros(&v, end, s->offset, err);
        if (st != MB_OK) {
            return st;
        }
        if ((st = check_sum(&v, s, &why)) != MB_OK ||
            (st = check_content(&v, s, &why)) != MB_OK) {
            if (st == MB_E_CANCELLED || st == MB_E_NOMEM) {
                return mb_fail(err, st, 0, "%.300s", why.what);
            }
            return mb_fail(err, MB_E_FORMAT, 0, "checkpoint: section %zu '%s': %.300s", i,
                           s->name, why.what);
        }
        end = s->offset + s->bytes;
    }
    return MB_OK; /* the last section ends the file */
}
