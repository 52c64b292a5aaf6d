/* progress: a run's events for a reader: a live line on a terminal, a line per round otherwise; always
 * standard error. */
#ifndef GAL_PROGRESS_H
#define GAL_PROGRESS_H

#include <jansson.h>

void progress_event(const char *run, const json_t *event);

/* Ends a live line, so that what follows starts on a line of its own. */
void progress_end(void);

#endif
