/* metric: what a task is scored by (ALGORITHM.md, "Overarching losses", last column). */
#ifndef GAL_METRIC_H
#define GAL_METRIC_H

#include "sponsor/loss.h"

#define METRICS_MAX 4
struct metric {
    const char *name; /* as in JSON: mad rmse r2 | deviance | accuracy auroc log_loss */
    double value;     /* NaN where it is not defined (one class only, constant target) */
};

/* Scores F (n×K, n ≥ 1, link not applied) against y. Regression: mad, rmse, r2. Count: deviance (mean Poisson deviance). Binary:
 * accuracy (F > 0 is class 1), auroc, log_loss. Multiclass: accuracy (of equal scores the lowest class), auroc (macro, one against
 * the rest, of the softmax probabilities, over the classes present), log_loss. Ties count ½ in auroc, which is NaN as well when
 * memory is short. Returns how many. */
size_t metric_score(enum task_kind task, const double *y, const struct mat *F, struct metric out[METRICS_MAX]);

#endif
