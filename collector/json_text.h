/*
 * json_text.h - any bytes as a JSON string.
 *
 * In:      report_json.c, flame.c                Context: P but for the FILE
 */
#ifndef SONDE_JSON_TEXT_H
#define SONDE_JSON_TEXT_H

#include <stdio.h>

/* In quotes. Bytes that are no UTF-8 become U+FFFD; `<` is escaped, so that it can stand inside a page's script. */
void json_put_text(FILE *, const char *text);

#endif
