"""Plays many seeds, in several processes, and prints the figures."""

import gc
import json
import multiprocessing
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.freshness import SEED, this_commit
from tests.simulation.coverage import kinds, missing_text, never_played, never_table
from tests.simulation.planted import PLANTED, Caught, catch
from tests.simulation.seeds import FAILED, fresh_first
from tests.simulation.shrink import as_text, shrink
from tests.simulation.story import DAY, draw
from tests.simulation.theatre import play

KEPT = Path("simulation-failures")
"""The folder for failures and for what caught the planted faults."""

SIZE = 25
"""How many seeds a process plays before it reports."""


def run_seeds(
    first: int, count: int, hunting: bool = True
) -> tuple[list[tuple[int, list[str]]], Counter[str], float]:
    """Play some seeds. Returns those that failed with their checks, the figures and the simulated seconds.

    `CPU` among the figures is the milliseconds of CPU.
    """
    failed: list[tuple[int, list[str]]] = []
    figures: Counter[str] = Counter()
    seconds = 0.0
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # a story's objects live as long as the story
    before = time.process_time()
    for seed in range(first, first + count):
        result = play(draw(seed, hunting=hunting))
        figures += result.figures
        seconds += result.seconds
        if result.complaints:
            failed.append((seed, sorted({c.check for c in result.complaints})))
    figures["CPU"] = round((time.process_time() - before) * 1000)
    return failed, figures, seconds


def figures_text(seeds: int, figures: Counter[str], seconds: float) -> str:
    """The figures of a run, for people."""
    faults = {
        k.removeprefix("fault "): v for k, v in sorted(figures.items()) if k.startswith("fault ")
    }
    kills = {
        k.removeprefix("kill "): v for k, v in sorted(figures.items()) if k.startswith("kill ")
    }
    store = {
        k.removeprefix("store "): v for k, v in sorted(figures.items()) if k.startswith("store ")
    }
    outages = sum(v for k, v in figures.items() if k.startswith("outage "))
    return "\n".join(
        [
            f"{seeds} seeds, {seconds / DAY:.0f} simulated days, {figures['actions']} actions, "
            f"{figures['rows updated']} rows updated, {figures['rows inserted']} inserted",
            f"faults injected: {sum(faults.values())}: " + _listed(faults),
            f"requests into an outage: {outages}; failures of the disk: {sum(store.values())}: "
            + _listed(store),
            f"kills: {sum(kills.values())}: " + _listed(kills) + f"; stops: {figures['stops']}",
            f"clock jumps: {figures['clock jumps']}; configuration changed: "
            f"{figures['configuration changed']}; checks: {figures['checks']}",
        ]
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())


def show(seed: int, *, whole: bool) -> int:
    """Replay one seed, and show the shortest history that breaks the same promise."""
    story = draw(seed)
    result = play(story)
    if result.complaints and not whole:
        checks = {c.check for c in result.complaints}
        story = shrink(story, checks)
        result = play(story)
    print(as_text(story, result))
    return 1 if result.complaints else 0


def plant(jobs: int, seeds: int) -> int:
    """Plant every fault, and print which seed caught the fault.

    Each result is stored at once in a file of this commit, so that an interrupted run can be continued.
    """
    kept = KEPT / f"planted-{(this_commit() or 'unknown')[:12]}-{seeds}.jsonl"
    kept.parent.mkdir(exist_ok=True)
    caught: dict[int, Caught] = {}
    names = [fault.name for fault in PLANTED]
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else ():
        name, seed, checks, text = json.loads(line)
        caught[names.index(name)] = Caught(seed, tuple(checks), text)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        left = [index for index in range(len(PLANTED)) if index not in caught]
        asked = {pool.submit(catch, index, seeds): index for index in left}
        for done in as_completed(asked):
            caught[asked[done]] = found = done.result()
            with kept.open("a", encoding="utf-8") as file:
                known = names[asked[done]], found.seed, found.checks, found.text
                file.write(json.dumps(known) + "\n")
            name, seed = PLANTED[asked[done]].name, done.result().seed
            print(f"{len(caught)} of {len(PLANTED)}: {name}: {seed}", file=sys.stderr, flush=True)
    print("| planted fault | caught by seed | which check |")
    print("|---|---|---|")
    for index, fault in enumerate(PLANTED):
        seed = caught[index].seed
        print(
            f"| {fault.name} | {'**none**' if seed is None else seed} "
            f"| {', '.join(caught[index].checks)} |"
        )
    missed = sum(found.seed is None for found in caught.values())
    print(f"\n{len(PLANTED) - missed} of {len(PLANTED)} caught within {seeds} seeds each.")
    return 1 if missed else 0


