/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A recording: the memory calls of a program and its children, as events in the
 * order in which they took effect, and the maps that the kernel showed meanwhile.
 * doc/trace.md is the format of the file.
 *
 * Nothing here knows the library. One thread; a recording that was read does not
 * change any more and may then be looked at by any number of threads.
 */
#ifndef TOOLS_TRACE_H
#define TOOLS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Permissions of a range, as the four letters of /proc/PID/maps. */
#define TRACE_R 1u
#define TRACE_W 2u
#define TRACE_X 4u
#define TRACE_S 8u

/* What an event did; the fields that it uses. */
enum trace_kind {
	TRACE_MMAP,	/* addr (wish), len, prot, result; ANON, FIXED, NOREPLACE, LOW */
	TRACE_MUNMAP,	/* addr, len */
	TRACE_MPROTECT, /* addr, len, prot; GROWSDOWN, PREFIX */
	TRACE_MREMAP,	/* addr, len, new_len, result; KEEP */
	TRACE_BRK,	/* addr (wish), result */
	TRACE_ADVISE,	/* addr, len; NOFORK: the range is not inherited, else it is */
	TRACE_FORK,	/* result: the child; SHARE, THREAD */
	TRACE_EXECVE,	/* map: what execve left, or TRACE_NO_MAP */
	TRACE_GONE,	/* the thread ended */
	TRACE_CHECK,	/* map: what the kernel showed at this moment */
	TRACE_KINDS
};

#define TRACE_ANON 1u	    /* MAP_ANONYMOUS */
#define TRACE_FIXED 2u	    /* MAP_FIXED: replaces what is there */
#define TRACE_NOREPLACE 4u  /* MAP_FIXED_NOREPLACE: nothing may be there */
#define TRACE_LOW 8u	    /* MAP_32BIT: the kernel looks elsewhere for room */
#define TRACE_GROWSDOWN 16u /* PROT_GROWSDOWN: from the start of the mapping */
#define TRACE_PREFIX 32u    /* failed at a hole; what lies before it is changed */
#define TRACE_KEEP 64u	    /* the old range stays mapped */
#define TRACE_NOFORK 128u   /* MADV_DONTFORK */
#define TRACE_SHARE 256u    /* CLONE_VM: the child uses the same map */
#define TRACE_THREAD 512u   /* CLONE_THREAD: and belongs to the same process */

#define TRACE_NO_MAP UINT32_MAX

/* Lengths are whole pages, addresses that were mapped are page aligned. */
struct trace_event {
	enum trace_kind kind;
	unsigned flags;
	uint8_t prot;
	int tid;
	uint32_t line;	 /* where the call has its result, for messages */
	uint32_t effect; /* the line at which it takes effect; events are sorted by it */
	uint32_t map;	 /* index into maps */
	uint64_t addr;
	uint64_t len;
	uint64_t new_len;
	uint64_t result;
};

/* One range of a map; last is inclusive. */
struct trace_range {
	uint64_t first;
	uint64_t last;
	uint8_t prot;
	bool stack; /* [stack], which grows without a call */
};

/* A map of the kernel: ranges[begin .. begin + count - 1], ascending. */
struct trace_map {
	uint32_t line;
	int tid;
	size_t begin;
	size_t count;
};

struct trace {
	char *path;
	char *command;
	uint64_t page;
	struct trace_event *events;
	size_t event_count;
	struct trace_map *maps;
	size_t map_count;
	struct trace_range *ranges;
	size_t range_count;
	/* Calls in the recording; of these, the ones that failed, and the ones that
	 * do not touch the map. */
	uint64_t calls;
	uint64_t failed;
	uint64_t without_effect;
	char error[512];
};

/*
 * Read a recording, plain or gzip. Returns 0, or -1 with trace->error set to
 * "file:line: what"; trace_free() is due in both cases.
 */
int trace_read(struct trace *trace, const char *path);
void trace_free(struct trace *trace);

/* Set trace->error to "file:line: what" (line 0: "file: what"). Returns -1. */
int trace_fail(struct trace *trace, uint32_t line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The four letters for a prot, in a static table. */
const char *trace_prot_name(uint8_t prot);

#endif
