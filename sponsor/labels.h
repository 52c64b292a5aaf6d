/* labels: the target of the labelled rows, and which of the common rows they are. Read from the sponsor's own
 * files; nothing here is ever sent. */
#ifndef GAL_LABELS_H
#define GAL_LABELS_H

#include <stdint.h>

#include "common/conf.h"
#include "sponsor/loss.h"

struct labels {
    enum task_kind kind;
    size_t n;          /* labelled rows */
    double *y;         /* the value; for classes their number 0…n_classes−1 */
    uint32_t *row;     /* n distinct positions among the common rows, ascending */
    uint32_t common;   /* rows of the sponsor's table: positions 0…common−1 */
    const char **id;   /* of each common row, or NULL where there is no id column */
    char **class_name; /* sorted: as numbers if all are numbers, else by byte; NULL for numbers and counts */
    size_t n_classes;
    char *id_text;   /* what id points into */
    uint32_t *by_id; /* positions ordered by id */
};

/* Reads [labels] and the id column of [data]; labels are joined to rows by id where both name an id column,
 * else by position. 0, or −1 with one line in `error`. */
int labels_read(const struct conf *c, enum task_kind kind, struct labels *l, char *error, size_t size);
void labels_free(struct labels *l);

/* Outputs K of the task: the number of classes where there are more than two, else 1. */
uint32_t labels_outputs(const struct labels *l);

/* Position of the row with that id, or −1. */
int64_t labels_find(const struct labels *l, const char *id);

/* A label as text to its value, by the same classes; false if it is none. */
bool labels_value(const struct labels *l, const char *text, double *y);

#endif
