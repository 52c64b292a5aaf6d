/* test_model_linear: ridge against independent oracles: the normal equations by Gaussian elimination, the
 * objective by finite differences, leave-one-out by refitting without the row. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "assistor/model.h"

#define assert_near(a, b, error) assert_true(fabs((a) - (b)) <= (error))

static const struct model_kind *linear;
static uint64_t seed = 1;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) * 0x1p-53 - 0.5;
}

static struct mat noise(size_t n, size_t k, double mean, double scale)
{
    struct mat m;

    assert_int_equal(mat_init(&m, n, k), 0);
    for (size_t i = 0; i < n * k; i++)
        m.a[i] = mean + scale * uniform();
    return m;
}

/* (β, b) of one output, d+1 values, from [X̃ᵀX̃/N + λI] β = X̃ᵀr̃/N by elimination with pivoting. Row `without`
 * is left out. */
static void oracle(const struct mat *X, const struct mat *r, size_t k, double lambda, size_t without,
                   double *beta)
{
    size_t d = X->k, w = d + 1, n = X->n - (without < X->n);
    double *mean = calloc(w, sizeof *mean), *A = calloc(d * w + 1, sizeof *A), r_mean = 0;

    for (size_t i = 0; i < X->n; i++) {
        if (i == without)
            continue;
        for (size_t j = 0; j < d; j++)
            mean[j] += X->a[i * d + j] / (double)n;
        r_mean += r->a[i * r->k + k] / (double)n;
    }
    for (size_t i = 0; i < X->n; i++)
        for (size_t a = 0; i != without && a < d; a++) {
            double x = (X->a[i * d + a] - mean[a]) / (double)n;
            for (size_t b = 0; b < d; b++)
                A[a * w + b] += x * (X->a[i * d + b] - mean[b]);
            A[a * w + d] += x * (r->a[i * r->k + k] - r_mean);
        }
    for (size_t a = 0; a < d; a++)
        A[a * w + a] += lambda;
    for (size_t a = 0; a < d; a++) {
        size_t pivot = a;
        for (size_t b = a; b < d; b++)
            if (fabs(A[b * w + a]) > fabs(A[pivot * w + a]))
                pivot = b;
        for (size_t c = 0; c < w; c++) {
            double swap = A[a * w + c];
            A[a * w + c] = A[pivot * w + c];
            A[pivot * w + c] = swap;
        }
        for (size_t b = 0; b < d; b++) {
            double factor = b == a ? 0 : A[b * w + a] / A[a * w + a];
            for (size_t c = a; factor != 0 && c < w; c++)
                A[b * w + c] -= factor * A[a * w + c];
        }
    }
    beta[d] = r_mean;
    for (size_t a = 0; a < d; a++) {
        beta[a] = A[a * w + d] / A[a * w + a];
        beta[d] -= beta[a] * mean[a];
    }
    free(A);
    free(mean);
}

static double value(const double *beta, const struct mat *X, size_t i)
{
    double f = beta[X->k];

    for (size_t j = 0; j < X->k; j++)
        f += beta[j] * X->a[i * X->k + j];
    return f;
}

static void *prepared(const struct mat *X, size_t outputs, const char *lambda)
{
    struct model_param param = {"lambda", lambda};
    void *p = linear->prepare(X, (uint32_t)outputs, &param, lambda != NULL);

    assert_non_null(p);
    return p;
}

static struct mat predicted(const void *model, const struct mat *X, size_t outputs)
{
    struct mat f;

    assert_non_null(model);
    assert_int_equal(mat_init(&f, X->n, outputs), 0);
    assert_int_equal(linear->predict(model, X, &f), 0);
    return f;
}

/* λ as the saved bytes have it: after the 8 bytes of magic and two u32. */
static double saved_lambda(const void *model)
{
    size_t size;
    uint8_t *bytes = linear->save(model, &size);
    double lambda;

    assert_non_null(bytes);
    memcpy(&lambda, bytes + 16, sizeof lambda);
    free(bytes);
    return lambda;
}

