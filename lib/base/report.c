/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "base/report.h"
#include "base/thread.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool tell(const char *text, size_t n)
{
	int saved = errno, state = cancel_off();
	size_t done = 0;
	ssize_t wrote;

	while (done < n) {
		wrote = write(STDERR_FILENO, text + done, n - done);
		if (wrote > 0)
			done += (size_t)wrote;
		else if (wrote == 0 || errno != EINTR)
			break;
	}
	cancel_on(state);
	errno = saved;
	return done == n;
}

/* One write(2) from the stack: nothing here may need memory or a lock. */
void fatal(const char *format, ...)
{
	char text[512] = "libsheaf: ";
	const int head = 10;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text + head, sizeof(text) - head - 1, format, args);
	va_end(args);
	if (n < 0)
		n = 0;
	n += head;
	if ((size_t)n > sizeof(text) - 2)
		n = sizeof(text) - 2;
	text[n] = '\n';
	/* With or without: where nobody reads it, the core is all there is. */
	(void)tell(text, (size_t)n + 1);
	abort();
}
