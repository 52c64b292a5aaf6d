/* trace_replay: asks a sponsor's daemon to compute a captured run once more and to open its commitments. */
#include "deploy/gal/trace.h"

#include "common/log.h"
#include "deploy/gal/client.h"
#include "deploy/gal/gal.h"

#include <stdio.h>
#include <stdlib.h>

static void show(const json_t *answer)
{
    size_t i;
    json_t *one;
    printf("%5s  %22s  %-24s  %s\n", "round", "rate", "w, rate and F again", "commitment");
    json_array_foreach(json_object_get(answer, "rounds"), i, one) printf(
        "%5lld  %22.17g  %-24s  %s\n", (long long)member_int(one, "round", 0), member_real(one, "rate", 0),
        json_is_true(json_object_get(one, "same")) ? "bit for bit" : "DIFFERENT",
        json_is_true(json_object_get(one, "opened")) ? "opened" : "DOES NOT OPEN");
}

int trace_replay(const struct where *where, const char *run, bool json)
{
    char error[1024], *state = where_state(where);
    if (!state)
        return GAL_USAGE;
    json_t *answer =
        client_ask(state, json_pack("{s:s, s:s}", "cmd", "replay", "run", run), -1, error, sizeof error);
    free(state);
    if (!answer) {
        log_error("%s", error);
        return GAL_FAILED;
    }
    if (json) {
        json_dumpf(answer, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
        putchar('\n');
    } else {
        show(answer);
    }
    json_int_t differ = member_int(answer, "differ", 1);
    if (differ)
        log_error("%lld rounds are not what was recorded", (long long)differ);
    json_decref(answer);
    return differ ? GAL_FAILED : GAL_DONE;
}
