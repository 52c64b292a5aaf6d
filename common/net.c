#include "common/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <zmq.h>

#include "common/log.h"

enum {
    EVENTS = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
             ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
             ZMQ_EVENT_HANDSHAKE_FAILED_AUTH,
    HWM = 8,
    RENEW = 1, /* second */
    LOG_UNKNOWN_KEY = 1,
    LOG_STRANGER,
    LOG_NO_IDENTITY,
    LOG_REFUSED,
    LOG_HANDSHAKE,
};

/* Draft in zmq.h, but part of the stable library: without it, and without a domain, CURVE admits every key
 * when no ZAP handler answers. The self-test shows that it works. */
#define ZAP_ENFORCE_DOMAIN 93
#define ZAP_DOMAIN         "gal"

struct connection { /* to the listener, until it is adopted or closed */
    int fd;
    char from[64];
};

struct dialled {
    void *socket, *monitor; /* NULL while waiting to dial again */
    size_t key;             /* which of the pinned keys is tried; the other one follows when it fails */
    unsigned failures;      /* of handshakes with it */
    double again, back_off; /* seconds */
    double redial;          /* the same, after connections that were replaced */
    double renew;           /* when to make the socket anew if it is not connected by then; 0: no need to */
    bool up;
};

struct net {
    struct net_conf conf;
    void *context;
    void *zap, *router, *router_monitor;
    char listening[256];
    struct net_route *route;  /* per peer of a listener; id_len 0: none */
    struct net_route *newest; /* the one adopted last, even if it is gone */
    struct dialled *dialled;  /* per peer that we dial */
    struct connection *connection;
    size_t n_connections, zap_refusals;
    bool testing, messages;
    unsigned monitors;
    uint32_t turn; /* dialled sockets take turns */
    zmq_msg_t frame[3];
    zmq_pollitem_t *items;
    struct net_event *queue; /* ups and downs not yet taken */
    size_t n_queue;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void push(struct net *n, enum net_kind kind, uint32_t peer)
{
    struct net_event *queue = reallocarray(n->queue, n->n_queue + 1, sizeof *queue);
    if (!queue)
        log_die(1, "out of memory");
    n->queue = queue;
    queue[n->n_queue++] = (struct net_event){.kind = kind, .peer = peer};
}

/* ---- sockets ---- */

static bool set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

/* What every socket that faces a network has: bounded queues, frames, handshakes and silence. */
static bool set_common(const struct net *n, void *socket)
{
    int64_t max = (int64_t)n->conf.max_frame + (64 << 10);
    int beat = n->conf.heartbeat_ms;
    return set_int(socket, ZMQ_LINGER, 0) && set_int(socket, ZMQ_SNDHWM, HWM) &&
           set_int(socket, ZMQ_RCVHWM, HWM) &&
           zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max, sizeof max) == 0 &&
           set_int(socket, ZMQ_HANDSHAKE_IVL, 2000) && set_int(socket, ZMQ_HEARTBEAT_IVL, beat) &&
           set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, 3 * beat) && set_int(socket, ZMQ_HEARTBEAT_TTL, 5 * beat) &&
           set_int(socket, ZMQ_IMMEDIATE, 1) && set_int(socket, ZMQ_RECONNECT_IVL, 100) &&
           set_int(socket, ZMQ_RECONNECT_IVL_MAX, 30000) && set_int(socket, ZMQ_CONNECT_TIMEOUT, 5000) &&
           set_int(socket, ZMQ_TCP_MAXRT, 15000) && set_int(socket, ZMQ_IPV6, 1) &&
           set_int(socket, ZMQ_BACKLOG, 1024);
}

static bool set_server(const struct net *n, void *socket)
{
    int one = 1;
    return set_common(n, socket) && set_int(socket, ZMQ_CURVE_SERVER, 1) &&
           set_int(socket, ZMQ_ROUTER_MANDATORY, 1) &&
           zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, n->conf.secret_key, NET_KEY) == 0 &&
           zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN, strlen(ZAP_DOMAIN)) == 0 &&
           zmq_setsockopt(socket, ZAP_ENFORCE_DOMAIN, &one, sizeof one) == 0;
}

