/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What to do with which address space: the events of a recording, with threads and
 * processes resolved. Threads and CLONE_VM children share a space, a fork copies it,
 * execve starts a new one, and a space is dropped when nobody uses it any more.
 *
 * Spaces are numbered from 0 in the order in which they begin. Write number n of a
 * space is the n-th step on it, from 1; what it began with is write 0. The numbers
 * are the same in each replay, and shadow.h tells the truth by them.
 */
#ifndef TOOLS_PLAN_H
#define TOOLS_PLAN_H

#include "trace.h"

enum plan_kind {
	PLAN_START, /* the space begins with the map of the event (an execve) */
	PLAN_FORK,  /* the space begins as a copy of space `from` */
	PLAN_CALL,  /* a write: the event is a memory call */
	PLAN_CHECK, /* a write: compare with the map of the event; the stack may grow */
	PLAN_DROP   /* a write: the end of the space */
};

#define PLAN_NO_EVENT UINT32_MAX

struct plan_step {
	enum plan_kind kind;
	uint32_t space;
	uint32_t from;
	uint32_t event; /* index into the events, PLAN_NO_EVENT at the end of the recording */
};

struct plan {
	struct plan_step *steps;
	size_t count;
	uint32_t spaces;
	uint32_t checks;
	size_t calls;
};

/*
 * Returns 0, or -1 with trace->error set; plan_free() is due in both cases. The plan
 * refers to the trace by index only.
 */
int plan_make(struct plan *plan, struct trace *trace);
void plan_free(struct plan *plan);

#endif
