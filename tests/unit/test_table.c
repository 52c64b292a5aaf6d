/* test_table: what a CSV file becomes. The csv-spectrum and Latin-1 files are those of
 * github.com/max-mapper/csv-spectrum and CharlesNepote/CSV-test-files, byte for byte; numbers are compared
 * with strtod, which glibc rounds correctly. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "common/number.h"
#include "common/table.h"

static char folder[] = "/tmp/test_table.XXXXXX";
static char path[64], error[512];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/t.csv", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static struct table *open_bytes(const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    memset(error, 0, sizeof error);
    return table_open(path, error, sizeof error);
}

static struct table *open_text(const char *text)
{
    return open_bytes(text, strlen(text));
}

/* `rows` holds rows·cols cells, row by row; both ways of asking must agree with it. */
static void expect(const char *file, size_t rows, size_t cols, const char *const *names,
                   const char *const *cells)
{
    struct table *t = open_text(file);

    if (!t)
        fail_msg("%s", error);
    assert_int_equal(table_rows(t), rows);
    assert_int_equal(table_cols(t), cols);
    for (size_t j = 0; j < cols; j++) {
        assert_string_equal(table_name(t, j), names[j]);
        assert_int_equal(table_find(t, names[j]), j);
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            assert_string_equal(table_text(t, i, j), cells[i * cols + j]);
            assert_string_equal(table_record(t, i)[j], cells[i * cols + j]);
        }
    table_free(t);
}

#define ROW (const char *const[])

static void csv_spectrum(void **state)
{
    (void)state;
    expect("first,last,address,city,zip\nJohn,Doe,120 any st.,\"Anytown, WW\",08123", 1, 5,
           ROW{"first", "last", "address", "city", "zip"},
           ROW{"John", "Doe", "120 any st.", "Anytown, WW", "08123"});
    expect("a,b,c\n1,\"\",\"\"\n2,3,4", 2, 3, ROW{"a", "b", "c"}, ROW{"1", "", "", "2", "3", "4"});
    expect("a,b,c\r\n1,\"\",\"\"\r\n2,3,4", 2, 3, ROW{"a", "b", "c"}, ROW{"1", "", "", "2", "3", "4"});
    expect("a,b\n1,\"ha \"\"ha\"\" ha\"\n3,4\n", 2, 2, ROW{"a", "b"}, ROW{"1", "ha \"ha\" ha", "3", "4"});
    expect("key,val\n1,\"{\"\"type\"\": \"\"Point\"\", \"\"coordinates\"\": [102.0, 0.5]}\"\n", 1, 2,
           ROW{"key", "val"}, ROW{"1", "{\"type\": \"Point\", \"coordinates\": [102.0, 0.5]}"});
    expect("a,b,c\n1,2,3\n\"Once upon \na time\",5,6\n7,8,9\n", 3, 3, ROW{"a", "b", "c"},
           ROW{"1", "2", "3", "Once upon \na time", "5", "6", "7", "8", "9"});
    expect("a,b,c\r\n1,2,3\r\n\"Once upon \r\na time\",5,6\r\n7,8,9\r\n", 3, 3, ROW{"a", "b", "c"},
           ROW{"1", "2", "3", "Once upon \r\na time", "5", "6", "7", "8", "9"});
    expect("a,b\n1,\"ha \n\"\"ha\"\" \nha\"\n3,4\n", 2, 2, ROW{"a", "b"},
           ROW{"1", "ha \n\"ha\" \nha", "3", "4"});
    expect("a,b,c\n1,2,3\n4,5,\xca\xa4", 2, 3, ROW{"a", "b", "c"}, ROW{"1", "2", "3", "4", "5", "\xca\xa4"});
}

static void other_layouts(void **state)
{
    (void)state;
    expect("\xef\xbb\xbf"
           "a;b\r1,5;x\r",
           1, 2, ROW{"a", "b"}, ROW{"1,5", "x"});
    expect("a\tb\n\t \n1\t2\n\n \n\r\n", 2, 2, ROW{"a", "b"}, ROW{"", "", "1", "2"});
    expect("\n\na , \" b \"\n\n x y ,\t? \n", 1, 2, ROW{"a", "b"}, ROW{"x y", ""});
    expect("first_name,age\r\nJos\xe9,46\r\n", 1, 2, ROW{"first_name", "age"}, ROW{"Jos\xe9", "46"});
    expect("1,2,?\n3,4,NA\n", 2, 3, ROW{"0", "1", "2"}, ROW{"1", "2", "", "3", "4", ""});
    expect(",b\n1,2\n", 1, 2, ROW{"0", "b"}, ROW{"1", "2"});
    expect("a,b\nn/A,nULL\nNaN,nan.\n5' 3\",\"\"\n", 3, 2, ROW{"a", "b"},
           ROW{"", "", "", "nan.", "5' 3\"", ""});
}