static bool set_client(const struct net *n, void *socket, const uint8_t *server, const uint8_t *public_key,
                       const uint8_t *secret_key)
{
    return set_common(n, socket) && zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server, NET_KEY) == 0 &&
           zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, public_key, NET_KEY) == 0 &&
           zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secret_key, NET_KEY) == 0;
}

static void *open_monitor(struct net *n, void *socket)
{
    char address[64];
    snprintf(address, sizeof address, "inproc://monitor-%u", n->monitors++);
    void *pair = zmq_socket(n->context, ZMQ_PAIR);
    if (!pair || zmq_socket_monitor(socket, address, EVENTS) < 0 || !set_int(pair, ZMQ_LINGER, 0) ||
        zmq_connect(pair, address) < 0) {
        if (pair)
            zmq_close(pair);
        return NULL;
    }
    return pair;
}

static void close_pair(void **socket, void **monitor)
{
    if (*socket) {
        zmq_socket_monitor(*socket, NULL, 0);
        zmq_close(*socket);
    }
    if (*monitor)
        zmq_close(*monitor);
    *socket = *monitor = NULL;
}

/* One event of a monitor: its number and value; 0 if there is none. */
static unsigned monitor_event(void *monitor, int *value)
{
    uint8_t first[16];
    char endpoint[256];
    if (!monitor || zmq_recv(monitor, first, sizeof first, ZMQ_DONTWAIT) < 6)
        return 0;
    zmq_recv(monitor, endpoint, sizeof endpoint, ZMQ_DONTWAIT);
    uint16_t event;
    memcpy(&event, first, sizeof event);
    memcpy(value, first + 2, sizeof *value);
    return event;
}

/* ---- ZAP: which key may speak (RFC 27) ---- */

/* The name to which the key belongs, or NULL. Every key is compared in full, in constant time. */
static const char *key_owner(const struct net *n, const uint8_t *key)
{
    const char *owner = NULL;
    for (size_t i = 0; i < n->conf.n_peers; i++)
        for (size_t k = 0; k < n->conf.peers[i].n_keys; k++) {
            unsigned difference = 0;
            for (size_t j = 0; j < NET_KEY; j++)
                difference |= n->conf.peers[i].key[k][j] ^ key[j];
            if (!difference && !n->conf.peers[i].address)
                owner = n->conf.peers[i].name;
        }
    return owner;
}

