/*
 * detect.c - the protocols that are read, in the order in which detection asks them.
 *
 * Context: P
 */
#include "collector/protocol/protocol.h"

const struct protocol *const protocols[] = {&protocol_http1, &protocol_redis, NULL};