static void columns_are_numbers_when_all_cells_are(void **state)
{
    (void)state;
    struct table *t = open_text("id,x,y,empty\n1,\"2.5\", -1e3 ,\n2,NA,.5,?\n3,+7.,1e-400,\n4,0,word,\n");

    assert_non_null(t);
    assert_true(table_numeric(t, 0));
    assert_true(table_numeric(t, 1));
    assert_false(table_numeric(t, 2));
    assert_true(table_numeric(t, 3));
    const double *x = table_numbers(t, 1, error, sizeof error);
    assert_true(x[0] == 2.5 && isnan(x[1]) && x[2] == 7 && x[3] == 0);
    x = table_numbers(t, 3, error, sizeof error);
    assert_true(isnan(x[0]) && isnan(x[3]));
    /* the words of a column that became text late */
    assert_string_equal(table_text(t, 0, 2), "-1e3");
    assert_string_equal(table_text(t, 3, 2), "word");
    assert_null(table_numbers(t, 2, error, sizeof error));
    assert_non_null(strstr(error, "t.csv:5: column \"y\": word is not a number; "));
    assert_int_equal(table_find(t, "Id"), -1);
    table_free(t);
}

static void late_words_in_many_rows(void **state)
{
    (void)state;
    char *text = malloc(400000), *p = text;
    p += sprintf(p, "a,b,c\n");
    for (int i = 0; i < 10000; i++)
        p += sprintf(p, i == 9000 ? "%d,\"x%d\n\",%d\n" : i == 5000 ? "%d,%d,z%d\n" : "%d,%d,%d\n", i, i, i);
    struct table *t = open_text(text);
    assert_non_null(t);
    assert_true(table_numeric(t, 0));
    assert_string_equal(table_text(t, 77, 1), "77");
    assert_string_equal(table_text(t, 9000, 1), "x9000\n");
    assert_string_equal(table_text(t, 5000, 2), "z5000");
    assert_string_equal(table_text(t, 9999, 2), "9999");
    assert_string_equal(table_text(t, 9999, 0), "9999");
    assert_string_equal(table_record(t, 9999)[0], "9999");
    assert_string_equal(table_record(t, 130)[2], "130");
    assert_string_equal(table_record(t, 131)[1], "131");
    assert_int_equal(table_line(t, 0), 2);
    assert_int_equal(table_line(t, 9000), 9002);
    assert_int_equal(table_line(t, 9001), 9004); /* a line end inside quotes counts */
    table_free(t);
    free(text);
}

static void infinite_cells_are_refused_when_used_as_numbers(void **state)
{
    (void)state;
    static const char *const words[] = {"inf", "-Infinity", "+INF", "1e400", "-1e999999999999"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char text[100], want[100];
        snprintf(text, sizeof text, "a,b\n1,2\n1,%s\n1,inf\n", words[i]);
        snprintf(want, sizeof want, "t.csv:3: column \"b\": %s is not a finite number; ", words[i]);
        struct table *t = open_text(text);
        assert_non_null(t);
        assert_true(table_numeric(t, 1));
        assert_null(table_numbers(t, 1, error, sizeof error));
        assert_non_null(strstr(error, want));
        table_free(t);
    }
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line;
    } bad[] = {
        {"", ":1: the file is empty; a table needs a header and rows"},
        {"\xef\xbb\xbf\r\n", ":1: the file is empty; a table needs a header and rows"},
        {"a,b\n", ":2: a header and no rows"},
        {"a,b,c\n1,2,3\n1,2\n",
         ":3: 2 fields, the header has 3: quote the fields that contain ',', or mend the line"},
        {"1;2\n3\n", ":2: 1 field, the first row has 2: quote the fields that contain ';', or mend the line"},
        {"a\tb\n1\t2\t3\n",
         ":2: 3 fields, the header has 2: quote the fields that contain 'TAB', or mend the line"},
        {"a,b,a\n1,2,3\n", ":1: two columns are named \"a\"; rename one, or write a header if this is a row"},
        {"a,b\n1,\"2\n3,4\n",
         ":2: a quote is opened here and never closed; close it, or double a quote inside a field"},
        {"a,b\n\"1\"2,3\n", ":2: text after a closing quote; double the quotes inside a field"},
        {"a\n1\n\n2\n", ":3: a blank line between rows; write NA for a missing value"},
        {"1.0 2.0 3e5\n1 2 3\n", ":1: numbers separated by blanks; separate them by commas"},
        {"\"a\nb\",\"a\nb\"\n1,2\n",
         ":1: two columns are named \"a?b\"; rename one, or write a header if this is a row"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(open_text(bad[i].text));
        assert_memory_equal(error, path, strlen(path));
        assert_string_equal(error + strlen(path), bad[i].line);
    }
    assert_null(open_bytes("a,b\n1,\0\n", 8));
    assert_non_null(strstr(error, ":2: a NUL byte: this is not CSV text"));
    assert_null(table_open(folder, error, sizeof error));
    assert_non_null(strstr(error, ": not a file; give the path of a CSV file"));
    assert_null(table_open("/nonexistent", error, sizeof error));
    assert_string_equal(error, "/nonexistent: No such file or directory; check the path");
}

