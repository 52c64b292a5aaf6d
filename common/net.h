/* net: encrypted sockets between organizations. The only room with zmq.h. A sponsor listens, an assistor
 * dials out; who speaks is the CURVE key that ZAP authenticated, never a name or a routing id that the peer
 * chose. Knows frames, not their meaning. */
#ifndef GAL_NET_H
#define GAL_NET_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_KEY 32

struct net_peer {
    const char *name;
    uint8_t key[2][NET_KEY]; /* two while rotating */
    size_t n_keys;
    const char *address; /* NULL: it dials us */
};

struct net_conf {
    const char *listen; /* address, or NULL */
    const uint8_t *public_key, *secret_key;
    const struct net_peer *peers; /* must outlive the net; peers are named by their index here */
    size_t n_peers;
    int heartbeat_ms; /* sent this often; a peer silent for three of them is gone */
    size_t max_frame; /* bytes of the longest payload frame */
};

/* One connection of a peer. */
struct net_route {
    uint8_t id[8];
    size_t id_len;
    int fd;
};

enum net_kind { NET_MESSAGE, NET_UP, NET_DOWN };

struct net_event {
    enum net_kind kind;
    uint32_t peer;
    struct net_route route; /* NET_MESSAGE to a listener: the connection it came by */
    bool current;           /* … is the adopted one */
    const uint8_t *header, *payload;
    size_t header_len, payload_len;
};

struct net;

/* Opens the sockets. A listener first binds its ZAP handler and proves to itself that a throw-away key is
 * refused. NULL after logging one line. */
struct net *net_open(const struct net_conf *conf);
void net_free(struct net *n);

/* Where the listener listens ("tcp://127.0.0.1:5570"), or NULL. */
const char *net_listening(const struct net *n);

/* Waits until something happens on a socket or on one of the descriptors (revents as poll's), at most
 * timeout_ms (−1: for ever). With messages = false, messages stay where they are (back-pressure). 0, or −1
 * with errno. */
int net_wait(struct net *n, struct pollfd *fds, size_t n_fds, bool messages, int timeout_ms);

/* The next event: 1 and *e, whose pointers hold until the next call; 0 if there is none. */
int net_next(struct net *n, struct net_event *e);

/* From now on the peer is reached by, and heard on, this connection alone. */
void net_adopt(struct net *n, uint32_t peer, const struct net_route *route);

/* Closes the connection to a peer that we dial, and dials again a little later, each time later. */
void net_redial(struct net *n, uint32_t peer);

/* Sends one message of one or two frames (payload NULL: one). 0; 1 when the peer's queue is full: try again
 * later; −1 when the peer is not connected. */
int net_send(struct net *n, uint32_t peer, const uint8_t *header, size_t header_len, const uint8_t *payload,
             size_t payload_len);

#endif
