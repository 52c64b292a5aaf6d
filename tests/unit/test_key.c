/* key: Z85 against ZeroMQ RFC 32's published vector, key files and what is refused of them. */
#include "common/key.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/test_key.XXXXXX";

static void z85_vector(void **state)
{
    (void)state;
    static const uint8_t bytes[8] = {0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B};
    char text[11];
    uint8_t back[8];
    key_z85_encode(bytes, 8, text);
    assert_string_equal(text, "HelloWorld");
    assert_int_equal(key_z85_decode("HelloWorld", back, 8), 0);
    assert_memory_equal(back, bytes, 8);
}

static void z85_round_trip(void **state)
{
    (void)state;
    uint8_t bytes[KEY_BYTES], back[KEY_BYTES];
    char text[KEY_TEXT];
    for (int i = 0; i < 1000; i++) {
        randombytes_buf(bytes, sizeof bytes);
        key_z85_encode(bytes, KEY_BYTES, text);
        assert_int_equal(strlen(text), KEY_TEXT - 1);
        assert_int_equal(key_z85_decode(text, back, KEY_BYTES), 0);
        assert_memory_equal(back, bytes, KEY_BYTES);
    }
}

static void z85_refusals(void **state)
{
    (void)state;
    uint8_t back[4];
    assert_int_equal(key_z85_decode("%nSc0", back, 4), 0); /* 2^32 − 1 */
    assert_memory_equal(back, "\xff\xff\xff\xff", 4);
    assert_int_equal(key_z85_decode("%nSc1", back, 4), -1); /* 2^32 */
    assert_int_equal(key_z85_decode("#####", back, 4), -1);
    assert_int_equal(key_z85_decode("0000", back, 4), -1);
    assert_int_equal(key_z85_decode("000000", back, 4), -1);
    for (int c = 1; c < 256; c++) {
        char text[6] = {'0', '0', (char)c, '0', '0', '\0'};
        bool known =
            c < 128 && (strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", c) ||
                        strchr(".-:+=^!/*?&<>()[]{}@%$#", c));
        assert_int_equal(key_z85_decode(text, back, 4), known ? 0 : -1);
    }
}

static void names(void **state)
{
    (void)state;
    char longest[42];
    memset(longest, 'x', 41);
    longest[41] = '\0';
    assert_false(key_name_valid(longest));
    longest[40] = '\0';
    assert_true(key_name_valid(longest));
    assert_true(key_name_valid("St.Mary-2_b"));
    static const char *const bad[] = {"", ".", "..", "a/b", "a b", "a\n", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(key_name_valid(bad[i]));
}

static void generate_and_load(void **state)
{
    (void)state;
    char public[KEY_TEXT], again[KEY_TEXT], path[64], line[KEY_TEXT + 1], error[256] = "";
    struct stat st;
    assert_int_equal(key_generate(dir, "clinic", public, error, sizeof error), 0);
    snprintf(path, sizeof path, "%s/clinic.key", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    int fd = open(path, O_RDONLY);
    char skip[5];
    assert_int_equal(read(fd, skip, sizeof skip), 5); /* key_load must not mind where fd stands */
    struct key *key = key_load(fd, path, error, sizeof error);
    close(fd);
    assert_non_null(key);
    assert_string_equal(key_name(key), "clinic");
    key_z85_encode(key_public(key), KEY_BYTES, again);
    assert_string_equal(again, public);
    uint8_t derived[KEY_BYTES];
    crypto_scalarmult_base(derived, key_secret(key));
    assert_memory_equal(derived, key_public(key), KEY_BYTES);
    key_free(key);

    snprintf(path, sizeof path, "%s/clinic.pub", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    line[KEY_TEXT - 1] = '\0';
    assert_string_equal(line, public);

    assert_int_equal(key_generate(dir, "clinic", again, error, sizeof error), -1);
    assert_non_null(strstr(error, "clinic.key: is there already"));
}

static void refuse(const char *text, size_t n, mode_t mode, const char *expected)
{
    char path[64], error[256] = "";
    snprintf(path, sizeof path, "%s/bad.key", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, text, n), (ssize_t)n);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_null(key_load(fd, "bad.key", error, sizeof error));
    close(fd);
    unlink(path);
    assert_string_equal(error, expected);
}

#define KEY39 "012345678901234567890123456789012345678"
static void file_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"gal-key-v1\nclinic\n" KEY39 "\n", "bad.key:3: 39 characters, need 40"},
        {"gal-key-v1\nclinic\n" KEY39 "~\n", "bad.key:3: not a key in Z85"},
        {"gal-key-v2\nclinic\n" KEY39 "0\n",
         "bad.key:1: need \"gal-key-v1\": not a key file of this version"},
        {"gal-key-v1\na b\n" KEY39 "0\n",
         "bad.key:2: no name: letters, digits, '_', '.' and '-', at most 40"},
        {"gal-key-v1\nclinic\n" KEY39 "0",
         "bad.key:3: the file ends here, need 3 lines that each end with a newline"},
        {"", "bad.key:1: the file ends here, need 3 lines that each end with a newline"},
        {"gal-key-v1\nclinic\n" KEY39 "0\n\n", "bad.key:4: unexpected line, need 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(cases[i].text, strlen(cases[i].text), 0600, cases[i].expected);
    refuse("gal-key-v1\nx\0y\n", 15, 0600, "bad.key: byte 13 is 0: not a key file");
    refuse("", 0, 0644, "bad.key: mode 0644, need 0600: chmod 600 bad.key");
    refuse("", 0, 0640, "bad.key: mode 0640, need 0600: chmod 600 bad.key");
    char large[300] = "";
    refuse(large, sizeof large, 0600, "bad.key: 300 bytes: not a key file");
}

static void not_a_file(void **state)
{
    (void)state;
    char error[256] = "";
    int fd = open(dir, O_RDONLY);
    assert_null(key_load(fd, "dir", error, sizeof error));
    close(fd);
    assert_string_equal(error, "dir: is not a regular file");
    key_free(NULL);
}

static int clean(void **state)
{
    (void)state;
    static const char *const files[] = {"clinic.key", "clinic.pub"};
    for (size_t i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(z85_vector), cmocka_unit_test(z85_round_trip),    cmocka_unit_test(z85_refusals),
        cmocka_unit_test(names),      cmocka_unit_test(generate_and_load), cmocka_unit_test(file_refusals),
        cmocka_unit_test(not_a_file),
    };
    if (sodium_init() < 0 || !mkdtemp(dir))
        return 1;
    return cmocka_run_group_tests(tests, NULL, clean);
}
