/* How Hugging Face names the tensors of a decoder block. */
#ifndef MB_CORE_HF_NAMES_H
#define MB_CORE_HF_NAMES_H

#include <stdint.h>
#include <stdio.h>

#include "core/model/model.h"

#define MB_HF_NAME_MAX 96

static const char *const mb_hf_linear_names[MB_BLOCK_LINEARS] = {
    [MB_ATTN_Q] = "self_attn.q_proj", [MB_ATTN_K] = "self_attn.k_proj",
    [MB_ATTN_V] = "self_attn.v_proj", [MB_ATTN_O] = "self_attn.o_proj",
    [MB_FFN_GATE] = "mlp.gate_proj",  [MB_FFN_UP] = "mlp.up_proj",
    [MB_FFN_DOWN] = "mlp.down_proj",
};

/* "model.layers.<layer>.<part>.weight"; returns ret. */
static inline const char *mb_hf_block_name(char ret[MB_HF_NAME_MAX], uint32_t layer,
                                           const char *part)
{
    (void) snprintf(ret, MB_HF_NAME_MAX, "model.layers.%u.%s.weight", (unsigned) layer, part);
    return ret;
}

#endif
