/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A recycler across fork(), for the fork handlers of who owns it and lets several threads
 * use it; and a look into it. Explained in recycler.c.
 */
#ifndef RECYCLER_FORK_H
#define RECYCLER_FORK_H

#include <sheaf/recycler.h>

/* Keeps takers out: they find nothing from now on. Waits for the one inside, who never
 * blocks there. Givers are not kept out. */
void recycler_fork_prepare(struct sheaf_recycler *recycler);

/* Calls fn for each sheaf that is there, ripe or not, as the taker inside: others find nothing
 * meanwhile. It must not block, nor use the recycler. */
typedef void recycler_visit_fn(void *arg, const struct sheaf *sheaf);
void recycler_visit(struct sheaf_recycler *recycler, recycler_visit_fn *fn, void *arg);

/* After that in the parent: takers may come in. */
void recycler_fork_parent(struct sheaf_recycler *recycler);

/* After that in the child, which is alone: the same, and counts what there is. A sheaf that
 * a vanished thread had in its hands is not there any more. */
void recycler_fork_child(struct sheaf_recycler *recycler);

#endif
