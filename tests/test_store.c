/*
 * test_store.c - the local store: rows in, tables out; where it lies; a full disk; its size; a
 * collector that takes over.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "collector/report.h"
#include "collector/report_model.h"
#include "collector/sink/store_inside.h"
#include "tests/rows_make.h"

static char folder[PATH_MAX / 2];
static char said[4096];

static void hear(void *to, const char *line)
{
    (void)to;
    size_t used = strlen(said);
    snprintf(said + used, sizeof said - used, "%s\n", line);
}

static const char *in_folder(const char *name)
{
    static char path[4][PATH_MAX];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], PATH_MAX, "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/sonde-store-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    said[0] = 0;
    unsetenv("STATE_DIRECTORY");
    unsetenv("XDG_STATE_HOME");
    return mkdtemp(folder) ? 0 : -1;
}

/* Writes beyond `bytes` of any file fail, for root too. */
static void allow_file_size(rlim_t bytes)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static int remove_folder(void **state)
{
    (void)state;
    char command[PATH_MAX];
    if (chdir("/") != 0)
        return -1;
    allow_file_size(RLIM_INFINITY);
    umount2(in_folder("disk"), MNT_DETACH);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

/* --- what a store says, asked as anyone would: with SQLite from outside --- */

static int64_t ask(const char *path, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    int64_t value = INT64_MIN;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    if (sqlite3_step(st) == SQLITE_ROW)
        value = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return value;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* --- rows --- */

static struct sketch_pool *pool;

static void push_total(struct store *s, uint32_t interval, uint32_t endpoint, uint64_t count,
                       uint64_t each_ns)
{
    struct sketch latency, first;
    sketch_init(&latency);
    sketch_init(&first);
    for (uint64_t i = 0; i < count; i++) {
        sketch_add(&latency, pool, each_ns);
        sketch_add(&first, pool, each_ns / 2);
    }
    struct row_total t = {
        .interval = interval,
        .endpoint = endpoint,
        .class = 2,
        .count = count,
        .bytes_in = count * 100,
        .bytes_out = count * 1000,
        .body_out = count * 900,
        .cost = {.allocated = count * 4096, .freed = count * 4096, .allocations = count * 2}};
    store_push(s, make_total(&t, &latency, &first));
    store_push(s, make_status(interval, endpoint, 200, count));
    sketch_clear(&latency, pool);
    sketch_clear(&first, pool);
}

static void push_interval(struct store *s, uint32_t interval, bool closed, uint64_t events)
{
    struct row_interval i = {.interval = interval,
                             .closed = closed,
                             .start_ns = AT + (interval - 1) * 10 * SECOND,
                             .end_ns = AT + interval * 10 * SECOND,
                             .written = events,
                             .drained = events};
    store_push(s, make_interval(&i));
}

static void push_span(struct store *s, uint64_t id, uint64_t start_ns)
{
    struct row_span span = {.id = id,
                            .endpoint = 1,
                            .process = 1,
                            .pid = 4711,
                            .tid = 4711,
                            .start_ns = start_ns,
                            .duration_ns = 100 * US,
                            .queue_ns = UINT64_MAX,
                            .receive_ns = 10 * US,
                            .work_ns = 80 * US,
                            .first_byte_ns = 90 * US,
                            .send_ns = 10 * US,
                            .rate = 1,
                            .status = 200,
                            .answered = 1};
    store_push(s, make_span(&span, "GET", "/users/71", ""));
}

static void push_start(struct store *s, const char *id)
{
    store_push(s, make_run(id, AT, "[\"nginx\"]", "{}"));
    struct row_process p = {.process = 1,
                            .pid = 4711,
                            .parent = 4700,
                            .exit_code = -1,
                            .signal = -1,
                            .merged = 1,
                            .start_ns = AT,
                            .allocated = 1000,
                            .freed = 900,
                            .allocations = 10};
    store_push(s, make_process(&p, "/usr/sbin/nginx", "nginx"));
    store_push(s, make_endpoint(1, "nginx", "http", SIDE_SERVER, "GET /users/{id}", 0));
}

static struct store *open_chosen(const char *path, uint64_t max_bytes, const char *id)
{
    char chosen[PATH_MAX], message[PATH_MAX + 256];
    assert_int_equal(store_choose_path(path, chosen, sizeof chosen, message, sizeof message), 0);
    struct store *s = store_open(chosen, id, max_bytes, hear, NULL);
    assert_non_null(s);
    return s;
}

static struct report *load(struct store *s)
{
    struct report *r = NULL;
    assert_int_equal(report_load(store_connection(s), NULL, &r), 0);
    return r;
}

/* --- tests --- */

static void test_rows_become_tables(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, 0, "r1");
    push_start(s, "r1");
    push_total(s, 1, 1, 3, 100 * US);
    push_total(s, 1, 1, 7, 100 * US); /* the same interval: replaces */
    push_interval(s, 1, false, 40);
    push_span(s, 1, AT);
    store_push(s, make_commit(AT + SECOND));
    /* readable while the run goes on */
    assert_int_equal(ask(path, "SELECT count FROM total"), 7);
    assert_int_equal(ask(path, "SELECT count FROM requests WHERE endpoint = 'GET /users/{id}'"), 7);
    assert_int_equal(ask(path, "SELECT latency_p99 FROM total"), 100 * US);
    assert_int_equal(ask(path, "SELECT as_of_ns FROM run"), AT + SECOND);
    assert_int_equal(
        ask(path, "SELECT count(*) FROM span WHERE target = '/users/71' AND queue_ns IS NULL"), 1);
    assert_int_equal(ask(path, "SELECT exit_code IS NULL AND end_ns IS NULL FROM process"), 1);
    store_push(s, make_run_end(AT + 2 * SECOND, 0, -1));
    store_push(s, make_commit(AT + 2 * SECOND));
    assert_int_equal(store_close(s), 0);
    assert_int_equal(ask(path, "SELECT exit_code FROM run WHERE clean AND signal IS NULL"), 0);
    assert_false(exists(in_folder("a.db-wal")));
    assert_false(exists(in_folder("a.db-shm")));
    assert_int_equal(ask(path, "SELECT journal_mode = 'delete' FROM pragma_journal_mode"), 1);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_string_equal(said, "");
}

static void test_uncommitted_rows_are_not_seen_and_short_rows_are_none(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, 0, "r1");
    push_start(s, "r1");
    store_push(s, make_commit(AT));
    push_total(s, 1, 1, 3, 100);
    assert_int_equal(ask(path, "SELECT count(*) FROM total"), 0);
    store_push(s, make_commit(AT));
    struct made *m = &made_row;
    make_span(&(struct row_span){.endpoint = 1}, "GET", "/a", "");
    ((struct row_span *)m->body)->target_len = 60000;
    store_push(s, &m->row);
    make_endpoint(2, "x", "y", SIDE_SERVER, "z", 0);
    m->row.bytes = 24;
    store_push(s, &m->row);
    store_push(s, make_commit(AT));
    assert_int_equal(store_close(s), 0);
    assert_int_equal(
        ask(path, "SELECT (SELECT count(*) FROM span) + (SELECT count(*) FROM endpoint)"), 1);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void one_run(const char *path, const char *id)
{
    struct store *s = open_chosen(path, 0, id);
    push_start(s, id);
    store_push(s, make_run_end(AT + SECOND, 0, -1));
    store_push(s, make_commit(AT + SECOND));
    assert_int_equal(store_close(s), 0);
}

/* Values that do not change are bound once: what comes and goes must be in its own row alone. */
static void test_each_request_has_its_own_values(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, 0, "r1");
    push_start(s, "r1");
    for (uint64_t i = 0; i < 12; i++) {
        struct row_span span = {.endpoint = 1,
                                .process = 1,
                                .id = i,
                                .parent = i % 3 ? 0 : 7,
                                .duration_ns = i % 4 < 2 ? UINT64_MAX : 5,
                                .queue_ns = i == 6 ? UINT64_MAX : 9,
                                .status = i % 5 ? 200 : 0,
                                .bytes_in = i / 4,
                                .retained = UINT64_MAX,
                                .rate = i % 2 ? 1 : 0.5};
        span.trace[0] = i % 3 == 1;
        store_push(s, make_span(&span, "GET", i % 2 ? "/odd" : "/even", i % 4 ? "" : "ERR"));
        if (i == 7)
            store_push(s, make_commit(AT));
    }
    store_close(s);
    assert_int_equal(ask(path, "SELECT count(*) FROM span"), 12);
    assert_int_equal(ask(path, "SELECT count(*) FROM span WHERE"
                               " parent IS iif(id % 3, NULL, 7) AND duration_ns IS iif(id % 4 < 2, NULL, 5)"
                               " AND queue_ns IS iif(id = 6, NULL, 9) AND status IS iif(id % 5, 200, NULL)"
                               " AND bytes_in = id / 4 AND retained IS NULL AND rate = iif(id % 2, 1, 0.5)"
                               " AND (trace IS NOT NULL) = (id % 3 = 1) AND (error IS NOT NULL) = (id % 4 = 0)"
                               " AND target = iif(id % 2, '/odd', '/even')"),
                     12);
}

