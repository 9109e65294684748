"""stack_events.py - reads what arena_run -o wrote of sampled stacks, for live_stacks.sh. Exit 1: something differs.

    chains EVENTS PRINTED     the stacks of live_stack_chain are the callers that it printed
    books EVENTS PRINTED      every block was sampled: amounts are the thread's own books ("tid allocated freed n")
    rate EVENTS PRINTED MEAN  as many blocks of each size were sampled as exponential gaps with this mean give
    known EVENTS              no block was freed twice or without being told of, no serial twice
"""
import collections
import math
import re
import sys

SAMPLE = re.compile(r"tid=(\d+) seq=\d+ ALLOCATED .* serial=(\d+) amount=(\d+) end=(\w+) frames=([0-9a-f,]*)")
FREED = re.compile(r"tid=(\d+) seq=\d+ FREED .* serial=(\d+)")


def events(path):
    samples, freed = [], []
    for line in open(path, errors="replace"):
        m = SAMPLE.search(line)
        if m:
            frames = [int(f, 16) for f in m[5].split(",") if f]
            samples.append((int(m[1]), int(m[2]), int(m[3]), m[4], frames))
        m = FREED.search(line)
        if m:
            freed.append((int(m[1]), int(m[2])))
    return samples, freed


def chains(samples, _freed, printed):
    bad = count = 0
    for line in open(printed):
        if not line.startswith("chain "):
            continue
        count += 1
        size, *want = line.split()[1:]
        want = [int(w, 16) for w in want]
        got = [s for s in samples if s[2] == int(size)]
        if len(got) != 1:
            print(f"block of {size}: {len(got)} samples")
            bad += 1
            continue
        frames, end = got[0][4], got[0][3]
        inside = frames and 0 < frames[0] - want[0] < 400
        if not inside or frames[1:len(want)] != want[1:] or end != "whole":
            print(f"block of {size}: end={end} frames {[hex(f) for f in frames]}, wanted {[hex(w) for w in want]}")
            bad += 1
    return bad or count < 10


def books(samples, freed, printed):
    bad = rows = 0
    amount = {s[1]: s[2] for s in samples}
    for line in open(printed):
        words = line.split()
        if len(words) != 4 or not words[0].isdigit():
            continue
        tid, a, f, n = map(int, words)
        rows += 1
        seen_a = sum(s[2] for s in samples if s[0] == tid)
        seen_n = sum(s[0] == tid for s in samples)
        seen_f = sum(amount.get(serial, 0) for t, serial in freed if t == tid)
        # a gap of mean 1 spares a block of 8 bytes once in 3000, of 16 once in 9 million
        spared = n - seen_n
        if not (0 <= spared <= 3 and 0 <= a - seen_a <= 16 * spared and 0 <= f - seen_f <= 16 * spared):
            print(f"thread {tid}: sampled {seen_a} freed {seen_f} blocks {seen_n}, by its own books {a} {f} {n}")
            bad += 1
    return bad or not rows


def rate(samples, _freed, printed, mean):
    bad = 0
    seen = collections.Counter(s[2] for s in samples)
    for line in open(printed):
        if not line.startswith("size "):
            continue
        size, blocks = map(int, line.split()[1:])
        p = -math.expm1(-size / float(mean))
        sigma = math.sqrt(blocks * p * (1 - p)) or 1
        off = (seen[size] - blocks * p) / sigma
        print(f"{blocks} blocks of {size}: {seen[size]} sampled, {blocks * p:.0f} wanted, {off:+.1f} sigma")
        bad += abs(off) > 4.5 # chance for one in 150000; 16 runs would average what 3 sigma hide
    return bad


def known(samples, freed):
    serials = collections.Counter(s[1] for s in samples if s[1])
    gone = collections.Counter(serial for _tid, serial in freed)
    twice = [s for s in serials if serials[s] > 1] + [s for s in gone if gone[s] > 1]
    unknown = [s for s in gone if s not in serials]
    if twice or unknown or not samples:
        print(f"{len(samples)} samples, serials twice: {twice[:5]}, freed and never told of: {unknown[:5]}")
    return twice or unknown or not samples


def main():
    check = {"chains": chains, "books": books, "rate": rate, "known": known}[sys.argv[1]]
    sys.exit(1 if check(*events(sys.argv[2]), *sys.argv[3:]) else 0)


main()
