/* rows: which of the labelled rows do what (ALGORITHM.md, "Which rows do what"). Cut once, at random by the
 * seed. */
#ifndef GAL_ROWS_H
#define GAL_ROWS_H

#include <stdint.h>

#include "sponsor/labels.h"

struct rows {
    uint32_t n_fit, n_answer; /* FIT rows come first; answer rows are all the others (here: VALIDATION) */
    uint32_t *label;          /* n_fit + n_answer indices into the labels; ascending within each part */
};

/* share: of VALIDATION rows, or negative for `auto` (0.1 if that is at least 100 rows, else none); classes
 * are cut alike. The same labels, share and seed give the same cut. */
void rows_cut(const struct labels *l, double share, uint64_t seed, struct rows *r);
void rows_free(struct rows *r);

#endif
