"""Options of a recipe that a command line leaves open."""

from cyclopts import App, Argument, ArgumentCollection, Token
from cyclopts.config import Dict

from resattn.training.recipe_defaults import left_open


def fill_from_recipe(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill them as `recipe_defaults.left_open` says; ResattnError for files not there, or wrong."""
    given = {argument.name: argument.tokens[0].value for argument in arguments if argument.tokens}
    path, fields = left_open(
        given.get("--recipe"),
        said=[name.removeprefix("--") for name in given],
        start_from=given.get("--from"),
    )
    if path is None:
        return
    network = next(argument for argument in arguments if argument.name == "--model-options")
    said = list(network.tokens)
    network.tokens.clear()  # cyclopts would leave out all options in the file where one was given
    Dict(fields, source=str(path), use_commands_as_keys=False)(app, commands, arguments)
    _say_again(network, said)


def _say_again(argument: Argument, said: list[Token]) -> None:
    """Let options of a mapping that were `said` have the last word over those the file filled in."""
    keys = {token.keys for token in said}
    kept = [] if () in keys else [token for token in argument.tokens if token.keys not in keys]
    argument.tokens[:] = [*kept, *said]
