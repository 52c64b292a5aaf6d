/* trace_diagram: one round as a sequence diagram in plain characters: this host on the left, a lane per peer.
 */
#include "deploy/gal/trace.h"

#include "deploy/gal/gal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN 5  /* column of this host's lane */
#define FIRST  44 /* from there to the first peer's lane: room for an arrow's text */
#define NEXT   12 /* from a peer's lane to the next */
#define LANES  256

struct lanes {
    const char *peer[LANES];
    size_t n;
};

static size_t lane_of(struct lanes *lanes, const char *peer)
{
    size_t i = 0;
    while (i < lanes->n && strcmp(lanes->peer[i], peer))
        i++;
    if (i == lanes->n && lanes->n < LANES)
        lanes->peer[lanes->n++] = peer;
    return i;
}

static bool belongs(const struct trace_line *l, const char *run, unsigned round)
{
    return !strcmp(l->run, run) && l->round == round && strcmp(l->dir, "note") &&
           (!strcmp(l->kind, "Fit") || !strcmp(l->kind, "Fitted") || !strcmp(l->kind, "Settle"));
}

/* A Settle closes a round: the first one names the first whole round, or the round asked for. */
static const struct trace_line *find_round(const struct trace *t, unsigned round)
{
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->line[i].kind, "Settle") && (!round || t->line[i].round == round))
            return &t->line[i];
    for (size_t i = 0; round && i < t->n; i++)
        if (!strcmp(t->line[i].kind, "Fit") && t->line[i].round == round)
            return &t->line[i];
    return NULL;
}

static size_t column(size_t lane)
{
    return MARGIN + FIRST + lane * NEXT;
}

static void draw_names(const struct lanes *lanes)
{
    printf("%-*s", MARGIN + FIRST - 3, " this host");
    for (size_t i = 0; i < lanes->n; i++)
        printf("%-*.*s", NEXT, NEXT - 1, lanes->peer[i]);
    putchar('\n');
}

static void draw_arrow(const struct lanes *lanes, size_t lane, const struct trace_line *l)
{
    char row[MARGIN + FIRST + LANES * NEXT + 2], text[64], size[16];
    size_t end = column(lanes->n - 1) + 1;
    memset(row, ' ', end);
    memset(row + MARGIN + 1, '-', column(lane) - MARGIN - 1);
    row[MARGIN] = '|';
    for (size_t i = 0; i < lanes->n; i++)
        row[column(i)] = '|';
    int n = snprintf(text, sizeof text, " %.16s %ux%u %.8s, %s%s ", l->kind, l->rows, l->cols, l->dtype,
                     human_bytes(l->bytes, size), l->repeat ? ", again" : "");
    if (l->rows == 0)
        n = snprintf(text, sizeof text, " %.16s%s ", l->kind, l->repeat ? ", again" : "");
    memcpy(row + MARGIN + 4, text, (size_t)n < FIRST - 6 ? (size_t)n : FIRST - 6);
    if (trace_outward(l))
        row[column(lane) - 1] = '>';
    else
        row[MARGIN + 1] = '<';
    printf("%.*s\n", (int)end, row);
}

int trace_diagram(const struct trace *t, unsigned round, char *error, size_t size)
{
    struct lanes *lanes = must_alloc(1, sizeof *lanes);
    const struct trace_line *found = find_round(t, round);
    int result = -1;
    if (!found) {
        snprintf(error, size, round ? "%s: no round %u in it" : "%s: no whole round in it", t->path, round);
        goto out;
    }
    for (size_t i = 0; i < t->n; i++)
        if (belongs(&t->line[i], found->run, found->round))
            lane_of(lanes, t->line[i].peer);
    printf("round %u of run %.8s as this host saw it\n\n", found->round, found->run);
    draw_names(lanes);
    for (size_t i = 0; i < t->n; i++) {
        const struct trace_line *l = &t->line[i];
        size_t lane = belongs(l, found->run, found->round) ? lane_of(lanes, l->peer) : LANES;
        if (lane < lanes->n)
            draw_arrow(lanes, lane, l);
    }
    puts("\nFit: the residual, one row per training example. Fitted: the model's values on those rows.\n"
         "Settle: the round counts, or not. Features, labels and models have no message of their own.");
    result = 0;
out:
    free(lanes);
    return result;
}
