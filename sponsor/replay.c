#include "sponsor/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "sponsor/step.h"

/* The answers of round t as they were captured; false if they are not there. */
static bool read_answers(struct store *s, const struct run *run, uint32_t t, struct step *step)
{
    size_t found = 0, want = run->F.n * run->K * sizeof(double);
    sqlite3_stmt *q = store_query(
        s, "SELECT organization, answer FROM captures WHERE run = ? AND round = ? ORDER BY organization",
        "ii", run->id, (int64_t)t);
    for (; q; q = store_next(s, q)) {
        size_t m = (size_t)sqlite3_column_int64(q, 0);
        if (m >= run->M || m != found++)
            break;
        step->absent[m] = sqlite3_column_type(q, 1) == SQLITE_NULL;
        if (step->absent[m])
            memset(step->f[m].a, 0, want);
        else if ((size_t)sqlite3_column_bytes(q, 1) != want)
            break;
        else
            memcpy(step->f[m].a, sqlite3_column_blob(q, 1), want);
    }
    store_done(q);
    return found == run->M;
}

int replay_run(struct store *s, struct run *run,
               void (*tell)(void *context, uint32_t t, double eta, bool same, bool opened), void *context,
               char *error, size_t size)
{
    struct step step;
    int differ = 0;
    if (step_init(&step, run) < 0)
        log_die(1, "out of memory");
    for (uint32_t t = 1; t <= run->t; t++) {
        const struct round *was = &run->round[t - 1];
        loss_residual(run->L, run->y, &run->F, &step.r);
        if (!read_answers(s, run, t, &step)) {
            snprintf(error, size,
                     "round %u of run %s was not captured: set capture = yes in [task] before training", t,
                     run->hex);
            differ = -1;
            break;
        }
        step_weights(&step, run);
        double eta = step_rate(&step, run);
        step_update(&step, run, eta);
        bool same = !memcmp(&eta, &was->rate, sizeof eta) &&
                    !memcmp(step.w, was->w, run->M * sizeof *step.w) &&
                    (t < run->t || run_same_scores(s, run));
        bool opened = run_opens(s, run, t, step.w, eta);
        differ += !same || !opened;
        tell(context, t, eta, same, opened);
    }
    step_free(&step);
    return differ;
}
