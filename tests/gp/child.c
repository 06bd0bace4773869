/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "child.h"

#include "common.h"

#include <signal.h>
#include <sys/wait.h>

/* Long enough for a machine that is busy with other things. */
#define LIMIT_MS 20000

int child_end(pid_t pid)
{
	uint64_t end = test_ms() + LIMIT_MS;
	int status;

	if (pid < 0)
		return CHILD_UNBORN;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (test_ms() > end) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return CHILD_HUNG;
		}
		test_sleep_ms(1);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : CHILD_SIGNAL + WTERMSIG(status);
}
