/*
 * span.c - requests in progress: pairs answers with requests, takes their times and bytes, hands them on when final.
 *
 * In:      connection.c (messages), activity.c (claims)      Out: span_fn
 * Owns:    the pool of exchanges.
 * Context: C
 * Failure: at the bound the oldest ends as unfinished, counted in bound_spans.
 */
#include "collector/span.h"
#include "collector/wall.h"

#include <stdlib.h>
#include <string.h>

const char *const unread_names[UNREAD_COUNT] = {"tls", "unknown", "late_attach", "capture"};

struct spans {
    struct exchange *pool; /* [1..limit] */
    uint32_t limit, used, free; /* `used` ever; `free` heads the list of those given back, by `next` */
    uint32_t oldest, newest;
    uint64_t next_id;
    span_fn hand_on;
    void *to;
    span_leaves_fn leaves; /* NULL: nobody samples */
    void *leaves_to;
    struct charged charged;
};

struct spans *spans_new(uint32_t limit, span_fn hand_on, void *to)
{
    struct spans *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->pool = calloc((size_t)limit + 1, sizeof *s->pool);
    s->limit = limit;
    s->next_id = 1;
    s->hand_on = hand_on;
    s->to = to;
    if (!s->pool) {
        free(s);
        return NULL;
    }
    return s;
}

void spans_free(struct spans *s)
{
    if (!s)
        return;
    free(s->pool);
    free(s);
}

void spans_leave_by(struct spans *s, span_leaves_fn leaves, void *to)
{
    s->leaves = leaves;
    s->leaves_to = to;
}

void spans_start(struct spans *s, uint64_t time_ns)
{
    if (time_ns > s->next_id)
        s->next_id = time_ns;
}

struct exchange *spans_at(const struct spans *s, uint32_t index)
{
    return &s->pool[index];
}

uint32_t spans_index(const struct spans *s, const struct exchange *e)
{
    return (uint32_t)(e - s->pool);
}

uint32_t spans_oldest(const struct spans *s)
{
    return s->oldest;
}

const struct charged *spans_charged(const struct spans *s)
{
    return &s->charged;
}

/* --- the end of one ------------------------------------------------------------------------------------------------- */

static void unlink_from_dialogue(struct spans *s, struct exchange *e)
{
    struct dialogue *d = e->dialogue;
    if (e->previous)
        s->pool[e->previous].next = e->next;
    else
        d->first = e->next;
    if (e->next)
        s->pool[e->next].previous = e->previous;
    else
        d->last = e->previous;
}

static void unlink_from_all(struct spans *s, struct exchange *e)
{
    if (e->older)
        s->pool[e->older].newer = e->newer;
    else
        s->oldest = e->newer;
    if (e->newer)
        s->pool[e->newer].older = e->older;
    else
        s->newest = e->older;
}

/* Final: to the next stage or to outside, and back to the pool. */
static void leave(struct spans *s, struct exchange *e)
{
    unlink_from_dialogue(s, e);
    unlink_from_all(s, e);
    if (s->leaves)
        s->leaves(s->leaves_to, &e->span, !(e->state & UNCOUNTED));
    if (e->state & UNCOUNTED) {
        cost_add(&s->charged.uncounted, &e->span.cost);
    } else {
        cost_add(&s->charged.spans, &e->span.cost);
        s->charged.bytes[IN] += e->span.bytes[IN];
        s->charged.bytes[OUT] += e->span.bytes[OUT];
        s->charged.count++;
        wall_finish(e);
        s->hand_on(s->to, &e->span);
    }
    uint32_t index = spans_index(s, e);
    if (e->dialogue->over_first == index)
        e->dialogue->over_first = e->next;
    e->span.id = 0;
    e->next = s->free;
    s->free = index;
}

static struct exchange *parent_of(struct spans *s, const struct exchange *e)
{
    struct exchange *p = e->parent ? &s->pool[e->parent] : NULL;
    return p && p->span.id == e->span.parent ? p : NULL;
}

/* Time that a server span spent in its client spans: their union, up to its own end. */
static void children_pause(struct exchange *p, uint64_t until)
{
    if (p->children && until > p->child_since)
        p->span.downstream_ns += until - p->child_since;
    p->child_since = until;
}

static void child_ends(struct exchange *p, uint64_t time_ns)
{
    if (!p->children)
        return;
    if (p->children == 1 && !(p->state & TIME_OVER))
        children_pause(p, time_ns);
    p->children--;
}

