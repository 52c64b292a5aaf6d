/* test_features: what a model sees of a table. Expected moments are worked out by hand beside each table. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "assistor/features.h"

#define assert_near(a, b, error) assert_true(fabs((a) - (b)) <= (error))

static char path[] = "/tmp/test_features.XXXXXX";
static char error[512];

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);

    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static struct table *table(const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    struct table *t = table_open(path, error, sizeof error);
    if (!t)
        fail_msg("%s", error);
    return t;
}

static struct features *fit(struct table *t, const char *columns, const char *exclude, size_t n)
{
    uint32_t rows[200];

    for (uint32_t i = 0; i < n; i++)
        rows[i] = i;
    memset(error, 0, sizeof error);
    return features_fit(t, columns, exclude, rows, n, error, sizeof error);
}

/* The prepared row of the table equals want[0…width). */
static void expect_row(const struct features *f, struct table *t, uint32_t row, size_t width,
                       const double *want)
{
    struct mat X;

    assert_int_equal(features_width(f), width);
    if (features_apply(f, t, &row, 1, &X, error, sizeof error))
        fail_msg("%s", error);
    assert_int_equal(X.n, 1);
    assert_int_equal(X.k, width);
    for (size_t j = 0; j < width; j++)
        assert_near(X.a[j], want[j], 1e-14);
    mat_free(&X);
}

#define VALUES (const double[])

static void numbers(void **state)
{
    (void)state;
    /* FIT rows 0…3. x: 1, 3, missing, 5 → mean 3, variance (4 + 0 + 0 + 4)/4 = 2 with the missing cell as the
     * mean. same and none are dropped; late varies only outside the FIT rows. */
    struct table *t = table("id,x,same,none,late\n1,1,7,,2\n2,3,7,,2\n3,,7,,2\n4,5,,,2\n5,9,8,1,3\n");
    struct features *f = fit(t, NULL, "id", 4);
    assert_non_null(f);
    expect_row(f, t, 0, 1, VALUES{-2 / sqrt(2)});
    expect_row(f, t, 2, 1, VALUES{0});
    expect_row(f, t, 4, 1, VALUES{6 / sqrt(2)});
    features_free(f);
    table_free(t);
}

static void prepared_numbers_have_mean_0_and_deviation_1(void **state)
{
    (void)state;
    char text[8000], *p = text;
    p += sprintf(p, "a,b,c\n");
    for (int i = 0; i < 100; i++)
        p += sprintf(p, "%d,%.17g,%de300\n", 1000000000 + i % 7, sin(i) * 1e-300,
                     (i * i % 11) * 10000000 - 50000000);
    struct table *t = table(text);
    struct features *f = fit(t, NULL, NULL, 100);
    struct mat X;
    uint32_t rows[100];
    for (uint32_t i = 0; i < 100; i++)
        rows[i] = i;
    assert_int_equal(features_apply(f, t, rows, 100, &X, error, sizeof error), 0);
    assert_int_equal(X.k, 3);
    for (size_t j = 0; j < 3; j++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < 100; i++) {
            sum += X.a[3 * i + j] / 100;
            squares += X.a[3 * i + j] * X.a[3 * i + j] / 100;
        }
        assert_near(sum, 0, 1e-7); /* a: 9 of its digits lie before the part that varies */
        assert_near(squares, 1, 1e-7);
    }
    mat_free(&X);
    features_free(f);
    table_free(t);
}

static void words(void **state)
{
    (void)state;
    /* FIT rows 0…5: b 3 times, a 2 times, one missing; c comes later. */
    struct table *t = table("w,only\nb,x\na,x\nb,x\n?,x\na,x\nb,x\nc,y\n7,x\n");
    struct features *f = fit(t, NULL, NULL, 6);
    assert_non_null(f);
    expect_row(f, t, 0, 2, VALUES{1, 0});
    expect_row(f, t, 1, 2, VALUES{0, 1});
    expect_row(f, t, 3, 2, VALUES{0, 0});
    expect_row(f, t, 6, 2, VALUES{0, 0});
    expect_row(f, t, 7, 2, VALUES{0, 0});
    features_free(f);
    f = fit(t, "only", NULL, 6);
    assert_int_equal(features_width(f), 0);
    features_free(f);
    table_free(t);
    t = table("w,x\nyes,1\n,2\nyes,3\n");
    f = fit(t, " w ,", NULL, 3); /* a word beside missing cells is not constant */
    expect_row(f, t, 0, 1, VALUES{1});
    expect_row(f, t, 1, 1, VALUES{0});
    features_free(f);
    table_free(t);
}

