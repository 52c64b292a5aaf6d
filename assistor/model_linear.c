/* model_linear: ridge regression of the residuals on this organization's columns (docs/ALGORITHM.md, local
 * models). It sees a prepared feature matrix and residuals; never a label, never the wire.
 *
 *     min over β, b of (1/N) ‖r − Xβ − b‖² + λ ‖β‖²
 *
 * b is not penalised, so the problem is the one of the centred X̃ = X − 1μᵀ and r̃ = r − r̄, with b = r̄ − μᵀβ. X
 * is the same in every round. Once per run, therefore, with X̃ = U S Vᵀ and D = S²/N:
 *
 *     d ≤ N: X̃ᵀX̃/N = V D Vᵀ (d×d)          d > N: X̃X̃ᵀ/N = U D Uᵀ (N×N)
 *
 * An eigendecomposition and not a Cholesky factor: every λ is then a division, copied columns and λ = 0 give
 * the least-norm solution, and leave-one-out has a closed form. A round is one X̃ᵀr̃:
 *
 *     p = Vᵀ X̃ᵀr̃ / N,    β = V (D + λ)⁻¹ p
 *
 * λ = auto: with z_i = Vᵀx̃_i the residual of row i when row i is left out is e_i(λ) / (1 − h_i(λ)) (Allen's
 * PRESS; Golub, Heath, Wahba 1979), where
 *
 *     e_i = r̃_i − z_iᵀ(D + λ)⁻¹p,    h_i = 1/N + Σ_j z_ij² / (N (D_j + λ)). */
#define _GNU_SOURCE
#include <cblas.h>
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assistor/model.h"
#include "common/bytes.h"

#define BLOCK 512 /* rows at a time: a block of X, and what is made of it, stays in the cache */
#define GRID  25  /* λ of auto: 1e−6 … 1e2, three a decade */

#define DEFAULT_LAMBDA 1e-3
#define SIZE_LIMIT     32000 /* dsyevd counts 2m² + 6m + 1 doubles in an int */

static const uint8_t magic[8] = "GALlin\0\1"; /* the last byte is the version */

void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
             double *work, const int *lwork, int *iwork, const int *liwork, int *info, size_t jobz_length,
             size_t uplo_length);

struct linear {
    uint32_t d, k;
    double lambda;
    double *b;    /* k */
    double *beta; /* d×k */
    double values[];
};

struct prepared {
    const struct mat *X;
    size_t d, m, k; /* columns, rank at most, outputs */
    bool dual;      /* the basis is U, not V */
    bool automatic;
    double lambda;
    double grid[GRID];  /* λ_l */
    size_t first;       /* auto: where in the grid the search begins */
    double *mean;       /* d: μ */
    double *basis, *D;  /* m×m: row j is the eigenvector of D_j; D_j is 0 where it is rounding */
    double *r_mean;     /* k */
    double *r;          /* BLOCK×k (dual: N×k): r̃ */
    double *g, *p;      /* d×k and m×k */
    double *z, *z2;     /* auto: BLOCK×m */
    double *h, *e;      /* auto: BLOCK×GRID */
    double *hat, *coef; /* auto: m×GRID and k×m×GRID */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* C (n×k) ← alpha · op(A) B + beta · C, row-major, for any shape. A matrix with one column is a vector to
 * BLAS: thin dgemm is slow. */
static void multiply(bool transposed, size_t n, size_t k, size_t inner, double alpha, const double *A,
                     size_t lda, const double *B, double beta, double *C)
{
    if (!n || !k)
        return;
    if (!inner) {
        for (size_t i = 0; i < n * k; i++)
            C[i] = beta == 0 ? 0 : beta * C[i];
        return;
    }
    CBLAS_TRANSPOSE op = transposed ? CblasTrans : CblasNoTrans;
    if (k == 1)
        cblas_dgemv(CblasRowMajor, op, (int)(transposed ? inner : n), (int)(transposed ? n : inner), alpha, A,
                    (int)lda, B, 1, beta, C, 1);
    else
        cblas_dgemm(CblasRowMajor, op, CblasNoTrans, (int)n, (int)k, (int)inner, alpha, A, (int)lda, B,
                    (int)k, beta, C, (int)k);
}

/* NULL, or why this is no λ. */
static const char *read_lambda(const char *text, bool *automatic, double *lambda)
{
    static _Thread_local char why[160];
    char *end;

    *automatic = !strcmp(text, "auto");
    if (*automatic)
        return NULL;
    *lambda = strtod(text, &end);
    if (end != text && !*end && isfinite(*lambda) && *lambda >= 0)
        return NULL;
    snprintf(why, sizeof why, "lambda = %.60s is neither a number from 0 up nor auto", text);
    return why;
}

static const char *read_params(const struct model_param *params, size_t n, bool *automatic, double *lambda)
{
    static _Thread_local char why[160];

    *automatic = false;
    *lambda = DEFAULT_LAMBDA;
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(params[i].key, "name"))
            continue;
        if (strcmp(params[i].key, "lambda")) {
            snprintf(why, sizeof why, "the linear model has no parameter %.60s; it has lambda",
                     params[i].key);
            return why;
        }
        const char *bad = read_lambda(params[i].value, automatic, lambda);
        if (bad)
            return bad;
    }
    return NULL;
}

