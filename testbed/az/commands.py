"""Writes commands.json: the options of the commands of azure-cli that the scripts, the runbook and
the workflows use, as azure-cli's own parser has them.

    python3 -m venv /tmp/az && /tmp/az/bin/pip install azure-cli && /tmp/az/bin/python testbed/az/commands.py
"""

import json
from pathlib import Path

from azure.cli.core import __version__, get_default_cli
from azure.cli.core.parser import AzCliCommandParser
from knack.events import EVENT_INVOKER_POST_CMD_TBL_CREATE

COMMANDS = [
    "account set",
    "bicep build",
    "bicep build-params",
    "bicep lint",
    "bicep upgrade",
    "deployment group create",
    "deployment group show",
    "deployment group what-if",
    "functionapp deployment source config-zip",
    "functionapp keys list",
    "functionapp list-flexconsumption-locations",
    "group create",
    "group delete",
    "keyvault secret delete",
    "keyvault secret list",
    "keyvault secret set",
    "login",
    "monitor metrics list",
    "network private-endpoint delete",
    "network private-endpoint list",
    "postgres flexible-server delete",
    "postgres flexible-server firewall-rule create",
    "postgres flexible-server list",
    "postgres flexible-server parameter set",
    "postgres flexible-server show",
    "postgres flexible-server update",
    "provider register",
]
# What every command takes.
GLOBAL = {"--output", "--query", "--subscription", "--only-show-errors"}
# Of the parser's own, or not for use here.
LEFT_OUT = {"--help", "--cmd", "--debug", "--verbose"}


def values(action):
    if action.nargs == 0:
        return "none"
    return "many" if action.nargs in ("*", "+") or type(action).__name__ == "_AppendAction" else "one"


def options(parser):
    found = {}
    for action in parser._actions:
        names = [str(name) for name in action.option_strings if str(name).startswith("--")]
        if names and names[0] not in LEFT_OUT:
            found[names[0]] = {"names": names, "values": values(action), "required": bool(action.required)}
    return found


def main():
    cli = get_default_cli()
    commands, everywhere = {}, {}
    for command in COMMANDS:
        words = command.split()
        invocation = cli.invocation_cls(
            cli_ctx=cli, parser_cls=cli.parser_cls, commands_loader_cls=cli.commands_loader_cls,
            help_cls=cli.help_cls)
        cli.invocation = invocation
        invocation.data["command_string"] = command
        loader = invocation.commands_loader
        loader.load_command_table(words)
        loader.command_name = command
        loader.load_arguments(command)
        loader.command_table = {command: loader.command_table[command]}
        # --ids, which stands for names and groups.
        cli.raise_event(EVENT_INVOKER_POST_CMD_TBL_CREATE, commands_loader=loader)
        parser = AzCliCommandParser(cli_ctx=cli, prog="az", parents=[invocation._global_parser])
        parser.load_command_table(loader)
        while words:
            parser = parser._subparsers._group_actions[0].choices[words.pop(0)]
        all_of_it = options(parser)
        everywhere |= {name: option for name, option in all_of_it.items() if name in GLOBAL}
        commands[command] = {n: o for n, o in sorted(all_of_it.items()) if n not in GLOBAL}
    target = Path(__file__).with_name("commands.json")
    facts = {"azure-cli": __version__, "global": everywhere, "commands": commands}
    target.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