static void rare_words_share_a_column(void **state)
{
    (void)state;
    char text[2000], *p = text;
    p += sprintf(p, "w,x\n");
    for (int i = 0; i < 40; i++)
        p += sprintf(p, "w%02d,1\n", i);
    p += sprintf(p, "w39,1\nnew,1\nNA,1\n");
    struct table *t = table(text);
    struct features *f = fit(t, "w", NULL, 41);
    double want[33] = {0};
    assert_int_equal(features_width(f), 33);
    want[0] = 1;
    expect_row(f, t, 39, 33, want); /* the most frequent comes first, the others by name */
    want[0] = 0;
    want[1] = 1;
    expect_row(f, t, 0, 33, want);
    want[1] = 0;
    expect_row(f, t, 42, 33, want); /* missing */
    want[32] = 1;
    expect_row(f, t, 31, 33, want);
    expect_row(f, t, 41, 33, want); /* never seen */
    features_free(f);
    table_free(t);
}

static void the_table_applied_to_may_be_another(void **state)
{
    (void)state;
    struct table *t = table("x,w,y\n0,a,1\n2,1,5\n"), *u;
    struct features *f = fit(t, NULL, NULL, 2);
    assert_non_null(f);
    table_free(t);
    u = table("y,more,w,x\n3,q,1,4\n"); /* other order; w reads as a number here */
    expect_row(f, u, 0, 4, VALUES{3, 1, 0, 0});
    table_free(u);

    struct mat X;
    uint32_t row = 0;
    u = table("x,W,y\n1,2,3\n");
    assert_int_equal(features_apply(f, u, &row, 1, &X, error, sizeof error), -1);
    assert_string_equal(error, "no column \"w\", which the models were fitted on; the nearest is \"W\"");
    assert_null(X.a);
    table_free(u);
    u = table("x,w,y\n1,a,3\nlow,a,4\n");
    assert_int_equal(features_apply(f, u, &row, 1, &X, error, sizeof error), -1);
    assert_non_null(strstr(error, ":3: column \"x\": low is not a number; mend it, or leave the cell empty"));
    table_free(u);
    features_free(f);

    t = table("x\n0\n1e-300\n1e300\n");
    f = fit(t, NULL, NULL, 2);
    row = 2;
    assert_int_equal(features_apply(f, t, &row, 1, &X, error, sizeof error), -1);
    assert_non_null(strstr(error, "line 4: column \"x\": 1e+300 is too far from the rows that were fitted"));
    features_free(f);
    table_free(t);
}

static void names(void **state)
{
    (void)state;
    struct table *t = table("id,age,income,target\n1,2,3,4\n5,6,7,9\n8,9,inf,1\n");
    assert_null(fit(t, "age,incme", NULL, 2));
    assert_string_equal(error, "no column \"incme\"; the nearest is \"income\"");
    assert_null(fit(t, NULL, "targets", 2));
    assert_string_equal(error, "no column \"targets\"; the nearest is \"target\"");
    assert_null(fit(t, NULL, NULL, 2));
    assert_non_null(strstr(error, ":4: column \"income\": inf is not a finite number; "));
    struct features *f = fit(t, "age, target ", " target,id", 2);
    assert_int_equal(features_width(f), 1);
    features_free(f);
    f = fit(t, "", "income", 3);
    assert_int_equal(features_width(f), 3);
    features_free(f);
    f = fit(t, "id", "id", 3);
    assert_int_equal(features_width(f), 0);
    expect_row(f, t, 0, 0, VALUES{0});
    features_free(f);
    f = fit(t, "age", NULL, 0);
    assert_int_equal(features_width(f), 0);
    features_free(f);
    table_free(t);
}

static void saved_and_loaded(void **state)
{
    (void)state;
    struct table *t = table("x,w,v\n0,a,b\n2,b,c\n5,b,c\n");
    struct features *f = fit(t, NULL, NULL, 3), *g;
    size_t size, again;
    uint8_t *bytes = features_save(f, &size), *copy = malloc(size);
    uint64_t r = 3;

    g = features_load(bytes, size);
    assert_non_null(g);
    uint8_t *twice = features_save(g, &again);
    assert_int_equal(again, size);
    assert_memory_equal(twice, bytes, size);
    expect_row(g, t, 0, 5, VALUES{(0 - 7.0 / 3) / sqrt(38.0 / 9), 0, 1, 0, 1});
    free(twice);
    features_free(g);
    for (size_t n = 0; n < size; n++)
        assert_null(features_load(bytes, n));
    for (int i = 0; i < 50000; i++) {
        memcpy(copy, bytes, size);
        for (int k = 0; k <= i % 4; k++) {
            r = r * 6364136223846793005u + 1442695040888963407u;
            copy[(r >> 33) % size] = (uint8_t)(r >> 56);
        }
        g = features_load(copy, size);
        if (!g)
            continue;
        twice = features_save(g, &again);
        assert_int_equal(again, size);
        free(twice);
        features_free(g);
    }
    free(copy);
    free(bytes);
    features_free(f);
    table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(prepared_numbers_have_mean_0_and_deviation_1),
        cmocka_unit_test(words),
        cmocka_unit_test(rare_words_share_a_column),
        cmocka_unit_test(the_table_applied_to_may_be_another),
        cmocka_unit_test(names),
        cmocka_unit_test(saved_and_loaded),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
