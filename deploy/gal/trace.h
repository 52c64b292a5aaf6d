/* trace: a trace.jsonl as gal-link writes it, one line per message or transfer. Reads what the files say and
 * judges them; the values themselves are in no trace. */
#ifndef GAL_TRACE_H
#define GAL_TRACE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct trace_line {
    char *text; /* without its newline */
    size_t length;
    json_t *json; /* owns the strings below */
    const char *time, *dir, *peer, *kind, *run, *dtype, *digest, *head;
    unsigned round, rows, cols;
    double bytes, wire;
    bool repeat;
};

struct trace {
    const char *path;
    struct trace_line *line; /* line[i] is line i + 1 of the file */
    size_t n;
    bool cut; /* the last line has no newline yet and was left out */
};

/* Reads a whole file. 0, or −1 with one line "FILE:LINE: …" in `error`. Free with trace_free either way. */
int trace_read(struct trace *t, const char *path, char *error, size_t size);
void trace_free(struct trace *t);

/* Reads one line's text into l->json and the members; NULL or what is wrong with it. `text` stays the
 * caller's. */
const char *trace_parse(struct trace_line *l, const char *text, size_t length);
void trace_line_free(struct trace_line *l);

bool trace_outward(const struct trace_line *l); /* out or local-out */
bool trace_local(const struct trace_line *l);   /* to or from this organization's own worker */

/* Recomputes a file's chain and the heads in it. 0, or −1 with one line in `error`. */
int trace_verify(const struct trace *t, char *error, size_t size);

/* Do two organizations' files tell the same of the runs they share? `shared` receives the number of such
 * exchanges. 0, or −1 with the first difference in `error`. */
int trace_compare(const struct trace *a, const struct trace *b, size_t *shared, char *error, size_t size);

/* Draws one round on standard output; round 0: the first whole one. 0, or −1 with one line in `error`. */
int trace_diagram(const struct trace *t, unsigned round, char *error, size_t size);

struct where;

/* Shows whether the sponsor's daemon, asked to compute that run once more, gets what it recorded. Exit
 * status. */
int trace_replay(const struct where *where, const char *run, bool json);

#endif
