/* A fitted tensor as a record of a part file (part.h), named like the tensor. */
#ifndef MB_CORE_PART_DRAFT_H
#define MB_CORE_PART_DRAFT_H

#include "core/convert/fit.h"
#include "core/convert/part.h"

enum mb_status mb_part_add_draft(struct mb_part *p, const char *name,
                                 const struct mb_bool_draft *d, const struct mb_fit_errors *e,
                                 struct mb_error *err);

/* false, and nothing is returned, when the next record is not a sound tensor of this name and
 * shape (or memory is refused): it has to be fit then, which drops what the file still has. */
bool mb_part_take_draft(struct mb_part *p, const char *name, const struct mb_bool_shape *shape,
                        struct mb_bool_draft *ret, struct mb_fit_errors *ret_errors);

#endif
