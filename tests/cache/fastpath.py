#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Proves of the compiled shared library that the fast paths are what they are said to be:
no locked instruction, no exchange with memory, no fence, and no call but jumps to
slow paths. x86-64 only.

usage: fastpath.py library       look at the library
       fastpath.py --self-test   prove that each offence, and a missing function, is found
       fastpath.py --skip        for builds that cannot be judged

Exit code 0: clean; 1: an offence or a missing function; 77: not for this machine, or no
objdump.
"""
import re
import shutil
import subprocess
import sys

FAST = ["sheaf_cache_alloc", "sheaf_cache_free", "sheaf_cache_free_rcu", "sheaf_cache_alloc_from"]
SLOW = re.compile(r"^(\w+_slow|fatal)(\.\w+)*(@plt)?$")
FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
# "    5c41:<tab>lock cmpxchg %rsi,(%rdi)" and "... jmp 5e10 <alloc_slow+0x4>"
INSTRUCTION = re.compile(r"^\s*[0-9a-f]+:\t(.*)$")
TARGET = re.compile(r"<([^>+]+)(\+0x[0-9a-f]+)?>")
FENCES = {"mfence", "lfence", "sfence"}
# Between prefixes and operands of compilers that pad and notrack.
PREFIXES = {"notrack", "bnd", "data16", "cs", "ds", "rep", "repz", "repnz"}


def functions(listing):
    """Splits a disassembly: name -> instructions."""
    found = {}
    body = None
    for line in listing.splitlines():
        head = FUNCTION.match(line)
        if head:
            body = found.setdefault(head.group(1), [])
            continue
        instruction = INSTRUCTION.match(line)
        if instruction and body is not None and instruction.group(1).strip():
            body.append(instruction.group(1).split("#")[0].strip())
    return found


def offence(name, text):
    """Says what is wrong with one instruction, or None."""
    words = text.split()
    if "lock" in words:
        return "a locked instruction"
    while len(words) > 1 and words[0] in PREFIXES:
        words = words[1:]
    word = words[0]
    if word.startswith("xchg") and "(" in text:
        return "an exchange with memory"
    if word in FENCES:
        return "a fence"
    if word.startswith("syscall"):
        return "a system call"
    if not (word.startswith("call") or word.startswith("j")):
        return None
    target = TARGET.search(text)
    if not target:
        return "an indirect call or jump"
    target = target.group(1)
    # Inside the function, or to its part that the compiler put with the cold code.
    if target == name or target.startswith(name + "."):
        return "recursion" if word.startswith("call") else None
    if not SLOW.match(target):
        return "a call of " + target
    if word.startswith("call") and not target.startswith("fatal"):
        return "a call of " + target + " that is no jump"
    return None


def offences(listing):
    """All that is wrong in a disassembly."""
    found = functions(listing)
    wrong = []
    for name in FAST:
        bodies = [n for n in found if n == name or n.startswith(name + ".")]
        if not found.get(name):
            wrong.append(name + ": not in the listing")
        for body in bodies:
            for text in found[body]:
                what = offence(name, text)
                if what:
                    wrong.append("%s: %s: %s" % (body, what, text))
    return wrong


def self_test():
    """Every offence, planted into a clean listing, must be found, and nothing else."""
    clean = ["mov    0x8(%rdx),%rcx", "movl   $0x0,(%rdx)", "je     1010 <F+0x10>",
             "jmp    5e10 <alloc_slow>", "ret", "xchg   %ax,%ax", "nopw   0x0(%rax,%rax,1)",
             "call   42c0 <fatal>", "jmp    6000 <retire_slow.part.0>",
             "jmp    4300 <F.cold>", "notrack jmp 6100 <alloc_from_slow.constprop.0>"]
    planted = ["lock xadd %eax,(%rdx)", "xchg   %eax,(%rdx)", "mfence", "lfence", "sfence",
               "lock incl 0x4(%rdi)", "call   4100 <malloc@plt>", "call   5e10 <alloc_slow>",
               "jmp    4200 <sheaf_barn_take_full>", "call   *0x10(%rax)", "jmp    *%rax",
               "call   1000 <F>", "syscall"]

    def listing(extra=None, missing=None):
        text = ""
        for name in FAST:
            if name == missing:
                continue
            text += "0000000000001000 <%s>:\n" % name
            for line in clean + ([extra] if extra and name == FAST[2] else []):
                text += "    1000:\t%s\n" % line.replace("F", name)
            text += "\n"
        return text

    wrong = []
    if offences(listing()):
        wrong.append("found where nothing is: %s" % offences(listing()))
    for extra in planted:
        if len(offences(listing(extra=extra))) != 1:
            wrong.append("not found: " + extra)
    for name in FAST:
        if len(offences(listing(missing=name))) != 1:
            wrong.append("not missed: " + name)
    return wrong


def main():
    if len(sys.argv) != 2:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    if sys.argv[1] == "--skip":
        return 77
    if sys.argv[1] == "--self-test":
        wrong = self_test()
    else:
        if not shutil.which("objdump"):
            print("objdump is not there")
            return 77
        listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "-M", "att", sys.argv[1]],
                                 stdout=subprocess.PIPE, check=True, text=True).stdout
        if "x86-64" not in listing[:300]:
            print("not an x86-64 library")
            return 77
        wrong = offences(listing)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
