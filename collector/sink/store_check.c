/*
 * store_check.c - is a row whole?
 *
 * In:      store.c                              Out: -
 * Context: P
 */
#include "collector/sink/store_inside.h"

static bool fits(size_t room, size_t fixed)
{
    return room >= fixed;
}

static bool fits_with(size_t room, size_t fixed, size_t variable)
{
    return room >= fixed && room - fixed >= variable;
}

/* Its fixed part and the lengths it names fit in it; a short row is no row. */
bool store_row_is_whole(const struct row *row)
{
    const void *body = row + 1;
    size_t n = row->bytes < sizeof *row ? 0 : row->bytes - sizeof *row;
#define FIXED(type) fits(n, sizeof(struct type))
#define OF(type, field) (FIXED(type) ? (size_t)((const struct type *)body)->field : 0)
#define WHOLE(type, variable) fits_with(n, sizeof(struct type), (variable))
    switch (row->kind) {
    case ROW_RUN:
        return WHOLE(row_run,
                     OF(row_run, command_len) + OF(row_run, settings_len) + OF(row_run, host_len));
    case ROW_RUN_END:
        return FIXED(row_run_end);
    case ROW_PROCESS:
        return WHOLE(row_process, OF(row_process, executable_len) + OF(row_process, service_len));
    case ROW_ENDPOINT:
        return WHOLE(row_endpoint, OF(row_endpoint, service_len) + OF(row_endpoint, name_len));
    case ROW_INTERVAL:
        return FIXED(row_interval);
    case ROW_TOTAL:
        return WHOLE(row_total, OF(row_total, latency_len) + OF(row_total, first_len) +
                                    OF(row_total, heap_len) + OF(row_total, cpu_len));
    case ROW_STATUS:
        return FIXED(row_status);
    case ROW_SPAN:
        return WHOLE(row_span, OF(row_span, target_len) + OF(row_span, error_len));
    case ROW_IN_FLIGHT:
        return WHOLE(row_in_flight, OF(row_in_flight, name_len));
    case ROW_UNREAD:
        return WHOLE(row_unread, OF(row_unread, address_len));
    case ROW_STACK:
        return WHOLE(row_stack, OF(row_stack, text_len));
    case ROW_SITE:
        return FIXED(row_site);
    case ROW_SITE_LIVE:
        return FIXED(row_site_live);
    case ROW_OBJECT:
        return WHOLE(row_object, OF(row_object, path_len));
    case ROW_FRAMES:
        return WHOLE(row_frames, OF(row_frames, frames) * sizeof(struct frame));
    case ROW_COMMIT:
        return FIXED(row_commit);
    default:
        return row->kind == ROW_IN_FLIGHT_CLEAR;
    }
#undef OF
#undef WHOLE
#undef FIXED
}
