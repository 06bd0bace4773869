/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A map as a sorted array of ranges: the plainest model there is. */
#ifndef TOOLS_SHADOW_FLAT_H
#define TOOLS_SHADOW_FLAT_H

#include "trace.h"

struct flat_range {
	uint64_t first;
	uint64_t last;
	uint8_t prot;
	bool nofork;
	bool stack;
};

struct flat {
	struct flat_range *ranges;
	size_t count;
	size_t room;
	uint64_t brk;
};

/* The range that holds an address, or the first one above; count if none. */
size_t flat_find(const struct flat *flat, uint64_t address);

/* What an address is: prot or SHADOW_HOLE. */
uint8_t flat_state(const struct flat *flat, uint64_t address);

/* Begin with a map of the kernel, or with what a fork inherits. -1: no memory. */
int flat_start(struct flat *flat, const struct trace_range *ranges, size_t count);
int flat_fork(struct flat *flat, const struct flat *from);

/* Do what the call did. -1: no memory. */
int flat_call(struct flat *flat, const struct trace *trace, const struct trace_event *event);

/* Grow the stack to where the kernel shows it. -1: no memory. */
int flat_check(struct flat *flat, const struct trace_range *ranges, size_t count);

void flat_free(struct flat *flat);

#endif