void span_call_begin(struct spans *s, uint32_t index, uint64_t time_ns)
{
    struct exchange *p = &s->pool[index];
    if (!p->children++)
        p->child_since = time_ns;
}

void span_call_end(struct spans *s, uint32_t index, uint64_t id, uint64_t time_ns)
{
    if (s->pool[index].span.id == id)
        child_ends(&s->pool[index], time_ns);
}

static void time_is_over(struct spans *s, struct exchange *e)
{
    struct dialogue *d = e->dialogue;
    struct span *p = &e->span;
    e->state |= TIME_OVER;
    if (p->end_ns < p->start_ns)
        p->end_ns = p->start_ns;
    if (!(e->state & HEAD_SEEN))
        e->state |= UNCOUNTED;
    if (e->children)
        children_pause(e, p->end_ns);
    struct exchange *parent = parent_of(s, e);
    if (parent)
        child_ends(parent, p->end_ns);
    if (!d->over_count || p->id < s->pool[d->over_first].span.id)
        d->over_first = spans_index(s, e);
    if (!d->over_count++ || p->id > d->over_last_id)
        d->over_last_id = p->id;
}

void span_settle(struct spans *s, struct dialogue *d)
{
    uint32_t index = d->over_first;
    uint64_t last = d->over_last_id;
    for (uint32_t left = d->over_count; left && index; ) {
        struct exchange *e = &s->pool[index];
        uint32_t next = e->next;
        if (!e->span.id || e->span.id > last)
            break;
        if (e->state & TIME_OVER) {
            left--;
            if (!e->claims)
                leave(s, e);
        }
        index = next;
    }
    d->over_count = 0;
}

void span_unclaim(struct spans *s, struct exchange *e)
{
    if (e->claims)
        e->claims--;
    if (!e->claims && e->state & TIME_OVER)
        leave(s, e);
}

/* --- bytes of messages ------------------------------------------------------------------------------------------------ */

/* A parser cannot give a message more bytes than passed since the message before it. */
static uint64_t take_bytes(struct dialogue *d, enum way way, uint64_t position, uint64_t wire, uint64_t time_ns)
{
    uint64_t most = position > d->message[way] ? position - d->message[way] : 0;
    if (wire > most)
        wire = most;
    d->message[way] += wire;
    d->begin_ns[way] = time_ns;
    return wire;
}

/* A message that never got its END: what passed of it. */
static void cut_off(struct exchange *e, enum way way)
{
    struct dialogue *d = e->dialogue;
    uint64_t from = e->began[way] > d->message[way] ? e->began[way] : d->message[way];
    if (d->fed[way] <= from)
        return;
    e->span.bytes[way] += d->fed[way] - from;
    d->message[way] = d->fed[way];
}

/* --- an exchange's life ------------------------------------------------------------------------------------------------ */

void span_give_up(struct spans *s, struct exchange *e)
{
    struct dialogue *d = e->dialogue;
    if (!(e->state & TIME_OVER)) {
        uint32_t index = spans_index(s, e);
        if (!(e->state & RESPONSE_OVER)) {
            if (d->pending == index)
                d->pending = e->next;
            d->given_up++;
            d->astray |= (e->state & RESPONSE_SEEN) != 0;
        }
        s->charged.bound_spans++;
        e->span.inferred |= INFERRED_END;
        e->span.end_ns = d->last_ns[IN] > d->last_ns[OUT] ? d->last_ns[IN] : d->last_ns[OUT];
        uint32_t count = d->over_count;
        time_is_over(s, e);
        d->over_count = count;
    }
    leave(s, e);
}

/* In steps of a size for which compilers store zeros: `rep stos`, for all of it at once, takes 15 ns to begin. */
static inline void clear(struct exchange *e)
{
    const size_t bytes = offsetof(struct exchange, span) + offsetof(struct span, verb), step = 64;
    size_t at = 0;
    char *p = (char *)e;
#pragma GCC unroll 16
    for (; at + step <= bytes; at += step)
        memset(p + at, 0, step);
    memset(p + at, 0, bytes - at);
}

static struct exchange *take_free(struct spans *s)
{
    if (!s->free && s->used == s->limit)
        span_give_up(s, &s->pool[s->oldest]);
    uint32_t index = s->free;
    if (index)
        s->free = s->pool[index].next;
    else
        index = ++s->used;
    struct exchange *e = &s->pool[index];
    clear(e);
    e->span.peer_length = e->span.local_length = 0;
    return e;
}