static void zap_reply(struct net *n, const char *id, int id_len, const char *status, const char *text,
                      const char *user)
{
    zmq_send(n->zap, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(n->zap, id, (size_t)id_len, ZMQ_SNDMORE);
    zmq_send(n->zap, status, 3, ZMQ_SNDMORE);
    zmq_send(n->zap, text, strlen(text), ZMQ_SNDMORE);
    zmq_send(n->zap, user, strlen(user), ZMQ_SNDMORE);
    zmq_send(n->zap, "", 0, 0);
}

/* Answers one request: version, id, domain, address, identity, mechanism, key. False if there is none. */
static bool zap_serve(struct net *n)
{
    char part[7][256];
    int len[7] = {0}, parts = 0, more = 1;
    size_t more_size = sizeof more;
    while (more) {
        char *into = part[parts < 7 ? parts : 6];
        int got = zmq_recv(n->zap, into, 255, parts == 0 ? ZMQ_DONTWAIT : 0);
        if (got < 0)
            return false;
        len[parts < 7 ? parts : 6] = got > 255 ? 255 : got;
        into[got > 255 ? 255 : got] = 0;
        parts++;
        zmq_getsockopt(n->zap, ZMQ_RCVMORE, &more, &more_size);
    }
    bool curve = parts == 7 && len[6] == NET_KEY && !strcmp(part[2], ZAP_DOMAIN) && !strcmp(part[5], "CURVE");
    const char *owner = curve ? key_owner(n, (const uint8_t *)part[6]) : NULL;
    zap_reply(n, part[1], len[1], owner ? "200" : "400", owner ? "OK" : "unknown key", owner ? owner : "");
    if (owner || n->testing)
        return true;
    n->zap_refusals++;
    char z85[41] = "";
    if (curve)
        zmq_z85_encode(z85, (const uint8_t *)part[6], NET_KEY);
    log_limited(
        LOG_UNKNOWN_KEY,
        "refused a connection from %s: its key %s is no [peer NAME] key= here; add it if you know its owner",
        part[3], z85);
    return true;
}

/* A throw-away key must be refused before anything listens: else encryption would be all that CURVE gives. */
static const char *self_test(struct net *n)
{
    const char *bad = "the self-test could not be set up";
    char public_text[41], secret_text[41], address[256];
    uint8_t public_key[NET_KEY], secret_key[NET_KEY];
    size_t size = sizeof address;
    void *server = zmq_socket(n->context, ZMQ_ROUTER), *client = zmq_socket(n->context, ZMQ_DEALER),
         *monitor = NULL;
    n->testing = true;
    if (!server || !client || zmq_curve_keypair(public_text, secret_text) < 0 ||
        !zmq_z85_decode(public_key, public_text) || !zmq_z85_decode(secret_key, secret_text) ||
        !set_server(n, server) || !set_client(n, client, n->conf.public_key, public_key, secret_key) ||
        !(monitor = open_monitor(n, client)) || zmq_bind(server, "tcp://127.0.0.1:*") < 0 ||
        zmq_getsockopt(server, ZMQ_LAST_ENDPOINT, address, &size) < 0 || zmq_connect(client, address) < 0)
        goto out;
    bad = "the self-test did not end within 5 s";
    for (double end = now() + 5; now() < end;) {
        zmq_pollitem_t items[] = {{n->zap, 0, ZMQ_POLLIN, 0}, {monitor, 0, ZMQ_POLLIN, 0}};
        int value;
        zmq_poll(items, 2, 100);
        while (zap_serve(n))
            ;
        unsigned event = monitor_event(monitor, &value);
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
            bad = "the self-test's throw-away key was ACCEPTED: this libzmq does not authenticate";
        if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
            bad = NULL;
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED || event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
            break;
    }
out:
    n->testing = false;
    close_pair(&client, &monitor);
    if (server)
        zmq_close(server);
    return bad;
}

/* ---- listening and dialling ---- */

static int start_listening(struct net *n)
{
    size_t size = sizeof n->listening;
    n->zap = zmq_socket(n->context, ZMQ_REP);
    if (!n->zap || !set_int(n->zap, ZMQ_LINGER, 0) || zmq_bind(n->zap, "inproc://zeromq.zap.01") < 0) {
        log_error("the ZAP handler cannot be bound: %s", zmq_strerror(errno));
        return -1;
    }
    const char *bad = self_test(n);
    if (bad) {
        log_error("refusing to listen: %s", bad);
        return -1;
    }
    n->router = zmq_socket(n->context, ZMQ_ROUTER);
    if (!n->router || !set_server(n, n->router) || !(n->router_monitor = open_monitor(n, n->router))) {
        log_error("the listening socket cannot be set up: %s", zmq_strerror(errno));
        return -1;
    }
    static const char mapped[] = "tcp://[::ffff:"; /* IPv4, as a socket for both sees it */
    if (zmq_bind(n->router, n->conf.listen) < 0 ||
        zmq_getsockopt(n->router, ZMQ_LAST_ENDPOINT, n->listening, &size) < 0) {
        log_error("[listen] address = %s: %s", n->conf.listen, zmq_strerror(errno));
        return -1;
    }
    char *bracket = strchr(n->listening, ']');
    if (!strncmp(n->listening, mapped, sizeof mapped - 1) && bracket) {
        char plain[256];
        snprintf(plain, sizeof plain, "tcp://%.*s%s", (int)(bracket - n->listening - (long)sizeof mapped + 1),
                 n->listening + sizeof mapped - 1, bracket + 1);
        memcpy(n->listening, plain, sizeof plain);
    }
    return 0;
}

static void dial(struct net *n, uint32_t peer)
{
    struct dialled *d = &n->dialled[peer];
    const struct net_peer *p = &n->conf.peers[peer];
    d->socket = zmq_socket(n->context, ZMQ_DEALER);
    if (p->n_keys == 0) {
        d->again = now() + 3600;
        if (d->socket)
            zmq_close(d->socket);
        d->socket = NULL;
        return;
    }
    d->key %= p->n_keys;
    d->failures = 0;
    d->renew = 0;
    if (d->socket && set_client(n, d->socket, p->key[d->key], n->conf.public_key, n->conf.secret_key) &&
        (d->monitor = open_monitor(n, d->socket)) && zmq_connect(d->socket, p->address) == 0)
        return;
    log_error("[sponsor %s] address = %s: %s", p->name, p->address, zmq_strerror(errno));
    close_pair(&d->socket, &d->monitor);
    d->again = now() + 5;
}

struct net *net_open(const struct net_conf *conf)
{
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    struct net *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->conf = *conf;
    n->context = zmq_ctx_new();
    n->route = calloc(conf->n_peers + 1, sizeof *n->route);
    n->newest = calloc(conf->n_peers + 1, sizeof *n->newest);
    n->dialled = calloc(conf->n_peers + 1, sizeof *n->dialled);
    n->items = calloc(2 * conf->n_peers + 16, sizeof *n->items);
    for (size_t i = 0; i < 3; i++)
        zmq_msg_init(&n->frame[i]);
    if (!n->context || !n->route || !n->newest || !n->dialled || !n->items)
        goto bad;
    if (major * 10000 + minor * 100 + patch < 40304 || !zmq_has("curve")) {
        log_error("libzmq %d.%d.%d: need 4.3.4 or later, with CURVE", major, minor, patch);
        goto bad;
    }
    zmq_ctx_set(n->context, ZMQ_MAX_SOCKETS, (int)(3 * conf->n_peers + 64));
    if (conf->listen && start_listening(n) < 0)
        goto bad;
    for (uint32_t i = 0; i < conf->n_peers; i++) {
        n->dialled[i].back_off = 0.5;
        if (conf->peers[i].address)
            dial(n, i);
    }
    return n;
bad:
    net_free(n);
    return NULL;
}

void net_free(struct net *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < 3; i++)
        zmq_msg_close(&n->frame[i]);
    for (size_t i = 0; n->dialled && i < n->conf.n_peers; i++) {
        if (n->dialled[i].socket)
            set_int(n->dialled[i].socket, ZMQ_LINGER, 100); /* a goodbye may still leave */
        close_pair(&n->dialled[i].socket, &n->dialled[i].monitor);
    }
    if (n->router)
        set_int(n->router, ZMQ_LINGER, 100);
    close_pair(&n->router, &n->router_monitor);
    if (n->zap)
        zmq_close(n->zap);
    if (n->context)
        zmq_ctx_term(n->context);
    free(n->route);
    free(n->newest);
    free(n->dialled);
    free(n->connection);
    free(n->items);
    free(n->queue);
    free(n);
}