static const char *check(const struct model_param *params, size_t n)
{
    bool automatic;
    double lambda;

    return read_params(params, n, &automatic, &lambda);
}

/* Eight sums side by side, of rows 0, 8, …, 1, 9, …: one alone would wait for its own last addition. */
static double mean_of(const double *a, size_t n)
{
    double part[8] = {0}, sum = 0;
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            part[j] += a[i + j];
    for (; i < n; i++)
        sum += a[i];
    for (size_t j = 0; j < 8; j++)
        sum += part[j];
    return sum / (double)n;
}

static void column_means(const double *a, size_t n, size_t k, double *mean)
{
    if (k == 1) {
        *mean = mean_of(a, n);
        return;
    }
    memset(mean, 0, k * sizeof *mean);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++)
            mean[j] += a[i * k + j];
    for (size_t j = 0; j < k; j++)
        mean[j] /= (double)n;
}

static void centre(const double *a, size_t n, size_t k, const double *mean, double *to)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++)
            to[i * k + j] = a[i * k + j] - mean[j];
}

/* The upper triangle of X̃ᵀX̃/N, or of X̃X̃ᵀ/N. X is centred before, not the product after: no digits are lost to
 * large means. */
static int gram(struct prepared *p)
{
    const struct mat *X = p->X;
    size_t rows = p->dual ? X->n : smaller(BLOCK, X->n);
    double *block = reallocarray(NULL, rows, p->d * sizeof *block);

    if (!block)
        return -1;
    for (size_t i = 0; i < X->n; i += rows) {
        size_t n = smaller(rows, X->n - i);
        centre(X->a + i * p->d, n, p->d, p->mean, block);
        cblas_dsyrk(CblasRowMajor, CblasUpper, p->dual ? CblasNoTrans : CblasTrans, (int)p->m,
                    (int)(p->dual ? p->d : n), 1 / (double)X->n, block, (int)p->d, 1, p->basis, (int)p->m);
    }
    free(block);
    return 0;
}

/* basis ← its eigenvectors as rows (LAPACK's columns), D ← its eigenvalues; those that are rounding errors of
 * 0 become 0. */
static int decompose(struct prepared *p)
{
    int m = (int)p->m, info = 0, lwork = 1 + 6 * m + 2 * m * m, liwork = 3 + 5 * m;
    double *work = malloc((size_t)lwork * sizeof *work);
    int *iwork = malloc((size_t)liwork * sizeof *iwork);

    if (work && iwork)
        dsyevd_("V", "L", &m, p->basis, &m, p->D, work, &lwork, iwork, &liwork, &info, 1, 1);
    else
        info = -1;
    free(work);
    free(iwork);
    if (info) {
        errno = info < 0 ? ENOMEM : EDOM;
        return -1;
    }
    double rounding = DBL_EPSILON * (10 * (double)m + 2 * sqrt((double)p->X->n)) * p->D[m - 1];
    for (size_t j = 0; j < p->m; j++)
        if (!(p->D[j] > rounding))
            p->D[j] = 0;
    return 0;
}

