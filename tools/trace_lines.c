/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Lines of a file that may be compressed; zlib reads both kinds alike. */
#include "trace_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK ((size_t)1 << 16)
#define LONGEST ((size_t)1 << 20)

int trace_lines_open(struct trace_lines *lines, struct trace *trace, const char *path)
{
	*lines = (struct trace_lines){.room = CHUNK};
	errno = 0;
	lines->file = gzopen(path, "rbe");
	if (!lines->file)
		return trace_fail(trace, 0, "%s", errno ? strerror(errno) : "out of memory");
	lines->buffer = malloc(lines->room);
	if (!lines->buffer) {
		trace_lines_close(lines);
		return trace_fail(trace, 0, "out of memory");
	}
	return 0;
}

void trace_lines_close(struct trace_lines *lines)
{
	if (lines->file)
		gzclose(lines->file);
	free(lines->buffer);
	*lines = (struct trace_lines){0};
}

/* More bytes behind those not yet given. */
static int fill(struct trace_lines *lines, struct trace *trace)
{
	int got, code;

	if (lines->at) {
		memmove(lines->buffer, lines->buffer + lines->at, lines->fill - lines->at);
		lines->fill -= lines->at;
		lines->at = 0;
	}
	if (lines->fill == lines->room) {
		char *larger;

		if (lines->room >= LONGEST)
			return trace_fail(trace, lines->number + 1, "the line is too long");
		larger = realloc(lines->buffer, 2 * lines->room);
		if (!larger)
			return trace_fail(trace, lines->number + 1, "out of memory");
		lines->buffer = larger;
		lines->room *= 2;
	}
	errno = 0;
	got = gzread(lines->file, lines->buffer + lines->fill, (unsigned)(lines->room - lines->fill));
	if (got <= 0) {
		gzerror(lines->file, &code);
		if (code == Z_BUF_ERROR)
			return trace_fail(trace, lines->number + 1, "the compressed file is cut");
		if (code == Z_ERRNO)
			return trace_fail(trace, lines->number + 1, "%s", strerror(errno));
		if (code != Z_OK && code != Z_STREAM_END)
			return trace_fail(trace, lines->number + 1, "the compressed file is damaged");
		lines->ended = true;
		return 0;
	}
	lines->fill += (size_t)got;
	return 0;
}

int trace_lines_next(struct trace_lines *lines, struct trace *trace, char **line)
{
	size_t seen = 0;
	char *end;

	for (;;) {
		end = memchr(lines->buffer + lines->at + seen, '\n', lines->fill - lines->at - seen);
		if (end)
			break;
		seen = lines->fill - lines->at;
		if (lines->ended)
			return seen ? trace_fail(trace, lines->number + 1,
						 "the last line is cut: no newline") : 0;
		if (fill(lines, trace))
			return -1;
	}
	*end = '\0';
	*line = lines->buffer + lines->at;
	lines->at = (size_t)(end - lines->buffer) + 1;
	lines->number++;
	if (strlen(*line) != (size_t)(end - *line))
		return trace_fail(trace, lines->number, "a zero byte in the line");
	return 1;
}
