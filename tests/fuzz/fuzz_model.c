/* A stored model: what loads is stored again as the same bytes, and predicts on its own width alone. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "assistor/model.h"
#include "common/bytes.h"
#include "tests/fuzz/fuzz.h"

enum { ROWS = 3, VALUES = 1 << 16 };

static void predict(const struct model_kind *kind, const void *model, uint32_t d, uint32_t k)
{
    struct mat X, f, wider;
    MUST(!mat_init(&X, ROWS, d) && !mat_init(&f, ROWS, k) && !mat_init(&wider, ROWS, (size_t)d + 1));
    for (size_t i = 0; i < X.n * X.k; i++)
        X.a[i] = (double)i / 8 - 1;
    MUST(kind->predict(model, &X, &f) == 0);
    errno = 0;
    MUST(kind->predict(model, &wider, &f) < 0 && errno == EINVAL);
    f.k++;
    MUST(kind->predict(model, &X, &f) < 0);
    mat_free(&X);
    mat_free(&f);
    mat_free(&wider);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct model_kind *kind = model_find("linear");
    size_t saved;
    MUST(kind && !model_find("none") && *model_names());
    void *model = kind->load(data, size);
    if (!model)
        return 0;
    uint8_t *bytes = kind->save(model, &saved);
    MUST(bytes && saved == size && !memcmp(bytes, data, size));
    struct bytes_in in = {bytes + 8, bytes + saved, false};
    uint32_t d = bytes_u32(&in), k = bytes_u32(&in);
    if ((uint64_t)d * ROWS < VALUES && (uint64_t)k * ROWS < VALUES)
        predict(kind, model, d, k);
    free(bytes);
    kind->free_model(model);
    return 0;
}