static void same_as_normal_equations(size_t n, size_t d, size_t outputs, double mean, const char *text)
{
    struct mat X = noise(n, d, mean, 2), r = noise(n, outputs, 1, 3), Y = noise(7, d, mean, 2);
    double lambda = text ? strtod(text, NULL) : 0.001, *beta = calloc(d + 1, sizeof *beta);
    void *p = prepared(&X, outputs, text), *model = linear->fit(p, &r);
    struct mat f = predicted(model, &Y, outputs);

    for (size_t k = 0; k < outputs; k++) {
        oracle(&X, &r, k, lambda, SIZE_MAX, beta);
        for (size_t i = 0; i < Y.n; i++)
            assert_near(f.a[i * outputs + k], value(beta, &Y, i), 1e-9 * (1 + fabs(mean)));
    }
    linear->free_model(model);
    linear->free_prepared(p);
    free(beta);
    mat_free(&f);
    mat_free(&X);
    mat_free(&Y);
    mat_free(&r);
}

static void normal_equations(void **state)
{
    (void)state;
    same_as_normal_equations(50, 5, 1, 0, NULL); /* the default λ */
    same_as_normal_equations(50, 5, 1, 0, "0");
    same_as_normal_equations(1300, 7, 3, 0, "0.1"); /* several blocks of rows */
    same_as_normal_equations(600, 4, 2, 1000, "0.5");
    same_as_normal_equations(8, 8, 2, 0, "0.01");
    same_as_normal_equations(6, 20, 1, 0, "0.01"); /* more columns than rows */
    same_as_normal_equations(6, 20, 4, 10, "1");
    same_as_normal_equations(2, 1, 1, 0, "1e-3");
    same_as_normal_equations(1, 1, 1, 0, "1");
    same_as_normal_equations(1, 5, 2, 0, "1");
}

static double objective(const struct mat *X, const struct mat *r, const double *beta, double lambda)
{
    double sum = 0, norm = 0;

    for (size_t i = 0; i < X->n; i++)
        sum += pow(r->a[i] - value(beta, X, i), 2) / (double)X->n;
    for (size_t j = 0; j < X->k; j++)
        norm += beta[j] * beta[j];
    return sum + lambda * norm;
}

/* Reads β and b off the model by asking for unit rows and 0. */
static void read_beta(const void *model, size_t d, double *beta)
{
    struct mat unit, f;

    assert_int_equal(mat_init(&unit, d + 1, d), 0);
    for (size_t j = 0; j < d; j++)
        unit.a[j * d + j] = 1;
    f = predicted(model, &unit, 1);
    beta[d] = f.a[d];
    for (size_t j = 0; j < d; j++)
        beta[j] = f.a[j] - f.a[d];
    mat_free(&unit);
    mat_free(&f);
}

static void the_objective_is_flat_there_and_higher_around(void **state)
{
    (void)state;
    struct mat X = noise(80, 6, 0.3, 2), r = noise(80, 1, 1, 3);
    double beta[7];
    void *p = prepared(&X, 1, "0.2"), *model = linear->fit(p, &r);
    read_beta(model, 6, beta);
    double least = objective(&X, &r, beta, 0.2);
    for (size_t j = 0; j < 7; j++) {
        double was = beta[j], h = 1e-4, up, down;
        beta[j] = was + h;
        up = objective(&X, &r, beta, 0.2);
        beta[j] = was - h;
        down = objective(&X, &r, beta, 0.2);
        beta[j] = was;
        assert_near((up - down) / (2 * h), 0, 1e-8);
        assert_true(up > least && down > least); /* not flat because nothing depends on it */
    }
    linear->free_model(model);
    linear->free_prepared(p);
    mat_free(&X);
    mat_free(&r);
}

/* Copied, negated and summed columns with λ = 0: the fit is that of the independent columns, its coefficients
 * least in norm. */
static void collinear_columns(void **state)
{
    (void)state;
    for (size_t n = 4; n <= 400; n *= 10) { /* 4 rows: the dual side */
        struct mat base = noise(n, 2, 0, 2), X, r = noise(n, 1, 1, 3);
        double few[3], many[6];
        assert_int_equal(mat_init(&X, n, 5), 0);
        for (size_t i = 0; i < n; i++) {
            double a = base.a[2 * i], b = base.a[2 * i + 1], row[5] = {a, b, a, a + b, 7};
            memcpy(X.a + 5 * i, row, sizeof row);
        }
        oracle(&base, &r, 0, 0, SIZE_MAX, few);
        void *p = prepared(&X, 1, "0"), *model = linear->fit(p, &r);
        struct mat f = predicted(model, &X, 1);
        for (size_t i = 0; i < n; i++)
            assert_near(f.a[i], value(few, &base, i), 1e-9);
        read_beta(model, 5, many);
        assert_near(many[0], many[2], 1e-9);
        assert_near(many[3], many[0] + many[1], 1e-9); /* in the row space (a, b, a, a + b) */
        assert_near(many[4], 0, 1e-9);
        linear->free_model(model);
        linear->free_prepared(p);
        mat_free(&f);
        mat_free(&base);
        mat_free(&X);
        mat_free(&r);
    }
}

