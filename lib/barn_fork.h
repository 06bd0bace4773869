/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A barn across fork(), for the fork handlers of who owns it. Explained in barn.c. */
#ifndef BARN_FORK_H
#define BARN_FORK_H

#include <sheaf/barn.h>

/* In the child, which is alone: ends what vanished threads had begun. There is nothing to
 * do before the fork or in the parent. */
void barn_fork_child(struct sheaf_barn *barn);

#endif
