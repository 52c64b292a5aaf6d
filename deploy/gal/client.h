/* client: asks a running daemon through STATE/control.sock, one JSON object per line each way. */
#ifndef GAL_CLIENT_H
#define GAL_CLIENT_H

#include <jansson.h>
#include <stddef.h>

struct client;

/* How a command names its daemon; `word` is a configuration or a state directory. All may be NULL. */
struct where {
    const char *config, *state, *word;
};

/* The rows of an options table that fill a `struct where` member named `where`. */
#define WHERE_OPTIONS(type)                                                                                  \
    {OPTION_TEXT,                                                                                            \
     'c',                                                                                                    \
     "config",                                                                                               \
     "FILE",                                                                                                 \
     NULL,                                                                                                   \
     "the daemon's configuration",                                                                           \
     offsetof(struct type, where.config)},                                                                   \
    {                                                                                                        \
        OPTION_TEXT, 0, "state", "DIR", NULL, "or its state directory", offsetof(struct type, where.state)   \
    }

/* The state directory (free it), or NULL after one line on standard error. */
char *where_state(const struct where *w);

/* NULL with one line in `error` where no daemon answers. Free with client_close (NULL allowed). */
struct client *client_open(const char *state, char *error, size_t size);
void client_close(struct client *c);

/* Sends one request, which is released. 0, or −1 with errno. */
int client_send(struct client *c, json_t *request);

/* The next line: 1 with *answer (release it), 0 when `milliseconds` passed without a whole line or a signal
 * came, −1 with one line in `error` when the daemon closed the connection or sent what is not JSON. Negative:
 * waits for ever. */
int client_read(struct client *c, int milliseconds, json_t **answer, char *error, size_t size);

/* One request, one answer, within `milliseconds` (negative: however long it takes). NULL with one line in
 * `error`; an answer {"error":…} is such a failure. */
json_t *client_ask(const char *state, json_t *request, int milliseconds, char *error, size_t size);

/* Members of an object, with what to take where one is absent or of another type. */
const char *member_text(const json_t *object, const char *name, const char *otherwise);
double member_real(const json_t *object, const char *name, double otherwise);
json_int_t member_int(const json_t *object, const char *name, json_int_t otherwise);

#endif
