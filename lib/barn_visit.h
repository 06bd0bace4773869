/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A look into the sheaves with objects of a barn that others go on using. Explained in barn_visit.c. */
#ifndef BARN_VISIT_H
#define BARN_VISIT_H

#include <sheaf/barn.h>

/* Calls fn for each sheaf, which is the visitor's meanwhile; it must not block, nor use the barn. What
 * others move meanwhile is met once, twice or never. */
typedef void barn_visit_fn(void *arg, const struct sheaf *sheaf);
void barn_visit(struct sheaf_barn *barn, barn_visit_fn *fn, void *arg);

#endif
