/* The reader of traces in deploy/gal, beside the link's writer: both have a trace_free. */
#define trace_free gal_trace_free
#include "deploy/gal/trace_read.c"
#include "deploy/gal/trace_verify.c"

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/gal_trace.h"

bool gal_trace_verify(const char *path, size_t *lines)
{
    struct trace t;
    char error[512] = "";
    size_t shared;
    bool good = trace_read(&t, path, error, sizeof error) == 0 && trace_verify(&t, error, sizeof error) == 0;
    MUST(good == !*error);
    *lines = t.n;
    for (size_t i = 0; good && i < t.n; i++)
        (void)(trace_outward(&t.line[i]) + trace_local(&t.line[i]));
    if (good && !trace_compare(&t, &t, &shared, error, sizeof error))
        MUST(shared > 0);
    trace_free(&t);
    return good;
}

bool gal_trace_compare(const char *a, const char *b, size_t *shared)
{
    struct trace ta = {0}, tb = {0};
    char error[512] = "";
    *shared = 0;
    bool good = trace_read(&ta, a, error, sizeof error) == 0 &&
                trace_read(&tb, b, error, sizeof error) == 0 &&
                trace_compare(&ta, &tb, shared, error, sizeof error) == 0;
    MUST(good == !*error);
    trace_free(&ta);
    trace_free(&tb);
    return good;
}
