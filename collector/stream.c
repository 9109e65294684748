/*
 * stream.c - the bytes of a connection in their order: captures and holes to the parser, which is found by the first.
 *
 * Context: C
 * Failure: no block left for held bytes or for a parser's state: the connection is only counted, and listed as unread.
 */
#include "collector/connection.h"

#include <stdlib.h>
#include <string.h>

#include "wire/arena.h"

#define GAP_MAX (UINT64_C(1) << 40) /* an offset further on is no truth */
#ifndef PARSERS /* a fuzzer has fewer */
#define PARSERS 16384u
#define HOLDS 512u
#endif
#define HOLD_BYTES 8192u
#define PREFIX 4096u /* bytes of one direction after which a protocol is unknown */
#define IDLE_NS UINT64_C(1000000000)
#define SWEEP 1024u /* parser states looked at in a tick */

struct parsers {
    uint8_t *block; /* PARSERS x PROTOCOL_STATE_MAX */
    uint32_t owner[PARSERS + 1]; /* slot; of a free one: the next free */
    uint32_t used, free, hand;
};

/* Captured bytes of a call, kept until it is known what they are. */
struct held {
    struct moment moment;
    uint64_t offset, bytes; /* of the call; `bytes` may be more than what was captured */
    uint32_t process;
    uint16_t head, tail;
    uint8_t way, offset_known;
};
struct hold {
    uint32_t used;
    uint64_t unheld[2]; /* bytes of calls for which there was no room */
    uint8_t data[HOLD_BYTES];
};
struct holds {
    struct hold *block; /* [1..HOLDS] */
    uint32_t next[HOLDS + 1];
    uint32_t used, free;
};

/* One call's bytes. */
struct piece {
    const struct moment *moment;
    enum way way;
    bool offset_known;
    uint32_t process;
    uint64_t offset, bytes;
    const uint8_t *data;
    uint32_t head, tail;
};

struct feeding {
    struct connections *cs;
    struct connection *c;
    const struct moment *moment;
    enum way way;
};

/* --- blocks ----------------------------------------------------------------------------------------------------------- */

int streams_init(struct connections *cs, const struct options *o)
{
    (void)o;
    cs->parsers = calloc(1, sizeof *cs->parsers);
    cs->holds = calloc(1, sizeof *cs->holds);
    if (!cs->parsers || !cs->holds)
        return -1;
    cs->parsers->block = calloc(PARSERS + 1, PROTOCOL_STATE_MAX);
    cs->holds->block = calloc(HOLDS + 1, sizeof *cs->holds->block);
    return cs->parsers->block && cs->holds->block ? 0 : -1;
}

void streams_fini(struct connections *cs)
{
    if (cs->parsers)
        free(cs->parsers->block);
    if (cs->holds)
        free(cs->holds->block);
    free(cs->parsers);
    free(cs->holds);
}

static void *state_of(const struct connections *cs, const struct connection *c)
{
    return cs->parsers->block + (size_t)c->parser * PROTOCOL_STATE_MAX;
}

static void give_parser(struct connections *cs, struct connection *c)
{
    struct parsers *p = cs->parsers;
    if (!c->parser)
        return;
    p->owner[c->parser] = p->free;
    p->free = c->parser;
    c->parser = 0;
}

static bool is_idle(struct connections *cs, uint32_t block, uint64_t before_ns)
{
    uint8_t fresh[PROTOCOL_STATE_MAX];
    struct connection *c = &cs->table[cs->parsers->owner[block]];
    if (c->parser != block || c->touched_ns >= before_ns || c->dialogue.pending || c->dialogue.given_up)
        return false;
    const struct protocol *p = c->dialogue.protocol;
    if (p->idle)
        return p->idle(state_of(cs, c));
    memset(fresh, 0, p->state_bytes);
    p->reset(fresh, (enum side)c->dialogue.side);
    return !memcmp(fresh, state_of(cs, c), p->state_bytes);
}