static double *zeros(size_t a, size_t b)
{
    return calloc(a && b ? a : 1, (b ? b : 1) * sizeof(double));
}

static bool allocate(struct prepared *p)
{
    size_t n = p->X->n;

    p->mean = zeros(p->d, 1);
    p->basis = zeros(p->m, p->m);
    p->D = zeros(p->m, 1);
    p->r_mean = zeros(p->k, 1);
    p->r = zeros(p->dual ? n : smaller(n, BLOCK), p->k);
    p->g = zeros(p->d > p->m ? p->d : p->m, p->k);
    p->p = zeros(p->m, p->k);
    if (!p->mean || !p->basis || !p->D || !p->r_mean || !p->r || !p->g || !p->p)
        return false;
    if (!p->automatic)
        return true;
    p->z = zeros(BLOCK, p->m);
    p->z2 = zeros(BLOCK, p->m);
    p->h = zeros(BLOCK, GRID);
    p->e = zeros(BLOCK, GRID);
    p->hat = zeros(p->m, GRID);
    p->coef = zeros(p->m, GRID * p->k);
    for (size_t l = 0; l < GRID; l++)
        p->grid[l] = pow(10, -6 + 8.0 * (double)l / (GRID - 1));
    return p->z && p->z2 && p->h && p->e && p->hat && p->coef;
}

static void free_prepared(void *state)
{
    struct prepared *p = state;

    if (!p)
        return;
    double *const all[] = {p->mean, p->basis, p->D, p->r_mean, p->r,   p->g,   p->p,
                           p->z,    p->z2,    p->h, p->e,      p->hat, p->coef};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(p);
}

static void *prepare(const struct mat *X, uint32_t outputs, const struct model_param *params, size_t n)
{
    struct prepared *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    *p = (struct prepared){.X = X, .d = X->k, .m = smaller(X->n, X->k), .k = outputs, .dual = X->k > X->n};
    if (read_params(params, n, &p->automatic, &p->lambda)) {
        errno = EINVAL;
        goto bad;
    }
    if (p->m > SIZE_LIMIT || p->d > INT_MAX || p->k > INT_MAX) {
        errno = EOVERFLOW;
        goto bad;
    }
    if (!allocate(p)) {
        errno = ENOMEM;
        goto bad;
    }
    if (!p->m)
        return p;
    column_means(X->a, X->n, p->d, p->mean);
    if (gram(p))
        goto bad;
    if (mat_nonfinite(p->basis, p->m * p->m) >= 0) {
        errno = EDOM;
        goto bad;
    }
    if (decompose(p))
        goto bad;
    return p;
bad:
    free_prepared(p);
    return NULL;
}

/* p ← Vᵀ X̃ᵀr̃ / N. r̃ is made block by block: it needs no second N×K matrix. Σ r̃ = 0, hence X̃ᵀr̃ = Xᵀr̃. */
static void gradient(struct prepared *p, const struct mat *r)
{
    const struct mat *X = p->X;
    double inverse = 1 / (double)X->n;

    if (p->dual) {
        centre(r->a, r->n, p->k, p->r_mean, p->r);
        multiply(false, p->m, p->k, p->m, inverse, p->basis, p->m, p->r, 0, p->p);
        for (size_t j = 0; j < p->m; j++)
            for (size_t k = 0; k < p->k; k++)
                p->p[j * p->k + k] *= sqrt((double)X->n * p->D[j]);
        return;
    }
    memset(p->g, 0, p->d * p->k * sizeof *p->g);
    for (size_t i = 0; i < X->n; i += BLOCK) {
        size_t n = smaller(BLOCK, X->n - i);
        centre(r->a + i * p->k, n, p->k, p->r_mean, p->r);
        multiply(true, p->d, p->k, n, inverse, X->a + i * p->d, p->d, p->r, 1, p->g);
    }
    multiply(false, p->m, p->k, p->d, 1, p->basis, p->m, p->g, 0, p->p);
}

