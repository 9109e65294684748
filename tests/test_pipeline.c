/*
 * test_pipeline.c - items in, spans and sums out: whole stories of servers.
 */
#include "tests/sanitizer.h"
#include "tests/scene.h"

static void test_keep_alive_requests_are_counted_and_timed(void **state)
{
    (void)state;
    scene_open();
    process_begins(1, 100, 0);
    struct actor *a = thread_in(1, 1);
    listens(a, 50, 80);
    accepts_from(a, 77, 50);
    for (int i = 0; i < 3; i++) {
        waits(a);
        reads(a, 77, GET("/a"));
        writes(a, 77, ANSWER);
    }
    reads_end(a, 77);
    closes(a, 77);
    process_exits(1);
    scene_end();
    assert_int_equal(scene.spans, 3);
    const struct span *s = &scene.span[1];
    assert_int_equal(s->side, SIDE_SERVER);
    assert_int_equal(s->status, 200);
    assert_true(s->answered);
    assert_int_equal(s->inferred, 0);
    assert_int_equal(s->bytes[IN], strlen(GET("/a")));
    assert_int_equal(s->bytes[OUT], strlen(ANSWER));
    assert_int_equal(s->body[OUT], 2);
    assert_int_equal(s->end_ns - s->start_ns, 1000);
    assert_int_equal(s->first_byte_ns, 1000);
    assert_int_equal(s->start_ns - s->ready_ns, 2000);
    assert_int_equal(scene.flow.accepted, 1);
    assert_int_equal(scene.flow.outside_in, 0);
    assert_int_equal(scene.flow.outside_out, 0);
    assert_int_equal(scene.unreads, 0);
    assert_int_equal(scene.in_flights, 0);
    scene_close();
}

static void test_a_client_request_runs_from_the_first_write_to_the_last_read(void **state)
{
    (void)state;
    scene_open();
    process_begins(1, 100, 0);
    struct actor *a = thread_in(1, 1);
    connects(a, 9, 0);
    writes(a, 9, GET("/up"));
    pass_time(5000);
    reads(a, 9, ANSWER_HEAD("4"));
    pass_time(7000);
    reads(a, 9, "abcd");
    closes(a, 9);
    process_exits(1);
    scene_end();
    assert_int_equal(scene.spans, 1);
    const struct span *s = &scene.span[0];
    assert_int_equal(s->side, SIDE_CLIENT);
    assert_int_equal(s->first_byte_ns, 1000 + 1000 + 5000);
    assert_int_equal(s->end_ns - s->start_ns, 1000 + 1000 + 5000 + 1000 + 7000);
    assert_int_equal(s->bytes[OUT], strlen(GET("/up")));
    assert_int_equal(scene.flow.opened, 1);
    scene_close();
}

/* --- the sums hold whatever happens ----------------------------------------------------------------------------------- */

#define LINES 12 /* connections at a time */
#define ASKED_MAX 4000
#define STATUS_LINE 17 /* before it is whole nobody knows that an answer began */

struct asked { /* a request that was made */
    uint32_t in, out, head, answer_head; /* bytes of it, of its answer, of their heads */
    uint32_t read, written;
    bool ended, killed;
};
struct line {
    uint64_t id;
    uint32_t process;
    int first, count; /* its requests, one after the other in `asked` */
    int reading, writing;
    bool open;
};
struct chance {
    bool losses, kills, bounds, unsure, forks;
};

static struct asked asked[ASKED_MAX];
static int asked_count;
static struct line line[LINES];
static uint64_t seed, last_id;
static uint32_t thread_numbers;

static uint32_t random_below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % n;
}

static bool happens(uint32_t percent)
{
    return random_below(100) < percent;
}

static void text_of_request(int number, char *text)
{
    if (number % 3 == 0)
        sprintf(text, "POST /%d HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345", number);
    else
        sprintf(text, "GET /%d HTTP/1.1\r\nHost: here\r\n\r\n", number);
}

static void text_of_answer(int number, char *text)
{
    static const char body[] = "0123456789012345678901234567890123456789012345678901234567890123456789";
    sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%.*s", number % 70, number % 70, body);
}

