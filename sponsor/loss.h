/* loss: the overarching losses of the sponsor, each one row of one table (ALGORITHM.md, "Overarching
 * losses"). Pure mathematics on one row: no rows are chosen here, nothing is sent. */
#ifndef GAL_LOSS_H
#define GAL_LOSS_H

#include "common/mat.h"

enum task_kind { TASK_REGRESSION, TASK_COUNT, TASK_BINARY, TASK_MULTICLASS };

/* How L(y, F + ηg) runs along a direction: decides which search finds its minimum (rate.h). */
enum loss_shape { LOSS_QUADRATIC, LOSS_PIECEWISE_LINEAR, LOSS_SMOOTH };

/* One row of the table. A label y is one double: the value, the count, 0 or 1, or the class number 0…K−1. F,
 * g and r have K values; K = 1 but for softmax. Nothing here fails or allocates; labels and scores are
 * finite. */
struct loss {
    const char *name;
    enum task_kind task;
    enum loss_shape shape;

    /* L(y, F) ≥ 0. Poisson: half the deviance, which is the negative log likelihood up to a constant in y. */
    double (*value)(double y, const double *F, size_t K);

    /* r ← −∂L/∂F; 0 is taken of the subgradients of |y−F| where |y−F| ≤ 1e−9·max(1,|y|). */
    void (*residual)(double y, const double *F, size_t K, double *r);

    /* d1, d2 ← d/dη and d²/dη² of L(y, F+ηg) at η = 0; at a kink d1 is −r·g. */
    void (*along)(double y, const double *F, const double *g, size_t K, double *d1, double *d2);

    /* F0 (K) ← argmin over constants of Σ L over n ≥ 1 labels. Odds and priors from (n_k + ½)/(N + C/2);
     * median of an even number: the midpoint; the log mean of counts that are all 0: log of ½ count in all
     * rows. */
    void (*constant)(const double *y, size_t n, size_t K, double *F0);
};

/* The loss of that name (squared absolute poisson logistic softmax), or NULL; and the default of a task. Both
 * static. */
const struct loss *loss_find(const char *name);
const struct loss *loss_default(enum task_kind task);

/* Mean of L over the F->n rows of F (n×K, n ≥ 1) and as many labels. */
double loss_mean(const struct loss *L, const double *y, const struct mat *F);

/* r ← −∂L/∂F row by row; r has F's columns and at most its rows: only the first r->n are computed. */
void loss_residual(const struct loss *L, const double *y, const struct mat *F, struct mat *r);

#endif