const char *net_listening(const struct net *n)
{
    return n->router ? n->listening : NULL;
}

/* ---- what the monitors tell ---- */

static void connection_opened(struct net *n, int fd)
{
    struct connection *all = reallocarray(n->connection, n->n_connections + 1, sizeof *all);
    struct sockaddr_storage a;
    socklen_t size = sizeof a;
    if (!all)
        return;
    n->connection = all;
    struct connection *c = &all[n->n_connections++];
    *c = (struct connection){.fd = fd, .from = "an unknown address"};
    if (getpeername(fd, (struct sockaddr *)&a, &size) < 0)
        return;
    const void *address = a.ss_family == AF_INET6 ? (const void *)&((struct sockaddr_in6 *)&a)->sin6_addr
                                                  : (const void *)&((struct sockaddr_in *)&a)->sin_addr;
    inet_ntop(a.ss_family, address, c->from, sizeof c->from);
}

/* Takes the connection off the list of those that have not said Hello; false if it was not there. */
static bool connection_known(struct net *n, int fd, struct connection *was)
{
    for (size_t i = 0; i < n->n_connections; i++)
        if (n->connection[i].fd == fd) {
            *was = n->connection[i];
            n->connection[i] = n->connection[--n->n_connections];
            return true;
        }
    return false;
}

