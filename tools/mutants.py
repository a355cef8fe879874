#!/usr/bin/env python3
"""Mutation testing of the modules that tools/mutants.toml names, with mutmut: `make mutants`, docs/reliability.md.

Every module has a folder of its own under mutants/, where mutmut keeps the changed copy of the package and the results.
A run that was stopped continues. What the tests missed is tested again after any test or module has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "mutants"
SETTINGS = tomllib.loads((ROOT / "tools/mutants.toml").read_text(encoding="utf-8"))
TESTS: dict[str, list[str]] = SETTINGS["tests"]
COPIED = [
    "tests",
    "recipes",
    "tools",
    "docs",
    "benchmarks",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "Makefile",
]
WEIGHTS = "jointnet_cli/model/diorama"
"""The embedded model: linked, because a copy for every module takes 34 MB."""
PLAIN_DECORATORS = {"property", "contextmanager", "torch.inference_mode()", "torch.no_grad()"}
"""Decorators that can stay on the function that selects a mutant, so that the function below them is mutated too."""
GOAL = 0.95


class Change(NamedTuple):
    """What a mutant changes; unlike its number it stays the same when other code of the function changes."""

    module: str
    function: str
    was: str
    mutant: str


def folder(module: str) -> Path:
    """The working folder of mutmut for a module."""
    return RESULTS / module.removesuffix(".py").replace("/", ".")


def prepare(module: str) -> Path:
    """Set up the working folder: links to the repository, the settings of mutmut, and nothing that is out of date."""
    place = folder(module)
    copy = place / "mutants"
    copy.mkdir(parents=True, exist_ok=True)
    for name in ["jointnet_cli", *COPIED]:
        if name != "pyproject.toml" and not (place / name).exists():
            (place / name).symlink_to(ROOT / name)
    if not (copy / WEIGHTS).exists():
        (copy / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
        (copy / WEIGHTS).symlink_to(ROOT / WEIGHTS)
    settings = {
        "source_paths": ["jointnet_cli"],
        "only_mutate": [module],
        "also_copy": COPIED,
        "pytest_add_cli_args_test_selection": TESTS[module],
        # unraisableexception collects garbage twice a session, half a second each.
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:unraisableexception"],
        "timeout_multiplier": 5.0,
        "timeout_constant": 2.0,
        "process_isolation": "forkserver",  # a process that has run torch's backward pass cannot fork
        "use_git_change_detection": False,
        "on_dependency_change": "ignore",
    }
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (place / "pyproject.toml").write_text(f"{project}\n[tool.mutmut]\n{table}", encoding="utf-8")
    shutil.rmtree(copy / "tests", ignore_errors=True)
    _retest_what_was_missed(module, place)
    return place


def _retest_what_was_missed(module: str, place: Path) -> None:
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "jointnet_cli").rglob("*.py")]):
        digest.update(path.read_bytes())
    stamp, results = place / "tested", place / "mutants" / f"{module}.meta"
    changed = not stamp.exists() or stamp.read_text() != digest.hexdigest()
    if changed:
        (place / "mutants/mutmut-stats.json").unlink(missing_ok=True)
    if results.exists():
        from mutmut.stats import status_by_exit_code

        meta = json.loads(results.read_text())
        again = {"check was interrupted by user"} | ({"survived", "no tests", "suspicious"} if changed else set())
        for name, code in meta["exit_code_by_key"].items():
            if status_by_exit_code[code] in again:
                meta["exit_code_by_key"][name] = None
        results.write_text(json.dumps(meta, indent=4))
    stamp.write_text(digest.hexdigest())


def run(module: str, children: int) -> None:
    """Test the mutants of a module that have no result yet."""
    place = prepare(module)
    environment = os.environ | {
        "CI": "1",
        "OMP_NUM_THREADS": "1",
    }  # CI: the examples of hypothesis are the same every time
    arguments = ["run", "--max-children", str(children)]
    ended = subprocess.run([sys.executable, __file__, "mutmut", *arguments], cwd=place, env=environment)
    if ended.returncode:
        sys.exit(f"error: mutmut stopped with status {ended.returncode} in {place}\nhint: the same command continues")


def mutmut(arguments: Sequence[str]) -> None:
    """Run mutmut's own command line in the current folder, extended to mutate functions under `PLAIN_DECORATORS`."""
    import libcst
    from mutmut.__main__ import cli
    from mutmut.mutation import file_mutation
    from mutmut.state import state
    from mutmut.workers.isolation import ForkServerRunner

    def plain(node: libcst.CSTNode) -> bool:
        return (
            isinstance(node, libcst.FunctionDef)
            and {libcst.Module([]).code_for_node(one.decorator) for one in node.decorators} <= PLAIN_DECORATORS
        )

    skips = file_mutation.MutationVisitor._skip_node_and_children
    arranges = file_mutation.function_trampoline_arrangement

    def skip(self: Any, node: Any) -> Any:
        return skips(self, node.with_changes(decorators=[]) if plain(node) else node)

    def arrange(function: libcst.FunctionDef, mutants: Any, class_name: Any) -> Any:
        if not plain(function):
            return arranges(function, mutants, class_name)
        arrangement = arranges(function.with_changes(decorators=[]), mutants, class_name)
        nodes: Any = arrangement[1]
        nodes[0] = nodes[0].with_changes(decorators=[*function.decorators, *nodes[0].decorators])
        return arrangement

    submits = ForkServerRunner.submit

    def submit(self: Any, name: str, tests: Any, *limits: Any) -> None:
        submits(self, name, sorted(tests, key=state().duration_by_test.__getitem__), *limits)

    file_mutation.MutationVisitor._skip_node_and_children = skip  # type: ignore[method-assign]
    file_mutation.function_trampoline_arrangement = arrange
    # The fastest test first, because the first failure ends the test of a mutant.
    ForkServerRunner.submit = submit  # type: ignore[method-assign, assignment]
    if arguments[0] == "run":
        for module in SETTINGS["preload"]:
            import_module(module)
    cli(args=list(arguments))


