/* ask: a subcommand that is one question to a daemon and a way to show the answer. */
#ifndef GAL_ASK_H
#define GAL_ASK_H

#include "deploy/gal/gal.h"

#include <jansson.h>

#define ASK_OPTIONS 3
extern const struct option_row ask_options[ASK_OPTIONS];

/* Parses the command line by ask_options, asks `question` and shows the answer, or prints it with --json.
 * Exit status. */
int ask_daemon(const struct command *self, int argc, char **argv, const char *question,
               void (*show)(const json_t *));

#endif
