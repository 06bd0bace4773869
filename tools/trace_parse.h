/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Shared by the files that make up the parser: trace.c, trace_lines.c, trace_call.c. */
#ifndef TOOLS_TRACE_PARSE_H
#define TOOLS_TRACE_PARSE_H

#include "trace.h"

#include <zlib.h>

/* The lines of a file, plain or gzip, one at a time. */
struct trace_lines {
	gzFile file;
	char *buffer;
	size_t room;
	size_t at;
	size_t fill;
	bool ended;
	uint32_t number; /* of the line given last, from 1 */
};

int trace_lines_open(struct trace_lines *lines, struct trace *trace, const char *path);
void trace_lines_close(struct trace_lines *lines);

/*
 * The next line, without its newline, in *line; the caller may write into it until
 * the next call. Returns 1, 0 at the end of the file, -1 with trace->error set.
 */
int trace_lines_next(struct trace_lines *lines, struct trace *trace, char **line);

/*
 * Parse one whole call, "name(arguments) = result", which is cut up in place.
 * Fills kind, flags, prot, addr, len, new_len and result of @event; the numbers of
 * @trace count it. Returns 1 if it changes a map or a process, 0 if it does not
 * matter, -1 with trace->error set for @line.
 */
int trace_call(struct trace *trace, uint32_t line, char *text, struct trace_event *event);

/* A whole number, 0x or decimal or NULL. Returns false if text is anything else. */
bool trace_number(const char *text, uint64_t *value);

#endif
