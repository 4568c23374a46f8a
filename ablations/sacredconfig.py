"""What a Sacred experiment lets one set, as Sacred itself resolves it: answers questions in a process of its own.

``python -m ablations.sacredconfig EXPERIMENT FOLDER`` imports the experiment and answers a JSON object a line, such as
``{"ask": "describe"}``, ``{"ask": "resolve", "settings": {}, "named": []}`` or ``{"ask": "expand", "named": ["big"]}``.
``experiments.py`` is the side that asks. Nothing of the experiment is changed, and nothing of it runs but its config.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import logging
import os
import sys
import textwrap
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ablations.errors import AblationsError, one_of
from ablations.schema import is_plain, look_beside, nest

# Sacred 0.8.7 warns of its own dependency at each import; nobody who reads it can act on it.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)

CLOCK_S = 1.05  # between two resolutions, so that a value made from the time to the second shows that it is
SCOPE_LINES = 2  # that Sacred 0.8.7 counts too many in a config scope
KINDS: Mapping[type, str] = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}


def load_experiment(reference: str, beside: Path | None = None) -> tuple[ModuleType, Any]:
    """The module and the Sacred experiment that ``package.module:name`` means.

    Args:
        reference: The experiment.
        beside: Folder of its study, to name what lies there.

    Raises:
        AblationsError: There is no such module or experiment, or the module cannot be imported.
    """
    from sacred import Experiment

    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever a stranger's module does while it is imported
        missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
        if missing and f"{module_name}.".startswith(f"{missing}."):
            reason = _no_module(missing, module_name, beside or Path())
        elif isinstance(error, SystemExit):
            reason = f"{module_name} cannot be imported: it ends the process ({error.code}) outside of @ex.main"
        else:
            reason = f"{module_name} cannot be imported: {located(error)}"
        raise AblationsError(f"experiment {reference}: {reason}") from error
    kinds = [each for each, value in vars(module).items() if isinstance(value, Experiment)]
    if not hasattr(module, name):
        where = f" in {module.__file__}" if module.__file__ else ""
        raise AblationsError(f"experiment {reference}: {one_of('experiment', name, kinds)}{where}")
    found = getattr(module, name)
    if not isinstance(found, Experiment):
        kind = f"{type(found).__module__}.{type(found).__qualname__}".removeprefix("builtins.")
        others = f"{module_name} has {', '.join(kinds) or 'none'}"
        raise AblationsError(
            f"experiment {reference}: expected a Sacred Experiment, found {name} of type {kind}; {others}"
        )
    return module, found


def _no_module(missing: str, wanted: str, beside: Path) -> str:
    """Says where a module was looked for and which one there has nearly its name."""
    parent, _, name = missing.rpartition(".")
    places = list(sys.modules[parent].__path__) if parent in sys.modules else [beside]
    modules = [path for place in places for pattern in ("*.py", "*/__init__.py") for path in Path(place).glob(pattern)]
    names = sorted({path.parent.name if path.stem == "__init__" else path.stem for path in modules})
    message = f"{wanted} cannot be imported, for no module {missing} is installed or lies beside the study"
    return f"{message}: " + one_of("module", name, [each for each in names if each.isidentifier()])


def located(error: BaseException) -> str:
    """An error with its type and the innermost line of the user's code, e.g. ``ValueError: no (train.py:3)``."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    places = [
        (each.filename, (each.lineno or 0) - (SCOPE_LINES if _is_scope(before, each) else 0))
        for before, each in zip([None, *frames], frames, strict=False)
        if _is_users(each.filename)
    ]
    where = f" ({Path(places[-1][0]).name}:{places[-1][1]})" if places else ""
    return f"{type(error).__name__}: {error}{where}"


def _is_scope(before: traceback.FrameSummary | None, frame: traceback.FrameSummary) -> bool:
    return before is not None and before.filename.endswith("config_scope.py") and frame.name == "<module>"


def _is_users(filename: str) -> bool:
    inner = (os.sep + "site-packages" + os.sep, os.sep + "ablations" + os.sep, os.path.dirname(os.__file__))
    return not filename.startswith("<") and not any(each in filename for each in inner)