static struct actor *any_thread(uint32_t process)
{
    struct actor *t = thread_in(process * 4 + random_below(3), process);
    static uint32_t number[SCENE_THREADS];
    if (!t->total.allocations && !t->sequence)
        number[t->lane] = 0;
    if (!number[t->lane])
        number[t->lane] = ++thread_numbers;
    t->thread = number[t->lane];
    if (happens(3)) {
        thread_ends(t);
        memset(t, 0, sizeof *t);
        t = thread_in((uint32_t)(t - scene.actor), process);
        t->thread = number[t->lane] = ++thread_numbers;
    }
    for (uint32_t n = random_below(4); n--;)
        happens(50) ? allocates(t, random_below(1000)) : frees(t, random_below(1000));
    if (happens(15))
        waits(t);
    if (happens(10))
        waits_quietly(t);
    if (happens(20))
        allocates(t, random_below(100));
    return t;
}

static void ask_more(struct line *l)
{
    char text[256];
    for (uint32_t n = 1 + random_below(4); n-- && asked_count < ASKED_MAX; l->count++) {
        struct asked *r = &asked[asked_count];
        *r = (struct asked){0};
        text_of_request(asked_count, text);
        r->in = (uint32_t)strlen(text);
        r->head = asked_count % 3 ? r->in : r->in - 5;
        text_of_answer(asked_count, text);
        r->out = (uint32_t)strlen(text);
        r->answer_head = r->out - (uint32_t)asked_count % 70;
        asked_count++;
    }
}

/* Some of the bytes that are due this way, over requests' boundaries as it happens. */
static void move_some(struct line *l, enum event_type type, bool lose)
{
    char text[2048], one[256];
    size_t len = 0;
    int *at = type == EVENT_IN ? &l->reading : &l->writing;
    int limit = type == EVENT_IN ? l->first + l->count : l->reading;
    for (uint32_t parts = 1 + random_below(5); parts-- && *at < limit;) {
        struct asked *r = &asked[*at];
        uint32_t *done = type == EVENT_IN ? &r->read : &r->written, all = type == EVENT_IN ? r->in : r->out;
        uint32_t n = happens(60) ? all - *done : 1 + random_below(all - *done);
        if (type == EVENT_IN)
            text_of_request(*at, one);
        else
            text_of_answer(*at, one);
        memcpy(text + len, one + *done, n);
        len += n;
        *done += n;
        if (*done < all)
            break;
        ++*at;
    }
    if (!len)
        return;
    struct actor *t = any_thread(l->process);
    if (lose)
        loses(t, type, l->id, len);
    else
        moves(t, type, l->id, text, len, len, 0);
}

static void end_line(struct line *l, bool killed)
{
    l->open = false;
    for (int i = l->first; i < l->first + l->count; i++) {
        asked[i].ended = true;
        asked[i].killed = killed;
    }
}

static void play_line(struct line *l, uint32_t process, const struct chance *may)
{
    if (!l->open) {
        if (asked_count >= ASKED_MAX - 100)
            return;
        *l = (struct line){.id = ++last_id, .process = process, .open = true};
        accepts(any_thread(process), l->id);
        l->first = l->reading = l->writing = asked_count;
        ask_more(l);
        return;
    }
    bool lose = may->losses && happens(3);
    if (happens(4)) {
        struct actor *t = any_thread(l->process);
        if (happens(50))
            reads_end(t, l->id);
        closes(t, l->id);
        end_line(l, false);
    } else if (l->reading < l->first + l->count && happens(50)) {
        move_some(l, EVENT_IN, lose);
    } else if (l->writing < l->reading) {
        move_some(l, EVENT_OUT, lose);
    } else if (l->reading == l->first + l->count && l->first + l->count == asked_count) {
        ask_more(l);
    } else if (l->writing == l->first + l->count) {
        closes(any_thread(l->process), l->id);
        end_line(l, false);
    }
}

static void play_unsure(uint32_t process)
{
    uint64_t id = ++last_id;
    struct actor *t = any_thread(process);
    for (int i = 0; i < 3; i++) {
        scene.flags = EVENT_UNSURE;
        writes(t, id, "a line\n");
    }
    struct fact f = {.kind = FACT_DESCRIPTOR, .connection = id, .is_known = true, .is_stream = happens(50)};
    play_fact(&f, NULL, process);
    scene.flags = EVENT_UNSURE;
    writes(t, id, "a line\n");
}

static void play_time(void)
{
    int before = scene.ticks;
    pass_time(happens(20) ? 1300 * MS : random_below(3000000));
    tick();
    if (scene.ticks > before)
        check_sums();
}

static void tell_total(uint32_t process)
{
    struct fact f = {.kind = FACT_PROCESS_TOTAL, .total = totals_of(process)};
    play_fact(&f, NULL, process);
}

