/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#define _GNU_SOURCE
#include "machine.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NODE_FILES "/sys/devices/system/node"

struct machine machine;

/* Call fn for each number below `end` in a list like "0,2-3"; false if it cannot be read. */
static bool each(const char *path, unsigned end, void (*fn)(unsigned number, unsigned arg),
		 unsigned arg)
{
	FILE *file = fopen(path, "r");
	unsigned from, to;
	int separator;

	if (!file)
		return false;
	while (fscanf(file, "%u", &from) == 1) {
		to = from;
		separator = fgetc(file);
		if (separator == '-' && fscanf(file, "%u", &to) == 1)
			separator = fgetc(file);
		for (; from <= to && from < end; from++)
			fn(from, arg);
		if (separator != ',')
			break;
	}
	fclose(file);
	return true;
}

static void node_is_possible(unsigned node, unsigned unused)
{
	(void)unused;
	if (node >= machine.nodes)
		machine.nodes = node + 1;
}

static void cpu_is_possible(unsigned cpu, unsigned unused)
{
	(void)unused;
	if (cpu >= machine.cpus)
		machine.cpus = cpu + 1;
}

static void node_has_memory(unsigned node, unsigned unused)
{
	(void)unused;
	machine.memory[node] = true;
}

static void cpu_is_of(unsigned cpu, unsigned node)
{
	cpu_set_t may;

	if (sched_getaffinity(0, sizeof(may), &may) || !CPU_ISSET(cpu, &may))
		return;
	machine.node[cpu] = (int)node;
	machine.cpu[node] = (int)cpu;
}

static uint64_t bytes_of(unsigned node)
{
	char path[64], line[128];
	uint64_t kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), NODE_FILES "/node%u/meminfo", node);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file)) {
		char *total = strstr(line, "MemTotal:");

		if (total)
			kib = strtoull(total + strlen("MemTotal:"), NULL, 10);
	}
	if (file)
		fclose(file);
	return kib * 1024;
}

static void read_all(void)
{
	char path[64];

	memset(machine.cpu, -1, sizeof(machine.cpu));
	memset(machine.node, -1, sizeof(machine.node));
	each(NODE_FILES "/possible", MACHINE_NODES, node_is_possible, 0);
	each("/sys/devices/system/cpu/possible", MACHINE_CPUS, cpu_is_possible, 0);
	each(NODE_FILES "/has_memory", MACHINE_NODES, node_has_memory, 0);
	for (unsigned node = 0; node < machine.nodes; node++) {
		snprintf(path, sizeof(path), NODE_FILES "/node%u/cpulist", node);
		each(path, MACHINE_CPUS, cpu_is_of, node);
		machine.bytes[node] = bytes_of(node);
	}
}

int machine_cpus_only(void)
{
	for (unsigned node = 0; node < machine.nodes; node++)
		if (machine.cpu[node] >= 0 && !machine.memory[node])
			return (int)node;
	return -1;
}

int machine_memory_only(void)
{
	int found = -1;

	for (unsigned node = 0; node < machine.nodes; node++)
		if (machine.cpu[node] < 0 && machine.memory[node] &&
		    (found < 0 || machine.bytes[node] < machine.bytes[found]))
			found = (int)node;
	return found;
}

/* Filters of containers refuse these calls, and emulators of user programs lack them. */
static bool kernel_tells(void)
{
	int mode = 0;

	return machine_node_of(&mode) >= 0 &&
	       !syscall(SYS_get_mempolicy, &mode, NULL, 0ul, NULL, 0ul);
}

/* Why nothing can be tested here, or NULL. */
static const char *lacks(bool made)
{
	unsigned with_memory = 0;

	for (unsigned node = 0; node < machine.nodes; node++)
		with_memory += machine.memory[node];
	if (with_memory < 2)
		return "fewer than two nodes have memory";
	if (made && machine_cpus_only() < 0)
		return "no node has CPUs only";
	if (made && machine_memory_only() < 0)
		return "no node has memory only";
	return kernel_tells() ? NULL : "the kernel does not tell where memory lies";
}

int machine_read(void)
{
	bool made = getenv("SHEAF_NUMA") != NULL;
	const char *lack;

	read_all();
	lack = lacks(made);
	if (!lack)
		return 0;
	printf("%s%s\n", made ? "Bail out! " : "# skipped: ", lack);
	return made ? EXIT_FAILURE : 77;
}

bool machine_pin(int cpu)
{
	cpu_set_t one;

	if (cpu < 0)
		return false;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return sched_setaffinity(0, sizeof(one), &one) == 0;
}

bool machine_pin_elsewhere(unsigned node)
{
	for (unsigned other = 0; other < machine.nodes; other++)
		if (other != node && machine.cpu[other] >= 0)
			return machine_pin(machine.cpu[other]);
	return false;
}

int machine_node_of(const void *address)
{
	void *page = (void *)((uintptr_t)address & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1));
	int status = -ENOENT;

	/* Without nodes to move to it only tells. */
	if (syscall(SYS_move_pages, 0, 1ul, &page, NULL, &status, 0))
		return -errno;
	return status;
}

size_t machine_strays(size_t n, void *const *objects, size_t size, unsigned node)
{
	size_t strays = 0;

	for (size_t i = 0; i < n; i++)
		strays += machine_node_of(objects[i]) != (int)node ||
			  machine_node_of((char *)objects[i] + size - 1) != (int)node;
	return strays;
}

static bool has_page(const void *address)
{
	int node = machine_node_of(address);

	return node >= 0 && node < MACHINE_NODES && machine.memory[node];
}

size_t machine_nowhere(size_t n, void *const *objects, size_t size)
{
	size_t nowhere = 0;

	for (size_t i = 0; i < n; i++)
		nowhere += !has_page(objects[i]) || !has_page((char *)objects[i] + size - 1);
	return nowhere;
}
