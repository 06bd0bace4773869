/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "child.h"

#include "common.h"

#include <signal.h>
#include <sys/wait.h>

/* Long enough for a machine that is busy with other things. Looks, a millisecond apart and more: while the whole machine
 * stands still nobody looks. */
#define LOOKS_MOST 20000

int child_end(pid_t pid)
{
	unsigned looks = 0;
	int status;

	if (pid < 0)
		return CHILD_UNBORN;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (++looks > LOOKS_MOST) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return CHILD_HUNG;
		}
		test_sleep_ms(1);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : CHILD_SIGNAL + WTERMSIG(status);
}