/* Idle connections whose parser stands as after reset give its state back: it is made again with the next byte. */
static void sweep_parsers(struct connections *cs, uint64_t before_ns, uint32_t looks)
{
    struct parsers *p = cs->parsers;
    if (looks > p->used)
        looks = p->used;
    for (uint32_t n = 0; n < looks; n++) {
        p->hand = p->hand >= p->used ? 1 : p->hand + 1;
        uint32_t owner = p->owner[p->hand];
        if (owner && owner <= cs->used && cs->table[owner].parser == p->hand && is_idle(cs, p->hand, before_ns))
            give_parser(cs, &cs->table[owner]);
    }
}

static bool take_parser(struct connections *cs, struct connection *c)
{
    struct parsers *p = cs->parsers;
    if (!p->free && p->used == PARSERS)
        sweep_parsers(cs, cs->now_ns, PARSERS);
    uint32_t block = p->free;
    if (block)
        p->free = p->owner[block];
    else if (p->used < PARSERS)
        block = ++p->used;
    else
        return false;
    p->owner[block] = connection_slot(cs, c);
    c->parser = block;
    memset(state_of(cs, c), 0, c->dialogue.protocol->state_bytes);
    c->dialogue.protocol->reset(state_of(cs, c), (enum side)c->dialogue.side);
    return true;
}

static struct hold *hold_of(struct connections *cs, struct connection *c)
{
    struct holds *h = cs->holds;
    if (c->hold)
        return &h->block[c->hold];
    uint32_t block = h->free;
    if (block)
        h->free = h->next[block];
    else if (h->used < HOLDS)
        block = ++h->used;
    else
        return NULL;
    c->hold = block;
    h->block[block].used = 0;
    h->block[block].unheld[IN] = h->block[block].unheld[OUT] = 0;
    return &h->block[block];
}

static void give_hold(struct connections *cs, struct connection *c)
{
    if (!c->hold)
        return;
    cs->holds->next[c->hold] = cs->holds->free;
    cs->holds->free = c->hold;
    c->hold = 0;
}

void stream_forget(struct connections *cs, struct connection *c)
{
    give_parser(cs, c);
    give_hold(cs, c);
}

static bool hold_piece(struct connections *cs, struct connection *c, const struct piece *p)
{
    struct hold *h = hold_of(cs, c);
    struct held head = {.moment = *p->moment,
                        .offset = p->offset,
                        .bytes = p->bytes,
                        .process = p->process,
                        .head = (uint16_t)p->head,
                        .tail = (uint16_t)p->tail,
                        .way = (uint8_t)p->way,
                        .offset_known = p->offset_known};
    size_t data = (size_t)p->head + p->tail;
    if (!h)
        return false;
    if (h->unheld[p->way] || h->used + sizeof head + data > HOLD_BYTES) {
        h->unheld[p->way] += p->bytes;
        return false;
    }
    memcpy(h->data + h->used, &head, sizeof head);
    memcpy(h->data + h->used + sizeof head, p->data, data);
    h->used += (uint32_t)(sizeof head + data);
    return true;
}

static bool next_held(const struct hold *h, uint32_t *at, struct piece *p, struct held *head)
{
    if (*at + sizeof *head > h->used)
        return false;
    memcpy(head, h->data + *at, sizeof *head);
    *p = (struct piece){.moment = &head->moment,
                        .way = (enum way)head->way,
                        .offset_known = head->offset_known,
                        .process = head->process,
                        .offset = head->offset,
                        .bytes = head->bytes,
                        .data = h->data + *at + sizeof *head,
                        .head = head->head,
                        .tail = head->tail};
    *at += (uint32_t)sizeof *head + head->head + head->tail;
    return true;
}

/* --- plans ------------------------------------------------------------------------------------------------------------ */

void stream_plan(struct connections *cs, struct connection *c, uint32_t plan)
{
    if (c->plan == plan)
        return;
    c->plan = (uint8_t)plan;
    if (cs->feedback.plan)
        cs->feedback.plan(cs->feedback.to, c->id, plan);
}

