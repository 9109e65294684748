/*
 * connection.c - the table of connections, and what each event means for one.
 *
 * Context: C
 */
#include "collector/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "collector/told.h"
#include "wire/arena.h"

#define QUESTIONS_MAX 1000 /* connections whose own address is asked for */

struct moment moment_of(const struct item *item)
{
    return (struct moment){.time_ns = item->time_ns,
                           .entry_ns = item->entry_ns,
                           .ready_ns = item->ready_ns,
                           .lane = item->lane,
                           .thread = item->thread,
                           .process = item->process,
                           .tid = item->tid};
}

/* --- the table -------------------------------------------------------------------------------------------------------- */

struct connections *connections_new(const struct options *o, const struct protocol *const *known,
                                    const struct feedback *feedback, struct spans *spans, struct activity *activity)
{
    struct connections *cs = calloc(1, sizeof *cs);
    if (!cs)
        return NULL;
    cs->limit = (uint32_t)o->connections;
    uint32_t room = 256;
    while (room < cs->limit * 2)
        room *= 2;
    cs->index_mask = room - 1;
    cs->index = calloc(room, sizeof *cs->index);
    cs->table = calloc((size_t)cs->limit + 1, sizeof *cs->table);
    cs->images = images_new();
    cs->spans = spans;
    cs->activity = activity;
    cs->protocols = known;
    if (feedback)
        cs->feedback = *feedback;
    cs->capture = o->capture != 0;
    if (!cs->index || !cs->table || !cs->images || streams_init(cs, o)) {
        connections_free(cs);
        return NULL;
    }
    return cs;
}

void connections_free(struct connections *cs)
{
    if (!cs)
        return;
    streams_fini(cs);
    images_free(cs->images);
    free(cs->table);
    free(cs->index);
    free(cs);
}