class Inspected:
    """A Sacred experiment whose config is asked for.

    Attributes:
        experiment: The experiment.
        leaves: Keys whose values are taken whole, though they may be entries.
        fleeting: Keys whose values depend on the seed or the moment: each run computes them anew.
        signature: Defaults of captured functions that are in no config, by key: Sacred would not record them.
        captured: Keys that captured functions take.
    """

    def __init__(self, experiment: Any):
        from sacred.initialize import gather_ingredients_topological

        self.experiment = experiment
        self.ingredients = gather_ingredients_topological(experiment)
        self.leaves: set[str] = set()
        self.fleeting: set[str] = set()
        self.signature: dict[str, Any] = {}
        self.captured = {key for key, _ in self._arguments()}

    # -- the three questions ----------------------------------------------------------------------------------

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """All that may be set, with defaults and what comments say of it.

        Raises:
            Exception: Whatever the experiment's config raises.
        """
        if self.experiment.default_command is None:
            raise AblationsError("expected a main function (@ex.main or @ex.automain), found none")
        first, summary = self._run({}, (), 0)
        begun = time.monotonic()
        self.leaves = {key for key, value in _entries(first, "", set()) if value == {}}
        default = dict(_entries(first, "", self.leaves))
        self.signature = self._signature_defaults(default)
        settable = self._settable_by_name(default)
        time.sleep(max(0.0, CLOCK_S - (time.monotonic() - begun)))
        again = dict(_entries(self._run({}, (), 1)[0], "", self.leaves))
        self.fleeting = {key for key, value in default.items() if key not in again or again[key] != value}
        default |= self.signature
        known = {key: value for key, value in default.items() if is_plain(value)}
        parameters = {
            key: self._parameter(key, value, summary.docs, key not in self.fleeting) for key, value in known.items()
        }
        absent = [*settable, *self._conditional(first), *self._required(default), *self._free_arguments(default)]
        for key, value, help_ in absent:
            if key not in default and key not in parameters and not _splits(key, known):
                kind = KINDS.get(type(value), "any")
                parameters[key] = {"key": key, "kind": kind, "help": summary.docs.get(key) or help_}
        self.leaves = set(parameters)
        sections = list(dict.fromkeys(("", *map(_section, parameters))))
        return {
            "parameters": sorted(parameters.values(), key=lambda each: sections.index(_section(each["key"]))),
            "named": [*self._named()],
            "required": [key for key, *_ in self._required(default)],
            "likely": likely_scores(self.experiment),
        }

    def resolve(self, settings: Mapping[str, Any], named: Sequence[str]) -> dict[str, Any]:
        """The config that settings lead to, and the keys among them that the config does not know.

        Raises:
            Exception: Whatever the experiment's config raises.
        """
        _ = self.description
        configs = [dict(_entries(self._run(settings, named, seed)[0], "", self.leaves)) for seed in (0, 1)]
        stable = {
            key: value
            for key, value in configs[0].items()
            if is_plain(value)
            and key in configs[1]
            and configs[1][key] == value
            and (key not in self.fleeting or key in settings)
        }
        missing = {key: value for key, value in self.signature.items() if key not in configs[0]}
        unknown = [key for key in settings if not self._is_used(key, settings, named)]
        return {"config": {**stable, **missing}, "unknown": unknown}

    def _is_used(self, key: str, settings: Mapping[str, Any], named: Sequence[str]) -> bool:
        """Whether a setting is one that a function takes, or that the config would make without it, too.

        Sacred's own list of added entries is empty where there are several config scopes.
        """
        parts = key.split(".")
        if any(".".join(parts[: end + 1]) in self.captured for end in range(len(parts))):
            return True
        others = {each: value for each, value in settings.items() if each != key}
        return _has(self._run(others, named, 0)[0], key)

    def expand(self, named: Sequence[str]) -> dict[str, Any]:
        """What the last of several named configs sets, the others given.

        Raises:
            Exception: Whatever the named config raises.
        """
        from sacred import initialize

        scaffolding = initialize.create_scaffolding(self.experiment, self.ingredients)
        prefixes = sorted((path.split(".") for path in scaffolding if path), key=len, reverse=True)
        initialize.initialize_logging(self.experiment, scaffolding, "CRITICAL")
        found: dict[str, Any] = {}
        for name in named:
            scaffold, own = initialize.get_scaffolding_and_config_name(name, scaffolding)
            scaffold.gather_fallbacks()
            before = dict(scaffold.presets)
            updates = dict(scaffold.run_named_config(own))
            initialize.distribute_presets(scaffold.path, prefixes, scaffolding, updates)
            kept = {key: value for key, value in updates.items() if key not in before or before[key] != value}
            prefix = f"{scaffold.path}." if scaffold.path else ""
            found = dict(_entries(kept, prefix, self.leaves))
        odd = [key for key, value in found.items() if not is_plain(value)]
        if odd:
            raise AblationsError(f"{odd[0]} is set to something other than plain values (numbers, texts, lists)")
        return found

    # -- what they rest on ------------------------------------------------------------------------------------

    def _run(self, settings: Mapping[str, Any], named: Sequence[str], seed: int) -> tuple[dict[str, Any], Any]:
        """The config of a run that is never started, without its seed, and Sacred's own summary of it."""
        import sacred

        sacred.SETTINGS.HOST_INFO.INCLUDE_GPU_INFO = False  # it waits for nvidia-smi
        sacred.SETTINGS.HOST_INFO.INCLUDE_CPU_INFO = False
        level = logging.getLogger().level  # Sacred sets that of all loggers
        try:
            run = self.experiment._create_run(
                config_updates={**nest(settings), "seed": seed},
                named_configs=tuple(named),
                options={"--force": True, "--loglevel": "CRITICAL"},
            )
        finally:
            logging.getLogger().setLevel(level)
        return {key: value for key, value in run.config.items() if key != "seed"}, run.config_modifications

    def _parameter(self, key: str, value: Any, docs: Mapping[str, str], lasting: bool) -> dict[str, Any]:
        help_ = docs.get(key) or ("default of a captured function" if key in self.signature else "")
        described = {"key": key, "kind": KINDS.get(type(value), "any"), "help": help_}
        if lasting:
            return {**described, "default": value}
        return {**described, "help": f"{help_}; computed anew in each run".removeprefix("; ")}

    def _named(self) -> Iterator[str]:
        for ingredient in reversed(self.ingredients):
            for name in ingredient.named_configs:
                yield _joined(self._path(ingredient), name)

    def _settable_by_name(self, default: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
        """What only named configs set."""
        found = []
        for name in self._named():
            try:
                found += [(key, value, f"set by named config {name}") for key, value in self.expand([name]).items()]
            except Exception:  # said when the study names it
                continue
        return [each for each in found if each[0] not in default]

    def _conditional(self, config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
        """Names that a config scope makes under some conditions only."""
        for ingredient in self.ingredients:
            path = self._path(ingredient)
            for scope in (*ingredient.configurations, *ingredient.named_configs.values()):
                code = getattr(getattr(scope, "_func", None), "__code__", None)
                for name in code.co_varnames[code.co_argcount :] if code else ():
                    if not name.startswith("_") and not _has(config, _joined(path, name)):
                        yield _joined(path, name), None, "there under some conditions only"

    def _arguments(self, mains: bool = False) -> Iterator[tuple[str, inspect.Parameter]]:
        """Arguments of captured functions by key, or only of those that Sacred calls itself."""
        for ingredient in self.ingredients:
            main = ingredient.commands.get(getattr(ingredient, "default_command", None) or "")
            hooks = (main, *ingredient.pre_run_hooks, *ingredient.post_run_hooks)
            commands = [each for each in ingredient.commands.values() if each is not main]
            for function in hooks if mains else ingredient.captured_functions:
                if function is None or function in commands or (function.__module__ or "").startswith("sacred."):
                    continue
                for name, argument in inspect.signature(function).parameters.items():
                    named = argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
                    if named and not name.startswith("_") and name not in ("self", "seed"):
                        yield _joined(self._path(ingredient), function.prefix or "", name), argument

    def _signature_defaults(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that functions agree on and no config says: they are handed over, so that they are recorded."""
        found: dict[str, list[Any]] = {}
        for key, argument in self._arguments():
            if not _has(nest(config), key):
                found.setdefault(key, []).append(argument.default)
        return {key: values[0] for key, values in found.items() if _are_one(values)}

    def _required(self, config: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
        """Arguments of main and hooks that nothing gives."""
        return [
            (key, None, "needed: the experiment's config does not give it")
            for key, argument in self._arguments(mains=True)
            if argument.default is argument.empty and not _has(nest(config), key)
        ]

    def _free_arguments(self, config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
        """Arguments of captured functions that config may give: those of one that has defaults of several kinds."""
        for key, argument in self._arguments():
            if argument.default is not argument.empty and not _has(nest(config), key):
                yield key, None, "argument of captured functions"

    def _path(self, ingredient: Any) -> str:
        return "" if ingredient is self.experiment else str(ingredient.path)


def _are_one(values: Sequence[Any]) -> bool:
    """Whether all are the same value, and one that a record can hold."""
    return all(is_plain(each) and type(each) is type(values[0]) and each == values[0] for each in values)


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _entries(config: Mapping[Any, Any], prefix: str, leaves: set[str]) -> Iterator[tuple[str, Any]]:
    """The leaves of a nested config by dotted key; entries whose names are no text, and empty ones, are leaves."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value and key not in leaves and all(isinstance(each, str) for each in value):
            yield from _entries(value, f"{key}.", leaves)
        else:
            yield key, value


def _section(key: str) -> str:
    return key.rpartition(".")[0]


def _has(nested: Mapping[str, Any], key: str) -> bool:
    inner: Any = nested
    for part in key.split("."):
        if not isinstance(inner, Mapping) or part not in inner:
            return False
        inner = inner[part]
    return True


def _splits(key: str, known: Mapping[str, Any]) -> bool:
    """Whether a key stands above or below another one, so that only one of them can be a value."""
    return any(each.startswith(f"{key}.") or key.startswith(f"{each}.") for each in known)


def likely_scores(experiment: Any) -> list[str]:
    """Scores that a main function seems to give: keys of the dict that it returns, scalars that its module logs."""
    main = experiment.commands[experiment.default_command]
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(main))))
        module = ast.parse(inspect.getsource(sys.modules[main.__module__]))
    except (OSError, TypeError, SyntaxError, KeyError):
        return []
    returned = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
    keys = [key for value in returned if isinstance(value, ast.Dict) for key in value.keys]
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and node.args]
    logged = [node.args[0] for node in calls if getattr(node.func, "attr", "") == "log_scalar"]
    named = [node.value for node in keys if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    if returned and not keys:
        named = ["result"]
    scalars = [node.value for node in logged if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return list(dict.fromkeys([*named, *(f"{name}.{end}" for name in scalars for end in ("last", "min", "max"))]))


# -- the process ----------------------------------------------------------------------------------------------


def own_files(folder: Path, module: ModuleType, opened: set[str]) -> list[str]:
    """The files that a config came from: modules and other files below the experiment's folder or the study's.

    Args:
        folder: The study's.
        module: The experiment's.
        opened: Paths of all files that were opened.
    """
    outermost = sys.modules[module.__name__.partition(".")[0]]
    source = Path(outermost.__file__ or module.__file__ or ".").resolve()
    home = source.parent.parent if source.name == "__init__.py" else source.parent
    roots = [folder.resolve(), source.parent if "site-packages" in home.parts else home]
    modules = [getattr(each, "__file__", None) or "" for each in list(sys.modules.values())]
    found = {Path(each).resolve() for each in (*filter(os.path.isabs, modules), *opened)}
    return sorted(
        str(path)
        for path in found
        for root in [next((root for root in roots if path.is_relative_to(root)), None)]
        if root is not None and path.is_file() and _is_source(path.relative_to(root))
    )


def _is_source(inside: Path) -> bool:
    out = {"site-packages", "__pycache__", ".git", "ablations"}
    return inside.suffix != ".pyc" and not out & set(inside.parts)


def answer(inspected: Inspected, question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a question; ``error`` says why there is none."""
    asked: dict[str, Callable[[], dict[str, Any]]] = {
        "describe": lambda: inspected.description,
        "resolve": lambda: inspected.resolve(question["settings"], question["named"]),
        "expand": lambda: {"settings": inspected.expand(question["named"])},
    }
    try:
        return asked[question["ask"]]()
    except AblationsError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever a stranger's config does while it is evaluated
        return {"error": located(error)}


def main(arguments: Sequence[str]) -> int:
    """Answers the questions that come in, until there are no more."""
    reference, folder = arguments
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the experiment prints is no answer
    opened: set[str] = set()

    def note(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[0], str) and (given[1] is None or "r" in given[1]):
            opened.add(given[0])

    sys.addaudithook(note)
    look_beside(reference, Path(folder))
    error, inspected = "", None
    try:
        module, experiment = load_experiment(reference, Path(folder))
        inspected = Inspected(experiment)
    except AblationsError as cause:
        error = str(cause)
    for line in sys.stdin:
        found: dict[str, Any] = {"error": error}
        if inspected is not None:
            found = {**answer(inspected, json.loads(line)), "files": own_files(Path(folder), module, opened)}
        out.write(json.dumps(found) + "\n")
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