/* Boundaries lay in bytes that were not captured: from now on all, here and for those that come by the same door. */
static void want_all(struct connections *cs, struct connection *c)
{
    stream_plan(cs, c, PLAN_FULL);
    if (c->listener)
        cs->listener[c->listener - 1].full = true;
}

static void stop_reading(struct connections *cs, struct connection *c, enum unread_reason reason)
{
    c->reading = READING_NONE;
    stream_forget(cs, c);
    stream_plan(cs, c, PLAN_COUNT);
    unread_flag(cs, c, reason);
}

/* --- the parser ------------------------------------------------------------------------------------------------------- */

static void take_addresses(struct span *p, const struct connection *c)
{
    p->connection = c->id;
    p->peer_length = c->peer.length;
    p->local_length = c->local.length;
    memcpy(p->peer, c->peer.at, sizeof p->peer);
    memcpy(p->local, c->local.at, sizeof p->local);
}

static void on_message(void *to, const struct message *m)
{
    struct feeding *f = to;
    struct dialogue *d = &f->c->dialogue;
    uint32_t begun = span_message(f->cs->spans, d, m, f->way, d->fed[f->way], f->moment);
    if (begun)
        take_addresses(&spans_at(f->cs->spans, begun)->span, f->c);
    if (m->part <= REQUEST_HEAD || m->part == REQUEST)
        f->c->messages_begun = true;
}

static void after_verdict(struct connections *cs, struct connection *c, enum way way, enum verdict v, bool lost)
{
    if (v == LOST_STEP && !lost && c->plan != PLAN_FULL)
        want_all(cs, c);
    if (c->dialogue.upgraded) {
        stop_reading(cs, c, UNREAD_UNKNOWN);
    } else if (v == BROKEN) {
        c->broken |= (uint8_t)(1 << way);
        unread_flag(cs, c, UNREAD_UNKNOWN);
        if (c->broken == 3 || !c->dialogue.pending)
            stop_reading(cs, c, UNREAD_UNKNOWN);
    }
}

static bool can_parse(struct connections *cs, struct connection *c, enum way way)
{
    if (c->broken & 1 << way)
        return false;
    if (c->parser || take_parser(cs, c))
        return true;
    cs->flow.bound_parsers++;
    stop_reading(cs, c, UNREAD_CAPTURE);
    return false;
}

static void parse(struct connections *cs, struct connection *c, enum way way, const struct moment *m,
                  const uint8_t *data, size_t len)
{
    struct feeding f = {.cs = cs, .c = c, .moment = m, .way = way};
    if (!can_parse(cs, c, way))
        return;
    if (c->dialogue.fed[way] == c->dialogue.message[way])
        c->dialogue.begin_ns[way] = m->time_ns;
    enum verdict v = c->dialogue.protocol->feed(state_of(cs, c), way, data, len, on_message, &f);
    c->dialogue.fed[way] += len;
    if (v >= BROKEN || c->dialogue.upgraded)
        after_verdict(cs, c, way, v, true);
}

static void parse_unseen(struct connections *cs, struct connection *c, enum way way, const struct moment *m,
                         uint64_t bytes, bool lost)
{
    struct feeding f = {.cs = cs, .c = c, .moment = m, .way = way};
    if (!can_parse(cs, c, way))
        return;
    if (c->dialogue.fed[way] == c->dialogue.message[way])
        c->dialogue.begin_ns[way] = m->time_ns;
    enum verdict v = c->dialogue.protocol->skip(state_of(cs, c), way, bytes, on_message, &f);
    c->dialogue.fed[way] += bytes;
    if (v == LOST_STEP && !lost && way == (c->dialogue.side == SIDE_SERVER ? IN : OUT))
        unread_gap(cs, c, way, bytes);
    if (v >= BROKEN || c->dialogue.upgraded)
        after_verdict(cs, c, way, v, lost);
}

/* --- detection -------------------------------------------------------------------------------------------------------- */

struct prefix {
    const uint8_t *at[2];
    size_t len[2];
};