static void test_older_stores_are_kept(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    static const char *const ids[] = {"r1", "r2", "r3", "r4", "r5"};
    for (int i = 0; i < 5; i++)
        one_run(path, ids[i]);
    assert_int_equal(ask(path, "SELECT id = 'r5' FROM run"), 1);
    assert_int_equal(ask(in_folder("a.db.old"), "SELECT id = 'r4' FROM run"), 1);
    assert_int_equal(ask(in_folder("a.db.old.2"), "SELECT id = 'r3' FROM run"), 1);
    assert_int_equal(ask(in_folder("a.db.old.3"), "SELECT id = 'r2' FROM run"), 1);
    assert_false(exists(in_folder("a.db.old.4")));
}

static void test_a_killed_collectors_log_is_folded_in_before_the_rename(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    pid_t child = fork();
    if (child == 0) { /* dies with everything in the write-ahead log */
        struct store *s = open_chosen(path, 0, "r1");
        push_start(s, "r1");
        push_total(s, 1, 1, 5, 100);
        store_push(s, make_commit(AT));
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    assert_true(exists(in_folder("a.db-wal")));
    one_run(path, "r2");
    assert_int_equal(ask(in_folder("a.db.old"), "SELECT sum(count) FROM total"), 5);
    assert_int_equal(ask(path, "SELECT id = 'r2' FROM run"), 1);
}

static void test_a_file_that_is_no_store_is_left_alone(void **state)
{
    (void)state;
    char chosen[PATH_MAX], message[PATH_MAX + 256];
    const char *path = in_folder("precious.txt");
    write_file(path, "do not overwrite me, I am longer than the seventy-two bytes that a header of "
                     "SQLite takes, surely\n");
    assert_int_equal(store_choose_path(path, chosen, sizeof chosen, message, sizeof message),
                     -EEXIST);
    assert_non_null(strstr(message, "-o"));
    /* another program's database */
    const char *other = in_folder("other.db");
    sqlite3 *db;
    sqlite3_open(other, &db);
    sqlite3_exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(1)", NULL, NULL, NULL);
    sqlite3_close(db);
    assert_int_equal(store_choose_path(other, chosen, sizeof chosen, message, sizeof message),
                     -EEXIST);
    assert_int_equal(ask(other, "SELECT x FROM t"), 1);
    /* and as the default: another name beside it */
    assert_int_equal(chdir(folder), 0);
    write_file("sonde.db", "not ours\n");
    assert_int_equal(store_choose_path(NULL, chosen, sizeof chosen, message, sizeof message), 1);
    assert_non_null(strstr(chosen, "sonde-"));
    assert_non_null(strstr(message, chosen));
    /* nor is it renamed when it has the name of an older store */
    const char *mine = in_folder("m.db");
    write_file(in_folder("m.db.old"), "mine\n");
    one_run(mine, "r1");
    one_run(mine, "r2");
    assert_int_equal(ask(in_folder("m.db.old.2"), "SELECT id = 'r1' FROM run"), 1);
    struct stat st;
    assert_int_equal(stat(in_folder("m.db.old"), &st), 0);
    assert_int_equal(st.st_size, 5);
}

static void test_wrong_places_name_their_remedy(void **state)
{
    (void)state;
    char chosen[PATH_MAX], message[PATH_MAX + 256];
    assert_true(store_choose_path(folder, chosen, sizeof chosen, message, sizeof message) < 0);
    assert_non_null(strstr(message, "is a folder"));
    assert_int_equal(
        store_choose_path(in_folder("none/a.db"), chosen, sizeof chosen, message, sizeof message),
        -ENOENT);
    assert_non_null(strstr(message, "does not exist"));
    assert_true(store_choose_path("/proc/a.db", chosen, sizeof chosen, message, sizeof message) <
                0);
    assert_non_null(strstr(message, "-o"));
    assert_int_equal(store_choose_path("none", chosen, sizeof chosen, message, sizeof message), 0);
    assert_string_equal(chosen, "none");
}

static void test_default_path_falls_back(void **state)
{
    (void)state;
    char chosen[PATH_MAX], message[PATH_MAX + 256];
    assert_int_equal(chdir("/proc"), 0); /* nobody can write there, root neither */
    setenv("STATE_DIRECTORY", "/proc/1:/tmp", 1);
    setenv("XDG_STATE_HOME", folder, 1);
    assert_int_equal(store_choose_path(NULL, chosen, sizeof chosen, message, sizeof message), 1);
    assert_string_equal(chosen, in_folder("sonde.db"));
    assert_non_null(strstr(message, chosen));
    setenv("STATE_DIRECTORY", folder, 1);
    unsetenv("XDG_STATE_HOME");
    assert_int_equal(store_choose_path("", chosen, sizeof chosen, message, sizeof message), 1);
    unsetenv("STATE_DIRECTORY");
    setenv("TMPDIR", folder, 1);
    assert_int_equal(store_choose_path(NULL, chosen, sizeof chosen, message, sizeof message), 1);
    char expected[64];
    snprintf(expected, sizeof expected, "sonde-%u/sonde.db", (unsigned)geteuid());
    assert_string_equal(chosen, in_folder(expected));
    unsetenv("TMPDIR");
}

/* Runs `first` in a child until it says that it is ready, then `second` here, then lets the child
 * go. */
static void beside(const char *path, const char *id, void (*second)(const char *))
{
    int ready[2], go[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) {
        close(go[1]);
        struct store *s = open_chosen(path, 0, id);
        push_start(s, id);
        push_total(s, 1, 1, 11, 100);
        store_push(s, make_commit(AT));
        if (write(ready[1], "r", 1) != 1 || read(go[0], &c, 1) < 0)
            _exit(1);
        push_total(s, 1, 1, 12, 100);
        store_push(s, make_run_end(AT + SECOND, 0, -1));
        store_push(s, make_commit(AT + SECOND));
        _exit(store_close(s) == 0 ? 0 : 1);
    }
    close(go[0]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    second(path);
    close(go[1]);
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    close(ready[0]);
    close(ready[1]);
}

static void choose_beside_a_live_one(const char *path)
{
    char chosen[PATH_MAX], message[PATH_MAX + 256], expected[64];
    assert_int_equal(store_choose_path(path, chosen, sizeof chosen, message, sizeof message), 1);
    snprintf(expected, sizeof expected, "sonde-%d.db", (int)getpid());
    assert_string_equal(chosen, in_folder(expected));
    assert_non_null(strstr(message, "another run"));
    assert_int_equal(ask(path, "SELECT sum(count) FROM total"), 11);
    struct report *r;
    assert_int_equal(report_read(path, NULL, &r, message, sizeof message), 0);
    assert_true(r->running);
    assert_false(r->abandoned);
    report_free(r);
}

static void test_a_store_that_is_written_is_left_alone(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    beside(path, "r1", choose_beside_a_live_one);
    assert_int_equal(ask(path, "SELECT sum(count) FROM total"), 12);
    assert_false(exists(in_folder("a.db.old")));
}

static void open_what_another_has(const char *path)
{
    struct store *s = store_open(path, "r2", 0, hear, NULL);
    push_start(s, "r2");
    store_push(s, make_commit(AT));
    assert_string_not_equal(store_path(s), path);
    assert_int_equal(ask(store_path(s), "SELECT id = 'r2' FROM run"), 1);
    assert_non_null(strstr(said, "another run"));
    store_close(s);
}

static void test_two_collectors_never_write_one_file(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    beside(path, "r1", open_what_another_has);
    assert_int_equal(ask(path, "SELECT id = 'r1' FROM run"), 1);
}

static void test_reserved_by_a_supervisor_that_lives(void **state)
{
    (void)state;
    char chosen[PATH_MAX], message[PATH_MAX + 256];
    const char *path = in_folder("a.db");
    /* its collector is not there yet, or between two of them */
    assert_int_equal(store_choose_path(path, chosen, sizeof chosen, message, sizeof message), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(store_choose_path(path, chosen, sizeof chosen, message, sizeof message));
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 1);
    /* reserved by one that died: free */
    const char *other = in_folder("b.db");
    child = fork();
    if (child == 0)
        _exit(store_choose_path(other, chosen, sizeof chosen, message, sizeof message));
    waitpid(child, &status, 0);
    assert_int_equal(store_choose_path(other, chosen, sizeof chosen, message, sizeof message), 0);
    assert_string_equal(chosen, other);
}

static void test_a_collector_that_outlives_its_supervisor_keeps_its_store(void **state)
{
    (void)state;
    char chosen[PATH_MAX], message[PATH_MAX + 256], c;
    const char *path = in_folder("a.db");
    int ready[2], go[2], status;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t supervisor = fork();
    if (supervisor == 0) {
        struct store *s = open_chosen(path, 0, "r1"); /* names this process as supervisor */
        store_close(s);
        if (fork() == 0) {
            close(go[1]);
            s = store_open(path, "r1", 0, NULL, NULL);
            push_start(s, "r1");
            store_push(s, make_commit(AT));
            if (write(ready[1], "r", 1) != 1 || read(go[0], &c, 1) < 0)
                _exit(1);
            store_close(s);
            _exit(0);
        }
        _exit(0);
    }
    waitpid(supervisor, &status, 0);
    close(go[0]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(store_choose_path(path, chosen, sizeof chosen, message, sizeof message), 1);
    struct report *r;
    assert_int_equal(report_read(path, NULL, &r, message, sizeof message), 0);
    assert_true(r->running);
    assert_false(r->abandoned);
    assert_int_equal(r->verdict, REPORT_COMPLETE);
    report_free(r);
    close(go[1]);
    close(ready[1]); /* nobody's child any more: gone when its end of the pipe is, and then the folder may go */
    assert_int_equal(read(ready[0], &c, 1), 0);
    close(ready[0]);
}

/* A reader with its transaction open, until the descriptor that it returns is closed. */
static pid_t start_reader(const char *path, int *let_go)
{
    int ready[2], go[2];
    char c;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) { /* a fresh process image: not ours to close */
        close(go[1]);
        dup2(ready[1], 8);
        dup2(go[0], 7);
        char sql[PATH_MAX + 128];
        snprintf(sql, sizeof sql,
                 "printf 'BEGIN;\\nSELECT count(*) FROM span;\\n.shell echo r >&8\\n.shell cat "
                 "<&7\\nCOMMIT;\\n' |"
                 " sqlite3 '%s' >/dev/null",
                 path);
        execl("/bin/sh", "sh", "-c", sql, NULL);
        _exit(1);
    }
    close(go[0]);
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    *let_go = go[1];
    return child;
}

static void test_an_older_store_that_somebody_reads_is_left_alone(void **state)
{
    (void)state;
    char chosen[PATH_MAX], message[PATH_MAX + 256];
    const char *path = in_folder("a.db");
    int go;
    pid_t child = fork();
    if (child == 0) { /* a killed collector's: still with its log */
        struct store *s = open_chosen(path, 0, "r1");
        push_start(s, "r1");
        store_push(s, make_commit(AT));
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    child = start_reader(path, &go);
    assert_int_equal(store_choose_path(path, chosen, sizeof chosen, message, sizeof message), 1);
    assert_non_null(strstr(message, "open in another program"));
    assert_true(exists(path));
    close(go);
    waitpid(child, NULL, 0);
    assert_int_equal(ask(path, "SELECT id = 'r1' FROM run"), 1);
}

/* --- take-over --- */

static void count_processes(void *to, const struct store_process *p)
{
    *(uint64_t *)to += p->allocated;
}

/* A collector with one closed and one open interval is killed after its commit. */
static void write_and_die(const char *path)
{
    pid_t child = fork();
    if (child == 0) {
        struct store *s = open_chosen(path, 0, "r1");
        push_start(s, "r1");
        push_total(s, 1, 1, 5, 100);
        push_interval(s, 1, true, 50);
        push_total(s, 2, 1, 6, 100);
        struct row_interval i = {.interval = 2,
                                 .start_ns = AT + 10 * SECOND,
                                 .end_ns = AT + 20 * SECOND,
                                 .written = 70,
                                 .drained = 60,
                                 .lost = {[LOSS_FULL] = 10}};
        store_push(s, make_interval(&i));
        store_push(s, make_unread("1.2.3.4:443", UNREAD_TLS, 2, 10, 20));
        store_documents(s, "http://x:9200",
                        &(struct documents){.accepted = 9, .acknowledged = 7, .queued = 2});
        store_push(s, make_commit(AT + 12 * SECOND));
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
}

static void test_next_collector_is_told_what_the_one_before_had(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    write_and_die(path);
    struct store *s = store_open(path, "r1", 0, hear, NULL);
    struct store_resume r;
    struct documents d;
    uint64_t allocated = 0;
    store_resume(s, &r);
    assert_int_equal(r.lives, 1);
    assert_int_equal(r.run_start_ns, AT);
    assert_int_equal(r.as_of_ns, AT + 12 * SECOND);
    assert_int_equal(r.last_interval, 2);
    assert_int_equal(r.last_process, 1);
    assert_true(r.first_sequence == ((UINT64_C(1) << 40) | 1));
    assert_int_equal(r.written, 120);
    assert_int_equal(r.drained, 110);
    assert_int_equal(r.lost[LOSS_FULL], 10);
    assert_true(store_documents_before(s, "http://x:9200", &d));
    assert_int_equal(d.queued, 2);
    store_resume_processes(s, count_processes, &allocated);
    assert_int_equal(allocated, 1000);
    assert_int_equal(store_close(s), 0);
}

/* The next one counts everything from 1 again: another process has number 1, the old one number 2. */
static void push_as_the_next_one(struct store *s)
{
    store_push(s, make_run("r1", AT + 13 * SECOND, "[\"nginx\"]", "{}"));
    struct row_process p = {.process = 1,
                            .pid = 4999,
                            .parent = 4700,
                            .exit_code = -1,
                            .signal = -1,
                            .merged = 1,
                            .start_ns = AT + 13 * SECOND,
                            .allocated = 10};
    store_push(s, make_process(&p, "/usr/sbin/nginx", "nginx"));
    p = (struct row_process){.process = 2,
                             .pid = 4711,
                             .parent = 4700,
                             .exit_code = -1,
                             .signal = -1,
                             .merged = 1,
                             .start_ns = AT,
                             .allocated = 3000};
    store_push(s, make_process(&p, "/usr/sbin/nginx", "nginx"));
    store_push(s, make_endpoint(1, "nginx", "http", SIDE_SERVER, "GET /other", 0));
    store_push(s, make_endpoint(2, "nginx", "http", SIDE_SERVER, "GET /users/{id}", 0));
    push_total(s, 1, 2, 7, 100);
    push_total(s, 1, 1, 1, 100);
    push_interval(s, 1, true, 30);
    store_push(s, make_unread("1.2.3.4:443", UNREAD_TLS, 1, 1, 2));
    for (uint32_t i = 1; i <= 2; i++) { /* a sum of ended ones, twice: one row */
        p = (struct row_process){
            .process = 3, .merged = 4 + i, .ended = 1, .start_ns = AT, .allocated = i};
        store_push(s, make_process(&p, "/bin/sh", "sh"));
    }
    store_push(s, make_commit(AT + 20 * SECOND));
}

static void test_next_collector_goes_on(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    write_and_die(path);
    struct store *s = store_open(path, "r1", 0, hear, NULL);
    struct store_resume r;
    store_resume(s, &r);
    push_as_the_next_one(s);
    struct report *report = load(s);
    assert_int_equal(report->start_ns, AT);
    assert_int_equal(report->lives, 2);
    assert_int_equal(report->endpoints, 2);
    assert_string_equal(report->endpoint[0].name, "GET /users/{id}");
    assert_int_equal(report->endpoint[0].count, 5 + 6 + 7);
    assert_int_equal(report->endpoint[1].count, 1);
    assert_int_equal(report->events.written, 150);
    assert_int_equal(report->events.drained + report->events.lost_sum, 150);
    assert_int_equal(report->processes, 3);
    assert_int_equal(report->process[0].merged, 6);
    assert_int_equal(report->process[1].pid, 4711);
    assert_int_equal(report->process[1].allocated, 3000);
    assert_int_equal(report->unread[0].connections, 3);
    report_free(report);
    assert_int_equal(store_close(s), 0);
    assert_int_equal(ask(path, "SELECT count(*) FROM interval"), 3);
    assert_int_equal(ask(path, "SELECT count(*) FROM interval WHERE NOT closed"), 0);
}

struct told_again {
    int endpoints, totals, after_totals;
    struct row_total total[4];
    char names[64];
};

static void keep_again(void *to, const struct row *row)
{
    struct told_again *t = to;
    if (row->kind == ROW_ENDPOINT) {
        const struct row_endpoint *e = (const void *)(row + 1);
        snprintf(t->names + strlen(t->names), sizeof t->names - strlen(t->names), "%u=%.*s;", e->endpoint,
                 e->name_len, (const char *)(e + 1) + e->service_len);
        assert_int_equal(e->side, SIDE_SERVER);
        t->endpoints++;
        t->after_totals += t->totals > 0;
    } else if (row->kind == ROW_TOTAL && t->totals < 4) {
        t->total[t->totals++] = *(const struct row_total *)(row + 1);
    }
}

static void test_totals_that_were_not_delivered_are_told_again(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    pid_t child = fork();
    if (child == 0) {
        struct store *s = open_chosen(path, 0, "r1");
        push_start(s, "r1");
        for (uint32_t i = 1; i <= 3; i++) {
            push_total(s, i, 1, 4 + i, 100);
            push_interval(s, i, i < 3, 50);
        }
        store_documents(s, "http://x:9200", &(struct documents){.accepted = 2, .totals_through = 1});
        store_push(s, make_commit(AT + 12 * SECOND));
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    struct store *s = store_open(path, "r1", 0, hear, NULL);
    struct documents d;
    struct told_again t = {0};
    assert_true(store_documents_before(s, "http://x:9200", &d));
    assert_int_equal(d.totals_through, 1);
    store_resume_totals(s, d.totals_through, keep_again, &t);
    assert_int_equal(t.endpoints, 1);
    assert_int_equal(t.after_totals, 0);
    assert_string_equal(t.names, "1=GET /users/{id};");
    assert_int_equal(t.totals, 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(t.total[i].interval, 2 + i); /* the last one was open when its collector died */
        assert_int_equal(t.total[i].closed, 1);
        assert_int_equal(t.total[i].class, 2);
        assert_int_equal(t.total[i].count, 6 + i);
        assert_int_equal(t.total[i].latency_p99, 100);
        assert_true(t.total[i].end_ns > t.total[i].start_ns && t.total[i].start_ns >= AT);
    }
    memset(&t, 0, sizeof t);
    store_resume_totals(s, 3, keep_again, &t);
    assert_int_equal(t.endpoints + t.totals, 0);
    store_close(s);
}

static void test_numbers_that_were_told_go_on_are_kept(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    pid_t child = fork();
    if (child == 0) {
        struct store *s = open_chosen(path, 0, "r1");
        push_start(s, "r1");
        push_interval(s, 4, false, 50);
        store_push(s, make_commit(AT));
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    struct store *s = store_open(path, "r1", 0, hear, NULL);
    push_interval(s, 5, false, 50); /* as store_resume told it */
    store_push(s, make_commit(AT));
    store_close(s);
    assert_int_equal(ask(path, "SELECT max(interval) FROM interval"), 5);
}

/* --- a disk that is full --- */

static void try_until_written_again(struct store *s)
{
    for (int i = 0; i < 100 && !strstr(said, ": written again"); i++) {
        usleep(20000);
        store_push(s, make_commit(AT + 3 * SECOND));
    }
    assert_non_null(strstr(said, ": written again"));
}

struct disk {
    char path[PATH_MAX];
};

/* A real file system of 1 MiB; false: this machine does not let us mount one. */
static bool mount_small(struct disk *d)
{
    snprintf(d->path, sizeof d->path, "%s", in_folder("disk"));
    mkdir(d->path, 0700);
    return mount("tmpfs", d->path, "tmpfs", 0, "size=1m") == 0;
}

static void fill(const struct disk *d, bool full)
{
    char name[PATH_MAX + 16];
    snprintf(name, sizeof name, "%s/filler", d->path);
    unlink(name);
    if (!full)
        return;
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    static const char zero[4096];
    while (write(fd, zero, sizeof zero) > 0)
        ;
    close(fd);
}

static void test_full_disk_keeps_the_totals_and_recovers(void **state)
{
    (void)state;
    struct disk d;
    char path[PATH_MAX + 16];
    if (!mount_small(&d))
        skip();
    snprintf(path, sizeof path, "%s/a.db", d.path);
    struct store *s = open_chosen(path, 0, "r1");
    push_start(s, "r1");
    push_total(s, 1, 1, 5, 100 * US);
    push_interval(s, 1, false, 10);
    store_push(s, make_in_flight_clear());
    store_push(s, make_in_flight(&(struct row_in_flight){.span = 70}, "GET /gone"));
    struct row_process p = {
        .process = 2, .pid = 4712, .merged = 1, .start_ns = AT + 1, .exit_code = -1};
    store_push(s, make_process(&p, "/bin/sh", "sh"));
    store_push(s, make_commit(AT));
    fill(&d, true);
    for (int i = 0; i < 2000; i++) /* more than the pages that the file has left over */
        push_span(s, (uint64_t)i, AT + SECOND);
    push_total(s, 1, 1, 8, 100 * US);
    store_push(s, make_endpoint(2, "nginx", "http", SIDE_SERVER, "GET /late", 0));
    push_total(s, 1, 2, 1, MS);
    push_interval(s, 1, true, 20);
    store_push(s, make_commit(AT + SECOND));
    assert_non_null(strstr(said, "disk full"));
    push_total(s, 2, 1, 3, 100 * US);
    push_interval(s, 2, false, 30);
    push_span(s, 9999, AT + SECOND);
    p.merged = 0;
    store_push(s, make_process(&p, "", ""));
    store_push(s, make_in_flight_clear());
    store_push(
        s, make_in_flight(&(struct row_in_flight){.span = 77, .pid = 1, .tid = 1}, "GET /slow"));
    store_push(s, make_commit(AT + 2 * SECOND));
    struct report *r = load(s); /* the summary that a full disk must not blank */
    assert_int_equal(r->requests, 8 + 1 + 3);
    assert_int_equal(r->events.written, 50);
    assert_int_equal(r->endpoint[0].latency.count, 11);
    assert_int_equal(r->endpoint[0].status[0].count, 11);
    assert_int_equal(r->processes, 1);
    assert_int_equal(r->in_flights, 1);
    assert_int_equal(r->sheds, 1);
    assert_int_equal(r->shed[0].count, 2001);
    report_free(r);
    fill(&d, false);
    try_until_written_again(s);
    push_total(s, 2, 1, 4, 100 * US);
    push_span(s, 10000, AT + 3 * SECOND);
    store_push(s, make_commit(AT + 4 * SECOND));
    r = load(s);
    assert_int_equal(r->requests, 8 + 1 + 4);
    report_free(r);
    assert_int_equal(store_close(s), 0);
    assert_int_equal(ask(path, "SELECT sum(count) FROM total"), 13);
    assert_int_equal(ask(path, "SELECT sum(written) FROM interval"), 50);
    assert_int_equal(ask(path, "SELECT count(*) FROM in_flight"), 1);
    assert_int_equal(ask(path, "SELECT count(*) FROM span WHERE id = 10000"), 1);
    assert_int_equal(ask(path, "SELECT sum(count) FROM shed WHERE reason = 'disk full'"), 2001);
    assert_int_equal(ask(path, "SELECT count(*) FROM process"), 1);
    umount2(d.path, MNT_DETACH);
}

static void test_a_failing_disk_keeps_the_totals_and_recovers(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, 0, "r1");
    push_start(s, "r1");
    push_total(s, 1, 1, 5, 100 * US);
    push_interval(s, 1, true, 10);
    store_push(s, make_commit(AT));
    allow_file_size(4096);
    push_total(s, 2, 1, 6, 100 * US);
    push_interval(s, 2, false, 10);
    push_span(s, 1, AT);
    store_push(s, make_commit(AT + SECOND));
    assert_true(strlen(said) > 0);
    struct report *r = load(s);
    assert_int_equal(r->requests, 11);
    assert_int_equal(r->sheds, 1);
    report_free(r);
    allow_file_size(RLIM_INFINITY);
    try_until_written_again(s);
    assert_int_equal(store_close(s), 0);
    assert_int_equal(ask(path, "SELECT sum(count) FROM total"), 11);
    assert_int_equal(
        ask(path, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
}

static void test_long_outage_rolls_only_what_the_file_does_not_have(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, 0, "r1");
    uint64_t requests = 5;
    push_start(s, "r1");
    for (uint32_t e = 2; e <= 50; e++) {
        char name[32];
        snprintf(name, sizeof name, "GET /%u", e);
        store_push(s, make_endpoint(e, "nginx", "http", SIDE_SERVER, name, 0));
    }
    push_total(s, 3, 1, 5, 100 * US); /* not sent again: nothing of it changes any more */
    push_interval(s, 3, false, 10);
    store_push(s, make_commit(AT));
    allow_file_size(4096);
    for (uint32_t interval = 3; interval <= 1000; interval++) {
        for (uint32_t e = 2; e <= 50; e++) {
            push_total(s, interval, e, 2, interval * e * US);
            requests += 2;
        }
        if (interval > 3) {
            push_total(s, interval, 1, 1, 100 * US);
            requests++;
        }
        push_interval(s, interval, true, 40);
        store_push(s, make_commit(AT));
    }
    sqlite3_stmt *st;
    sqlite3_prepare_v2(store_connection(s), "SELECT count(*) FROM main.interval WHERE level > 0",
                       -1, &st, NULL);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_true(sqlite3_column_int(st, 0) > 0); /* it did roll */
    sqlite3_finalize(st);
    struct report *r = load(s);
    assert_int_equal(r->requests, requests);
    report_free(r);
    allow_file_size(RLIM_INFINITY);
    try_until_written_again(s);
    assert_int_equal(store_close(s), 0);
    assert_int_equal(ask(path, "SELECT sum(count) FROM total"), (int64_t)requests);
    assert_int_equal(ask(path, "SELECT sum(count) FROM status"), (int64_t)requests);
    assert_int_equal(ask(path, "SELECT sum(written) FROM interval"), 998 * 40);
}

static void test_a_second_without_a_commit_is_bounded(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, 0, "r1");
    push_start(s, "r1");
    for (uint32_t i = 1; i <= 40000; i++)
        push_total(s, i, 1, 1, 100 * US);
    assert_true(ask(path, "SELECT count(*) FROM total") > 0);
    store_close(s);
}

static void test_disk_that_is_full_from_the_start(void **state)
{
    (void)state;
    struct disk d;
    char path[PATH_MAX + 16], chosen[PATH_MAX], message[PATH_MAX + 256];
    if (!mount_small(&d))
        skip();
    snprintf(path, sizeof path, "%s/a.db", d.path);
    fill(&d, true);
    assert_int_equal(store_choose_path(path, chosen, sizeof chosen, message, sizeof message),
                     -ENOSPC);
    assert_non_null(strstr(message, "no space"));
    assert_false(exists(path));
    struct store *s = store_open(path, "r1", 0, hear, NULL);
    assert_non_null(s);
    assert_string_equal(store_path(s), "none");
    push_start(s, "r1");
    push_total(s, 1, 1, 5, 100 * US);
    push_interval(s, 1, false, 10);
    push_span(s, 1, AT);
    store_push(s, make_commit(AT));
    struct report *r = load(s);
    assert_int_equal(r->requests, 5);
    assert_int_equal(r->sheds, 1);
    report_free(r);
    fill(&d, false);
    for (int i = 0; i < 100 && !strstr(said, ": written again"); i++) {
        usleep(20000);
        store_push(s, make_commit(AT + SECOND));
    }
    assert_int_equal(store_close(s), 0);
    assert_int_equal(ask(path, "SELECT sum(count) FROM total"), 5);
    umount2(d.path, MNT_DETACH);
}

static void test_none_keeps_totals_in_memory_and_no_file(void **state)
{
    (void)state;
    assert_int_equal(chdir(folder), 0);
    struct store *s = store_open("none", "r1", 0, hear, NULL);
    push_start(s, "r1");
    push_total(s, 1, 1, 5, 100 * US);
    push_interval(s, 1, false, 10);
    push_span(s, 1, AT);
    store_push(s, make_commit(AT));
    struct report *r = load(s);
    assert_int_equal(r->requests, 5);
    assert_int_equal(r->sheds, 0);
    report_free(r);
    assert_int_equal(store_close(s), 0);
    assert_false(exists("none"));
    assert_string_equal(said, "");
}

/* --- size --- */

static uint64_t size_of(const char *path)
{
    struct stat st;
    char log[PATH_MAX + 8];
    uint64_t bytes = stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
    snprintf(log, sizeof log, "%s-wal", path);
    return bytes + (stat(log, &st) == 0 ? (uint64_t)st.st_size : 0);
}

static void test_size_is_bounded_and_no_total_is_lost(void **state)
{
    (void)state;
    const uint64_t limit = UINT64_C(2) << 20;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, limit, "r1");
    uint64_t largest = 0, requests = 0;
    push_start(s, "r1");
    for (uint32_t e = 2; e <= 20; e++) {
        char name[32];
        snprintf(name, sizeof name, "GET /%u", e);
        store_push(s, make_endpoint(e, "nginx", "http", SIDE_SERVER, name, 0));
    }
    for (uint32_t interval = 1; interval <= 1000; interval++) {
        for (uint32_t e = 1; e <= 20; e++) {
            push_total(s, interval, e, 4, (interval % 50 + 1) * e * US);
            requests += 4;
        }
        for (int i = 0; i < 200; i++)
            push_span(s, interval * 1000u + (unsigned)i, AT + interval * SECOND);
        push_interval(s, interval, true, 40);
        store_push(s, make_commit(AT + interval * 10 * SECOND));
        uint64_t now = size_of(path);
        largest = now > largest ? now : largest;
    }
    assert_true(largest <= limit);
    struct report *r = load(s);
    assert_int_equal(r->requests, requests);
    assert_int_equal(r->events.written, 40000);
    assert_int_equal(r->endpoint[0].latency.count, 4000);
    for (int i = 0; i < r->endpoints; i++) { /* 1..50 times its number: the median is 25 times it */
        int e =
            strcmp(r->endpoint[i].name, "GET /users/{id}") == 0 ? 1 : atoi(r->endpoint[i].name + 5);
        assert_true(r->endpoint[i].latency.p50 >= (uint64_t)e * 24700 &&
                    r->endpoint[i].latency.p50 <= (uint64_t)e * 25300);
        assert_int_equal(r->endpoint[i].latency.max, (uint64_t)e * 50000);
        assert_int_equal(r->endpoint[i].statuses, 1);
        assert_int_equal(r->endpoint[i].status[0].count, 4000);
    }
    report_free(r);
    assert_int_equal(store_close(s), 0);
    assert_true(ask(path, "SELECT count FROM shed WHERE reason = 'size'") > 0);
    assert_true(ask(path, "SELECT count(*) FROM interval WHERE level > 0") > 0);
    assert_int_equal(ask(path, "SELECT sum(count) FROM total"), (int64_t)requests);
    assert_int_equal(ask(path, "SELECT max(end_ns) FROM interval"), AT + 10000 * SECOND);
    assert_int_equal(ask(path, "SELECT max(latency_max) - 50000 FROM total WHERE endpoint = 1"), 0);
    assert_int_equal(ask(path, "SELECT count(*) FROM total WHERE latency_p50 > latency_max OR "
                               "latency_min > latency_p50"
                               " OR latency_sum < count * latency_min OR first_count <> count"),
                     0);
    assert_int_equal(
        ask(path, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
    assert_true(size_of(path) <= limit);
}

static void test_a_forgotten_reader_does_not_let_the_log_grow(void **state)
{
    (void)state;
    const uint64_t limit = UINT64_C(2) << 20;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, limit, "r1");
    push_start(s, "r1");
    push_total(s, 1, 1, 1, 100);
    push_interval(s, 1, false, 1);
    store_push(s, make_commit(AT));
    int go;
    pid_t child = start_reader(path, &go);
    uint64_t largest = 0;
    for (uint32_t i = 1; i <= 400; i++) {
        for (int k = 0; k < 100; k++)
            push_span(s, i * 100 + (unsigned)k, AT);
        push_total(s, 1, 1, 1 + i, 100);
        store_push(s, make_commit(AT));
        uint64_t now = size_of(path);
        largest = now > largest ? now : largest;
    }
    assert_true(largest <= limit);
    assert_non_null(strstr(said, "held by a reader"));
    struct report *r = load(s);
    assert_int_equal(r->requests, 401);
    report_free(r);
    close(go);
    waitpid(child, NULL, 0);
    try_until_written_again(s);
    assert_int_equal(store_close(s), 0);
    assert_int_equal(ask(path, "SELECT sum(count) FROM total"), 401);
}

static void test_memory_alone_is_bounded_too(void **state)
{
    (void)state;
    struct store *s = store_open("none", "r1", 0, hear, NULL);
    push_start(s, "r1");
    for (uint32_t e = 2; e <= 50; e++) {
        char name[32];
        snprintf(name, sizeof name, "GET /%u", e);
        store_push(s, make_endpoint(e, "nginx", "http", SIDE_SERVER, name, 0));
    }
    for (uint32_t interval = 1; interval <= 1500; interval++) {
        for (uint32_t e = 1; e <= 50; e++)
            push_total(s, interval, e, 2, interval * e * US);
        push_interval(s, interval, true, 40);
        store_push(s, make_commit(AT + interval * 10 * SECOND));
    }
    struct report *r = load(s);
    assert_int_equal(r->requests, 150000);
    report_free(r);
    assert_true(sqlite3_memory_used() < 16 << 20);
    store_close(s);
}

static void test_a_store_that_is_removed_is_written_again(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, 0, "r1");
    push_start(s, "r1");
    push_total(s, 1, 1, 5, 100);
    push_interval(s, 1, false, 10);
    push_span(s, 1, AT);
    store_push(s, make_commit(AT));
    assert_int_equal(unlink(path), 0);
    push_total(s, 2, 1, 6, 100);
    store_push(s, make_commit(AT + SECOND));
    push_total(s, 3, 1, 7, 100);
    push_span(s, 2, AT);
    store_push(s, make_commit(AT + 2 * SECOND));
    assert_non_null(strstr(said, "removed"));
    assert_int_equal(ask(path, "SELECT sum(count) FROM total"), 18);
    assert_int_equal(store_close(s), 0);
    assert_int_equal(ask(path, "SELECT count(*) FROM span"), 2);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(exists(in_folder("a.db-wal")));
}

static void test_another_file_in_its_place_is_left_alone(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, 0, "r1");
    push_start(s, "r1");
    push_total(s, 1, 1, 5, 100);
    store_push(s, make_commit(AT));
    unlink(path);
    write_file(path, "somebody else's\n");
    push_total(s, 2, 1, 6, 100);
    store_push(s, make_commit(AT + SECOND));
    push_total(s, 3, 1, 7, 100);
    store_push(s, make_commit(AT + 2 * SECOND));
    struct report *r = load(s);
    assert_int_equal(r->requests, 18);
    report_free(r);
    assert_true(store_close(s) < 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 16);
}

static void test_another_runs_store_in_its_place_is_left_alone(void **state)
{
    (void)state;
    const char *path = in_folder("a.db"), *other = in_folder("b.db");
    one_run(other, "r2");
    allow_file_size(0);
    struct store *s = store_open(path, "r1", 0, hear, NULL);
    allow_file_size(RLIM_INFINITY);
    push_start(s, "r1");
    push_total(s, 1, 1, 5, 100);
    rename(other, path);
    for (int i = 0; i < 5; i++) {
        usleep(30000);
        store_push(s, make_commit(AT));
    }
    assert_true(store_close(s) < 0);
    assert_int_equal(ask(path, "SELECT id = 'r2' FROM run"), 1);
    assert_int_equal(ask(path, "SELECT count(*) FROM total"), 0);
}

static void test_process_that_another_row_sums_is_forgotten(void **state)
{
    (void)state;
    const char *path = in_folder("a.db");
    struct store *s = open_chosen(path, 0, "r1");
    push_start(s, "r1");
    struct row_process p = {.process = 1, .pid = 4711, .merged = 0};
    store_push(s, make_process(&p, "", ""));
    p = (struct row_process){
        .process = 2, .merged = 5, .ended = 1, .start_ns = AT, .end_ns = AT + 1, .allocated = 77};
    store_push(s, make_process(&p, "/usr/sbin/nginx", "nginx"));
    store_push(s, make_commit(AT));
    store_close(s);
    assert_int_equal(ask(path, "SELECT sum(merged) FROM process"), 5);
    assert_int_equal(ask(path, "SELECT count(*) FROM process"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
        TEST(test_rows_become_tables),
        TEST(test_uncommitted_rows_are_not_seen_and_short_rows_are_none),
        TEST(test_each_request_has_its_own_values),
        TEST(test_older_stores_are_kept),
        TEST(test_a_killed_collectors_log_is_folded_in_before_the_rename),
        TEST(test_a_file_that_is_no_store_is_left_alone),
        TEST(test_wrong_places_name_their_remedy),
        TEST(test_default_path_falls_back),
        TEST(test_a_store_that_is_written_is_left_alone),
        TEST(test_two_collectors_never_write_one_file),
        TEST(test_reserved_by_a_supervisor_that_lives),
        TEST(test_a_collector_that_outlives_its_supervisor_keeps_its_store),
        TEST(test_an_older_store_that_somebody_reads_is_left_alone),
        TEST(test_next_collector_is_told_what_the_one_before_had),
        TEST(test_next_collector_goes_on),
        TEST(test_totals_that_were_not_delivered_are_told_again),
        TEST(test_numbers_that_were_told_go_on_are_kept),
        TEST(test_full_disk_keeps_the_totals_and_recovers),
        TEST(test_a_failing_disk_keeps_the_totals_and_recovers),
        TEST(test_long_outage_rolls_only_what_the_file_does_not_have),
        TEST(test_a_second_without_a_commit_is_bounded),
        TEST(test_disk_that_is_full_from_the_start),
        TEST(test_none_keeps_totals_in_memory_and_no_file),
        TEST(test_size_is_bounded_and_no_total_is_lost),
        TEST(test_a_forgotten_reader_does_not_let_the_log_grow),
        TEST(test_memory_alone_is_bounded_too),
        TEST(test_a_store_that_is_removed_is_written_again),
        TEST(test_another_file_in_its_place_is_left_alone),
        TEST(test_another_runs_store_in_its_place_is_left_alone),
        TEST(test_process_that_another_row_sums_is_forgotten),
    };
    store_retry_ns = 50 * MS;
    pool = sketch_pool_new(1 << 20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
