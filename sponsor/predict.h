/* predict: the prediction stage, F^T(x*) = F^0 + Σ_t η^t Σ_m w_m^t f_m^t(x_m*), up to the best round. */
#ifndef GAL_PREDICT_H
#define GAL_PREDICT_H

#include "sponsor/peers.h"

/* F (n×K, initialised by the callee) ← scores of those common rows. With `sum` each organization is told its
 * own coefficients c_m^t = η^t w_m^t and answers one sum; with `per-round` it answers every round and the
 * core adds up. 0, or −1 with p->failure. */
int predict_rows(struct run *run, struct peers *p, struct store *s, const char *const *ids,
                 const uint32_t *rows, size_t n, bool per_round, struct mat *F);

#endif