static void connection_closed(struct net *n, int fd)
{
    struct connection was;
    for (uint32_t i = 0; i < n->conf.n_peers; i++)
        if (n->route[i].id_len && n->route[i].fd == fd) {
            n->route[i].id_len = 0;
            push(n, NET_DOWN, i);
        }
    if (!connection_known(n, fd, &was))
        return;
    if (n->zap_refusals) {
        n->zap_refusals--; /* logged already */
        return;
    }
    log_limited(LOG_STRANGER,
                "closed a connection from %s that did not speak ZeroMQ with CURVE (a scan, a browser, TLS?)",
                was.from);
}

static void drain_listener(struct net *n)
{
    int value;
    unsigned event;
    while ((event = monitor_event(n->router_monitor, &value))) {
        if (event == ZMQ_EVENT_ACCEPTED)
            connection_opened(n, value);
        if (event == ZMQ_EVENT_DISCONNECTED)
            connection_closed(n, value);
    }
}

/* libzmq does not dial again after a refusal by ZAP: the socket is made anew, each time a little later. */
static void dial_refused(struct net *n, uint32_t peer)
{
    struct dialled *d = &n->dialled[peer];
    close_pair(&d->socket, &d->monitor);
    d->again = now() + d->back_off;
    log_limited(
        LOG_REFUSED,
        "sponsor %s refuses this organization's key: ask its operator to add the line of your .pub file as "
        "[peer %s] key=; trying again in %.1f s",
        n->conf.peers[peer].name, "NAME", d->back_off);
    d->back_off = d->back_off < 15 ? 2 * d->back_off : 30;
}

/* libzmq dials again by itself after a loss, but never after a breach of the protocol, be it one byte that
 * changed on the way; the events do not tell which it was. */
void net_redial(struct net *n, uint32_t peer)
{
    struct dialled *d = &n->dialled[peer];
    close_pair(&d->socket, &d->monitor);
    d->up = false;
    d->redial = d->redial < 1 ? 1 : d->redial < 15 ? 2 * d->redial : 30;
    d->again = now() + d->redial;
}

static void drain_dialled(struct net *n, uint32_t peer)
{
    struct dialled *d = &n->dialled[peer];
    int value;
    unsigned event;
    while ((event = monitor_event(d->monitor, &value))) {
        if (event == ZMQ_EVENT_DISCONNECTED)
            d->renew = now() + RENEW;
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            d->up = true;
            d->back_off = 0.5;
            d->renew = 0;
            push(n, NET_UP, peer);
        } else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
            dial_refused(n, peer);
        } else if (event == ZMQ_EVENT_DISCONNECTED && d->up) {
            d->up = false;
            push(n, NET_DOWN, peer);
        } else if (event != ZMQ_EVENT_ACCEPTED) {
            if (n->conf.peers[peer].n_keys > 1 &&
                ++d->failures >= 2) { /* the sponsor may have changed to its other key */
                close_pair(&d->socket, &d->monitor);
                d->key++;
                d->again = now() + 0.1;
                return;
            }
            log_limited(LOG_HANDSHAKE,
                        "no valid handshake with sponsor %s at %s: is it a GAL sponsor, and its key the one "
                        "pinned here?",
                        n->conf.peers[peer].name, n->conf.peers[peer].address);
        }
    }
}

