#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Proves of the compiled shared library that every restartable sequence in it (lib/slot_cpu.h)
is well-formed, whatever the compiler made around it: the kernel will accept its descriptor,
the descriptor is announced right before the sequence and nowhere passed by, the sequence
ends with its one committing store, and it has nothing in it that cannot be begun anew.
It works at any optimisation level. x86-64 (by objdump) and aarch64 (by itself).

Not looked at: where indirect jumps go, but for pointers that the loader relocates.

usage: sequences.py LIBRARY               look at the library
       sequences.py --self-test LIBRARY   plant each offence in a copy, and demand that it is found
       sequences.py --skip                for builds that cannot be judged

Exit code 0: all well-formed; 1: an offence, or sequences are missing; 77: not for this
machine or build.
"""
import bisect
import collections
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

PLAIN, JUMP, STORE = "plain", "jump", "store"

# What an instruction is: one of the three above, or what is wrong with it in a sequence. dead:
# a store to an array beyond size, or the caller's own (lib/slot_cpu.h). kind: what it has
# in common with the same instruction in a sequence with other registers.
Insn = collections.namedtuple("Insn", "at end text what target dead kind")
Section = collections.namedtuple("Section", "header name type flags addr offset size link entry")
# at: of the descriptor; guard: here to end nobody may jump to (not to the end itself).
Sequence = collections.namedtuple("Sequence", "at start end abort guard body")

UNKNOWN = "an instruction not known to be harmless"
UNCOMMON = "a store of something else than one whole register"


class Skip(Exception):
    pass


# ---- x86-64: lines of objdump ----

X86_LINE = re.compile(r"^\s*([0-9a-f]+):\t(.*)$")
X86_TARGET = re.compile(r"^(?:(?:notrack|bnd|data16|cs|ds)\s+)*(?:j\w+|call\w*|loop\w*|xbegin)(?:,p[nt])?\s+"
                        r"([0-9a-f]+)(?: <|$)")
X86_WRONG = [(re.compile(pattern), what) for pattern, what in [
    (r"lock\b", "a locked instruction"),
    (r"(xchg|cmpxchg|xadd)", "an exchange"),
    (r"(call|lcall)", "a call"),
    (r"(syscall|sysenter|int)\b", "a system call"),
    (r"[mls]fence", "a fence"),
    (r"ret", "a return"),
    (r"l?j\w+ .*\*", "an indirect jump"),
]]
X86_READS = re.compile(r"(cmp|test|nop)[bwlq]?$")
X86_PLAIN = re.compile(r"((mov|lea|add|sub|and|or|xor|shl|shr|cmp|test|nop)[bwlq]?|movz[bw][wlq]|cmov[a-z]{1,3}|"
                       r"set[a-z]{1,3})$")
X86_WHOLE = re.compile(r"%(r[a-z0-9]{1,2}|r\d+d|e[a-z]{2})$")
# The arrays: 32 bytes into the sheaf in rax, or where another register points to.
X86_DEAD = re.compile(r"(0x20\(%rax|\(%(?!rax)r\w+),%r\w+,8\)$")
X86_FIXED = re.compile(r"(?:0x[0-9a-f]+)?\(%r[acd]x[^)]*\)")


def x86_64_what(text):
    """Judges an instruction in AT&T's words: (what, dead)."""
    for pattern, what in X86_WRONG:
        if pattern.match(text):
            return what, False
    name, _, rest = text.partition(" ")
    if name.startswith("j"):
        return JUMP, False
    operands = re.split(r",(?![^(]*\))", rest.strip())
    if operands[-1].endswith(")") or re.match(r"%[a-z]s:|0x", operands[-1]):
        if re.match(r"mov[bwlq]?$", name):
            if not X86_WHOLE.match(operands[0]) or ":" in operands[-1]:
                return UNCOMMON, False
            whole = re.match(r"%r([a-z]{2}|\d+)$", operands[0])
            return STORE, bool(whole and X86_DEAD.match(operands[-1]))
        if not X86_READS.match(name):
            return "a change in memory" if X86_PLAIN.match(name) else UNKNOWN, False
    return PLAIN if X86_PLAIN.match(name) else UNKNOWN, False