static double brute_force_loo(const struct mat *X, const struct mat *r, double lambda)
{
    double sum = 0, *beta = calloc(X->k + 1, sizeof *beta);

    for (size_t k = 0; k < r->k; k++)
        for (size_t i = 0; i < X->n; i++) {
            /* The closed form keeps N in (1/N)‖·‖² when a row goes, hence Nλ/(N−1) over the remaining rows.
             */
            oracle(X, r, k, lambda * (double)X->n / (double)(X->n - 1), i, beta);
            sum += pow(r->a[i * r->k + k] - value(beta, X, i), 2);
        }
    free(beta);
    return sum;
}

static void auto_is_the_best_of_the_grid(size_t n, size_t d, size_t outputs, double signal)
{
    struct mat X = noise(n, d, 0.2, 3), r = noise(n, outputs, 0, 2);
    double best = INFINITY, lambda = 0;

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < outputs; k++)
            r.a[i * outputs + k] += signal * X.a[i * d + k % d];
    for (int l = 24; l >= 0; l--) {
        double error = brute_force_loo(&X, &r, pow(10, -6 + l / 3.0));
        if (error < best) {
            best = error;
            lambda = pow(10, -6 + l / 3.0);
        }
    }
    void *p = prepared(&X, outputs, "auto"), *model = linear->fit(p, &r);
    assert_near(saved_lambda(model) / lambda, 1, 1e-9);
    linear->free_model(model);
    linear->free_prepared(p);
    mat_free(&X);
    mat_free(&r);
}

static void auto_lambda(void **state)
{
    (void)state;
    auto_is_the_best_of_the_grid(30, 6, 1, 0);
    auto_is_the_best_of_the_grid(30, 6, 1, 0.3);
    auto_is_the_best_of_the_grid(40, 10, 2, 0.2);
    auto_is_the_best_of_the_grid(40, 10, 1, 5);
    auto_is_the_best_of_the_grid(10, 14, 1, 1);
    auto_is_the_best_of_the_grid(12, 20, 2, 0.1);
}

static void auto_never_falls(void **state)
{
    (void)state;
    struct mat X = noise(60, 8, 0, 3), weak = noise(60, 1, 0, 2), strong = noise(60, 1, 0, 0.001);
    for (size_t i = 0; i < 60; i++)
        strong.a[i] += X.a[8 * i];
    void *p = prepared(&X, 1, "auto"), *fresh = prepared(&X, 1, "auto");
    void *first = linear->fit(p, &weak), *second = linear->fit(p, &strong);
    assert_true(saved_lambda(first) > 1e-2);
    assert_near(saved_lambda(second), saved_lambda(first), 0);
    void *alone = linear->fit(fresh, &strong);
    assert_true(saved_lambda(alone) < 1e-3);
    linear->resume(fresh, first); /* as after a restart */
    void *resumed = linear->fit(fresh, &strong);
    assert_near(saved_lambda(resumed), saved_lambda(first), 0);
    linear->free_model(first);
    linear->free_model(second);
    linear->free_model(alone);
    linear->free_model(resumed);
    linear->free_prepared(p);
    linear->free_prepared(fresh);
    mat_free(&X);
    mat_free(&weak);
    mat_free(&strong);
}

static void without_columns_the_model_is_the_mean(void **state)
{
    (void)state;
    static const char *const lambdas[] = {"0.001", "auto"};
    for (size_t l = 0; l < 2; l++) {
        struct mat X, r = noise(9, 2, 5, 1);
        assert_int_equal(mat_init(&X, 9, 0), 0);
        void *p = prepared(&X, 2, lambdas[l]), *model = linear->fit(p, &r);
        struct mat f = predicted(model, &X, 2);
        double mean = 0;
        for (size_t i = 0; i < 9; i++)
            mean += r.a[2 * i + 1] / 9;
        assert_near(f.a[2 * 4 + 1], mean, 1e-14);
        linear->free_model(model);
        linear->free_prepared(p);
        mat_free(&X);
        mat_free(&r);
        mat_free(&f);
    }
}