def outcomes(module: str) -> dict[str, str]:
    """The status of every mutant of a module: `killed`, `timeout`, `segfault`, `survived`, `no tests`, `not checked`."""
    from mutmut.stats import status_by_exit_code

    results = folder(module) / "mutants" / f"{module}.meta"
    if not results.exists():
        return {}
    return {
        name: status_by_exit_code[code] for name, code in json.loads(results.read_text())["exit_code_by_key"].items()
    }


def change(module: str, name: str) -> Change:
    """What a mutant changes."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.utils.format_utils import orig_function_and_class_names_from_key

    function, owner = orig_function_and_class_names_from_key(name)
    with contextlib.chdir(folder(module)):
        lines = get_diff_for_mutant(name, path=module).splitlines()[2:]
    was, mutant = ("\n".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return Change(module, f"{owner}.{function}" if owner else function, was, mutant)


NOTICED = {"killed", "timeout", "segfault"}


def judged(module: str) -> tuple[Counter[str], list[tuple[str, Change]], list[Change]]:
    """Counts of `noticed`, `equivalent`, `missed` and `untested` mutants, the missed ones, and entries that are out of date."""
    listed = {Change(*(entry[field] for field in Change._fields)) for entry in SETTINGS.get("equivalent", [])}
    listed = {entry for entry in listed if entry.module == module}
    counts: Counter[str] = Counter()
    missed, needed = [], set()
    for name, status in outcomes(module).items():
        if status in NOTICED or status == "not checked":
            counts["noticed" if status in NOTICED else "untested"] += 1
            continue
        made = change(module, name)
        counts["equivalent" if made in listed else "missed"] += 1
        needed.add(made)
        if made not in listed:
            missed.append((name, made))
    return counts, missed, [] if counts["untested"] or not counts else sorted(listed - needed)


def report(modules: Sequence[str]) -> bool:
    """Print the table of docs/reliability.md; return whether every module has results and reaches the goal."""
    print(f"Measured on {date.today()} with `make mutants`.\n")
    print("| module | mutants | noticed | equivalent | missed | noticed or equivalent |")
    print("|---|--:|--:|--:|--:|--:|")
    faults = []
    for module in modules:
        counts, _, stale = judged(module)
        total = counts.total()
        share = (counts["noticed"] + counts["equivalent"]) / total if total else 0.0
        cells = [
            f"`{module}`",
            total,
            counts["noticed"],
            counts["equivalent"],
            counts["missed"],
            f"{100 * share:.1f} %",
        ]
        print(f"| {' | '.join(map(str, cells))} |")
        if not total or counts["untested"]:
            faults.append(f"{module}: {counts['untested'] or 'all'} mutants are untested; run it again")
        elif share < GOAL:
            faults.append(f"{module}: {100 * share:.1f} % is below {100 * GOAL:.0f} %")
        faults += [f"{module}: equivalent entry without a surviving mutant: {entry[1:]}" for entry in stale]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return not faults


def survivors(modules: Sequence[str]) -> Iterator[str]:
    """The missed mutants as entries for tools/mutants.toml, where a reason makes them equivalent."""
    for module in modules:
        for name, made in judged(module)[1]:
            fields = "".join(f"{field} = {json.dumps(value)}\n" for field, value in made._asdict().items())
            yield f'# {name}\n[[equivalent]]\n{fields}reason = ""\n'


def main() -> None:
    if sys.argv[1:2] == ["mutmut"]:
        mutmut(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "report", "survivors", "show"])
    parser.add_argument("names", nargs="*", help="modules, by default all; show: mutants")
    parser.add_argument("--children", type=int, default=2, help="mutants that are tested at once")
    parser.add_argument("--fresh", action="store_true", help="run: forget earlier results of these modules")
    asked = parser.parse_intermixed_args()
    modules = asked.names or list(TESTS)
    if asked.action == "show":
        for name in asked.names:
            module = name.rpartition(".")[0].replace(".", "/") + ".py"
            with contextlib.chdir(folder(module)):
                mutmut(["show", name])
        return
    unknown = [module for module in modules if module not in TESTS]
    if unknown:
        sys.exit(f"error: no test files are named for {', '.join(unknown)}\nhint: add the module to tools/mutants.toml")
    if asked.action == "survivors":
        print("\n".join(survivors(modules)))
        return
    if asked.action == "run":
        for module in modules:
            if asked.fresh:
                shutil.rmtree(folder(module), ignore_errors=True)
            print(f"== {module}", flush=True)
            run(module, asked.children)
    sys.exit(0 if report(modules) else 1)


if __name__ == "__main__":
    main()
