"""Command-line options generated from recipe fields, for the spaces and the scale given on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click

from wsnas.errors import WsnasError
from wsnas.options import Command, Number, one_sentence
from wsnas.words import did_you_mean, spelled

if TYPE_CHECKING:
    from wsnas.recipe import RecipeField
    from wsnas.space import SearchSpace

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = "wsnas.recipe options"
NONE = object()  # a value that was given as "none"
SCALE = "micro"  # unless another is asked for
TRAININGS = ("supernet", "standalone")
FILES = ("--dataset", "--split-file")  # a recipe's options whose values may spell a space


class RecipeOption(click.Option):
    """``field``: the recipe field it sets; ``lacking``: spaces without that field."""

    field: str = ""
    lacking: str = ""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Shows only the shortest spelling."""
        shown = copy(self)
        shown.opts, shown.secondary_opts = self.opts[-1:], self.secondary_opts[-1:]
        return super(RecipeOption, shown).get_help_record(ctx)


class RecipeCommand(Command):
    """A command that adds ``--scale`` and the recipe fields of the chosen spaces to its own options.

    It has either an argument ``space`` or a repeatable option ``spaces`` (default: all installed). It receives
    ``scale``, and ``recipe``: the given values by the names in ``recipe_fields``. ``trains``: the training
    whose fields are listed, also without the prefix (``--epochs``); "" lists neither's. ``without``: fields the
    command ignores. ``scales``: those it can use; by default all that the spaces have.
    """

    def __init__(
        self,
        *args: Any,
        trains: str = "supernet",
        without: tuple[str, ...] = (),
        scales: tuple[str, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.trains, self.without, self.scales = trains, without, scales

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *ctx.meta.get(OPTIONS, ())]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with one_sentence():
            spaces = self._spaces(args)
            options = ctx.meta[OPTIONS] = self._options(spaces, args) if spaces else []
            if not spaces:  # no such space: the command itself reports it
                ctx.ignore_unknown_options = ctx.allow_extra_args = True
            try:
                left = super().parse_args(ctx, args)
            except click.NoSuchOption as error:
                names = ", ".join(space.name for space in spaces)
                own = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
                known = [opt for one in own if not getattr(one, "lacking", "") for opt in one.opts]
                raise WsnasError(
                    f"no such option {error.option_name} for this command or the recipe of {names}"
                    + (did_you_mean(error.option_name, known) or self._by_help(ctx, error.option_name))
                ) from error
            if not spaces and str(ctx.params.get("space")).startswith("-"):  # options of a space that is not named
                raise WsnasError(f"no installed space is named: give one first, as in '{ctx.command_path} nb201 ...'")
            given = {}
            for one in options:
                value = ctx.params.pop(one.name, None)
                if value is not None and one.lacking:
                    raise WsnasError(
                        f"{one.opts[-1]}: the recipe of {one.lacking} has no such field; choose spaces with --space"
                    )
                if value is not None:
                    given[one.field] = None if value is NONE else value
        ctx.params["scale"] = given.pop("scale", SCALE)
        ctx.params["recipe"] = given
        return left

    def _by_help(self, ctx: click.Context, given: str) -> str:
        """A hint at the option that is described in the words of another program's option, as --learning-rate is."""
        words = given.lstrip("-").replace("-", " ").replace("_", " ").lower()
        for one in self.get_params(ctx):
            if isinstance(one, click.Option) and len(words) > 4 and words in (one.help or "").lower():
                return f"; did you mean '{one.opts[-1]}'?"
        return "; --help lists them"

    def _spaces(self, args: list[str]) -> list[SearchSpace[Any]]:
        from wsnas.space import installed_spaces, load_space, space_named

        if any(one.name == "spaces" for one in self.params):
            names = _given(args, "--space") or list(installed_spaces())
        else:
            own = {opt for one in self.params if isinstance(one, click.Option) and not one.is_flag for opt in one.opts}
            free = [arg for before, arg in pairwise(["", *args]) if before not in {*own, *FILES}]
            names = [name for arg in free if (name := space_named(arg)) is not None][:1]
        return [load_space(name) for name in names]

    def _options(self, spaces: list[SearchSpace[Any]], args: list[str]) -> list[RecipeOption]:
        """``--scale``, then the fields of the recipes at that scale; fields that some recipes lack are hidden."""
        from wsnas.recipe import recipe_fields, with_changes

        from_small = (scale for space in spaces for scale in reversed([*space.recipes]))
        scales = [scale for scale in dict.fromkeys(from_small) if self.scales is None or scale in self.scales]
        kind = click.Choice(scales, case_sensitive=False)
        first = RecipeOption(["--scale"], type=kind, help=f"Recipe to start from.  [default: {SCALE}]")
        first.field = "scale"
        asked = [scale.lower() for scale in _given(args, "--scale")]
        scale = next((scale for scale in reversed(asked) if scale in scales), SCALE)
        own = {opt for one in self.params for opt in one.opts}
        fields: list[tuple[str, dict[str, RecipeField]]] = []
        for space in spaces:
            if scale not in space.recipes:
                raise WsnasError(f"{space.name} has no scale '{scale}'; it has {', '.join(space.recipes)}")
            recipe = space.recipes[scale]
            for name, one in recipe_fields(recipe).items():  # another optimizer has other fields
                kinds = [
                    k
                    for spelling in self._spellings(name, own)
                    for k in map(str.lower, _given(args, spelling))
                    if k in one.kinds
                ]
                if kinds:
                    recipe = with_changes(recipe, {name: kinds[-1]})
            fields.append((space.name, recipe_fields(recipe)))
        others = tuple(f"{name}." for name in TRAININGS if name != self.trains)
        every = dict.fromkeys(name for _, has in fields for name in has)
        options = [first]
        for name in every:
            if f"--{name.replace('_', '-')}" in {*own, "--scale", "--help"} or f"{self.trains}.{name}" in every:
                having = ", ".join(space for space, has in fields if name in has)
                raise WsnasError(f"the recipe of {having} has a field '{name}', the name of another option: rename it")
            if not name.startswith(others) and name not in self.without:
                have = [has[name] for _, has in fields if name in has]
                lacking = ", ".join(space for space, has in fields if name not in has)
                options.append(_option(have, self._spellings(name, own), lacking))
        return options

    def _spellings(self, name: str, own: set[str]) -> list[str]:
        """``--supernet.weight-decay`` and, unless the command already has that option, ``--weight-decay``."""
        full = f"--{name.replace('_', '-')}"
        short = full.replace(f"--{self.trains}.", "--")
        return [full] if short in own or short == full else [full, short]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = ctx.meta.get(OPTIONS, ())
        for title, params in {"Options": super().get_params(ctx), "Recipe": options}.items():
            rows = [one.get_help_record(ctx) for one in params if isinstance(one, click.Option)]
            if any(rows):
                with formatter.section(title):
                    formatter.write_dl([row for row in rows if row is not None], col_max=min(38, formatter.width // 2))
        formatter.write_paragraph()
        if options and self.trains:
            formatter.write_text(f"--epochs is short for --{self.trains}.epochs, and so on.")
        elif not options:
            formatter.write_text(f"For the options of a space's recipe: {ctx.command_path} SPACE --help")


def _given(args: list[str], option: str) -> list[str]:
    """The values of ``--option value`` and ``--option=value`` on a command line not yet parsed."""
    joined = f"{option}="
    return [
        after if one == option else one.removeprefix(joined)
        for one, after in pairwise([*args, ""])
        if (one == option and after) or one.startswith(joined)  # not: its value is still to be typed
    ]


def _option(have: list[RecipeField], spellings: list[str], lacking: str) -> RecipeOption:
    """The option for a field these recipes share."""
    one, limits = have[0], have[0].between
    kind: click.ParamType[Any] = click.STRING
    choices = list(one.kinds) or list(get_args(one.type) if get_origin(one.type) is Literal else ())
    if choices:
        kind = click.Choice(choices, case_sensitive=False)
    elif one.type is bool:
        spellings = [f"{name}/{_negated(name)}" for name in spellings]
        kind = click.BOOL
    elif one.type in (int, float):
        most = None if limits is None or limits.most == float("inf") else limits.most
        least = None if limits is None else limits.least
        make: Any = click.IntRange if one.type is int else Number
        kind = make(least, most, min_open=bool(limits and limits.above), max_open=bool(limits and limits.below))
    values = dict.fromkeys(field.value for field in have)
    default = _shown(next(iter(values))) if len(values) == 1 else "each space's own"
    found = RecipeOption(
        [one.name.replace(".", "__"), *spellings],
        type=_or_none(kind) if one.optional else kind,
        metavar=None if choices or one.type is bool else {int: "N", float: "X"}.get(one.type, "TEXT"),
        default=None,
        help=f"{one.help[:1].upper()}{one.help[1:]}.  [default: {default}]",
        hidden=bool(lacking),
        shell_complete=_complete_data_sets if one.name == "dataset" else None,
    )
    found.field, found.lacking = one.name, lacking
    return found


def _complete_data_sets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell: the data sets of the installed spaces' recipes."""
    from wsnas.space import installed_spaces, load_space

    recipes = [recipe for name in installed_spaces() for recipe in load_space(name).recipes.values()]
    return sorted({recipe.dataset for recipe in recipes if recipe.dataset.startswith(incomplete)})


def complete_scales(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell: the scales of the installed spaces."""
    from wsnas.space import installed_spaces, load_space

    scales = dict.fromkeys(scale for name in installed_spaces() for scale in load_space(name).recipes)
    return [scale for scale in scales if scale.startswith(incomplete)]


def _or_none(of: click.ParamType[Any]) -> Callable[[str], Any]:
    """The value, or ``NONE`` for the word none."""
    return lambda text: NONE if text == "none" else of(text)


def _negated(option: str) -> str:
    """``--supernet.flip`` -> ``--supernet.no-flip``."""
    prefix, dot, name = option.removeprefix("--").rpartition(".")
    return f"--{prefix}{dot}no-{name}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def data_set_option(*names: str, help: str) -> Callable[[F], F]:
    """An option that names the data set of a ground truth; the shell completes it."""
    return click.option(*names, help=help, shell_complete=_complete_data_sets)


def chosen_recipe(space: SearchSpace[Any], scale: str, changes: Mapping[str, Any]) -> Any:
    """The space's recipe at this scale with these changes (``wsnas.recipe.with_changes``); paths become absolute."""
    from wsnas.data.sources import HALVED, KNOWN
    from wsnas.recipe import with_changes

    names = {*KNOWN, *(recipe.dataset for recipe in space.recipes.values())}
    dataset = changes.get("dataset")
    both = changes.get("split_file") is not None and changes.get("train_size") is not None
    if both and spelled(dataset or space.recipes[scale].dataset, names) not in HALVED:
        raise WsnasError("the split file says which images train: leave out --train-size or --split-file")
    if dataset is not None and dataset not in names:
        file = Path(os.path.expanduser(dataset))
        named = str(file.resolve()) if file.exists() else spelled(dataset, names)
        changes = {**changes, "dataset": named}
    if changes.get("split_file") is not None:
        changes = {**changes, "split_file": str(Path(os.path.expanduser(changes["split_file"])).resolve())}
    return with_changes(space.recipes[scale], changes)
