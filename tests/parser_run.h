/*
 * parser_run.h - runs a parser over a list of steps, cut as one likes, and keeps what it tells.
 *
 * In:      parser_cases.h (documents), fuzz_http1.c, fuzz_redis.c
 * Owns:    the input pages: every piece ends where an unreadable page begins
 */
#ifndef SONDE_PARSER_RUN_H
#define SONDE_PARSER_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "collector/protocol/protocol.h"

enum step_kind { STEP_FEED, STEP_SKIP, STEP_END };

struct step {
    enum step_kind kind;
    enum way way;
    uint8_t *bytes; /* STEP_FEED */
    uint64_t len;
};

/* One message as it was told, with copies of what was borrowed. `at` counts from the direction's
 * first byte. */
struct told {
    struct message m;
    uint64_t call_start;
    enum way way;
    char verb[VERB_MAX + 1], target[TARGET_MAX + 1], trace[65], error_text[ERROR_TEXT_MAX + 1];
};

struct run {
    const struct protocol *protocol;
    void *state;
    enum side side;
    bool mirrored; /* directions and side exchanged: what is told must be the same */
    bool dropping; /* a state that is idle is given back: what is told must be the same */
    uint64_t fed[2], call_start[2], summed[2], until[2];
    bool upgraded, broken, ended[2];
    enum way feeding;
    uint64_t call_len;
    struct told *told;
    size_t count, room;
    const char *fault; /* a rule that no cut and no input may break */
    size_t dropped;
    int life[2]; /* per direction: 0 between messages, 1 begun, 2 head told */
};

/* `room` bytes that end at an unreadable page. */
static inline uint8_t *guarded(size_t room)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t body = (room + page - 1) / page * page;
    uint8_t *at =
        mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mprotect(at + body, page, PROT_NONE) != 0)
        abort();
    return at + body - room;
}

enum { INPUT_ROOM = 1 << 20 };

/* A copy of the piece whose last byte is the last readable one. */
static inline const uint8_t *at_the_edge(const uint8_t *bytes, size_t len)
{
    static uint8_t *room;
    if (!room)
        room = guarded(INPUT_ROOM);
    if (len > INPUT_ROOM)
        abort();
    return len ? memcpy(room + INPUT_ROOM - len, bytes, len) : room + INPUT_ROOM;
}

static inline void keep_slice(struct run *r, char *to, size_t max, struct slice s)
{
    if (s.len > max || (s.len && !s.at)) {
        r->fault = "a slice is longer than it may be";
        return;
    }
    if (s.len)
        memcpy(to, s.at, s.len);
    to[s.len] = 0;
}

static inline bool is_response_part(enum part part)
{
    return part == RESPONSE_BEGIN || part == RESPONSE_HEAD || part == RESPONSE_END;
}

static inline bool ends_bytes(enum part part)
{
    return part == REQUEST_END || part == RESPONSE_END || part == INTERIM || part == PUSH ||
           part == STRAY;
}

/* BEGIN, HEAD?, END in this order for each direction; offsets inside the call. */
static inline void check_life(struct run *r, const struct message *m, enum way way)
{
    int *life = &r->life[way];
    const bool begin = m->part == REQUEST_BEGIN || m->part == RESPONSE_BEGIN;
    const bool head = m->part == REQUEST_HEAD || m->part == RESPONSE_HEAD;
    const bool end = m->part == REQUEST_END || m->part == RESPONSE_END;
    if ((begin && *life != 0) || (head && *life != 1) || (end && *life == 0))
        r->fault = "parts out of order";
    *life = begin ? 1 : head ? 2 : end ? 0 : *life;
    if (m->past ? m->at != 0 || !(m->inferred || m->truncated || m->part == STRAY)
                : m->at > r->call_len)
        r->fault = "`at` outside the call";
    if (end && *life == 1 && !m->inferred && !m->truncated)
        r->fault = "END without HEAD";
    if (m->body_bytes > m->wire_bytes && !begin)
        r->fault = "more body than bytes";
}

