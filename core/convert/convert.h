/* A Hugging Face folder, or a GGUF file, to an .mbool checkpoint, one decoder block at a time.
 *
 * With calibration text, each layer is fit to inputs collected through the layers before it as
 * they have become, and moved toward the output that the float model has (fit.h, statistics.h).
 * Inputs are scaled by t, the root mean square of the weights' columns over the layers that
 * share the input, which evens out what a group's one scale must serve.
 *
 * Memory:  the statistics and weights of one block, the residual streams of the calibration
 *          text (twice width floats a token), and the Boolean embedding. The folder is mapped,
 *          not read (of a GGUF file, gguf_model.h says what is copied).
 * Exact:   the same folder, text, options and seed give the same bytes, whatever the threads.
 * Life:    each tensor is kept in "<path>.part" once it is fit (part.h). Stopped or killed, the
 *          same conversion goes on from there, and gives the bytes it would have given; another
 *          one to this path begins anew.
 * Threads: one caller at a time per pool. */
#ifndef MB_CORE_CONVERT_H
#define MB_CORE_CONVERT_H

#include "core/base/parallel.h"
#include "core/base/progress.h"
#include "core/convert/fit.h"
#include "core/kernels/kernels.h"
#include "core/model/model.h"

#define MB_CONVERT_HEAD_KERNELS_DEFAULT 4
#define MB_CONVERT_TOKENS_DEFAULT       131072
#define MB_CONVERT_WINDOW_MAX           2048 /* longer ones teach a layer nothing new */

struct mb_convert_options {
    struct mb_fit_options fit;
    uint32_t head_kernels; /* of embedding and head; 0 is float16 */
    uint32_t n_planes;     /* P, 1 or 4..8 */
    double damping;        /* of second moments, relative to their mean; > 0 */
    const char *text; /* calibration, [n_text] bytes; NULL for none. Special tokens may stand
                              in it as they are written: a chat is calibrated as it is served */
    size_t n_text;
    size_t tokens_max; /* of the text that are used */
    double bits;       /* budget per weight of the blocks, see budget.h; 0 is fit.n_kernels */

    bool anew; /* leave unused what an interrupted conversion to this path has finished */
    /* Called once at the start when something of that is used; NULL for no call. */
    void (*found)(void *self, size_t n_fits, size_t n_fits_of);
    void *found_self;
};

struct mb_convert_options mb_convert_defaults(void);

struct mb_convert_tensor {
    char name[MB_TENSOR_NAME_MAX];
    uint32_t n_rows, n_cols;
    uint32_t n_kernels;          /* 0 is float16 */
    uint64_t bytes;              /* with its scales and coefficients */
    struct mb_fit_errors errors; /* 0 for float16 */
};

struct mb_convert_report {
    struct mb_convert_tensor *tensors; /* in the order of conversion */
    size_t n_tensors;
    uint64_t n_weights, weight_bytes;      /* of these tensors and their input scales */
    uint64_t n_tokens;                     /* of calibration */
    uint64_t n_block_weights, block_bytes; /* of the blocks' tensors: what a budget counts */
    double output_error;                   /* mean over them, by number of weights */
};

static inline double mb_bits_per_weight(uint64_t bytes, uint64_t n_weights)
{
    return n_weights > 0 ? 8.0 * (double) bytes / (double) n_weights : 0;
}

/* Writes path, replacing it whole or not at all. On success, and when it makes no sense
 * (MB_E_INVALID), no part file is left. On success the report is the caller's, to be ended by
 * _fini. Errors: those of reading the folder and writing the file; MB_E_INVALID naming a tensor
 * with a weight that is not finite, or an option; MB_E_UNAVAILABLE while another process converts
 * to path; MB_E_CANCELLED. */
enum mb_status mb_convert(const char *dir, const char *path, const struct mb_convert_options *o,
                          const struct mb_kernels *kernels, struct mb_pool *pool,
                          const struct mb_progress *progress, struct mb_convert_report *ret,
                          struct mb_error *err);
void mb_convert_report_fini(struct mb_convert_report *r);

#endif