/* z ← the rows i … i+n of X̃V = US. */
static void scores(struct prepared *p, size_t i, size_t n)
{
    const struct mat *X = p->X;

    if (!p->dual) {
        centre(X->a + i * p->d, n, p->d, p->mean, p->z2);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)p->m, (int)p->d, 1, p->z2,
                    (int)p->d, p->basis, (int)p->m, 0, p->z, (int)p->m);
    } else {
        for (size_t row = 0; row < n; row++)
            for (size_t j = 0; j < p->m; j++)
                p->z[row * p->m + j] = p->basis[j * p->m + i + row] * sqrt((double)X->n * p->D[j]);
    }
    for (size_t j = 0; j < n * p->m; j++)
        p->z2[j] = p->z[j] * p->z[j];
}

/* Adds to sum[g] the squared left-out residuals of rows i … i+n under λ_g; where leaving a row out has no
 * meaning, infinity. */
static void leave_one_out(struct prepared *p, const struct mat *r, size_t i, size_t n, double *sum)
{
    scores(p, i, n);
    multiply(false, n, GRID, p->m, 1, p->z2, p->m, p->hat, 0, p->h);
    for (size_t k = 0; k < p->k; k++) {
        multiply(false, n, GRID, p->m, 1, p->z, p->m, p->coef + k * p->m * GRID, 0, p->e);
        for (size_t row = 0; row < n; row++) {
            double value = r->a[(i + row) * p->k + k] - p->r_mean[k];
            for (size_t l = p->first; l < GRID; l++) {
                double rest = 1 - 1 / (double)r->n - p->h[row * GRID + l];
                double e = (value - p->e[row * GRID + l]) / rest;
                sum[l] += rest > 1e-12 ? e * e : INFINITY;
            }
        }
    }
}

/* What multiplies z² in h and z in e, under every λ of the grid. */
static void fill_grid(struct prepared *p)
{
    for (size_t j = 0; j < p->m; j++)
        for (size_t l = 0; l < GRID; l++) {
            double inverse = p->D[j] > 0 ? 1 / (p->D[j] + p->grid[l]) : 0;
            p->hat[j * GRID + l] = inverse / (double)p->X->n;
            for (size_t k = 0; k < p->k; k++)
                p->coef[(k * p->m + j) * GRID + l] = p->p[j * p->k + k] * inverse;
        }
}

/* λ of least left-out error, over all outputs, not below the last round's; of equal ones the largest. */
static void choose_lambda(struct prepared *p, const struct mat *r)
{
    double sum[GRID] = {0};
    size_t best = GRID - 1;

    fill_grid(p);
    for (size_t i = 0; i < r->n; i += BLOCK)
        leave_one_out(p, r, i, smaller(BLOCK, r->n - i), sum);
    for (size_t l = GRID - 1; l-- > p->first;)
        if (sum[l] < sum[best])
            best = l;
    p->first = best;
    p->lambda = p->grid[best];
}

static struct linear *new_model(size_t d, size_t k)
{
    if (k && d > (SIZE_MAX / sizeof(double) - sizeof(struct linear)) / k - 1)
        return NULL;
    struct linear *f = calloc(1, sizeof *f + (d + 1) * k * sizeof(double));
    if (!f)
        return NULL;
    f->d = (uint32_t)d;
    f->k = (uint32_t)k;
    f->b = f->values;
    f->beta = f->values + k;
    return f;
}

/* β = V (D + λ)⁻¹ p, where V = X̃ᵀU S⁻¹ if the basis is U; b = r̄ − μᵀβ. */
static void solve(struct prepared *p, struct linear *f)
{
    for (size_t j = 0; j < p->m; j++) {
        double D = p->D[j], scale = D > 0 ? 1 / (D + p->lambda) : 0;
        if (p->dual && D > 0)
            scale /= sqrt((double)p->X->n * D);
        for (size_t k = 0; k < p->k; k++)
            p->p[j * p->k + k] *= scale;
    }
    multiply(true, p->m, p->k, p->m, 1, p->basis, p->m, p->p, 0, p->dual ? p->g : f->beta);
    if (p->dual)
        multiply(true, p->d, p->k, p->m, 1, p->X->a, p->d, p->g, 0, f->beta);
    memcpy(f->b, p->r_mean, p->k * sizeof *f->b);
    for (size_t j = 0; j < p->d; j++)
        for (size_t k = 0; k < p->k; k++)
            f->b[k] -= p->mean[j] * f->beta[j * p->k + k];
}

