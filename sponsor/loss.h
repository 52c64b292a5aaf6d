/* loss: the overarching losses of the sponsor, each one row of one table (ALGORITHM.md, "Overarching losses"). Pure
 * mathematics on one row: no rows are chosen here, nothing is sent. */
#ifndef GAL_LOSS_H
#define GAL_LOSS_H

#include "common/mat.h"

enum task_kind { TASK_REGRESSION, TASK_COUNT, TASK_BINARY, TASK_MULTICLASS };

/* A label is one double: the value, the count, 0 or 1, or the class number 0…K−1. F and g have K values. */
struct loss {
    const char *name;
    enum task_kind task;
    double (*value)(double y, const double *F, size_t K);
    void (*residual)(double y, const double *F, size_t K, double *r);                      /* −∂L/∂F */
    void (*along)(double y, const double *F, const double *g, size_t K, double *d1, double *d2); /* d/dη, d²/dη² of L(y, F+ηg) at 0 */
    void (*constant)(const double *y, size_t n, size_t K, double *F0);                     /* argmin over constants of Σ L */
};

/* The loss of that name, or NULL; loss_default for a task. */
const struct loss *loss_find(const char *name);
const struct loss *loss_default(enum task_kind task);

/* Mean of L over the first F->n rows; F is n×K. */
double loss_mean(const struct loss *L, const double *y, const struct mat *F);

/* r ← −∂L/∂F row by row; r has F's columns and at most its rows: only the first r->n are computed. */
void loss_residual(const struct loss *L, const double *y, const struct mat *F, struct mat *r);

#endif