static void constant_columns_and_residuals(void **state)
{
    (void)state;
    struct mat X = noise(30, 3, 4, 0), r = noise(30, 1, 2, 0);
    void *p = prepared(&X, 1, "auto"), *model = linear->fit(p, &r);
    struct mat f = predicted(model, &X, 1);
    assert_near(f.a[29], 2, 1e-14);
    linear->free_model(model);
    linear->free_prepared(p);
    mat_free(&X);
    mat_free(&r);
    mat_free(&f);
}

static void values_that_are_not_finite(void **state)
{
    (void)state;
    struct mat X = noise(10, 2, 0, 1), r = noise(10, 1, 0, 1), wrong = noise(9, 1, 0, 1);
    void *p = prepared(&X, 1, "0");
    r.a[3] = NAN;
    assert_null(linear->fit(p, &r));
    assert_int_equal(errno, EDOM);
    assert_null(linear->fit(p, &wrong));
    assert_int_equal(errno, EINVAL);
    linear->free_prepared(p);
    X.a[5] = INFINITY;
    assert_null(linear->prepare(&X, 1, NULL, 0));
    assert_int_equal(errno, EDOM);
    mat_free(&X);
    mat_free(&r);
    mat_free(&wrong);
}

static void saved_and_loaded(void **state)
{
    (void)state;
    struct mat X = noise(20, 3, 0, 1), r = noise(20, 2, 0, 1);
    void *p = prepared(&X, 2, NULL), *model = linear->fit(p, &r);
    size_t size;
    uint8_t *bytes = linear->save(model, &size);
    void *again = linear->load(bytes, size);
    struct mat f = predicted(model, &X, 2), g = predicted(again, &X, 2);
    assert_memory_equal(f.a, g.a, 40 * sizeof *f.a);
    assert_int_equal(linear->predict(again, &r, &f), -1); /* two columns where three were fitted */

    for (size_t n = 0; n < size; n++)
        assert_null(linear->load(bytes, n));
    for (size_t i = 0; i < 20000; i++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, bytes, size);
        for (size_t k = 0; k <= i % 3; k++)
            copy[(size_t)((uniform() + 0.5) * (double)size)] = (uint8_t)(i * 37 + k);
        void *other = linear->load(copy, size);
        if (other)
            linear->free_model(other);
        free(copy);
    }
    free(bytes);
    linear->free_model(model);
    linear->free_model(again);
    linear->free_prepared(p);
    mat_free(&X);
    mat_free(&r);
    mat_free(&f);
    mat_free(&g);
}

static void parameters(void **state)
{
    (void)state;
    assert_null(linear->check(&(struct model_param){"lambda", "auto"}, 1));
    assert_null(linear->check(&(struct model_param){"lambda", "0"}, 1));
    assert_string_equal(linear->check(&(struct model_param){"lambda", "-1"}, 1),
                        "lambda = -1 is neither a number from 0 up nor auto");
    assert_non_null(linear->check(&(struct model_param){"lambda", "1e999"}, 1));
    assert_non_null(linear->check(&(struct model_param){"lambda", "nan"}, 1));
    assert_non_null(linear->check(&(struct model_param){"lambda", ""}, 1));
    assert_string_equal(linear->check(&(struct model_param){"trees", "5"}, 1),
                        "the linear model has no parameter trees; it has lambda");
    assert_null(model_find("lineal"));
    assert_non_null(strstr(model_names(), "linear"));
}

static int setup(void **state)
{
    (void)state;
    linear = model_find("linear");
    return linear ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_equations),
        cmocka_unit_test(the_objective_is_flat_there_and_higher_around),
        cmocka_unit_test(collinear_columns),
        cmocka_unit_test(auto_lambda),
        cmocka_unit_test(auto_never_falls),
        cmocka_unit_test(without_columns_the_model_is_the_mean),
        cmocka_unit_test(constant_columns_and_residuals),
        cmocka_unit_test(values_that_are_not_finite),
        cmocka_unit_test(saved_and_loaded),
        cmocka_unit_test(parameters),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