/* A ClientHello: handshake record, version 3.x, length, client_hello. */
static enum verdict is_tls_way(const uint8_t *at, size_t len)
{
    if (!len)
        return MORE;
    if (at[0] != 22 || (len > 1 && at[1] != 3) || (len > 2 && at[2] > 4) || (len > 5 && at[5] != 1))
        return NOT_MINE;
    return len > 5 ? OK : MORE;
}

/* The client speaks first. */
static enum verdict is_tls(const struct prefix *p)
{
    enum way way = p->len[IN] ? IN : OUT;
    return p->len[IN] && p->len[OUT] ? NOT_MINE : is_tls_way(p->at[way], p->len[way]);
}

static enum verdict ask(const struct protocol *p, enum side side, const struct prefix *x, uint16_t port)
{
    enum verdict all = MORE;
    for (int way = IN; way <= OUT; way++) {
        if (!x->len[way])
            continue;
        enum verdict v = p->detect((enum way)way, side, x->at[way], x->len[way], port);
        if (v == NOT_MINE || v == BROKEN)
            return NOT_MINE;
        if (v == OK)
            all = OK;
    }
    return all;
}

static uint16_t server_port(const struct connection *c)
{
    const struct address *a = c->origin == ORIGIN_OPENED ? &c->peer : &c->local;
    return address_port(a->at, a->length);
}

/* Accepted sockets are servers, connected ones clients; of others the bytes tell. OK sets protocol and side. */
static enum verdict choose(struct connections *cs, struct connection *c, const struct prefix *x)
{
    enum verdict all = is_tls(x) == MORE ? MORE : NOT_MINE;
    for (const struct protocol *const *p = cs->protocols; *p; p++)
        for (int side = SIDE_SERVER; side <= SIDE_CLIENT; side++) {
            if (side == (c->origin == ORIGIN_ACCEPTED ? SIDE_CLIENT : SIDE_SERVER) &&
                (c->origin == ORIGIN_ACCEPTED || c->origin == ORIGIN_OPENED))
                continue;
            enum verdict v = ask(*p, (enum side)side, x, server_port(c));
            if (v == OK) {
                c->dialogue.protocol = *p;
                c->dialogue.side = (uint8_t)side;
                return OK;
            }
            if (v == MORE)
                all = MORE;
        }
    return all;
}

/* What was held of each direction, in a row. */
static void gather(const struct hold *h, uint8_t room[2][HOLD_BYTES], struct prefix *x)
{
    struct piece p;
    struct held head;
    uint32_t at = 0;
    *x = (struct prefix){.at = {room[IN], room[OUT]}};
    while (next_held(h, &at, &p, &head)) {
        memcpy(room[p.way] + x->len[p.way], p.data, p.head);
        x->len[p.way] += p.head;
    }
}

static void replay_held(struct connections *cs, struct connection *c)
{
    struct piece p;
    struct held head;
    uint32_t at = 0, block = c->hold;
    c->hold = 0; /* ours, whatever the parser's verdict does to the connection */
    while (c->reading == READING_PARSER && next_held(&cs->holds->block[block], &at, &p, &head))
        parse(cs, c, p.way, p.moment, p.data, p.head);
    c->hold = block;
    give_hold(cs, c);
}

static void decide(struct connections *cs, struct connection *c, enum way way, const struct moment *m,
                   const uint8_t *data, size_t len)
{
    static uint8_t room[2][HOLD_BYTES];
    struct prefix x = {{data, data}, {way == IN ? len : 0, way == OUT ? len : 0}};
    struct piece p = {.moment = m, .way = way, .bytes = len, .data = data, .head = (uint32_t)len};
    bool held = c->hold != 0, room_left = !held || hold_piece(cs, c, &p);
    if (held)
        gather(&cs->holds->block[c->hold], room, &x);
    enum verdict v = room_left ? choose(cs, c, &x) : NOT_MINE;
    if (v == OK) {
        c->reading = READING_PARSER;
        if (c->hold)
            replay_held(cs, c);
        else
            parse(cs, c, way, m, data, len);
    } else if (v != MORE || x.len[way] >= PREFIX || (!held && !hold_piece(cs, c, &p))) {
        stop_reading(cs, c, is_tls(&x) == OK ? UNREAD_TLS : UNREAD_UNKNOWN);
    }
}

