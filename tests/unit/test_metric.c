/* metric: by hand on a few rows, and AUROC against the count of all pairs. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sponsor/metric.h"

#define N 200

static struct metric out[METRICS_MAX];

static double get(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(out[i].name, name))
            return out[i].value;
    fail_msg("no metric %s", name);
    return 0;
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-14 * fmax(1, fabs(want))))
        fail_msg("got %.17g, expected %.17g", got, want);
}

/* errors 1, −1, 2, 0; y − ȳ = −1.5, −0.5, 0.5, 1.5 */
static void regression_by_hand(void **state)
{
    const double y[4] = {1, 2, 3, 4};
    double f[4] = {0, 3, 1, 4};
    struct mat F = {4, 1, f};

    (void)state;
    size_t n = metric_score(TASK_REGRESSION, y, &F, out);
    assert_int_equal(n, 3);
    near(get("mad", n), 1);
    near(get("rmse", n), sqrt(1.5));
    near(get("r2", n), 1 - 6. / 5);
    n = metric_score(TASK_REGRESSION, (double[]){0.1, 0.1, 0.1, 0.1}, &F, out); /* 0.1: a mean that rounds */
    assert_true(isnan(get("r2", n)));
}

/* 2·(y log(y/μ) − (y − μ)): y = 0, μ = 2: 4; y = 3, μ = 1: 6 log 3 − 4 */
static void deviance_by_hand(void **state)
{
    const double y[2] = {0, 3};
    double f[2] = {log(2), 0};
    struct mat F = {2, 1, f};

    (void)state;
    assert_int_equal(metric_score(TASK_COUNT, y, &F, out), 1);
    near(get("deviance", 1), (4 + 6 * log(3) - 4) / 2);
}

/* Scores 2, 0, 0, −1 of labels 1, 1, 0, 0: F = 0 is class 0, so 3 of 4 right; pairs (2,0) (2,−1) (0,0)
 * (0,−1): 3½ of 4 won. */
static void binary_by_hand(void **state)
{
    const double y[4] = {1, 1, 0, 0}, none[4] = {0};
    double f[4] = {2, 0, 0, -1};
    struct mat F = {4, 1, f};

    (void)state;
    size_t n = metric_score(TASK_BINARY, y, &F, out);
    assert_int_equal(n, 3);
    near(get("accuracy", n), 0.75);
    near(get("auroc", n), 3.5 / 4);
    near(get("log_loss", n), (log1p(exp(-2)) + 2 * log(2) + log1p(exp(-1))) / 4);
    n = metric_score(TASK_BINARY, none, &F, out);
    assert_true(isnan(get("auroc", n)));
    near(get("accuracy", n), 0.75);
}

/* Equal scores go to the lowest class: the first two rows. Class 2 never occurs, so that the mean is over
 * classes 0 and 1. */
static void multiclass_by_hand(void **state)
{
    const double y[3] = {0, 1, 1};
    double f[9] = {0, 0, 0, 0, 1, 1, 3, 2, 0};
    struct mat F = {3, 3, f};

    (void)state;
    size_t n = metric_score(TASK_MULTICLASS, y, &F, out);
    assert_int_equal(n, 3);
    near(get("accuracy", n), 2. / 3);
    /* p_0: 1/3, 1/(1+2e), the largest: 1 of 2 pairs; p_1: 1/3 loses to e/(1+2e) = .42, beats e²/(e³+e²+1) =
     * .26: 1 of 2 */
    near(get("auroc", n), 0.5);
    near(get("log_loss", n), (log(3) + log(1 + 2 * exp(1)) - 1 + log(exp(3) + exp(2) + 1) - 2) / 3);
}

/* All pairs, ties ½. */
static double pairs(const double *score, const double *y, double c, size_t n)
{
    double won = 0, all = 0;

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if (fabs(y[i] - c) < 0.5 && fabs(y[j] - c) > 0.5) {
                won += score[i] > score[j] ? 1 : score[i] < score[j] ? 0 : 0.5;
                all += 1;
            }
    return won / all;
}

static void auroc_agrees_with_all_pairs(void **state)
{
    double y[N], f[N];

    (void)state;
    srand48(31);
    for (int trial = 0; trial < 100; trial++) {
        size_t n = 2 + (size_t)(drand48() * (N - 2));
        struct mat F = {n, 1, f};
        for (size_t i = 0; i < n; i++) {
            y[i] = i < 2 ? (double)i : drand48() < 0.3;
            f[i] = y[i] +
                   (trial % 2 ? floor(drand48() * 4) : 4 * drand48()); /* half of the trials with many ties */
        }
        near(get("auroc", metric_score(TASK_BINARY, y, &F, out)), pairs(f, y, 1, n));
    }
}

static void macro_auroc_is_of_probabilities(void **state)
{
    enum { K = 4 };
    double y[N], f[N * K], p[N];
    struct mat F = {N, K, f};

    (void)state;
    srand48(32);
    for (int trial = 0; trial < 20; trial++) {
        double want = 0;
        size_t classes = trial % 2 ? K : K - 1;
        for (size_t i = 0; i < N; i++) {
            y[i] = floor(drand48() * (double)classes);
            for (size_t k = 0; k < K; k++) /* a common shift per row: ranks of F and of p differ */
                f[i * K + k] = 3 * drand48() + ((size_t)y[i] == k) + (double)(i % 7);
        }
        for (size_t c = 0; c < classes; c++) {
            for (size_t i = 0; i < N; i++) {
                double sum = 0;
                for (size_t k = 0; k < K; k++)
                    sum += exp(f[i * K + k]);
                p[i] = exp(f[i * K + c]) / sum;
            }
            want += pairs(p, y, (double)c, N) / (double)classes;
        }
        near(get("auroc", metric_score(TASK_MULTICLASS, y, &F, out)), want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regression_by_hand),
        cmocka_unit_test(deviance_by_hand),
        cmocka_unit_test(binary_by_hand),
        cmocka_unit_test(multiclass_by_hand),
        cmocka_unit_test(auroc_agrees_with_all_pairs),
        cmocka_unit_test(macro_auroc_is_of_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
