/* gal: Algorithm 1, Gradient Assisted Learning. */
#ifndef GAL_GAL_H
#define GAL_GAL_H

#include "sponsor/peers.h"

/* Trains the run from its present round to its end, every round on record. `tell` is called after each. 0, or
 * −1 with p->failure: what is on record stays, and the run can go on. */
int gal_train(struct run *run, struct peers *p, struct store *s,
              void (*tell)(const struct run *, struct peers *));

#endif