@dataclass(slots=True)
class Batch:
    """The results of many seeds.

    Attributes:
        failed: the seeds that failed, with their checks.
        figures: how often each thing happened.
        simulated: seconds of simulated time.
        spent: seconds of real time.
    """

    failed: list[tuple[int, list[str]]]
    figures: Counter[str]
    simulated: float
    spent: float


def played(first: int, count: int, jobs: int, *, hunting: bool = True) -> Batch:
    """Play many seeds in several processes, with progress."""
    began = time.monotonic()
    batch, done = Batch([], Counter(), 0.0, 0.001), 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_ignore_interrupts) as pool:
        parts = [(s, min(SIZE, first + count - s)) for s in range(first, first + count, SIZE)]
        results = pool.map(run_seeds, *zip(*parts, strict=True), [hunting] * len(parts))
        for (_, number), (bad, some, time_) in zip(parts, results, strict=True):
            batch.failed += bad
            batch.figures += some
            batch.simulated += time_
            done += number
            for seed, checks in bad:
                print(f"seed {seed}: {', '.join(checks)}", flush=True)
            if sys.stderr.isatty() or done % 100 == 0:
                text = f"{done} of {count} seeds, {len(batch.failed)} failed"
                print(text, file=sys.stderr, flush=True)
    batch.spent += time.monotonic() - began
    return batch


def many(first: int, count: int, jobs: int) -> list[tuple[int, list[str]]]:
    """Play many seeds, and print the figures. Returns those that failed with their checks."""
    batch = played(first, count, jobs)
    failed, figures, spent = batch.failed, batch.figures, batch.spent
    print(figures_text(count, figures, batch.simulated))
    print(missing_text(figures))
    print(f"{len(failed)} failed; {spent:.0f} s on {jobs} processes")
    print(
        f"{count / spent:.2f} stories, {figures['actions'] / spent:.0f} actions and "
        f"{figures['checks'] / spent:.0f} checks a second"
    )
    cpu = figures["CPU"] / 1000 or 0.001
    print(
        f"{count / cpu:.2f} stories, {figures['actions'] / cpu:.0f} actions and "
        f"{figures['checks'] / cpu:.0f} checks a second of CPU"
    )
    for seed, checks in failed:
        print(f"replay: make simulate SEED={seed}  # {', '.join(checks)}")
    return failed


BEGIN, END = "<!-- coverage: begin -->\n", "<!-- coverage: end -->"
"""Between these lines of a document is the list of what stories never play."""


def write_coverage(path: Path, first: int, count: int, jobs: int) -> int:
    """Play seeds with and without hunting, and write into a document what was never played."""
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    plain, hunted = (played(first, count, jobs, hunting=hunting) for hunting in (False, True))
    lines = [
        f"`make simulate-coverage SEEDS={count}`, from seed {first:,}:",
        "",
        "| | there are | played without hunting | played with hunting |",
        "|---|---|---|---|",
    ]
    for name, kind, whole in kinds():
        found = [len(whole) - len(never_played(b.figures, kind, whole)) for b in (plain, hunted)]
        lines.append(f"| {name} | {len(whole)} | {found[0]} | {found[1]} |")
    never = {name: never_played(hunted.figures, kind, whole) for name, kind, whole in kinds()[1:]}
    words = "; ".join(f"{name}: {', '.join(some) or 'none'}" for name, some in never.items())
    lines += [
        "",
        "Never played with hunting:",
        "",
        never_table(hunted.figures),
        "",
        f"{words}.",
        "",
    ]
    path.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after, encoding="utf-8")
    return 1 if plain.failed or hunted.failed else 0


def _ignore_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal: only the parent decides which end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def many_shown(first: int, count: int, jobs: int) -> int:
    """Play many seeds, and show the first failure. Returns the exit code."""
    failed = many(first, count, jobs) if count else []
    if failed:
        print()
        show(failed[0][0], whole=False)
    return 1 if failed else 0


def fresh(count: int, jobs: int) -> int:
    """Play every seed that ever failed, then fresh seeds derived from the commit."""
    commit = this_commit() or str(SEED)
    first = fresh_first(commit)
    if count:
        print(f"fresh seeds {first} to {first + count - 1}, derived from {commit}", flush=True)
    again = [seed for seed in FAILED if play(draw(seed)).complaints]
    for seed in again:
        print(
            f"failed before, fails again: make simulate SEED={seed}  # {FAILED[seed]}", flush=True
        )
    print(f"{len(FAILED)} seeds that failed once: {len(again)} fail")
    return many_shown(first, count, jobs) or int(bool(again))
