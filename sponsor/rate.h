/* rate: the gradient assisted learning rate η ≥ 0 (ALGORITHM.md, "The learning rate η"): an exact
 * one-dimensional convex search. */
#ifndef GAL_RATE_H
#define GAL_RATE_H

#include "sponsor/loss.h"

/* argmin over η ≥ 0 of the mean of L(y, F + η g); F and g are n×K. Closed form for squared loss; weighted
 * quantile of the breakpoints for absolute loss (of the minimisers the one nearest 0); else bracketed
 * bisection–Newton on the monotone derivative, which on separable data stops where the derivative has fallen
 * to 1e−10 of its value at 0. 0 where g does not descend. −1 with errno ENOMEM. */
double rate_search(const struct loss *L, const double *y, const struct mat *F, const struct mat *g);

#endif
