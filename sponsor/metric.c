/* metric: scores of a task, from the labels and the scores F alone. */
#include "sponsor/metric.h"

#include <math.h>
#include <stdlib.h>

static size_t regression(const double *y, const struct mat *F, struct metric *out)
{
    double n = (double)F->n, mean = 0, abs = 0, sse = 0, sst = 0;

    for (size_t i = 0; i < F->n; i++)
        mean += y[i] / n;
    for (size_t i = 0; i < F->n; i++) {
        double e = y[i] - F->a[i];
        abs += fabs(e);
        sse += e * e;
        sst += (y[i] - mean) * (y[i] - mean);
    }
    out[0] = (struct metric){"mad", abs / n};
    out[1] = (struct metric){"rmse", sqrt(sse / n)};
    out[2] =
        (struct metric){"r2", sst > 1e-28 * n * mean * mean ? 1 - sse / sst : NAN}; /* or a constant target */
    return 3;
}

struct ranked {
    double score;
    bool positive;
};

static int lower(const void *a, const void *b)
{
    double x = ((const struct ranked *)a)->score, y = ((const struct ranked *)b)->score;

    return (x > y) - (x < y);
}

/* The chance that a positive outscores a negative, ties ½: for each group of equal scores, its positives beat
 * the negatives before it and half of its own (Mann and Whitney 1947). Sorts p. NaN where one side is empty.
 */
static double auroc(struct ranked *p, size_t n)
{
    double won = 0, positives = 0, negatives = 0;

    qsort(p, n, sizeof *p, lower);
    for (size_t i = 0, j; i < n; i = j) {
        double pos = 0, neg = 0;
        for (j = i; j < n && p[j].score <= p[i].score; j++)
            *(p[j].positive ? &pos : &neg) += 1;
        won += pos * (negatives + neg / 2);
        positives += pos;
        negatives += neg;
    }
    return positives > 0 && negatives > 0 ? won / (positives * negatives) : NAN;
}

static size_t binary(const double *y, const struct mat *F, struct metric *out)
{
    struct ranked *p = malloc((F->n + 1) * sizeof *p);
    size_t right = 0;

    for (size_t i = 0; i < F->n; i++) {
        right += (F->a[i] > 0) == (y[i] > 0.5);
        if (p)
            p[i] = (struct ranked){F->a[i], y[i] > 0.5};
    }
    out[0] = (struct metric){"accuracy", (double)right / (double)F->n};
    out[1] = (struct metric){"auroc", p ? auroc(p, F->n) : NAN};
    out[2] = (struct metric){"log_loss", loss_mean(loss_find("logistic"), y, F)};
    free(p);
    return 3;
}

/* The softmax probability of class c. */
static double probability(const double *F, size_t K, size_t c)
{
    double sum = 0;

    for (size_t k = 0; k < K; k++)
        sum += exp(F[k] - F[c]);
    return 1 / sum;
}

static double macro_auroc(const double *y, const struct mat *F)
{
    struct ranked *p = malloc((F->n + 1) * sizeof *p);
    double sum = 0, present = 0;

    for (size_t c = 0; c < F->k && p; c++) {
        for (size_t i = 0; i < F->n; i++)
            p[i] = (struct ranked){probability(F->a + i * F->k, F->k, c), (size_t)y[i] == c};
        double area = auroc(p, F->n);
        if (!isnan(area)) {
            sum += area;
            present += 1;
        }
    }
    free(p);
    return present > 0 ? sum / present : NAN;
}

static size_t multiclass(const double *y, const struct mat *F, struct metric *out)
{
    size_t right = 0;

    for (size_t i = 0; i < F->n; i++) {
        const double *Fi = F->a + i * F->k;
        size_t best = 0;
        for (size_t k = 1; k < F->k; k++)
            if (Fi[k] > Fi[best])
                best = k;
        right += best == (size_t)y[i];
    }
    out[0] = (struct metric){"accuracy", (double)right / (double)F->n};
    out[1] = (struct metric){"auroc", macro_auroc(y, F)};
    out[2] = (struct metric){"log_loss", loss_mean(loss_find("softmax"), y, F)};
    return 3;
}

size_t metric_score(enum task_kind task, const double *y, const struct mat *F, struct metric out[METRICS_MAX])
{
    switch (task) {
    case TASK_REGRESSION:
        return regression(y, F, out);
    case TASK_COUNT: /* the loss is half the deviance */
        out[0] = (struct metric){"deviance", 2 * loss_mean(loss_find("poisson"), y, F)};
        return 1;
    case TASK_BINARY:
        return binary(y, F, out);
    case TASK_MULTICLASS:
        return multiclass(y, F, out);
    }
    return 0;
}
