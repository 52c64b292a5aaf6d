/* replay: a captured run computed once more from what its organizations answered. Anybody who is shown the
 * labels and the answers can check that the sponsor did what it committed to. */
#ifndef GAL_REPLAY_H
#define GAL_REPLAY_H

#include "sponsor/run.h"

/* Recomputes w, η and F of every round of the run (with its labels, as run_resume leaves them, at F^0) and
 * compares them with the record bit for bit; opens the commitments. Calls `tell` for each round; `same`: all
 * three are equal. Returns the number of rounds that differ, or −1 with one line in `error` when the run was
 * not captured. */
int replay_run(struct store *s, struct run *run,
               void (*tell)(void *context, uint32_t t, double eta, bool same, bool opened), void *context,
               char *error, size_t size);

#endif
