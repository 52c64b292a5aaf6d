/* Z85: what decodes encodes to the same text; what was encoded decodes to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "common/key.h"
#include "tests/fuzz/fuzz.h"

enum { LONGEST = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[LONGEST / 4 * 5 + 1], *given;
    uint8_t bytes[LONGEST], back[LONGEST];
    size_t n = size < LONGEST ? size / 4 * 4 : LONGEST;
    key_z85_encode(data, n, text);
    MUST(strlen(text) == n / 4 * 5 && key_z85_decode(text, back, n) == 0 && !memcmp(back, data, n));
    given = malloc(size + 1);
    MUST(given);
    memcpy(given, data, size);
    given[size] = 0;
    n = strlen(given) / 5 * 4;
    if (n <= LONGEST && key_z85_decode(given, bytes, n) == 0) {
        key_z85_encode(bytes, n, text);
        MUST(!strcmp(text, given));
    }
    (void)key_name_valid(given);
    free(given);
    return 0;
}
