/*
 * templates.h - the component template and the index templates of our data streams.
 *
 * In:      elasticsearch_setup.c               Out: JSON texts, for free()
 * Context: P
 *
 * Changing a field: change the table in templates.c and docs/elasticsearch.md, raise
 * TEMPLATES_VERSION; a server that has older templates then gets ours, a newer one keeps its own.
 */
#ifndef SONDE_TEMPLATES_H
#define SONDE_TEMPLATES_H

#include <stdbool.h>
#include "collector/document.h"

#define TEMPLATES_VERSION 1
#define TEMPLATE_COMPONENT "sonde-common"
extern const char *const template_names[STREAM_COUNT]; /* of the index templates: "sonde-span" */

/* What all streams have in common. `index_mode`: the server knows this setting (Elasticsearch
 * does). NULL: no memory. */
char *template_component(bool index_mode);
char *template_index(enum stream);

/* How many of our templates, in an answer to GET _index_template/sonde-*, are as new as ours. */
int template_count_current(const char *answer);

#endif
