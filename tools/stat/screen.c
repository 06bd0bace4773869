/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A terminal that is drawn anew at each update, at each key, and when its size changes. All that is
 * needed is a table from the upper left corner on, so the few sequences that every terminal knows
 * do: home, clear to the end of line and screen, the other screen, the cursor.
 */
#define _GNU_SOURCE
#include "stat.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ended;
static volatile sig_atomic_t resized;

static void on_signal(int number)
{
	if (number == SIGWINCH)
		resized = 1;
	else
		ended = number;
}

static struct termios usual;
static bool is_raw;

/* Keys come one by one, and are not shown; ^C is a signal as ever. */
static void begin(void)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct termios raw;

	sigaction(SIGWINCH, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	if (tcgetattr(STDIN_FILENO, &usual) == 0) {
		raw = usual;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		is_raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	(void)fputs("\033[?1049h\033[?25l", stdout);
}

static void end(void)
{
	(void)fputs("\033[?25h\033[?1049l", stdout);
	(void)fflush(stdout);
	if (is_raw)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &usual);
}

static void measure(struct table *table)
{
	struct winsize size;

	table->width = 80;
	table->height = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col || !size.ws_row)
		return;
	table->width = size.ws_col;
	table->height = size.ws_row;
}

static void draw(struct look *look, struct table *table, struct rows *rows, const char *notice)
{
	struct table inner;

	measure(table);
	inner = *table;
	/* The last line says which keys there are. */
	inner.height = table->height > 1 ? table->height - 1 : 1;
	rows_sort(rows, table->sort);
	(void)fputs("\033[H", stdout);
	table_print(stdout, &inner, look, rows);
	(void)fputs("\033[J", stdout);
	if (table->height > 3) {
		char line[128];

		(void)snprintf(line, sizeof(line), "q quit, s sort (%s)%s%s",
			       column_key(table->sort), *notice ? ": " : "", notice);
		(void)printf("\033[%u;1H%.*s", table->height, (int)table->width, line);
	}
	(void)fflush(stdout);
}

/* True if it is over. */
static bool key(struct table *table)
{
	char c;

	/* The terminal is gone. */
	if (read(STDIN_FILENO, &c, 1) != 1)
		return errno != EINTR;
	if (c == 's')
		table->sort = (table->sort + 1) % COLUMNS;
	return c == 'q' || c == 'Q';
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until the time is over. True if somebody wants to end. */
static bool wait_for_key(struct look *look, struct table *table, struct rows *rows, int64_t until,
			 const char *notice)
{
	while (!ended) {
		struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
		int64_t left = until - now_ms();
		int n = left > 0 ? poll(&fd, 1, (int)left) : 0;

		if (n > 0 && key(table))
			return true;
		if (!n)
			return false;
		resized = 0;
		draw(look, table, rows, notice);
	}
	return true;
}

int screen_run(struct look *look, struct table *table, double interval, unsigned count)
{
	struct rows rows = {0};
	unsigned done = 0;
	enum found found;

	table->newline = "\033[K\r\n";
	begin();
	for (;;) {
		int64_t start = now_ms();

		found = look_update(look);
		if (found != FOUND && found != FOUND_SILENT)
			break;
		if (found == FOUND && !rows_make(&rows, look)) {
			found = FOUND_NO_MEMORY;
			break;
		}
		draw(look, table, &rows, found == FOUND ? "" : "no answer");
		if (count && ++done >= count)
			break;
		if (wait_for_key(look, table, &rows, start + (int64_t)(interval * 1000),
				 found == FOUND ? "" : "no answer"))
			break;
	}
	end();
	rows_free(&rows);
	if (found == FOUND || found == FOUND_SILENT)
		return 0;
	look_complain(found, look->pid);
	return 1;
}