static inline void run_emit_part(struct run *r, const struct message *m)
{
    const bool response =
        is_response_part(m->part) || m->part == INTERIM || m->part == PUSH || m->part == UPGRADE;
    const bool request =
        m->part == REQUEST_BEGIN || m->part == REQUEST_HEAD || m->part == REQUEST_END;
    const enum way requests = (r->side == SIDE_SERVER) == !r->mirrored ? IN : OUT;
    enum way way = response ? !requests : request ? requests : r->feeding;
    if (m->part == STRAY && m->past) /* of the direction that is not being fed, but for end() */
        way = r->call_len ? !r->feeding : r->feeding;
    if (!m->past && way != r->feeding)
        r->fault = "a part of the other direction";
    if (r->count == r->room) {
        r->room = r->room ? r->room * 2 : 64;
        r->told = realloc(r->told, r->room * sizeof *r->told);
        if (!r->told)
            abort();
    }
    struct told *t = &r->told[r->count++];
    memset(t, 0, sizeof *t);
    t->m = *m;
    t->way = r->mirrored ? !way : way;
    t->call_start = r->call_start[way];
    t->m.at = m->past ? 0 : t->call_start + m->at;
    keep_slice(r, t->verb, VERB_MAX, m->verb);
    keep_slice(r, t->target, TARGET_MAX, m->target);
    keep_slice(r, t->trace, 64, m->trace);
    keep_slice(r, t->error_text, ERROR_TEXT_MAX, m->error_text);
    t->m.verb = t->m.target = t->m.trace = t->m.error_text = (struct slice){0};
    if (m->part != STRAY)
        check_life(r, m, way);
    if (ends_bytes(m->part))
        r->summed[way] += m->wire_bytes;
    if (m->part == UPGRADE) {
        r->upgraded = true;
        r->until[way] = t->m.at;
        r->until[!way] = r->fed[!way];
    }
}

/* A message told as one is kept as the three parts that it stands for. */
static inline void run_emit(void *to, const struct message *m)
{
    struct run *r = to;
    if (m->part != REQUEST && m->part != RESPONSE) {
        run_emit_part(r, m);
        return;
    }
    const bool asks = m->part == REQUEST;
    const struct message begin = {.part = asks ? REQUEST_BEGIN : RESPONSE_BEGIN,
                                  .stream = m->stream,
                                  .at = m->begin,
                                  .inferred = m->inferred};
    struct message head = *m, end = *m;
    head.part = asks ? REQUEST_HEAD : RESPONSE_HEAD;
    head.at = m->head;
    head.wire_bytes = head.body_bytes = 0;
    end.part = asks ? REQUEST_END : RESPONSE_END;
    if (asks)
        end.verb = end.target = end.trace = (struct slice){0};
    if (m->begin >= m->head || m->head > m->at || m->past || m->truncated || m->no_answer)
        r->fault = "a whole message that is none";
    run_emit_part(r, &begin);
    run_emit_part(r, &head);
    run_emit_part(r, &end);
}

static inline void run_begin(struct run *r)
{
    const enum side side = r->mirrored ? (enum side) !r->side : r->side;
    r->fed[0] = r->fed[1] = r->summed[0] = r->summed[1] = r->until[0] = r->until[1] = 0;
    r->life[0] = r->life[1] = 0;
    r->upgraded = r->broken = r->ended[0] = r->ended[1] = false;
    r->fault = NULL;
    r->count = 0;
    if (!r->state)
        r->state = guarded((r->protocol->state_bytes + 7) / 8 * 8);
    memset(r->state, 0, r->protocol->state_bytes);
    r->protocol->reset(r->state, side);
}

