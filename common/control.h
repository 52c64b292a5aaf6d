/* control: STATE/control.sock, by which `gal` talks to a running daemon: one JSON object per line each way,
 * for the owner's uid alone. Parses requests, answers status itself, hands the rest to the core. */
#ifndef GAL_CONTROL_H
#define GAL_CONTROL_H

#include <poll.h>

#include "common/supervise.h"

struct control;

/* Takes the state directory (one daemon at a time) and listens. NULL after saying why. */
struct control *control_open(struct supervisor *s);
void control_close(struct control *c);

/* Appends what to wait for to fds (room for `room`), and later handles what came; both return the number of
 * entries. */
size_t control_poll(struct control *c, struct pollfd *fds, size_t room);
void control_handle(struct control *c, const struct pollfd *fds, size_t n);

/* A frame from a child that is meant for `gal`: an event for all followers, or a reply. */
void control_from_child(struct control *c, const struct frame *f);

/* Tells everybody who waits for the core that it went away. */
void control_lost(struct control *c);

#endif