/* ---- waiting and receiving ---- */

int net_wait(struct net *n, struct pollfd *fds, size_t n_fds, bool messages, int timeout_ms)
{
    int count = 0;
    double first = -1;
    n->messages = messages;
    for (size_t i = 0; i < n_fds; i++)
        n->items[count++] = (zmq_pollitem_t){NULL, fds[i].fd, fds[i].events, 0};
    if (n->zap)
        n->items[count++] = (zmq_pollitem_t){n->zap, 0, ZMQ_POLLIN, 0};
    if (n->router_monitor)
        n->items[count++] = (zmq_pollitem_t){n->router_monitor, 0, ZMQ_POLLIN, 0};
    if (n->router && messages)
        n->items[count++] = (zmq_pollitem_t){n->router, 0, ZMQ_POLLIN, 0};
    for (size_t i = 0; i < n->conf.n_peers; i++) {
        struct dialled *d = &n->dialled[i];
        if (d->monitor)
            n->items[count++] = (zmq_pollitem_t){d->monitor, 0, ZMQ_POLLIN, 0};
        if (d->socket && messages)
            n->items[count++] = (zmq_pollitem_t){d->socket, 0, ZMQ_POLLIN, 0};
        double then = d->socket ? d->renew : d->again;
        if (n->conf.peers[i].address && (then > 0 || !d->socket) && (first < 0 || then < first))
            first = then;
    }
    if (first >= 0) {
        double left = first - now();
        int ms = left > 0 ? (int)(1000 * left) + 1 : 0;
        timeout_ms = timeout_ms < 0 || ms < timeout_ms ? ms : timeout_ms;
    }
    if (n->n_queue)
        timeout_ms = 0;
    if (zmq_poll(n->items, count, timeout_ms) < 0 && errno != EINTR)
        return -1;
    for (size_t i = 0; i < n_fds; i++)
        fds[i].revents = n->items[i].revents;
    for (uint32_t i = 0; i < n->conf.n_peers; i++) {
        struct dialled *d = &n->dialled[i];
        if (d->socket && d->renew > 0 && now() >= d->renew) {
            close_pair(&d->socket, &d->monitor);
            d->again = 0;
        }
        if (!d->socket && n->conf.peers[i].address && now() >= d->again)
            dial(n, i);
    }
    return 0;
}

/* Reads one whole message: its frames into n->frame, at most three; a longer one is dropped. Their number, or
 * 0. */
static int read_frames(struct net *n, void *socket)
{
    int count = 0;
    zmq_msg_t spare;
    zmq_msg_init(&spare);
    for (;;) {
        zmq_msg_t *into = count < 3 ? &n->frame[count] : &spare;
        if (zmq_msg_recv(into, socket, count ? 0 : ZMQ_DONTWAIT) < 0)
            break;
        count++;
        if (zmq_msg_more(into))
            continue;
        zmq_msg_close(&spare);
        return count;
    }
    zmq_msg_close(&spare);
    return 0;
}

static void take_frames(struct net *n, struct net_event *e, int first, int count)
{
    e->kind = NET_MESSAGE;
    e->header = zmq_msg_data(&n->frame[first]);
    e->header_len = zmq_msg_size(&n->frame[first]);
    bool payload = count > first + 1;
    e->payload = payload ? zmq_msg_data(&n->frame[first + 1]) : NULL;
    e->payload_len = payload ? zmq_msg_size(&n->frame[first + 1]) : 0;
}

/* Whether a came into being before b. libzmq numbers connections: a routing id of its own making is a zero
 * byte and a counter, big endian. Where the peer chose one, nothing is known. */
static bool older(const struct net_route *a, const struct net_route *b)
{
    uint32_t number[2] = {0};
    const struct net_route *both[2] = {a, b};
    for (size_t i = 0; i < 2; i++) {
        if (both[i]->id_len != 5 || both[i]->id[0])
            return false;
        for (size_t j = 1; j < 5; j++)
            number[i] = number[i] << 8 | both[i]->id[j];
    }
    return (int32_t)(number[0] - number[1]) < 0;
}