/* Joined under way: when a call's bytes are surely the beginning of a message, reading starts there. */
static void join(struct connections *cs, struct connection *c, enum way way, const struct moment *m,
                 const uint8_t *data, size_t len, uint64_t position)
{
    enum way other = way == IN ? OUT : IN;
    struct prefix x = {{data, data}, {way == IN ? len : 0, way == OUT ? len : 0}};
    struct dialogue *d = &c->dialogue;
    if (choose(cs, c, &x) != OK) {
        if (is_tls(&x) == OK)
            stop_reading(cs, c, UNREAD_TLS);
        else
            unread_flag(cs, c, UNREAD_LATE_ATTACH);
        return;
    }
    c->reading = READING_PARSER;
    d->fed[way] = d->message[way] = position;
    d->message[other] = c->position[other];
    d->fed[other] = c->position[other] - 1;
    parse_unseen(cs, c, other, m, 1, true); /* what passed there has lost its beginning */
    if (c->reading == READING_PARSER)
        parse(cs, c, way, m, data, len);
}

/* --- bytes in order ------------------------------------------------------------------------------------------------------ */

/* Bytes that were captured, from this position on; all before is told. */
static void deliver(struct connections *cs, struct connection *c, enum way way, const struct moment *m,
                    const uint8_t *data, size_t len, uint64_t position)
{
    if (!len)
        return;
    if (c->reading == READING_PARSER)
        parse(cs, c, way, m, data, len);
    else if (c->reading == READING_UNDECIDED)
        decide(cs, c, way, m, data, len);
    else if (c->reading == READING_LATE)
        join(cs, c, way, m, data, len, position);
}

/* Bytes that passed unseen. `lost`: their events were, else they were not captured. */
static void pass(struct connections *cs, struct connection *c, enum way way, const struct moment *m, uint64_t bytes,
                 bool lost)
{
    if (!bytes)
        return;
    if (c->reading == READING_PARSER) {
        parse_unseen(cs, c, way, m, bytes, lost);
    } else if (c->reading == READING_UNDECIDED) {
        c->reading = READING_LATE;
        give_hold(cs, c);
        unread_flag(cs, c, lost ? UNREAD_LATE_ATTACH : UNREAD_CAPTURE);
    }
}

/* Everything of this direction up to `position` that the parser was not told. */
static void catch_up(struct connections *cs, struct connection *c, enum way way, const struct moment *m,
                     uint64_t position)
{
    if (c->reading == READING_PARSER && c->dialogue.fed[way] < position)
        pass(cs, c, way, m, position - c->dialogue.fed[way], false);
}

/* Where in the stream the piece lies; counts what lies before it unseen. */
static uint64_t place(struct connections *cs, struct connection *c, const struct piece *p)
{
    uint64_t here = c->position[p->way];
    if (!p->offset_known)
        return here;
    if (c->offset_image[p->way] != p->process) { /* another process counts from its own first byte */
        c->offset_image[p->way] = p->process;
        c->shift[p->way] = here - p->offset;
        return here;
    }
    uint64_t at = p->offset + c->shift[p->way];
    if ((int64_t)(at - here) <= 0)
        return at;
    if (at - here > GAP_MAX) {
        c->shift[p->way] = here - p->offset;
        return here;
    }
    connection_mark_loss(cs, c);
    c->position[p->way] = at;
    *(p->way == IN ? &cs->flow.bytes_in : &cs->flow.bytes_out) += at - here;
    if (c->unread)
        unread_more(cs, c, p->way, at - here);
    catch_up(cs, c, p->way, p->moment, here);
    pass(cs, c, p->way, p->moment, at - here, true);
    return at;
}

static void count(struct connections *cs, struct connection *c, enum way way, uint64_t bytes)
{
    c->position[way] += bytes;
    *(way == IN ? &cs->flow.bytes_in : &cs->flow.bytes_out) += bytes;
    if (c->unread && (c->reading != READING_PARSER || c->broken & 1 << way))
        unread_more(cs, c, way, bytes);
}