static void *fit(void *prepared, const struct mat *r)
{
    struct prepared *p = prepared;

    if (r->n != p->X->n || r->k != p->k) {
        errno = EINVAL;
        return NULL;
    }
    struct linear *f = new_model(p->d, p->k);
    if (!f)
        return NULL;
    if (r->n)
        column_means(r->a, r->n, p->k, p->r_mean);
    if (p->m) {
        gradient(p, r);
        if (p->automatic)
            choose_lambda(p, r);
    }
    solve(p, f);
    f->lambda = p->lambda;
    if (mat_nonfinite(f->values, (p->d + 1) * p->k) >= 0) {
        free(f);
        errno = EDOM;
        return NULL;
    }
    return f;
}

static int predict(const void *model, const struct mat *X, struct mat *f)
{
    const struct linear *l = model;

    if (X->k != l->d || f->k != l->k || f->n != X->n) {
        errno = EINVAL;
        return -1;
    }
    for (size_t i = 0; i < X->n; i += BLOCK) {
        size_t n = smaller(BLOCK, X->n - i);
        double *to = f->a + i * f->k;
        for (size_t row = 0; row < n; row++)
            for (size_t k = 0; k < f->k; k++)
                to[row * f->k + k] = l->b[k];
        multiply(false, n, f->k, X->k, 1, X->a + i * X->k, X->k, l->beta, 1, to);
    }
    return 0;
}

static uint8_t *save(const void *model, size_t *size)
{
    const struct linear *f = model;
    size_t n = ((size_t)f->d + 1) * f->k;
    uint8_t *bytes = malloc(sizeof magic + 16 + n * 8), *p = bytes;

    if (!bytes)
        return NULL;
    p = bytes_put(p, magic, sizeof magic);
    p = bytes_put_u32(p, f->d);
    p = bytes_put_u32(p, f->k);
    p = bytes_put_f64(p, f->lambda);
    for (size_t i = 0; i < n; i++)
        p = bytes_put_f64(p, f->values[i]);
    *size = (size_t)(p - bytes);
    return bytes;
}

static void *load(const uint8_t *bytes, size_t size)
{
    struct bytes_in in = {.p = bytes, .end = bytes + size};
    const uint8_t *head = bytes_take(&in, sizeof magic);
    uint32_t d = bytes_u32(&in), k = bytes_u32(&in);
    double lambda = bytes_f64(&in);
    size_t left = (size_t)(in.end - in.p) / 8, n = ((size_t)d + 1) * k;

    if (in.bad || memcmp(head, magic, sizeof magic) || !k || left / k != (size_t)d + 1 || left != n ||
        size % 8)
        return NULL;
    struct linear *f = new_model(d, k);
    if (!f)
        return NULL;
    f->lambda = lambda;
    for (size_t i = 0; i < n; i++)
        f->values[i] = bytes_f64(&in);
    if (!isfinite(lambda) || lambda < 0 || mat_nonfinite(f->values, n) >= 0) {
        free(f);
        return NULL;
    }
    return f;
}

static void resume(void *prepared, const void *model)
{
    struct prepared *p = prepared;
    const struct linear *f = model;

    while (p->first < GRID - 1 && p->grid[p->first] < f->lambda * (1 - 1e-9))
        p->first++;
}

const struct model_kind model_linear = {
    .name = "linear",
    .deterministic = true,
    .linear = true,
    .check = check,
    .prepare = prepare,
    .fit = fit,
    .predict = predict,
    .save = save,
    .load = load,
    .resume = resume,
    .free_model = free,
    .free_prepared = free_prepared,
};