/* A piece of a step; `from` and `len` are offsets into it. */
static inline enum verdict run_piece(struct run *r, const struct step *s, uint64_t from,
                                     uint64_t len)
{
    const enum way way = r->mirrored ? (enum way) !s->way : s->way;
    enum verdict v = OK;
    r->feeding = way;
    r->call_start[way] = r->fed[way];
    r->call_len = s->kind == STEP_END ? 0 : len;
    if (s->kind == STEP_FEED)
        v = r->protocol->feed(r->state, way, at_the_edge(s->bytes + from, len), len, run_emit, r);
    else if (s->kind == STEP_SKIP)
        v = r->protocol->skip(r->state, way, len, run_emit, r);
    else
        v = r->protocol->end(r->state, way, run_emit, r);
    r->fed[way] += r->ended[way] ? 0 : r->call_len;
    r->ended[way] |= s->kind == STEP_END;
    r->broken |= v == BROKEN;
    if (r->dropping && r->protocol->idle && r->protocol->idle(r->state)) {
        memset(r->state, 0, r->protocol->state_bytes);
        r->protocol->reset(r->state, r->mirrored ? (enum side) !r->side : r->side);
        r->dropped++;
    }
    if (v == NOT_MINE)
        r->fault = "feed answers NOT_MINE";
    if ((v == BROKEN || r->upgraded) && r->protocol->blind(r->state, way) != UINT64_MAX)
        r->fault = "wants bytes after the end";
    return v;
}

/* Both directions end: every byte must have been told in one message. */
static inline void run_finish(struct run *r)
{
    const struct step ends[2] = {{.kind = STEP_END, .way = IN}, {.kind = STEP_END, .way = OUT}};
    for (int i = 0; i < 2; i++)
        run_piece(r, &ends[i], 0, 0);
    for (int way = 0; way < 2 && !r->fault && !r->broken; way++) {
        if (r->summed[way] != (r->upgraded ? r->until[way] : r->fed[way]))
            r->fault =
                way == IN ? "wire bytes of IN do not add up" : "wire bytes of OUT do not add up";
        if (r->life[way] != 0 && !r->upgraded)
            r->fault = "a message never ended";
    }
}

/*
 * The same message? `cut` may have begun in a later call than `whole`: its BEGIN is then that
 * call's start. The sides differ in what they call an error.
 */
static inline bool same_told(const struct told *a, const struct told *b, bool mirrored)
{
    const struct message *m = &a->m, *n = &b->m;
    uint64_t at = m->at;
    if ((m->part == RESPONSE_BEGIN || m->part == REQUEST_BEGIN) && at < b->call_start && !m->past)
        at = b->call_start;
    if (!mirrored && m->error != n->error)
        return false;
    if (ends_bytes(m->part) && (m->wire_bytes != n->wire_bytes || m->body_bytes != n->body_bytes))
        return false;
    return a->way == b->way && m->part == n->part && at == n->at && m->stream == n->stream &&
           m->status == n->status && m->no_answer == n->no_answer &&
           m->inferred == n->inferred && m->truncated == n->truncated && m->past == n->past &&
           strcmp(a->verb, b->verb) == 0 && strcmp(a->target, b->target) == 0 &&
           strcmp(a->trace, b->trace) == 0 && strcmp(a->error_text, b->error_text) == 0;
}

static inline const char *verdict_name(enum verdict v)
{
    static const char *const names[] = {"more", "ok", "not-mine", "broken", "lost"};
    return names[v];
}

/* One line for a message; what is not said is zero. */
static inline void told_line(const struct told *t, char *line, size_t room)
{
    static const char *const names[] = {
        "request-begin", "request-head", "request-end", "interim", "response-begin",
        "response-head", "response-end", "upgrade",     "push",    "stray"};
    const struct message *m = &t->m;
    int n = snprintf(line, room, "%s", names[m->part]);
#define ADD(...) n += snprintf(line + n, room - (size_t)n, __VA_ARGS__)
    if (!m->past)
        ADD(" @%llu", (unsigned long long)m->at);
    if (m->part == REQUEST_HEAD || m->part == PUSH)
        ADD(" \"%s\"", t->verb);
    if (t->target[0])
        ADD(" \"%s\"", t->target);
    if (t->trace[0])
        ADD(" trace=%s", t->trace);
    if (m->status)
        ADD(" %u", m->status);
    if (ends_bytes(m->part))
        ADD(" wire=%llu body=%llu", (unsigned long long)m->wire_bytes,
            (unsigned long long)m->body_bytes);
    if (m->error)
        ADD(" error");
    if (t->error_text[0])
        ADD("=%s", t->error_text);
    if (m->no_answer)
        ADD(" no-answer");
    if (m->inferred)
        ADD(" inferred");
    if (m->truncated)
        ADD(" truncated");
    if (m->past)
        ADD(" past");
#undef ADD
}

#endif