static void link_new(struct spans *s, struct dialogue *d, struct exchange *e, uint32_t index)
{
    e->dialogue = d;
    e->previous = d->last;
    if (d->last)
        s->pool[d->last].next = index;
    else
        d->first = index;
    d->last = index;
    if (!d->pending)
        d->pending = index;
    e->older = s->newest;
    if (s->newest)
        s->pool[s->newest].newer = index;
    else
        s->oldest = index;
    s->newest = index;
}

static void take_parent(struct spans *s, struct dialogue *d, struct exchange *e, uint64_t time_ns)
{
    e->span.parent = d->parent;
    e->parent = d->parent_exchange;
    struct exchange *p = d->parent ? parent_of(s, e) : NULL;
    if (!p || p->state & TIME_OVER)
        return;
    span_call_begin(s, e->parent, time_ns);
}

static uint32_t begin_request(struct spans *s, struct dialogue *d, const struct message *m, enum way way,
                              uint64_t at, const struct moment *now)
{
    struct exchange *e = take_free(s);
    uint32_t index = spans_index(s, e);
    struct span *p = &e->span;
    link_new(s, d, e, index);
    p->id = s->next_id++;
    p->retained = UINT64_MAX;
    e->stream = m->stream;
    e->lane = now->lane;
    e->began[way] = at;
    p->side = d->side;
    p->protocol = d->protocol;
    p->process = now->process;
    p->thread = now->thread;
    p->tid = (uint32_t)now->tid;
    if (m->inferred)
        p->inferred |= INFERRED_BOUNDARY;
    if (way == IN) {
        p->ready_ns = now->ready_ns;
        p->first_in_ns = p->last_in_ns = p->start_ns = now->time_ns;
    } else {
        p->first_out_ns = p->last_out_ns = now->time_ns;
        p->start_ns = now->entry_ns;
        take_parent(s, d, e, now->time_ns); /* the write itself is the parent's work */
    }
    return index;
}

