/*
 * told.c - see told.h. Lengths are those that the event's own data has room for; what they name beyond it is damage.
 *
 * Context: P
 */
#include "collector/told.h"

#include <string.h>

bool told_sample(const struct item *item, struct told_sample *out)
{
    struct event_sample s;
    uint8_t type = item->event->type;
    if ((type != EVENT_ALLOCATED && type != EVENT_LOCKED) || item->data_len < sizeof s)
        return false;
    memcpy(&s, item->data, sizeof s);
    if (s.frames > EVENT_FRAMES || s.frames * sizeof *out->frame > item->data_len - sizeof s || !s.amount)
        return false;
    out->serial = s.serial;
    out->amount = s.amount;
    out->frames = s.frames;
    out->end = (uint8_t)(s.end <= STACK_UNSAFE ? s.end : STACK_UNKNOWN);
    memcpy(out->frame, item->data + sizeof s, s.frames * sizeof *out->frame);
    return true;
}

bool told_freed(const struct item *item, uint64_t *serial)
{
    struct event_argument a;
    if (item->event->type != EVENT_FREED || item->data_len < sizeof a)
        return false;
    memcpy(&a, item->data, sizeof a);
    *serial = (uint64_t)a.argument;
    return *serial != 0;
}

bool told_object(const struct item *item, struct told_object *out)
{
    struct event_object o;
    if (item->event->type != EVENT_OBJECT || item->data_len < sizeof o)
        return false;
    memcpy(&o, item->data, sizeof o);
    if (o.start >= o.end || o.build_id_len > sizeof o.build_id || o.path_len > item->data_len - sizeof o ||
        o.path_len >= TOLD_PATH_MAX)
        return false;
    out->start = o.start;
    out->end = o.end;
    out->bias = o.bias;
    out->build_id_len = o.build_id_len;
    out->path_len = o.path_len;
    memcpy(out->build_id, o.build_id, sizeof o.build_id);
    out->path = (const char *)item->data + sizeof o;
    return true;
}