static inline uint32_t home_of(const struct connections *cs, uint64_t id)
{
    return (uint32_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & cs->index_mask;
}

struct connection *connection_find(struct connections *cs, uint64_t id)
{
    for (uint32_t at = home_of(cs, id); cs->index[at]; at = (at + 1) & cs->index_mask)
        if (cs->table[cs->index[at]].id == id)
            return &cs->table[cs->index[at]];
    return NULL;
}

uint32_t connection_slot(const struct connections *cs, const struct connection *c)
{
    return (uint32_t)(c - cs->table);
}

static void index_add(struct connections *cs, uint64_t id, uint32_t slot)
{
    uint32_t at = home_of(cs, id);
    while (cs->index[at])
        at = (at + 1) & cs->index_mask;
    cs->index[at] = slot;
}

/* Shifts back what stood behind it, so that no marks of deleted ones are needed. */
static void index_remove(struct connections *cs, uint64_t id)
{
    uint32_t hole = home_of(cs, id);
    while (cs->index[hole] && cs->table[cs->index[hole]].id != id)
        hole = (hole + 1) & cs->index_mask;
    for (uint32_t at = (hole + 1) & cs->index_mask; cs->index[at]; at = (at + 1) & cs->index_mask) {
        uint32_t home = home_of(cs, cs->table[cs->index[at]].id);
        if (((at - home) & cs->index_mask) < ((at - hole) & cs->index_mask))
            continue;
        cs->index[hole] = cs->index[at];
        hole = at;
    }
    cs->index[hole] = 0;
}

static void let_go(struct connections *cs, struct connection *c)
{
    while (c->dialogue.first)
        span_give_up(cs->spans, spans_at(cs->spans, c->dialogue.first));
    stream_forget(cs, c);
    holders_clear(cs, c);
    index_remove(cs, c->id);
    c->id = 0;
    c->next_over = cs->free;
    cs->free = connection_slot(cs, c);
    cs->live--;
}

/* Those that are over, oldest first; `all`: also when a request of theirs still waits for its costs. */
void connection_free_over(struct connections *cs, uint64_t before_ns, bool all)
{
    uint32_t waiting_first = 0, waiting_last = 0;
    while (cs->over_first) {
        struct connection *c = &cs->table[cs->over_first];
        if (c->over_ns >= before_ns)
            break;
        uint32_t slot = cs->over_first;
        cs->over_first = c->next_over;
        if (!cs->over_first)
            cs->over_last = 0;
        if (!c->over) {
            c->next_over = 0; /* it came back to life */
        } else if (c->dialogue.first && !all) {
            c->next_over = waiting_first;
            waiting_first = slot;
            if (!waiting_last)
                waiting_last = slot;
        } else {
            let_go(cs, c);
        }
    }
    if (!waiting_first)
        return;
    cs->table[waiting_last].next_over = cs->over_first;
    if (!cs->over_first)
        cs->over_last = waiting_last;
    cs->over_first = waiting_first;
}

/* The longest idle of sixteen that the hand passes. */
static struct connection *longest_idle(struct connections *cs)
{
    struct connection *found = NULL;
    for (uint32_t n = 0; n < 16 || !found; n++) {
        cs->hand = cs->hand >= cs->limit ? 1 : cs->hand + 1;
        struct connection *c = &cs->table[cs->hand];
        if (!c->over && (!found || c->touched_ns < found->touched_ns))
            found = c;
    }
    return found;
}

static void make_room(struct connections *cs)
{
    connection_free_over(cs, UINT64_MAX, true);
    if (cs->free)
        return;
    struct connection *c = longest_idle(cs);
    cs->flow.bound_connections++;
    connection_end(cs, c, c->touched_ns, false);
    connection_free_over(cs, UINT64_MAX, true);
}

static struct connection *make(struct connections *cs, const struct item *item, enum origin origin)
{
    if (!cs->free && cs->used == cs->limit)
        make_room(cs);
    uint32_t slot = cs->free;
    if (slot)
        cs->free = cs->table[slot].next_over;
    else
        slot = ++cs->used;
    struct connection *c = &cs->table[slot];
    memset(c, 0, sizeof *c);
    c->id = item->event->connection;
    c->origin = (uint8_t)origin;
    c->descriptor = item->event->descriptor;
    c->opened_ns = c->touched_ns = item->time_ns;
    c->offset_image[IN] = c->offset_image[OUT] = item->process;
    index_add(cs, c->id, slot);
    cs->live++;
    return c;
}

void connection_end(struct connections *cs, struct connection *c, uint64_t time_ns, bool killed)
{
    if (c->over)
        return;
    struct moment now = {.time_ns = time_ns, .entry_ns = time_ns};
    if (killed)
        span_dialogue_kill(cs->spans, &c->dialogue, time_ns, cs->killed, cs->killed_to);
    else
        stream_end(cs, c, &now);
    span_settle(cs->spans, &c->dialogue);
    activity_call_end(cs->activity, &c->call, time_ns);
    stream_forget(cs, c);
    holders_clear(cs, c);
    c->over = true;
    c->over_ns = cs->now_ns;
    if (c->next_over || cs->over_last == connection_slot(cs, c))
        return; /* still queued from its first end */
    if (cs->over_last)
        cs->table[cs->over_last].next_over = connection_slot(cs, c);
    else
        cs->over_first = connection_slot(cs, c);
    cs->over_last = connection_slot(cs, c);
}

/* It is used again: the close was another descriptor's, or a failed connect is repeated. */
static void revive(struct connection *c)
{
    c->over = false;
    c->ended = 0;
}

/* --- listeners -------------------------------------------------------------------------------------------------------- */

static struct listener *listener_find(struct connections *cs, uint64_t id)
{
    for (uint32_t i = 0; i < cs->listeners; i++)
        if (cs->listener[i].id == id)
            return &cs->listener[i];
    return NULL;
}

static struct listener *listener_make(struct connections *cs, uint64_t id)
{
    struct listener *l = listener_find(cs, id);
    if (l || !id)
        return l;
    l = listener_find(cs, 0); /* one that was closed before it listened */
    if (!l && cs->listeners < LISTENERS_MAX)
        l = &cs->listener[cs->listeners++];
    if (l)
        *l = (struct listener){.id = id};
    return l;
}

static void set_address(struct address *to, const uint8_t *from, size_t length)
{
    uint16_t family = 0;
    if (length >= sizeof family)
        memcpy(&family, from, sizeof family);
    if ((family == AF_INET && length >= 8) || (family == AF_INET6 && length >= 24)) {
        to->length = (uint8_t)(length < sizeof to->at ? length : sizeof to->at);
        memcpy(to->at, from, to->length);
    }
}

static void set_listener_address(struct listener *l, const uint8_t *from, size_t length)
{
    l->length = (uint8_t)(length < sizeof l->address ? length : sizeof l->address);
    memcpy(l->address, from, l->length);
}

/* The address that an event carries; its header into `head`. Bytes of the socket address, 0: none. */
static size_t event_address(const struct item *item, struct event_address *head, const uint8_t **at)
{
    if (item->data_len < sizeof *head)
        return 0;
    memcpy(head, item->data, sizeof *head);
    *at = item->data + sizeof *head;
    size_t room = item->data_len - sizeof *head;
    return head->length < room ? head->length : room;
}

static int64_t event_argument(const struct item *item, int64_t otherwise)
{
    struct event_argument a;
    if (item->data_len < sizeof a)
        return otherwise;
    memcpy(&a, item->data, sizeof a);
    return a.argument;
}

static void ask_address(struct connections *cs, const struct item *item, int32_t descriptor, uint64_t id)
{
    if (cs->feedback.ask_address)
        cs->feedback.ask_address(cs->feedback.to, item->process, descriptor, id);
}

static void on_bind(struct connections *cs, const struct item *item)
{
    struct event_address head;
    const uint8_t *at;
    size_t length = event_address(item, &head, &at);
    struct listener *l = length ? listener_make(cs, item->event->connection) : NULL;
    if (l)
        set_listener_address(l, at, length);
}

static void on_listen(struct connections *cs, const struct item *item)
{
    struct listener *l = listener_make(cs, item->event->connection);
    if (!l)
        return;
    l->listening = true;
    if (!l->length && !l->asked) {
        l->asked = true;
        ask_address(cs, item, item->event->descriptor, l->id);
    }
}

static void take_listener(struct connections *cs, struct connection *c, const struct item *item,
                          const struct event_address *head)
{
    struct listener *l = listener_make(cs, head->listener);
    if (!l) {
        if (cs->listeners < QUESTIONS_MAX && cs->flow.accepted < QUESTIONS_MAX)
            ask_address(cs, item, item->event->result, c->id);
        return;
    }
    l->listening = true;
    if (!l->length && !l->asked) {
        l->asked = true;
        ask_address(cs, item, head->argument, l->id);
    }
    c->listener = (uint32_t)(l - cs->listener) + 1;
    set_address(&c->local, l->address, l->length);
    if (l->full)
        stream_plan(cs, c, PLAN_FULL);
}

/* --- beginnings ------------------------------------------------------------------------------------------------------- */

static void on_accept(struct connections *cs, struct thread *t, const struct item *item)
{
    struct connection *c = connection_find(cs, item->event->connection);
    struct event_address head = {0};
    const uint8_t *at;
    if (item->event->result < 0)
        return;
    if (c && c->origin == ORIGIN_GUESSED)
        cs->flow.inherited--; /* this event is late: bytes of it came before */
    else if (c)
        return;
    else
        c = make(cs, item, ORIGIN_ACCEPTED);
    c->origin = ORIGIN_ACCEPTED;
    cs->flow.accepted++;
    size_t length = event_address(item, &head, &at);
    if (length)
        set_address(&c->peer, at, length);
    take_listener(cs, c, item, &head);
    holder_add(cs, c, t->image);
    activity_expect(cs->activity, t, item->time_ns);
}

static void count_opened(struct connections *cs, struct connection *c)
{
    c->origin = ORIGIN_OPENED;
    cs->flow.opened++;
}

static void on_connect(struct connections *cs, struct thread *t, const struct item *item)
{
    int32_t result = item->event->result;
    struct connection *c = connection_find(cs, item->event->connection);
    if (result && result != -EINPROGRESS && result != -EISCONN) {
        if (c && c->origin == ORIGIN_CONNECTING && result != -EALREADY)
            connection_end(cs, c, item->time_ns, false);
        return;
    }
    if (c && c->over)
        revive(c);
    if (!c) {
        c = make(cs, item, ORIGIN_CONNECTING);
        struct event_address head;
        const uint8_t *at;
        size_t length = event_address(item, &head, &at);
        if (length)
            set_address(&c->peer, at, length);
        c->connect_parent = t->serving;
        c->connect_exchange = t->serving_exchange;
        holder_add(cs, c, t->image);
    }
    if (c->origin == ORIGIN_CONNECTING && result != -EINPROGRESS)
        count_opened(cs, c);
}

static void ask_descriptor(struct connections *cs, const struct item *item)
{
    if (cs->feedback.ask_descriptor)
        cs->feedback.ask_descriptor(cs->feedback.to, item->process, item->event->descriptor,
                                     item->event->connection);
}

/* First bytes of a connection whose beginning we have not seen. NULL: not to be followed. */
static struct connection *meet(struct connections *cs, const struct item *item, enum way way)
{
    const struct event *e = item->event;
    if (e->flags & EVENT_UNSURE) {
        ask_descriptor(cs, item);
        return make(cs, item, ORIGIN_UNSURE);
    }
    bool first = e->flags & EVENT_FIRST;
    if (!first && (e->result <= 0 || item->late)) {
        if (e->result > 0) /* of one that has gone */
            *(way == IN ? &cs->flow.bytes_in : &cs->flow.bytes_out) += (uint64_t)e->result;
        return NULL;
    }
    bool returned = !first && cs->flow.bound_connections;
    struct connection *c = make(cs, item, first ? ORIGIN_INHERITED : returned ? ORIGIN_RETURNED : ORIGIN_GUESSED);
    cs->flow.inherited += !returned;
    if (e->offset || e->flags & EVENT_OFFSET_UNKNOWN) {
        c->reading = READING_LATE;
        if (e->flags & EVENT_OFFSET_UNKNOWN)
            c->offset_image[way] = 0; /* the next offset that is known tells */
        else
            c->shift[way] = 0 - e->offset;
        c->offset_image[!way] = 0;
    }
    return c;
}

/* Does the event make it a connection that counts? false: not, or not yet. */
static bool settle_origin(struct connections *cs, struct connection *c, const struct item *item, enum way way)
{
    if (c->origin == ORIGIN_CONNECTING && item->event->result >= 0)
        count_opened(cs, c);
    if (c->origin == ORIGIN_UNSURE && !(item->event->flags & EVENT_UNSURE)) {
        c->origin = ORIGIN_INHERITED;
        cs->flow.inherited++;
        stream_proven(cs, c);
    }
    if (c->origin == ORIGIN_UNSURE && item->event->result > 0)
        stream_hold_unsure(cs, c, item, way);
    return c->origin > ORIGIN_IGNORED;
}

/* --- data ------------------------------------------------------------------------------------------------------------- */

/* Events of a thread that worked on it were lost since: what is in progress may be wrong. */
void connection_mark_loss(struct connections *cs, struct connection *c)
{
    for (uint32_t i = c->dialogue.first; i; i = spans_at(cs->spans, i)->next)
        if (!(spans_at(cs->spans, i)->state & TIME_OVER))
            spans_at(cs->spans, i)->span.inferred |= INFERRED_LOSS;
}

/* `t` is the thread of the event in hand, as it nearly always was before. */
static void look_for_loss(struct connections *cs, struct connection *c, const struct thread *t)
{
    const struct thread *before = c->thread == t->number ? t : activity_find(cs->activity, c->lane, c->thread);
    if (before && before->gaps != c->gaps)
        connection_mark_loss(cs, c);
}

/* Another thread goes on with its requests (rule 6). */
static void hand_over(struct connections *cs, struct connection *c, struct image *image, const struct item *item)
{
    for (uint32_t i = c->dialogue.pending; i; i = spans_at(cs->spans, i)->next) {
        struct span *p = &spans_at(cs->spans, i)->span;
        if (image && spans_at(cs->spans, i)->state & REQUEST_OVER)
            image->hands_over = true;
        spans_at(cs->spans, i)->lane = item->lane;
        p->thread = item->thread;
        p->process = item->process;
        p->tid = (uint32_t)item->tid;
    }
}

static void on_bytes(struct connections *cs, struct connection *c, struct thread *t, const struct item *item,
                     enum way way)
{
    bool handed = c->thread != item->thread && c->thread;
    if (c->thread) {
        look_for_loss(cs, c, t);
        if (handed)
            hand_over(cs, c, t->image, item);
    }
    c->messages_begun = false;
    stream_take(cs, c, t, item, way);
    if (c->origin == ORIGIN_OPENED && c->reading != READING_PARSER &&
        activity_call(cs->activity, t, &c->call, way, item->time_ns))
        ;
    else if (c->reading == READING_UNDECIDED)
        activity_undecided(cs->activity, t, item->time_ns);
    else
        activity_touch(cs->activity, t, &c->dialogue, handed || c->messages_begun);
    span_settle(cs->spans, &c->dialogue);
    c->thread = item->thread;
    c->lane = item->lane;
    c->gaps = t->gaps;
    c->touched_ns = item->time_ns;
}

static void on_end_of_bytes(struct connections *cs, struct connection *c, struct thread *t, const struct item *item,
                            enum way way)
{
    if (way == OUT) {
        activity_stay(cs->activity, t);
        return;
    }
    struct moment now = moment_of(item);
    stream_half_end(cs, c, IN, &now);
    uint64_t caller = c->reading == READING_PARSER ? c->dialogue.parent : c->call.id;
    activity_hung_up(cs->activity, t, &c->dialogue, c->origin == ORIGIN_OPENED ? caller : 0, item->time_ns);
    span_settle(cs->spans, &c->dialogue);
}

static inline struct connection *of_event(struct connections *cs, struct thread *t, uint64_t id)
{
    struct connection *c = &cs->table[t->connection_slot];
    if (t->connection == id && c->id == id)
        return c;
    return id ? connection_find(cs, id) : NULL;
}

static void on_data(struct connections *cs, struct thread *t, const struct item *item, enum way way)
{
    const struct event *e = item->event;
    struct connection *c = of_event(cs, t, e->connection);
    if (!c && e->connection)
        c = meet(cs, item, way);
    if (!c || (c->origin <= ORIGIN_IGNORED && !settle_origin(cs, c, item, way))) {
        activity_stay(cs->activity, t);
        return;
    }
    t->connection = c->id;
    t->connection_slot = connection_slot(cs, c);
    if (c->over)
        revive(c);
    if (c->holder[0].image != t->image)
        holder_add(cs, c, t->image);
    if (e->result > 0)
        on_bytes(cs, c, t, item, way);
    else
        on_end_of_bytes(cs, c, t, item, way);
}

/* --- ends ------------------------------------------------------------------------------------------------------------- */

static void on_close(struct connections *cs, struct thread *t, const struct item *item)
{
    uint64_t id = item->event->connection;
    struct connection *c = of_event(cs, t, id);
    if (!c) {
        struct listener *l = id ? listener_find(cs, id) : NULL;
        if (l && !l->listening)
            l->id = 0;
        return;
    }
    holder_close(cs, c, t->image, item->time_ns);
    if (t->dialogue == &c->dialogue)
        activity_part(cs->activity, t, item->time_ns);
    span_settle(cs->spans, &c->dialogue);
}

static void on_shutdown(struct connections *cs, struct thread *t, const struct item *item)
{
    struct connection *c = of_event(cs, t, item->event->connection);
    if (!c || event_argument(item, SHUT_RD) == SHUT_RD)
        return;
    struct moment now = moment_of(item);
    stream_half_end(cs, c, OUT, &now);
    span_settle(cs->spans, &c->dialogue);
}

static void on_reaped(struct connections *cs, const struct item *item)
{
    int status = item->event->result, low = status & 127;
    bool exited = low == 0, signaled = low != 0 && low != 127;
    if (exited || signaled)
        holder_reaped(cs, (int32_t)event_argument(item, 0), exited ? status >> 8 & 255 : -1, signaled ? low : 0,
                      item->time_ns);
}

static void on_other(struct connections *cs, struct thread *t, const struct item *item)
{
    struct connection *c;
    activity_stay(cs->activity, t);
    switch ((enum event_type)item->event->type) {
    case EVENT_ACCEPT:
        on_accept(cs, t, item);
        break;
    case EVENT_CONNECT:
        on_connect(cs, t, item);
        break;
    case EVENT_BIND:
        on_bind(cs, item);
        break;
    case EVENT_LISTEN:
        on_listen(cs, item);
        break;
    case EVENT_CLOSE:
        on_close(cs, t, item);
        break;
    case EVENT_SHUTDOWN:
        on_shutdown(cs, t, item);
        break;
    case EVENT_DUP:
        if ((c = of_event(cs, t, item->event->connection)))
            holder_dup(cs, c, t->image);
        break;
    case EVENT_TURN:
        activity_turn(cs->activity, t, item);
        break;
    case EVENT_FORK:
        if (t->image && item->event->result > 0)
            image_forked(cs->images, t->image, item->event->result, item->time_ns);
        break;
    case EVENT_EXIT:
        if (t->image)
            t->image->exiting = true;
        break;
    case EVENT_REAPED:
        on_reaped(cs, item);
        break;
    default:
        break;
    }
}

void connection_event(struct connections *cs, const struct item *item)
{
    struct thread *t = activity_in_lane(cs->activity, item->lane);
    if (!t || !item->thread)
        return;
    cs->now_ns = item->time_ns;
    if (t->number != item->thread)
        t = activity_thread(cs->activity, item, image_make(cs->images, item->process));
    activity_interval(cs->activity, t, item);
    uint8_t type = item->event->type;
    if (t->more_slot && type != EVENT_MORE)
        stream_more_over(cs, t);
    if (told_is_one(type))
        activity_sample(cs->activity, t, cs->sampled ? cs->sampled(cs->sampled_to, item, t) : 0);
    else if (type == EVENT_IN)
        on_data(cs, t, item, IN);
    else if (type == EVENT_OUT)
        on_data(cs, t, item, OUT);
    else if (type == EVENT_MORE)
        stream_more(cs, t, item);
    else
        on_other(cs, t, item);
}

/* --- facts, gaps, time ------------------------------------------------------------------------------------------------ */

void connection_gap(struct connections *cs, const struct item *item)
{
    struct thread *t = activity_in_lane(cs->activity, item->lane);
    if (!t || !t->number || (item->thread && t->number != item->thread))
        return;
    t->gaps++;
    for (uint32_t i = t->exchange, n = 0; n < t->count && i; n++, i = spans_at(cs->spans, i)->next)
        if (spans_at(cs->spans, i)->span.id >= t->first_id && spans_at(cs->spans, i)->span.id <= t->last_id)
            spans_at(cs->spans, i)->span.inferred |= INFERRED_LOSS;
}

static void on_address(struct connections *cs, const struct fact *f)
{
    struct listener *l = listener_find(cs, f->connection);
    struct connection *c = connection_find(cs, f->connection);
    if (l) {
        set_listener_address(l, f->local, f->local_length);
        return;
    }
    if (!c)
        return;
    set_address(&c->local, f->local, f->local_length);
    set_address(&c->peer, f->remote, f->remote_length);
    unread_address(cs, c);
}

static void on_descriptor(struct connections *cs, const struct fact *f)
{
    struct connection *c = connection_find(cs, f->connection);
    if (!c || c->origin != ORIGIN_UNSURE)
        return;
    if (!f->is_known) { /* its process has gone: it counts nothing */
        stream_forget(cs, c);
    } else if (f->is_stream) {
        c->origin = ORIGIN_INHERITED;
        cs->flow.inherited++;
        stream_proven(cs, c);
        span_settle(cs->spans, &c->dialogue);
    } else {
        c->origin = ORIGIN_IGNORED;
        stream_forget(cs, c);
        stream_plan(cs, c, PLAN_IGNORE);
    }
}

static void on_thread_fact(struct connections *cs, const struct item *item)
{
    const struct fact *f = item->fact;
    struct thread *t = activity_find(cs->activity, item->lane, item->thread);
    if (!t && f->kind != FACT_THREAD_END)
        t = activity_thread(cs->activity, item, image_make(cs->images, item->process));
    if (!t)
        return;
    if (f->tid)
        t->tid = f->tid;
    if (f->kind == FACT_THREAD_CALL || f->kind == FACT_THREAD_END) {
        t->in_call = f->in_call;
        t->call_since_ns = f->call_since_ns;
    }
    if (t->more_slot)
        stream_more_over(cs, t);
    if (f->kind == FACT_THREAD_END)
        activity_thread_end(cs->activity, t, &f->total);
    else if (f->kind == FACT_THREAD_TOTAL)
        activity_total(cs->activity, t, &f->total);
    else if (f->kind == FACT_THREAD_BASE)
        activity_base(t, &f->total);
}

void connection_fact(struct connections *cs, const struct item *item)
{
    if (item->time_ns > cs->now_ns)
        cs->now_ns = item->time_ns;
    switch (item->fact->kind) {
    case FACT_ADDRESS:
        on_address(cs, item->fact);
        break;
    case FACT_DESCRIPTOR:
        on_descriptor(cs, item->fact);
        break;
    case FACT_THREAD_END:
    case FACT_THREAD_CALL:
    case FACT_THREAD_TOTAL:
    case FACT_THREAD_BASE:
        on_thread_fact(cs, item);
        break;
    case FACT_PROCESS:
    case FACT_PROCESS_TOTAL:
    case FACT_PROCESS_END:
    case FACT_REAPED:
        holder_image_fact(cs, item);
        break;
    default:
        break;
    }
}

void connection_tick(struct connections *cs, uint64_t time_ns)
{
    if (time_ns > cs->now_ns)
        cs->now_ns = time_ns;
    stream_tick(cs, time_ns);
    holder_tick(cs, time_ns, false);
    activity_sweep(cs->activity, time_ns);
    connection_free_over(cs, time_ns, false);
}

void connection_finish(struct connections *cs, uint64_t time_ns)
{
    cs->now_ns = time_ns;
    stream_tick(cs, time_ns);
    holder_tick(cs, time_ns, true);
    for (uint32_t slot = 1; slot <= cs->used; slot++)
        if (cs->table[slot].id && !cs->table[slot].over)
            connection_end(cs, &cs->table[slot], time_ns, true);
    while (spans_oldest(cs->spans))
        span_give_up(cs->spans, spans_at(cs->spans, spans_oldest(cs->spans)));
}
