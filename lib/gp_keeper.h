/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A thread for tasks of those whose grace-period source has none. */
#ifndef GP_KEEPER_H
#define GP_KEEPER_H

#include <sheaf/gp.h>

/*
 * The process's one source for tasks only: its tickets say nothing. Its thread starts with the
 * first task that is armed and sleeps otherwise; the last put ends it. NULL if there is no memory.
 */
struct sheaf_gp *gp_keeper_get(void);

/* Blocks until the thread has ended, if it is the last one. All tasks are detached. */
void gp_keeper_put(void);

#endif
