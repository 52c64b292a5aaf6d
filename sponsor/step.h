/* step: the sponsor's part of a round once the answers are there: w, η and the new F. Pure computation on
 * what a run holds; the same for a live round and for one that is replayed. */
#ifndef GAL_STEP_H
#define GAL_STEP_H

#include "sponsor/run.h"

/* What a round works on; made once before the loop. */
struct step {
    size_t M;
    struct mat r;  /* N_fit×K: residuals of the FIT rows, the only ones that are computed */
    struct mat *f; /* M × (n×K): fitted values on all rows of the task */
    bool *absent;  /* M: this answer was no fit; its weight is 0 */
    struct mat g;  /* n×K: Σ_m w_m f_m */
    double *w;     /* M, on the simplex */
    struct mat *fit;
    const struct mat **on;
    double *G, *b, *v;
};

/* 0, or −1 with errno ENOMEM. step_free takes what step_init left, also on failure. */
int step_init(struct step *s, const struct run *run);
void step_free(struct step *s);

/* s->w ← argmin over the simplex of ‖vec(r) − Σ_m w_m vec(f_m)‖² on the FIT rows, over those that are present
 * (all 0 if nobody is), or equal weights; s->g ← Σ_m w_m f_m. Ends the process for lack of memory. */
void step_weights(struct step *s, const struct run *run);

/* argmin over η ≥ 0 of the mean of L(y, F + η g) on the FIT rows, or the fixed rate. */
double step_rate(const struct step *s, const struct run *run);

/* F ← F + η g */
void step_update(const struct step *s, struct run *run, double eta);

#endif