static void end_process(uint32_t process, bool killed)
{
    killed ? process_is_killed(process) : process_exits(process);
    for (int i = 0; i < LINES; i++)
        if (line[i].open && line[i].process == process)
            end_line(&line[i], killed);
    for (uint32_t i = process * 4; i < process * 4 + 4; i++)
        memset(&scene.actor[i], 0, sizeof scene.actor[i]);
}

static int spans_of(int number)
{
    char target[16];
    int found = 0;
    snprintf(target, sizeof target, "/%d", number);
    for (int i = 0; i < scene.spans; i++)
        if (scene.span[i].target_len == strlen(target) && !memcmp(scene.span[i].target, target, strlen(target))) {
            found++;
            const struct asked *r = &asked[number];
            assert_int_equal(scene.span[i].answered, r->written >= r->answer_head);
            assert_int_equal(scene.span[i].bytes[IN], r->read);
            assert_int_equal(scene.span[i].bytes[OUT], r->written < STATUS_LINE ? 0 : r->written);
        }
    return found;
}

/* Nothing was lost: each request whose head came is there once, with its bytes; cut off ones are in flight. */
static void check_each_request(void)
{
    int in_flight = 0;
    for (int i = 0; i < asked_count; i++) {
        const struct asked *r = &asked[i];
        bool counts = r->read >= r->head, whole = r->read == r->in && r->written == r->out;
        bool flies = counts && !whole && (!r->ended || r->killed);
        in_flight += flies;
        assert_int_equal(spans_of(i), counts && !flies);
    }
    assert_int_equal(scene.in_flights, in_flight);
}

static void play_one(uint64_t number, const struct chance *may)
{
    seed = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    asked_count = 0;
    thread_numbers = 0;
    memset(line, 0, sizeof line);
    options_init(&scene.options);
    scene.options.connections = may->bounds ? 64 : 1024;
    scene.options.open_spans = may->bounds ? 64 : 4096;
    scene_open();
    last_id = 0;
    process_begins(1, 100, 0);
    process_begins(2, 200, 0);
    process_begins(3, 300, 1);
    for (uint32_t steps = 50 + random_below(400); steps--;) {
        uint32_t process = 1 + random_below(3);
        struct line *l = &line[random_below(LINES)];
        if (happens(90))
            play_line(l, process, may);
        else if (happens(50))
            play_time();
        else if (happens(30))
            tell_total(process);
        else if (may->unsure)
            play_unsure(process);
    }
    for (uint32_t process = 1; process <= 3; process++)
        if (happens(80))
            end_process(process, may->kills && happens(50));
        else
            tell_total(process);
    if (happens(50))
        idles(3);
    scene_end();
    if (!may->losses && !may->bounds && !may->unsure)
        check_each_request();
    scene_close();
}

static void play_many(const struct chance *may, uint64_t from, uint64_t count)
{
    const char *only = getenv("SEED"), *more = getenv("SEEDS");
    if (THREAD_SANITIZER) { /* one thread: it finds nothing here, and all of them take it half an hour */
        count /= 20;
        print_message("under the thread sanitizer only the first %d\n", (int)count);
    }
    if (more)
        count = strtoull(more, NULL, 10);
    for (uint64_t i = from; i < from + count; i++) {
        if (only && i != strtoull(only, NULL, 10))
            continue;
        play_one(i, may);
        if (scene.spans > SCENE_SPANS)
            fail_msg("seed %d makes too many spans", (int)i);
    }
}

static void test_sums_hold_and_every_request_counts_once(void **state)
{
    (void)state;
    play_many(&(struct chance){0}, 1, 2000);
}

static void test_sums_hold_when_processes_are_killed(void **state)
{
    (void)state;
    play_many(&(struct chance){.kills = true}, 100000, 1000);
}

static void test_sums_hold_when_events_are_lost(void **state)
{
    (void)state;
    play_many(&(struct chance){.kills = true, .losses = true, .unsure = true}, 200000, 2000);
}

static void test_sums_hold_beyond_the_bounds(void **state)
{
    (void)state;
    play_many(&(struct chance){.kills = true, .losses = true, .unsure = true, .bounds = true}, 300000, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive_requests_are_counted_and_timed),
        cmocka_unit_test(test_a_client_request_runs_from_the_first_write_to_the_last_read),
        cmocka_unit_test(test_sums_hold_and_every_request_counts_once),
        cmocka_unit_test(test_sums_hold_when_processes_are_killed),
        cmocka_unit_test(test_sums_hold_when_events_are_lost),
        cmocka_unit_test(test_sums_hold_beyond_the_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