/* Its first bytes are known already; fewer than all. */
static void cut_front(struct piece *p, uint64_t known)
{
    uint32_t cut = known < p->head ? (uint32_t)known : p->head;
    p->bytes -= known;
    p->data += cut;
    p->head -= cut;
    if (p->tail > p->bytes) { /* the head is gone whole then */
        p->data += p->tail - p->bytes;
        p->tail = (uint32_t)p->bytes;
    }
}

/* Returns whether the capture ends before the bytes do, with more parts to come. */
static bool take(struct connections *cs, struct connection *c, struct piece *p, uint64_t *at)
{
    *at = place(cs, c, p);
    uint64_t here = c->position[p->way];
    if ((int64_t)(*at - here) < 0) { /* of a late event: counted as missing before */
        cs->overlaps++;
        if (here - *at >= p->bytes)
            return false;
        cut_front(p, here - *at);
        *at = here;
    }
    catch_up(cs, c, p->way, p->moment, here);
    count(cs, c, p->way, p->bytes);
    c->dialogue.last_ns[p->way] = p->moment->time_ns;
    deliver(cs, c, p->way, p->moment, p->data, p->head, *at);
    uint64_t hole = p->bytes - p->head - p->tail;
    if (hole && p->head && !p->tail)
        return true;
    pass(cs, c, p->way, p->moment, hole, false);
    deliver(cs, c, p->way, p->moment, p->data + p->head, p->tail, *at + p->bytes - p->tail);
    return false;
}

static struct piece piece_of(const struct item *item, enum way way, const struct moment *m)
{
    const struct event *e = item->event;
    struct piece p = {.moment = m,
                      .way = way,
                      .offset_known = !(e->flags & EVENT_OFFSET_UNKNOWN),
                      .process = item->process,
                      .offset = e->offset,
                      .bytes = (uint64_t)e->result,
                      .data = item->data,
                      .head = e->head,
                      .tail = e->tail};
    if ((uint32_t)e->head + e->tail > item->data_len || (uint64_t)e->head + e->tail > p.bytes)
        p.head = p.tail = 0;
    return p;
}

/*
 * Whose call the bytes written are. A connection's first request is that of the request that had it opened, whatever an
 * event loop has read since; else of the one that the thread works for.
 */
static void take_caller(const struct connections *cs, struct connection *c, const struct thread *t)
{
    bool first = !c->dialogue.first && !c->dialogue.message[OUT] && c->connect_parent;
    const struct exchange *opener = first ? spans_at(cs->spans, c->connect_exchange) : NULL;
    bool opened = opener && (!t->serving || (opener->span.id == c->connect_parent && !(opener->state & TIME_OVER)));
    c->dialogue.parent = opened ? c->connect_parent : t->serving;
    c->dialogue.parent_exchange = opened ? c->connect_exchange : t->serving_exchange;
}

void stream_take(struct connections *cs, struct connection *c, struct thread *t, const struct item *item, enum way way)
{
    struct moment m = moment_of(item);
    struct piece p = piece_of(item, way, &m);
    uint64_t at;
    if (way == OUT)
        take_caller(cs, c, t);
    if (!take(cs, c, &p, &at))
        return;
    t->more_slot = connection_slot(cs, c);
    t->more_way = (uint8_t)way;
    t->more_offset = item->event->offset;
    t->more_base = at;
    t->more_end = at + p.bytes;
    t->more_moment = m;
}

/* --- captures in parts ----------------------------------------------------------------------------------------------------- */

static struct connection *of_more(struct connections *cs, struct thread *t)
{
    struct connection *c = t->more_slot ? &cs->table[t->more_slot] : NULL;
    return c && c->id == t->connection && c->id ? c : NULL;
}

