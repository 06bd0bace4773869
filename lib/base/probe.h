/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Probes for tracers, of the provider libsheaf; doc/probes.md says what each one tells.
 *
 * A probe is one nop, and a note beside the code that says where it is and where its arguments lie.
 * So arguments are what the code has at hand: values, addresses, or a field of what it owns, each an
 * instruction at most; nothing of a sheaf that has been given away. They stand on slow paths only.
 *
 * An option of the build: without it a probe is nothing, though its arguments are still compiled.
 */
#ifndef BASE_PROBE_H
#define BASE_PROBE_H

#ifdef HAVE_PROBES

/* By default an operand may be anything, which clang takes for the stack: a store each. */
#if defined(__clang__) && !defined(STAP_SDT_ARG_CONSTRAINT)
#define STAP_SDT_ARG_CONSTRAINT nr
#endif
#define SDT_USE_VARIADIC
#include <sys/sdt.h>

#define PROBE(name, ...) STAP_PROBEV(libsheaf, name, __VA_ARGS__)

#else

static inline void probe_nothing(int zero, ...)
{
	(void)zero;
}

#define PROBE(name, ...)                                                                           \
	do {                                                                                       \
		if (0)                                                                             \
			probe_nothing(0, __VA_ARGS__);                                             \
	} while (0)

#endif

/* Begins the arguments of a cache's probes. */
#define PROBE_CACHE(cache) (cache), &(cache)->name[0]

#endif
