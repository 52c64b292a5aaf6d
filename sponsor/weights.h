/* weights: the gradient assistance weights w on the probability simplex (ALGORITHM.md, "The assistance
 * weights w"). Dense small problems; knows nothing of losses or organizations. */
#ifndef GAL_WEIGHTS_H
#define GAL_WEIGHTS_H

#include "common/mat.h"

/* G (M×M, row-major, symmetric) ← AᵀA and b (M) ← Aᵀ vec r with A = [vec f_1 … vec f_M]; every f[m] and r
 * hold the same n·K values. Summed in a fixed order, so that equal inputs give equal bits, if OpenBLAS keeps
 * its number of threads. 0, or −1 with errno ENOMEM. Values that are no numbers pass into G and b, where
 * weights_exact finds them. */
int weights_gram(const struct mat *const *f, size_t M, const struct mat *r, double *G, double *b);

/* w (M) ← argmin ½wᵀGw − bᵀw over {w ≥ 0, Σw = 1}: exact active set; of equal minimisers the one of least
 * norm. G is positive semi-definite up to rounding, of any rank. M ≥ 1. 0, or −1 with errno ENOMEM, EDOM on
 * non-finite input; on 0 w is a point of the simplex, whatever rounding did. */
int weights_exact(const double *G, const double *b, size_t M, double *w);

/* How far w is from optimal: the largest violation of w ≥ 0, of Σw = 1 and, with g = Gw − b and λ = wᵀg,
 * relative to the largest |entry| of G and b, of g_i = λ where w_i > 0 and of g_i ≥ λ elsewhere. Rounding
 * only, at the exact solution. */
double weights_kkt(const double *G, const double *b, size_t M, const double *w);

#endif
