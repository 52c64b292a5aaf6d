/* A stored preparation: what loads is stored again as the same bytes, and what it makes of a table is finite.
 */
#include <stdlib.h>
#include <string.h>

#include "assistor/features.h"
#include "tests/fuzz/fuzz.h"

static const char csv[] =
    "id,age,town,x\n1,30,Ulm,0.5\n2,,Bonn,1e300\n3,41,Ulm,-1e300\n4,55,,2\n5,29,Kiel,3\n";

static struct table *table(void)
{
    static struct table *t;
    char error[256];
    if (!t) {
        fuzz_file(csv, sizeof csv - 1);
        t = table_open(fuzz_path(), error, sizeof error);
    }
    MUST(t);
    return t;
}

/* A file for the corpus: what was fitted here loads. */
static void fitted(void)
{
    static const uint32_t rows[] = {0, 1, 2, 3};
    char error[256];
    size_t size;
    struct features *f = features_fit(table(), NULL, "id,x", rows, 4, error, sizeof error);
    uint8_t *bytes = f ? features_save(f, &size) : NULL;
    MUST(bytes);
    struct features *g = features_load(bytes, size);
    MUST(g && features_width(g) == features_width(f));
    features_free(f);
    features_free(g);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool begun;
    static const uint32_t rows[] = {4, 0, 1, 2, 3, 0};
    char error[256] = "";
    size_t saved;
    struct mat X;
    if (!begun)
        fitted();
    begun = true;
    struct features *f = features_load(data, size);
    if (!f)
        return 0;
    uint8_t *bytes = features_save(f, &saved);
    MUST(bytes && saved == size && !memcmp(bytes, data, size));
    free(bytes);
    if (features_apply(f, table(), rows, 6, &X, error, sizeof error) == 0) {
        MUST(X.n == 6 && X.k == features_width(f) && mat_nonfinite(X.a, X.n * X.k) < 0);
        mat_free(&X);
    } else {
        MUST(*error && !X.a);
    }
    features_free(f);
    return 0;
}
