/* A Header: what unpacks must pack, and unpack again to the same. */
#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t first[MSG_MAX_HEADER], second[MSG_MAX_HEADER];
    struct msg m, again;
    if (msg_unpack(data, size, &m))
        return 0;
    MUST(*msg_name(m.kind) != '?');
    char hex[2 * RUN_BYTES + 1];
    msg_run_hex(m.run, hex);
    MUST(strlen(hex) == 2 * RUN_BYTES);
    if (msg_is_transfer(m.kind))
        MUST(shape_bytes(&m.array) <= (uint64_t)shape_chunks(&m.array) * m.array.chunk);
    size_t n = msg_pack(&m, first);
    MUST(n > 0);
    MUST(!msg_unpack(first, n, &again));
    MUST(again.kind == m.kind && msg_pack(&again, second) == n && !memcmp(first, second, n));
    return 0;
}