void stream_more(struct connections *cs, struct thread *t, const struct item *item)
{
    struct connection *c = of_more(cs, t);
    uint64_t at = t->more_base + (item->event->offset - t->more_offset);
    if (!c || item->event->connection != c->id || at >= t->more_end || item->data_len > t->more_end - at ||
        at < c->dialogue.fed[t->more_way]) {
        activity_stay(cs->activity, t);
        return;
    }
    enum way way = (enum way)t->more_way;
    c->messages_begun = false;
    catch_up(cs, c, way, &t->more_moment, at);
    if (c->reading == READING_PARSER)
        parse(cs, c, way, &t->more_moment, item->data, item->data_len);
    if (c->dialogue.fed[way] >= t->more_end)
        t->more_slot = 0;
    activity_touch(cs->activity, t, &c->dialogue, c->messages_begun);
    span_settle(cs->spans, &c->dialogue);
}

void stream_more_over(struct connections *cs, struct thread *t)
{
    struct connection *c = of_more(cs, t);
    if (c) {
        catch_up(cs, c, (enum way)t->more_way, &t->more_moment, t->more_end);
        span_settle(cs->spans, &c->dialogue);
    }
    t->more_slot = 0;
}

/* --- ends -------------------------------------------------------------------------------------------------------------- */

void stream_half_end(struct connections *cs, struct connection *c, enum way way, const struct moment *now)
{
    struct moment m = *now;
    if (c->ended & 1 << way || c->reading != READING_PARSER)
        return;
    if (way == OUT && c->dialogue.last_ns[OUT])
        m.time_ns = c->dialogue.last_ns[OUT]; /* what was written last, not the close */
    catch_up(cs, c, way, &m, c->position[way]);
    if (c->reading != READING_PARSER)
        return;
    c->ended |= (uint8_t)(1 << way);
    if (!c->parser)
        return; /* nothing in progress */
    struct feeding f = {.cs = cs, .c = c, .moment = &m, .way = way};
    c->dialogue.protocol->end(state_of(cs, c), way, on_message, &f);
}

void stream_end(struct connections *cs, struct connection *c, const struct moment *now)
{
    for (int way = IN; way <= OUT; way++) {
        struct moment m = *now;
        if (c->dialogue.last_ns[way])
            m.time_ns = c->dialogue.last_ns[way];
        stream_half_end(cs, c, (enum way)way, &m);
    }
    span_dialogue_end(cs->spans, &c->dialogue, now);
}

/* --- not yet known to be a stream ---------------------------------------------------------------------------------------- */

void stream_hold_unsure(struct connections *cs, struct connection *c, const struct item *item, enum way way)
{
    struct moment m = moment_of(item);
    struct piece p = piece_of(item, way, &m);
    if (!hold_piece(cs, c, &p) && !c->hold)
        c->unheld[way] += p.bytes;
    c->touched_ns = item->time_ns;
}

void stream_proven(struct connections *cs, struct connection *c)
{
    uint32_t block = c->hold, at = 0;
    struct piece p;
    struct held head;
    struct moment m = {.time_ns = cs->now_ns, .entry_ns = cs->now_ns};
    c->hold = 0;
    while (block && next_held(&cs->holds->block[block], &at, &p, &head)) {
        uint64_t where;
        if (take(cs, c, &p, &where))
            catch_up(cs, c, p.way, p.moment, where + p.bytes);
    }
    for (int way = IN; way <= OUT; way++) {
        uint64_t unheld = c->unheld[way] + (block ? cs->holds->block[block].unheld[way] : 0);
        count(cs, c, (enum way)way, unheld);
        pass(cs, c, (enum way)way, &m, unheld, false);
    }
    if (!block)
        return;
    cs->holds->next[block] = cs->holds->free;
    cs->holds->free = block;
}

/* --- time -------------------------------------------------------------------------------------------------------------- */

void stream_tick(struct connections *cs, uint64_t time_ns)
{
    for (uint32_t lane = 0; lane < activity_lanes(cs->activity); lane++) {
        struct thread *t = activity_in_lane(cs->activity, lane);
        if (t->more_slot && t->more_moment.time_ns < time_ns)
            stream_more_over(cs, t);
    }
    if (time_ns > IDLE_NS)
        sweep_parsers(cs, time_ns - IDLE_NS, SWEEP);
}
