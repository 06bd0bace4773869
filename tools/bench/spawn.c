/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* One child: its pipes, its last words, its memory from outside. */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Between two looks at the memory of a child. */
#define SAMPLE_MS 5

static void child_exec(char *const argv[], const char *preload, const char *wrapper, int in,
		       int out, int err)
{
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(127);
	if (preload)
		setenv("LD_PRELOAD", preload, 1);
	/* A test runner may have set it; peers are measured as they come. */
	unsetenv("MALLOC_PERTURB_");
	signal(SIGPIPE, SIG_DFL);
	if (wrapper)
		execvp(wrapper, argv);
	else
		execv("/proc/self/exe", argv);
	dprintf(2, "%s: %s\n", wrapper ? wrapper : argv[0], strerror(errno));
	_exit(127);
}

bool child_start(struct child *child, char *const argv[], const char *preload, const char *wrapper)
{
	int to[2], from[2];

	memset(child, 0, sizeof(*child));
	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC)) {
		snprintf(child->failure, sizeof(child->failure), "pipe: %s", strerror(errno));
		return false;
	}
	child->err = memfd_create("stderr", MFD_CLOEXEC);
	fflush(NULL);
	child->pid = child->err < 0 ? -1 : fork();
	if (child->pid < 0) {
		snprintf(child->failure, sizeof(child->failure), "fork: %s", strerror(errno));
		return false;
	}
	if (child->pid == 0)
		child_exec(argv, preload, wrapper, to[0], from[1], child->err);
	close(to[0]);
	close(from[1]);
	child->to = to[1];
	child->from = from[0];
	return true;
}

bool child_tell(struct child *child, const char *word)
{
	size_t n = strlen(word);

	return write(child->to, word, n) == (ssize_t)n && write(child->to, "\n", 1) == 1;
}

/* The last line that the child wrote to stderr. */
static void last_words(const struct child *child, char *text, size_t bytes)
{
	off_t end = lseek(child->err, 0, SEEK_END);
	off_t start = end > (off_t)bytes - 1 ? end - ((off_t)bytes - 1) : 0;
	ssize_t n = pread(child->err, text, bytes - 1, start);
	char *line;

	text[n > 0 ? n : 0] = '\0';
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		text[--n] = '\0';
	line = strrchr(text, '\n');
	if (line)
		memmove(text, line + 1, strlen(line + 1) + 1);
}

/* The child is dead or shall be: find out how it died. */
static void child_autopsy(struct child *child, const char *otherwise)
{
	char words[300];
	int status = 0;

	if (otherwise)
		kill(child->pid, SIGKILL);
	waitpid(child->pid, &status, 0);
	last_words(child, words, sizeof(words));
	if (otherwise)
		snprintf(child->failure, sizeof(child->failure), "%s", otherwise);
	else if (WIFSIGNALED(status))
		snprintf(child->failure, sizeof(child->failure), "died of signal %d (%s)%s%s",
			 WTERMSIG(status), strsignal(WTERMSIG(status)), *words ? ": " : "", words);
	else
		snprintf(child->failure, sizeof(child->failure), "%s%sended with status %d", words,
			 *words ? "; " : "", WEXITSTATUS(status));
	child->pid = 0;
}

static void sample(const struct child *child, struct result *result, double since)
{
	char path[64], text[128];
	unsigned long total = 0, resident = 0;
	ssize_t n;
	unsigned i;
	int fd;

	if (result->n_samples == SAMPLES_MAX) {
		/* Full: every second one goes. */
		for (i = 0; i < SAMPLES_MAX / 2; i++) {
			result->sample_ms[i] = result->sample_ms[2 * i];
			result->sample_mib[i] = result->sample_mib[2 * i];
		}
		result->n_samples = SAMPLES_MAX / 2;
	}
	snprintf(path, sizeof(path), "/proc/%d/statm", child->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return;
	text[n] = '\0';
	if (sscanf(text, "%lu %lu", &total, &resident) != 2)
		return;
	result->sample_ms[result->n_samples] =
		(float)(child->active_ms + (now_seconds() - since) * 1e3);
	result->sample_mib[result->n_samples++] =
		(float)((double)resident * (double)sysconf(_SC_PAGESIZE) / 1048576.0);
}

const char *child_hear(struct child *child, double seconds, struct result *sampled)
{
	double since = now_seconds();
	size_t used = strlen(child->line) + 1;
	struct pollfd waiting = {.fd = child->from, .events = POLLIN};

	/* Forget the line heard before. */
	if (child->fill >= used && child->line[0] != '\0') {
		memmove(child->line, child->line + used, child->fill - used);
		child->fill -= used;
	}
	for (;;) {
		char *end = memchr(child->line, '\n', child->fill);
		ssize_t n;

		if (end) {
			*end = '\0';
			child->active_ms += (now_seconds() - since) * 1e3;
			return child->line;
		}
		if (sampled)
			sample(child, sampled, since);
		if (now_seconds() - since > seconds) {
			child_autopsy(child, "no answer in time");
			return NULL;
		}
		n = poll(&waiting, 1, sampled ? SAMPLE_MS : 1000);
		if (n <= 0)
			continue;
		n = read(child->from, child->line + child->fill,
			 sizeof(child->line) - 1 - child->fill);
		if (n <= 0) {
			child_autopsy(child, NULL);
			return NULL;
		}
		child->fill += (size_t)n;
	}
}

bool child_end(struct child *child)
{
	int status = 0;

	if (child->to > 0)
		close(child->to);
	if (child->pid > 0)
		waitpid(child->pid, &status, 0);
	if (status && !child->failure[0])
		last_words(child, child->failure, sizeof(child->failure));
	if (child->from > 0)
		close(child->from);
	if (child->err > 0)
		close(child->err);
	child->pid = child->to = child->from = child->err = 0;
	return status == 0;
}