static uint8_t copy_text(char *to, size_t room, struct slice text)
{
    size_t n = text.len < room ? text.len : room;
    if (n)
        memcpy(to, text.at, n);
    to[n] = 0; /* callers leave room for it */
    return (uint8_t)n;
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* traceparent: 00-<32 hex digits>-<16>-<2> */
static void read_trace(struct span *p, struct slice t)
{
    uint8_t id[16], any = 0;
    if (t.len < 55 || t.at[2] != '-' || t.at[35] != '-')
        return;
    for (int i = 0; i < 16; i++) {
        int high = hex_digit(t.at[3 + 2 * i]), low = hex_digit(t.at[4 + 2 * i]);
        if (high < 0 || low < 0)
            return;
        id[i] = (uint8_t)(high << 4 | low);
        any |= id[i];
    }
    if (!any)
        return;
    memcpy(p->trace, id, sizeof id);
    p->traced = true;
}

static void request_head(struct exchange *e, const struct message *m)
{
    struct span *p = &e->span;
    e->state |= HEAD_SEEN;
    p->verb_len = copy_text(p->verb, sizeof p->verb - 1, m->verb);
    p->target_len = (uint16_t)(m->target.len < SPAN_TARGET ? m->target.len : SPAN_TARGET);
    if (p->target_len)
        memcpy(p->target, m->target.at, p->target_len);
    if (m->inferred)
        p->inferred |= INFERRED_BOUNDARY;
    if (m->trace.len)
        read_trace(p, m->trace);
}

static inline void note_time(struct span *p, enum way way, uint64_t time_ns)
{
    if (way == IN)
        p->last_in_ns = time_ns;
    else
        p->last_out_ns = time_ns;
}

static void response_is_over(struct spans *s, struct dialogue *d, struct exchange *e, uint64_t time_ns)
{
    e->state |= RESPONSE_OVER;
    e->span.end_ns = time_ns;
    if (d->pending == spans_index(s, e)) {
        do
            d->pending = s->pool[d->pending].next;
        while (d->pending && s->pool[d->pending].state & RESPONSE_OVER);
    }
    if (e->state & REQUEST_OVER)
        time_is_over(s, e);
}

static void request_end(struct spans *s, struct dialogue *d, struct exchange *e, const struct message *m, enum way way,
                        uint64_t wire, uint64_t time_ns)
{
    e->span.bytes[way] += wire;
    e->span.body[way] = m->body_bytes;
    e->state |= REQUEST_OVER;
    note_time(&e->span, way, time_ns);
    if (m->inferred)
        e->span.inferred |= INFERRED_BOUNDARY;
    if (m->no_answer && !(e->state & RESPONSE_OVER)) {
        e->span.answered = true;
        response_is_over(s, d, e, time_ns);
    } else if (e->state & RESPONSE_OVER) {
        time_is_over(s, e);
    }
}

static void response_begin(struct exchange *e, enum way way, uint64_t at, uint64_t time_ns)
{
    struct span *p = &e->span;
    e->state |= RESPONSE_SEEN;
    e->began[way] = at;
    *(way == IN ? &p->first_in_ns : &p->first_out_ns) = time_ns;
    p->first_byte_ns = time_ns > p->start_ns ? time_ns - p->start_ns : 1;
}

static void response_head(struct exchange *e, const struct message *m)
{
    struct span *p = &e->span;
    e->state |= STATUS_SEEN;
    p->answered = true;
    p->status = m->status;
    p->error = m->error;
    p->error_len = copy_text(p->error_text, sizeof p->error_text - 1, m->error_text);
}

static void response_end(struct spans *s, struct dialogue *d, struct exchange *e, const struct message *m, enum way way,
                         uint64_t wire, uint64_t time_ns)
{
    struct span *p = &e->span;
    p->bytes[way] += wire;
    p->body[way] = m->body_bytes;
    note_time(p, way, time_ns);
    if (m->inferred)
        p->inferred |= INFERRED_BOUNDARY | (m->past ? INFERRED_END : 0);
    if (m->truncated)
        p->inferred |= INFERRED_END;
    else if (!m->inferred)
        p->answered = true;
    if (m->status && !m->truncated)
        p->status = m->status;
    if (m->error && !(m->truncated && !(e->state & STATUS_SEEN))) {
        p->error = true;
        if (m->error_text.len)
            p->error_len = copy_text(p->error_text, sizeof p->error_text - 1, m->error_text);
    }
    response_is_over(s, d, e, time_ns);
}

/* --- messages ------------------------------------------------------------------------------------------------------------ */

static struct exchange *of_stream(struct spans *s, const struct dialogue *d, uint32_t stream)
{
    for (uint32_t i = d->pending; i; i = s->pool[i].next)
        if (s->pool[i].stream == stream && !(s->pool[i].state & RESPONSE_OVER))
            return &s->pool[i];
    return NULL;
}

/* The request that this part of an answer belongs to, NULL: to none that we know. */
static struct exchange *answered_by(struct spans *s, struct dialogue *d, const struct message *m)
{
    if (m->part == RESPONSE_BEGIN)
        d->astray = d->given_up > 0;
    if (d->astray) {
        if (m->part == RESPONSE_END) {
            d->given_up -= d->given_up > 0;
            d->astray = false;
        }
        return NULL;
    }
    if (m->stream)
        return of_stream(s, d, m->stream);
    return d->pending ? &s->pool[d->pending] : NULL;
}

static struct exchange *being_asked(struct spans *s, const struct dialogue *d, uint32_t stream)
{
    uint32_t i = d->last;
    while (i && (s->pool[i].state & REQUEST_OVER || s->pool[i].stream != stream))
        i = stream ? s->pool[i].previous : 0;
    return i ? &s->pool[i] : NULL;
}

static void on_request_part(struct spans *s, struct dialogue *d, const struct message *m, enum way way, uint64_t wire,
                            uint64_t time_ns)
{
    struct exchange *e = being_asked(s, d, m->stream);
    if (!e)
        return;
    if (m->part == REQUEST_HEAD)
        request_head(e, m);
    else
        request_end(s, d, e, m, way, wire, time_ns);
}

static void on_response_part(struct spans *s, struct dialogue *d, const struct message *m, enum way way, uint64_t at,
                             uint64_t wire, uint64_t time_ns)
{
    struct exchange *e = answered_by(s, d, m);
    if (!e)
        return;
    if (m->part == INTERIM)
        e->span.bytes[way] += wire;
    else if (m->part == RESPONSE_BEGIN)
        response_begin(e, way, at, m->at || !d->begin_ns[way] ? time_ns : d->begin_ns[way]);
    else if (m->part == RESPONSE_HEAD)
        response_head(e, m);
    else
        response_end(s, d, e, m, way, wire, time_ns);
}

/* It follows its RESPONSE_END: the exchange is the newest one whose answer is over. */
static void on_upgrade(struct spans *s, struct dialogue *d)
{
    d->upgraded = true;
    uint32_t i = d->last;
    while (i && !(s->pool[i].state & RESPONSE_OVER))
        i = s->pool[i].previous;
    if (!i)
        return;
    struct exchange *e = &s->pool[i];
    e->span.upgraded = true;
    if (!(e->state & TIME_OVER))
        time_is_over(s, e);
}

/* What its three parts would say. */
static uint32_t whole_request(struct spans *s, struct dialogue *d, const struct message *m, enum way way,
                              uint64_t position, const struct moment *now)
{
    uint32_t index = begin_request(s, d, m, way, position + m->begin, now);
    struct exchange *e = &s->pool[index];
    request_head(e, m);
    uint64_t wire = take_bytes(d, way, position + m->at, m->wire_bytes, now->time_ns);
    request_end(s, d, e, m, way, wire, now->time_ns);
    return index;
}

static void whole_response(struct spans *s, struct dialogue *d, const struct message *m, enum way way,
                           uint64_t position, const struct moment *now)
{
    uint64_t wire = take_bytes(d, way, position + m->at, m->wire_bytes, now->time_ns);
    if (d->given_up) {
        d->given_up--; /* it belongs to none that we know */
        d->astray = false;
        return;
    }
    struct exchange *e = m->stream ? of_stream(s, d, m->stream) : d->pending ? &s->pool[d->pending] : NULL;
    if (!e)
        return;
    response_begin(e, way, position + m->begin, now->time_ns);
    response_head(e, m);
    response_end(s, d, e, m, way, wire, now->time_ns);
}

uint32_t span_message(struct spans *s, struct dialogue *d, const struct message *m, enum way fed, uint64_t position,
                      const struct moment *now)
{
    bool asks = m->part <= REQUEST_END || m->part == REQUEST;
    enum way way = asks == (d->side == SIDE_SERVER) ? IN : OUT;
    if (m->part == REQUEST)
        return whole_request(s, d, m, way, position, now);
    if (m->part == RESPONSE) {
        whole_response(s, d, m, way, position, now);
        return 0;
    }
    if (m->part == REQUEST_BEGIN)
        return begin_request(s, d, m, way, position + m->at, now);
    if (m->part == STRAY)
        way = fed;
    uint64_t at = way == fed ? position + m->at : d->fed[way];
    uint64_t time_ns = m->past ? d->last_ns[way] : now->time_ns, wire = 0;
    if (m->part == REQUEST_END || m->part == RESPONSE_END || m->part == INTERIM || m->part == PUSH || m->part == STRAY)
        wire = take_bytes(d, way, at, m->wire_bytes, now->time_ns);
    if (m->part <= REQUEST_END)
        on_request_part(s, d, m, way, wire, time_ns);
    else if (m->part <= RESPONSE_END)
        on_response_part(s, d, m, way, at, wire, time_ns);
    else if (m->part == UPGRADE)
        on_upgrade(s, d);
    return 0;
}

/* --- the end of a dialogue ------------------------------------------------------------------------------------------------ */

void span_dialogue_end(struct spans *s, struct dialogue *d, const struct moment *now)
{
    enum way asks = d->side == SIDE_SERVER ? IN : OUT, answers = asks == IN ? OUT : IN;
    for (uint32_t i = d->first; i; i = s->pool[i].next) {
        struct exchange *e = &s->pool[i];
        if (e->state & TIME_OVER)
            continue;
        if (!(e->state & REQUEST_OVER))
            cut_off(e, asks);
        if (!(e->state & RESPONSE_OVER)) {
            if (e->state & RESPONSE_SEEN)
                cut_off(e, answers);
            e->span.inferred |= e->span.answered ? INFERRED_END : 0;
            e->span.end_ns = e->span.answered ? d->last_ns[answers] : now->time_ns;
        }
        time_is_over(s, e);
    }
    d->pending = 0;
    d->given_up = 0;
}

void span_dialogue_kill(struct spans *s, struct dialogue *d, uint64_t time_ns,
                        void (*tell)(void *to, const struct exchange *), void *to)
{
    for (uint32_t i = d->first; i; i = s->pool[i].next) {
        struct exchange *e = &s->pool[i];
        if (e->state & TIME_OVER)
            continue;
        if (e->state & HEAD_SEEN)
            tell(to, e);
        e->span.end_ns = time_ns;
        e->state |= UNCOUNTED;
        time_is_over(s, e);
    }
    d->pending = 0;
    d->given_up = 0;
}
