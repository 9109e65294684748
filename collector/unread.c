/*
 * unread.c - what could not be read: connections and bytes, by address and reason.
 *
 * Context: C
 * Failure: when the table is full, rows without an address take the rest.
 */
#include "collector/connection.h"

#include <arpa/inet.h>
#include <string.h>

#define ROWS (sizeof((struct connections *)0)->unread / sizeof(struct unread))

uint16_t address_port(const uint8_t *at, size_t length)
{
    uint16_t family, port;
    if (length < 8)
        return 0;
    memcpy(&family, at, sizeof family);
    if (family != AF_INET && family != AF_INET6)
        return 0;
    memcpy(&port, at + 2, sizeof port);
    return ntohs(port);
}

static const uint8_t *address_of(const struct connections *cs, const struct connection *c, uint8_t *length)
{
    if (c->origin == ORIGIN_OPENED) {
        *length = c->peer.length;
        return c->peer.at;
    }
    if (c->listener && cs->listener[c->listener - 1].length) {
        *length = cs->listener[c->listener - 1].length;
        return cs->listener[c->listener - 1].address;
    }
    *length = c->local.length;
    return c->local.at;
}

static uint32_t row_of(struct connections *cs, const uint8_t *address, uint8_t length, enum unread_reason reason)
{
    for (uint32_t i = 0; i < cs->unread_rows; i++) {
        const struct unread *u = &cs->unread[i];
        if (u->reason == reason && u->address_length == length && !memcmp(u->address, address, length))
            return i;
    }
    if (cs->unread_rows + UNREAD_COUNT >= ROWS && length) /* room for one without address of each reason */
        return row_of(cs, address, 0, reason);
    struct unread *u = &cs->unread[cs->unread_rows];
    *u = (struct unread){.address_length = length, .reason = reason};
    memcpy(u->address, address, length);
    return cs->unread_rows++;
}

void unread_flag(struct connections *cs, struct connection *c, enum unread_reason reason)
{
    if (c->unread && (c->unread != UNREAD_CAPTURE + 1 || reason == UNREAD_CAPTURE))
        return; /* a gap does not hide that the rest is not read either */
    uint8_t length;
    const uint8_t *address = address_of(cs, c, &length);
    c->unread = (uint8_t)(reason + 1);
    c->unread_row = row_of(cs, address, length, reason);
    struct unread *u = &cs->unread[c->unread_row];
    u->connections++;
    if (!length && c->holder[0].image && cs->feedback.ask_address)
        cs->feedback.ask_address(cs->feedback.to, c->holder[0].image->number, c->descriptor, c->id);
    for (int way = IN; way <= OUT; way++)
        c->unread_bytes[way] = c->position[way] - c->dialogue.message[way];
    u->bytes_in += c->unread_bytes[IN];
    u->bytes_out += c->unread_bytes[OUT];
}

void unread_more(struct connections *cs, struct connection *c, enum way way, uint64_t bytes)
{
    struct unread *u = &cs->unread[c->unread_row];
    c->unread_bytes[way] += bytes;
    *(way == IN ? &u->bytes_in : &u->bytes_out) += bytes;
}

/* Requests that are in no count may lie in these bytes; what follows is read again. */
void unread_gap(struct connections *cs, struct connection *c, enum way way, uint64_t bytes)
{
    if (!c->unread) {
        unread_flag(cs, c, UNREAD_CAPTURE);
        for (int w = IN; w <= OUT; w++)
            unread_more(cs, c, (enum way)w, -c->unread_bytes[w]);
    }
    unread_more(cs, c, way, bytes);
}

/* Moves what was counted without an address to its row. */
void unread_address(struct connections *cs, struct connection *c)
{
    uint8_t length;
    const uint8_t *address = address_of(cs, c, &length);
    if (!c->unread || !length)
        return;
    struct unread *u = &cs->unread[c->unread_row];
    u->connections--;
    u->bytes_in -= c->unread_bytes[IN];
    u->bytes_out -= c->unread_bytes[OUT];
    c->unread_row = row_of(cs, address, length, (enum unread_reason)(c->unread - 1));
    u = &cs->unread[c->unread_row];
    u->connections++;
    u->bytes_in += c->unread_bytes[IN];
    u->bytes_out += c->unread_bytes[OUT];
}