/* A message to the listener: routing id, header, perhaps payload. The speaker is the User-Id that ZAP gave
 * its key, read on the header frame (libzmq 4.3.4 may lose it on the first one). */
static bool next_routed(struct net *n, struct net_event *e)
{
    int count;
    while ((count = read_frames(n, n->router)) > 0) {
        size_t id_len = zmq_msg_size(&n->frame[0]);
        if (count < 2 || count > 3 || id_len > sizeof e->route.id)
            continue;
        const char *user = zmq_msg_gets(&n->frame[1], "User-Id");
        uint32_t peer = 0;
        while (user && peer < n->conf.n_peers && strcmp(user, n->conf.peers[peer].name))
            peer++;
        if (!user || peer == n->conf.n_peers) {
            log_limited(LOG_NO_IDENTITY, "dropped a message that carries no authenticated identity");
            continue;
        }
        *e = (struct net_event){.peer = peer,
                                .route = {.id_len = id_len, .fd = zmq_msg_get(&n->frame[1], ZMQ_SRCFD)}};
        memcpy(e->route.id, zmq_msg_data(&n->frame[0]), id_len);
        const struct net_route *r = &n->route[peer];
        if (older(&e->route, &n->newest[peer]))
            continue; /* was under way when the peer dialled again */
        e->current = r->id_len == id_len && id_len && !memcmp(r->id, e->route.id, id_len);
        take_frames(n, e, 1, count);
        return true;
    }
    return false;
}

static bool next_dialled(struct net *n, struct net_event *e)
{
    for (size_t i = 0; i < n->conf.n_peers; i++) {
        uint32_t peer = (uint32_t)((n->turn + i) % n->conf.n_peers);
        void *socket = n->dialled[peer].socket;
        int count = socket ? read_frames(n, socket) : 0;
        if (count < 1 || count > 2)
            continue;
        *e = (struct net_event){.peer = peer, .current = true};
        take_frames(n, e, 0, count);
        n->turn = peer + 1;
        return true;
    }
    return false;
}

int net_next(struct net *n, struct net_event *e)
{
    while (n->zap && zap_serve(n))
        ;
    if (n->router)
        drain_listener(n);
    for (uint32_t i = 0; i < n->conf.n_peers; i++)
        drain_dialled(n, i);
    if (n->n_queue) {
        *e = n->queue[0];
        memmove(n->queue, n->queue + 1, --n->n_queue * sizeof *n->queue);
        return 1;
    }
    if (!n->messages)
        return 0;
    return (n->router && next_routed(n, e)) || next_dialled(n, e);
}

void net_adopt(struct net *n, uint32_t peer, const struct net_route *route)
{
    struct connection was;
    drain_listener(n); /* an old connection with the same descriptor is closed first */
    connection_known(n, route->fd, &was);
    n->route[peer] = n->newest[peer] = *route;
}

int net_send(struct net *n, uint32_t peer, const uint8_t *header, size_t header_len, const uint8_t *payload,
             size_t payload_len)
{
    struct dialled *d = &n->dialled[peer];
    struct net_route *r = &n->route[peer];
    void *socket = n->conf.peers[peer].address ? d->socket : n->router;
    int more = ZMQ_DONTWAIT | (payload ? ZMQ_SNDMORE : 0);
    if (!socket || (socket == n->router && !r->id_len) || (d->socket && !d->up))
        return -1;
    if (socket == n->router && zmq_send(socket, r->id, r->id_len, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) {
        if (errno == EAGAIN)
            return 1;
        r->id_len = 0;
        push(n, NET_DOWN, peer);
        return -1;
    }
    if (zmq_send(socket, header, header_len, more) < 0)
        return errno == EAGAIN ? 1 : -1;
    if (payload && zmq_send(socket, payload, payload_len, ZMQ_DONTWAIT) < 0)
        return -1;
    return 0;
}
