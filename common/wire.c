#include "common/wire.h"

int wire_send(struct pipe *p, const uint32_t *peers, size_t n, const struct msg *m, const void *payload,
              size_t len)
{
    uint8_t header[MSG_MAX_HEADER];
    size_t header_len = msg_pack(m, header);
    if (!header_len)
        return -1;
    struct frame f = {.kind = WIRE_FRAME,
                      .n_peers = (uint32_t)n,
                      .peers = peers,
                      .header = header,
                      .header_len = (uint32_t)header_len,
                      .payload = payload,
                      .payload_len = (uint32_t)len};
    return pipe_send(p, &f);
}

int wire_send_array(struct pipe *p, const uint32_t *peers, size_t n, const struct msg *m,
                    const uint8_t *bytes)
{
    uint64_t total = shape_bytes(&m->array), chunk = m->array.chunk;
    struct msg part = {.kind = MSG_CHUNK};
    if (wire_send(p, peers, n, m, NULL, 0) < 0)
        return -1;
    for (uint64_t at = 0; at < total; at += chunk) {
        part.u.chunk.index = (uint32_t)(at / chunk);
        if (wire_send(p, peers, n, &part, bytes + at, (size_t)(total - at < chunk ? total - at : chunk)) < 0)
            return -1;
    }
    part = (struct msg){.kind = MSG_CLOSE};
    return wire_send(p, peers, n, &part, NULL, 0);
}