def x86_64_code(library):
    env = dict(os.environ, LC_ALL="C")
    for objdump in ("objdump", "x86_64-linux-gnu-objdump"):
        if not shutil.which(objdump):
            continue
        run = subprocess.run([objdump, "-d", "-w", "-z", "--no-show-raw-insn", "-M", "att", library.path], env=env,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines = [m.groups() for m in map(X86_LINE.match, run.stdout.splitlines()) if m]
        if run.returncode == 0 and lines:
            break
    else:
        raise Skip("no objdump for x86-64")
    ats = [int(at, 16) for at, _ in lines] + [0]
    for i, (_, text) in enumerate(lines):
        text = text.strip()
        plain = text.split("#")[0].strip()
        target = X86_TARGET.match(plain)
        what, dead = x86_64_what(plain)
        if what == JUMP and not target:
            what = UNKNOWN
        # The end of a section's last instruction is not needed.
        yield Insn(ats[i], ats[i + 1], text, what, int(target.group(1), 16) if target else None, dead,
                   (plain.split()[0] if plain else "", tuple(X86_FIXED.findall(plain))))


def x86_64_announced(before):
    """Of the instructions before a sequence: how many announce, and which descriptor."""
    lea = re.match(r"lea\s+\S*\(%rip\),(%r\w+)\s+# ([0-9a-f]+)", before[-2].text)
    if lea and re.match(r"mov\s+%s,%%fs:0x8\(%%r\w+\)$" % lea.group(1), before[-1].text):
        return 2, int(lea.group(2), 16)
    return 0, None


# ---- aarch64: words ----

NOP = 0xD503201F
# mask, value, what, and of branches: bits and shift of the distance. The first match counts.
AARCH64 = [
    (0xFC000000, 0x14000000, JUMP, (26, 0)),
    (0xFC000000, 0x94000000, "a call", (26, 0)),
    (0xFF000000, 0x54000000, JUMP, (19, 5)),
    (0x7E000000, 0x34000000, JUMP, (19, 5)),
    (0x7E000000, 0x36000000, JUMP, (14, 5)),
    (0xFFE00000, 0xD6200000, "a call", None),
    (0xFFE00000, 0xD6400000, "a return", None),
    (0xFE000000, 0xD6000000, "an indirect jump", None),
    (0xFF000000, 0xD4000000, "a system call", None),
    (0xFFFFF000, 0xD5033000, "a fence", None),
    (0xFFFFFFFF, NOP, PLAIN, None),
    (0x1C000000, 0x10000000, PLAIN, None),  # arithmetic with a constant
    (0x0E000000, 0x0A000000, PLAIN, None),  # arithmetic with registers
    (0xBFFFFC00, 0x889FFC00, STORE, None),  # stlr
    (0x3F000000, 0x08000000, "an exclusive, atomic or ordered access", None),
    (0x3F200C00, 0x38200000, "an exclusive, atomic or ordered access", None),
    (0x3F200C00, 0x19000000, "an exclusive, atomic or ordered access", None),
    (0x3A000000, 0x28000000, "a pair", None),
    (0xBFC00000, 0xB9000000, STORE, None),  # [register, #distance]
    (0xBFE00C00, 0xB8000000, STORE, None),  # the same, not scaled
    (0xBFE00C00, 0xB8200800, STORE, None),  # [register, register]
    (0x3FC00000, 0x39400000, PLAIN, None),  # loads, likewise
    (0x3FE00C00, 0x38400000, PLAIN, None),
    (0x3FE00C00, 0x38600800, PLAIN, None),
    (0x3AC00000, 0x38000000, UNCOMMON, None),
]


def signed(word, bits, shift):
    value = (word >> shift) & ((1 << bits) - 1)
    return value - ((value >> (bits - 1)) << bits)


def aarch64_dead(word, before):
    """Is this store one to an array of 8-byte elements, which is not at x9 itself?"""
    base = (word >> 5) & 31
    if word & 0xFFE0FC00 == 0xF8207800:  # str x, [base, x, lsl #3]
        return base != 9
    # add base, x9, x, lsl #3; str x, [base, #32]
    return word & 0xFFFFFC00 == 0xF9001000 and before & 0xFFE0FFFF == 0x8B000C00 | 9 << 5 | base


def aarch64_code(library):
    for section in library.sections:
        if not section.flags & 4 or section.size % 4:
            continue
        before = 0
        for i, (word,) in enumerate(struct.iter_unpack("<I", library.bytes_of(section))):
            at = section.addr + 4 * i
            what, distance = next(((w, d) for mask, value, w, d in AARCH64 if word & mask == value), (UNKNOWN, None))
            target = at + 4 * signed(word, *distance) if distance else None
            # Loads and stores with their distance, else without registers.
            kind = word >> (24 if distance else 10 if word & 0x3B000000 == 0x39000000 else 21)
            yield Insn(at, at + 4, "%08x" % word, what, target, what == STORE and aarch64_dead(word, before), kind)
            before = word


def aarch64_announced(before):
    first, second, store = (int(insn.text, 16) for insn in before[-3:])
    register = second & 31
    target = None
    adrp, adr = (signed(word, 19, 5) << 2 | (word >> 29) & 3 for word in (first, second))
    if first & 0x9F00001F == 0x90000000 | register and second & 0xFFC003E0 == 0x91000000 | register << 5:
        target = (before[-3].at & ~0xFFF) + (adrp << 12) + ((second >> 10) & 0xFFF)
    elif first == NOP and second & 0x9F000000 == 0x10000000:  # what a linker may make of it
        target = before[-2].at + adr
    if target is not None and store & 0xFFFFFC1F == 0xF9000400 | register:
        return 3, target
    return 0, None


# ---- the library ----

# ELF's number, relocation of a pointer into the library, signature, and the functions above.
Machine = collections.namedtuple("Machine", "name relative signature code announced")
MACHINES = {
    62: Machine("x86_64", 8, 0x53053053, x86_64_code, x86_64_announced),
    183: Machine("aarch64", 1027, 0xD428BC00, aarch64_code, aarch64_announced),
}


class Library:
    def __init__(self, path):
        self.path = path
        self.data = pathlib.Path(path).read_bytes()
        head = self.data[:64].ljust(64, b"\0")
        number = struct.unpack_from("<H", head, 18)[0]
        if head[:6] != b"\x7fELF\x02\x01" or number not in MACHINES:
            raise Skip("no 64-bit library of x86-64 or aarch64")
        self.machine = MACHINES[number]
        self.read_sections(*struct.unpack_from("<Q", head, 40), *struct.unpack_from("<HHH", head, 58))
        self.read_pointers()
        self.functions = sorted(self.symbols(".symtab") or self.symbols(".dynsym"))
        self.code = list(self.machine.code(self))
        self.index = {insn.at: i for i, insn in enumerate(self.code)}

    def read_sections(self, table, entry, count, names):
        rows = [struct.unpack_from("<IIQQQQIIQQ", self.data, table + i * entry) for i in range(count)]
        self.sections = []
        for i, (name, kind, flags, addr, offset, size, link, _, _, each) in enumerate(rows):
            self.sections.append(Section(table + i * entry, self.string(rows[names][4], name), kind, flags, addr,
                                         offset, size, link, each))

    def string(self, table, at):
        return self.data[table + at:self.data.index(b"\0", table + at)].decode()

    def bytes_of(self, section):
        return self.data[section.offset:section.offset + section.size]

    def section(self, name):
        return next((s for s in self.sections if s.name == name), None)

    def offset(self, addr, flags=2):
        """Where in the file an address is, if it is in a section with these flags (SHF_ALLOC)."""
        for s in self.sections:
            if s.flags & flags and s.type != 8 and s.addr <= addr < s.addr + s.size:
                return addr - s.addr + s.offset
        return None

    def read_pointers(self):
        """What the loader relocates: place -> address, and place -> where in the file that stands."""
        self.pointers = {}
        self.stands = {}
        for s in self.sections:
            if s.type == 4 and s.flags & 2:  # SHT_RELA
                for i, (place, info, addend) in enumerate(struct.iter_unpack("<QQq", self.bytes_of(s))):
                    if info == self.machine.relative:
                        self.pointers[place] = addend
                        self.stands[place] = s.offset + 24 * i + 16
            elif s.type == 19:  # SHT_RELR: addresses, and maps of the 63 words that follow
                where = 0
                for (word,) in struct.iter_unpack("<Q", self.bytes_of(s)):
                    if word & 1:
                        places = [where + 8 * i for i in range(63) if word >> (i + 1) & 1]
                        where += 8 * 63
                    else:
                        places = [word]
                        where = word + 8
                    for place in places:
                        offset = self.offset(place)
                        if offset is not None:
                            self.stands[place] = offset
                            self.pointers[place] = struct.unpack_from("<Q", self.data, offset)[0]

    def symbols(self, name):
        table = self.section(name)
        if not table:
            return []
        return [(value, self.string(self.sections[table.link].offset, text))
                for text, info, _, where, value, _ in struct.iter_unpack("<IBBHQQ", self.bytes_of(table))
                if info & 15 == 2 and where]

    def name(self, addr):
        i = bisect.bisect(self.functions, (addr, chr(0x10FFFF))) - 1
        if i < 0:
            return "%x" % addr
        return "%x <%s+0x%x>" % (addr, self.functions[i][1], addr - self.functions[i][0])

    def sequence(self, at, wrong):
        """The sequence of the descriptor at this address; None if it makes no sense."""
        version, flags = struct.unpack_from("<II", self.data, self.offset(at))
        length = struct.unpack_from("<Q", self.data, self.offset(at + 16))[0]
        start, abort = self.pointers.get(at + 8), self.pointers.get(at + 24)
        if version or flags:
            wrong.append("descriptor %x: version %d, flags %d" % (at, version, flags))
        if at % 32:
            wrong.append("descriptor %x: not aligned" % at)
        if start is None or abort is None or at + 16 in self.pointers:
            wrong.append("descriptor %x: not relocated" % at)
            return None
        first, last = self.index.get(start), self.index.get(start + length)
        if first is None or last is None or last <= first or first < 4:
            wrong.append("descriptor %x: no instructions from %s on for %d bytes" % (at, self.name(start), length))
            return None
        count, announced = self.machine.announced(self.code[first - 4:first])
        if announced != at:
            wrong.append("sequence at %s: not announced" % self.name(start))
        guard = self.code[first - count].end if count else start
        return Sequence(at, start, start + length, abort, guard, self.code[first:last])


def operations(machine):
    """How many operations the sources make of sequences."""
    header = pathlib.Path(__file__).resolve().parents[2] / "lib" / "rseq" / (machine.name + ".h")
    return len(re.findall(r"^static inline enum slot_did cpu_\w+\(", header.read_text(), re.M))


def sequences(library, wrong):
    section = library.section("__rseq_cs")
    if not section:
        if any("__tsan_" in name for name in undefined(library)):
            raise Skip("ThreadSanitizer: built without sequences")
        wrong.append("no __rseq_cs")
        return []
    if not section.size or section.size % 32:
        wrong.append("__rseq_cs: no whole number of descriptors")
    found = [library.sequence(section.addr + at, wrong) for at in range(0, section.size - 31, 32)]
    return sorted((s for s in found if s), key=lambda s: s.start)


def undefined(library):
    table = library.section(".dynsym")
    return [library.string(library.sections[table.link].offset, text)
            for text, _, _, where, _, _ in struct.iter_unpack("<IBBHQQ", library.bytes_of(table)) if not where]


def body_offences(library, sequence):
    """What is wrong between start and end."""
    ats = {insn.at for insn in sequence.body}
    for insn in sequence.body[:-1]:
        what = None
        if insn.what == JUMP:
            if sequence.start <= insn.target < sequence.end and insn.target not in ats:
                what = "a jump to no instruction"
        elif insn.what == STORE:
            what = None if insn.dead else "a store before the committing one"
        elif insn.what != PLAIN:
            what = insn.what
        if what:
            yield "%s: %s: %s" % (library.name(insn.at), what, insn.text)
    last = sequence.body[-1]
    if last.what != STORE or last.dead:
        what = "a store to dead memory" if last.dead else last.what
        yield "%s: ends with %s: %s" % (library.name(last.at), what, last.text)


def offences(path):
    """All that is wrong in a library, and how many sequences of how many kinds it has."""
    library = Library(path)
    wrong = []
    found = sequences(library, wrong)
    guards = [s.guard for s in found]

    def within(addr):
        i = bisect.bisect(guards, addr) - 1
        return found[i] if i >= 0 and addr < found[i].end else None

    for before, after in zip(found, found[1:]):
        if before.end > after.guard:
            wrong.append("sequences overlap: at %s and %s" % (library.name(before.start), library.name(after.start)))
    for s in found:
        wrong.extend(body_offences(library, s))
        name = "sequence at %s" % library.name(s.start)
        if s.start <= s.abort < s.end or within(s.abort):
            wrong.append(name + ": abort_ip inside a sequence")
        offset = library.offset(s.abort - 4, 4)
        if offset is None or struct.unpack_from("<I", library.data, offset)[0] != library.machine.signature:
            wrong.append(name + ": no signature before abort_ip")
    for insn in library.code:
        s = insn.target is not None and within(insn.target)
        if s and not (s.start <= insn.at < s.end and s.start <= insn.target):
            wrong.append("%s: jumps into a sequence: %s" % (library.name(insn.at), insn.text))
    for place, addr in library.pointers.items():
        s = within(addr)
        if s and place != s.at + 8:
            wrong.append("a pointer at %x leads into a sequence: %s" % (place, library.name(addr)))
    kinds = {tuple(insn.kind for insn in s.body) for s in found}
    if found and len(kinds) < operations(library.machine):
        wrong.append("%d kinds of sequences, but %d operations in lib/rseq/%s.h"
                     % (len(kinds), operations(library.machine), library.machine.name))
    return wrong, len(found), len(kinds)


# ---- the proof of the proof ----

def x86_64_plants(library, victim, other):
    """Offences in instructions: what is to be found, where, bytes in how much room."""
    shift = next(i for i, insn in enumerate(victim.body) if insn.text.startswith("shl"))
    at, room = victim.body[shift].at, victim.body[shift + 1].end - victim.body[shift].at
    commit, store, lea = victim.body[-1], *(library.code[library.index[victim.start] - i] for i in (1, 2))

    def far(opcode, target):
        return opcode.hex() + struct.pack("<i", target - at - len(opcode) - 4).hex()

    inside = [("a call", far(b"\xe8", victim.abort)), ("a call", "ff d0"), ("a system call", "0f 05"),
              ("a system call", "cd 80"), ("a fence", "0f ae f0"), ("a fence", "0f ae e8"), ("a fence", "0f ae f8"),
              ("a locked", "f0 01 01"), ("a locked", "f0 0f b1 11"), ("an exchange", "87 01"),
              ("an exchange", "0f c1 01"), ("an exchange", "0f b1 11"), ("an indirect jump", "ff e0"),
              ("a return", "c3"),
              ("a change in memory", "ff 00 01 08"), ("a change in memory", "01 08"),
              ("a change in memory", "0f 94 00"),
              ("a store before", "89 08"), ("a store before", "48 89 4c d0 10"), ("a store before", "89 4c d0 20"),
              ("a store before", "48 89 0c d0"), (UNCOMMON, "c7 00 00 00 00 00"), (UNCOMMON, "88 08"),
              (UNCOMMON, "66 89 08"), (UNCOMMON, "64 48 89 08"), (UNKNOWN, "0f 11 00"), (UNKNOWN, "50"),
              (UNKNOWN, "f3 48 ab"), (UNKNOWN, "48 a5"),
              ("jumps into", far(b"\xe9", other.body[-1].at)), ("jumps into", far(b"\x0f\x84", other.body[-1].at)),
              ("to no instruction", far(b"\xe9", commit.at + 1))]
    for what, code in inside:
        yield what, at, bytes.fromhex(code).ljust(room, b"\x90")
    for what, code in [("ends with plain", "90 90"), ("ends with an exchange", "87 08"),
                       ("ends with a change in memory", "01 08"), ("ends with " + UNCOMMON, "88 08"),
                       ("ends with jump", "eb 00")]:
        yield what, commit.at, bytes.fromhex(code).ljust(commit.end - commit.at, b"\x90")
    yield "not announced", store.end - 1, b"\x10"
    yield "not announced", store.at, b"\x90"
    yield "not announced", lea.end - 4, struct.pack("<i", other.at - lea.end)
    jump = library.code[library.index[victim.abort]]
    for target in commit.at, victim.start, store.at:
        yield "jumps into", jump.end - 4, struct.pack("<i", target - jump.end)


def aarch64_plants(library, victim, other):
    at, commit = victim.body[1].at, victim.body[-1]
    store, add, adrp = (library.code[library.index[victim.start] - i] for i in (1, 2, 3))

    def far(word, target, bits=26, shift=0, start=at):
        return word | ((target - start) // 4 & (1 << bits) - 1) << shift

    ordered = "an exclusive, atomic or ordered access"
    inside = [("a call", far(0x94000000, victim.abort)), ("a call", 0xD63F0120), ("a return", 0xD65F03C0),
              ("an indirect jump", 0xD61F0120), ("a system call", 0xD4000001),
              ("a fence", 0xD5033BBF), ("a fence", 0xD5033FDF),
              (ordered, 0xC85F7D2A), (ordered, 0xC80A7D2B), (ordered, 0xC8DFFD2A), (ordered, 0x889F7D2A),
              (ordered, 0xC8AA7D2B), (ordered, 0xF82A012B), (ordered, 0xF82A812B), (ordered, 0x9900012A),
              ("a pair", 0xA9002D2A), ("a pair", 0xA9402D2A),
              ("a store before", 0xB900012A), ("a store before", 0xF900092A), ("a store before", 0xF900112A),
              ("a store before", 0xF82B792A), ("a store before", 0xB82B596A), ("a store before", 0xF800012A),
              ("a store before", 0x889FFD2A),
              (UNCOMMON, 0x3900012A), (UNCOMMON, 0x7900012A), (UNCOMMON, 0xF800852A), (UNCOMMON, 0xFD000120),
              (UNKNOWN, 0xD53BD04A), (UNKNOWN, 0x3D800120),
              ("jumps into", far(0x14000000, other.body[-1].at)),
              ("jumps into", far(0x54000000, other.body[-1].at, 19, 5)),
              ("jumps into", far(0xB4000009, other.body[-1].at, 19, 5)),
              ("jumps into", far(0x36000009, other.body[-1].at, 14, 5))]
    for what, word in inside:
        yield what, at, struct.pack("<I", word)
    for what, word in [("plain", NOP), ("a pair", 0xA9002D2A), (ordered, 0x88DFFD2A), (ordered, 0x880B7D2A),
                       (UNCOMMON, 0x3900012A), (UNCOMMON, 0xB800452A), ("jump", 0x14000001)]:
        yield "ends with " + what, commit.at, struct.pack("<I", word)
    yield "not announced", store.at, struct.pack("<I", int(store.text, 16) + 0x400)
    yield "not announced", store.at, struct.pack("<I", int(store.text, 16) ^ 1)
    yield "not announced", store.at, struct.pack("<I", int(store.text, 16) ^ 1 << 30)
    yield "not announced", add.at, struct.pack("<I", int(add.text, 16) ^ 32 << 10)
    yield "not announced", adrp.at, struct.pack("<I", int(adrp.text, 16) ^ 1 << 29)
    for target in commit.at, victim.start, store.at, add.at:
        yield "jumps into", victim.abort, struct.pack("<I", far(0x14000000, target, start=victim.abort))
    # Nothing is wrong with these: a release, and an address that is near.
    yield None, commit.at, struct.pack("<I", 0x889FFD2A)
    near = victim.at - add.at
    yield None, adrp.at, struct.pack("<II", NOP, 0x10000009 | (near & 3) << 29 | (near >> 2 & 0x7FFFF) << 5)


def plants(library):
    """Every offence: what is to be found, and [(place in the file, bytes)] that bring it about."""
    found = sequences(library, [])
    with_dead = [s for s in found if any(insn.dead for insn in s.body)]
    victim = with_dead[0]
    other = min((s for s in found if s is not victim), key=lambda s: abs(s.start - victim.start))
    dead = next(insn for insn in victim.body if insn.dead)
    section = library.section("__rseq_cs")
    where, u64 = library.offset(victim.at), lambda value: struct.pack("<Q", value)
    start, abort = library.stands[victim.at + 8], library.stands[victim.at + 24]

    of_machine = {"x86_64": x86_64_plants, "aarch64": aarch64_plants}[library.machine.name]
    for what, at, code in of_machine(library, victim, other):
        yield what, [(library.offset(at), code)]

    yield "version 1,", [(where, b"\1")]
    yield "flags 1", [(where + 4, b"\1")]
    yield "not aligned", [(section.header + 16, u64(section.addr + 8))]
    yield "no whole number", [(section.header + 32, u64(section.size - 8))]
    yield "kinds of sequences", [(section.header + 32, u64(32))]
    yield "no __rseq_cs", [(section.header, bytes(4))]
    yield "no instructions", [(start, u64(section.addr))]
    for length in 0, victim.end - victim.start - 1, 1 << 32, (1 << 64) - 4:
        yield "no instructions", [(where + 16, u64(length))]
    yield "ends with a store to dead memory", [(where + 16, u64(dead.end - victim.start))]
    for begin in victim.body[1].at, library.code[library.index[victim.start] - 1].at:
        yield "not announced", [(start, u64(begin)), (where + 16, u64(victim.end - begin))]
    yield "overlap", [(where + 16, u64(next(s for s in found if s.start > victim.start).body[1].at - victim.start))]
    yield "abort_ip inside", [(abort, u64(victim.start))]
    yield "abort_ip inside", [(abort, u64(other.body[1].at))]
    yield "no signature", [(abort, u64(victim.abort + 4))]
    yield "no signature", [(abort, u64(section.addr))]
    for i in range(4):
        offset = library.offset(victim.abort) - 4 + i
        yield "no signature", [(offset, bytes([library.data[offset] ^ 1]))]
    outside = next(p for p in library.pointers if not section.addr <= p < section.addr + section.size)
    yield "a pointer at", [(library.stands[outside], u64(victim.body[-1].at))]
    if library.section(".relr.dyn") is None:
        yield "not relocated", [(abort - 8, bytes(8))]


def self_test(path):
    wrong, _, _ = offences(path)
    if wrong:
        return ["found where nothing is planted:"] + wrong, 0
    library = Library(path)
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "planted.so")
        for what, patches in plants(library):
            data = bytearray(library.data)
            for at, code in patches:
                data[at:at + len(code)] = code
            pathlib.Path(copy).write_bytes(data)
            found, _, _ = offences(copy)
            count += 1
            if bool(found) != bool(what) or what and not any(what in line for line in found):
                place = "; ".join("%x: %s" % (at, code.hex()) for at, code in patches)
                wrong.append("planted %s (%s), found: %s" % (what, place, found))
    return wrong, count


def main():
    arguments = sys.argv[1:]
    if "--skip" in arguments:
        return 77
    planted = arguments[:1] == ["--self-test"]
    if len(arguments) != 1 + planted:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        if planted:
            wrong, count = self_test(arguments[1])
            summary = "%d plants, all found" % count
        else:
            wrong, count, kinds = offences(arguments[0])
            summary = "%d sequences of %d kinds, all well-formed" % (count, kinds)
    except Skip as why:
        print(why)
        return 77
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print(summary)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
