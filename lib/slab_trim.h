/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* When memory goes back to the system. */
#ifndef SLAB_TRIM_H
#define SLAB_TRIM_H

#include "slab_types.h"

/* A slab that is empty and not dirty is about to be used. The caller holds
 * the mutex of the node. */
void node_missed(const struct sheaf_slab *s, struct node *node);

/* Does the node hold more than it keeps, or memory whose ticket has elapsed? The caller
 * holds the mutex of the node. */
bool node_over(const struct sheaf_slab *s, const struct node *node);

/* Give back what is too much. The caller holds no lock. Blocking. */
void node_relieve(struct sheaf_slab *s, struct node *node);

#endif