static void write_gz(const char *text)
{
    gzFile gz = gzopen(path, "wb9");

    assert_non_null(gz);
    assert_int_equal(gzwrite(gz, text, (unsigned)strlen(text)), strlen(text));
    assert_int_equal(gzclose(gz), Z_OK);
}

static void gzip_is_recognised_by_its_bytes(void **state)
{
    (void)state;
    write_gz("a,b\n1,2\n3,x\n");
    struct table *t = table_open(path, error, sizeof error);
    assert_non_null(t);
    assert_int_equal(table_rows(t), 2);
    assert_string_equal(table_text(t, 1, 1), "x");
    table_free(t);
    assert_int_equal(truncate(path, 20), 0);
    assert_null(table_open(path, error, sizeof error));
    assert_non_null(
        strstr(error, "t.csv: cannot be inflated: unexpected end of file; is the gzip file whole?"));
}

static void write_number(char *text, size_t size, int form, double x)
{
    static const struct {
        int digits;
        bool fixed;
    } forms[] = {{17, false}, {16, false}, {19, true}, {6, true}, {20, false}, {3, false}};

    if (forms[form].fixed)
        snprintf(text, size, "%.*f", forms[form].digits, x);
    else
        snprintf(text, size, "%.*g", forms[form].digits, x);
}

static void numbers_round_as_strtod_does(void **state)
{
    (void)state;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    uint64_t seed = 1;
    char text[64];

    for (int i = 0; i < 300000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        double x = (double)(int64_t)seed * 0x1p-40;
        if (i % 7 == 0)
            x *= exp2((double)(seed % 200) - 100);
        write_number(text, sizeof text, i % 6, x);
        double ours, theirs = strtod(text, NULL);
        const char *end = number_scan(text, c, &ours);
        assert_ptr_equal(end, text + strlen(text));
        if (memcmp(&ours, &theirs, sizeof ours))
            fail_msg("%s: %a, strtod %a", text, ours, theirs);
    }
    /* ties and their neighbours: 2^53 + 1 lies halfway */
    static const char *const ties[] = {"9007199254740993",
                                       "9007199254740993.0000000001",
                                       "900719925474099.3e1",
                                       "0.5e-0",
                                       "9007199254740992.9",
                                       "9007199254740995",
                                       "-0",
                                       "1e22",
                                       "1e23",
                                       "8.5e-19",
                                       "4.9e-324",
                                       "2e-324"};
    for (size_t i = 0; i < sizeof ties / sizeof *ties; i++) {
        double ours, theirs = strtod(ties[i], NULL);
        assert_non_null(number_scan(ties[i], c, &ours));
        assert_memory_equal(&ours, &theirs, sizeof ours);
    }
    freelocale(c);
}

/* Any bytes give a table or a line, and a table answers for every cell. The seeds are mutated by a fixed
 * generator. */
static void any_bytes(void **state)
{
    (void)state;
    static const char *const seeds[] = {"a,b,c\n1,2,3\n\"x\"\"y\",5,\n", "1;2\r\n3;4\r\n",
                                        "id\tv\r1\t\"2\r\"\r", "n\n1\n2\n"};
    static const char alphabet[] = "\",;\t\r\n 1e.-?xN\xef\xff";
    const char *rounds = getenv("GAL_FUZZ");
    uint64_t r = 7;

    for (long i = 0, n = rounds ? atol(rounds) : 3000; i < n; i++) {
        char text[80];
        strcpy(text, seeds[i % 4]);
        size_t size = strlen(text);
        for (int k = 0; k < 1 + i % 5; k++) {
            r = r * 6364136223846793005u + 1442695040888963407u;
            char byte = alphabet[(r >> 40) % (sizeof alphabet - 1)];
            size_t at = (size_t)(r >> 33) % size;
            if (r >> 63 && size < 70) {
                memmove(text + at + 1, text + at, size - at);
                size++;
            }
            text[at] = byte;
        }
        struct table *t = open_bytes(text, size);
        if (!t) {
            assert_true(*error && !strchr(error, '\n'));
            continue;
        }
        for (size_t j = 0; j < table_cols(t); j++) {
            assert_int_equal(table_find(t, table_name(t, j)), j);
            for (size_t row = table_rows(t); row-- > 0;) {
                assert_string_equal(table_text(t, row, j), table_record(t, row)[j]);
                assert_true(table_line(t, row) > 0);
            }
            assert_true(!table_numbers(t, j, error, sizeof error) || table_numeric(t, j));
        }
        table_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_spectrum),
        cmocka_unit_test(other_layouts),
        cmocka_unit_test(columns_are_numbers_when_all_cells_are),
        cmocka_unit_test(late_words_in_many_rows),
        cmocka_unit_test(infinite_cells_are_refused_when_used_as_numbers),
        cmocka_unit_test(refusals),
        cmocka_unit_test(gzip_is_recognised_by_its_bytes),
        cmocka_unit_test(numbers_round_as_strtod_does),
        cmocka_unit_test(any_bytes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
