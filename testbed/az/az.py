"""A stand-in for the Azure CLI, for tests of scripts/restore and scripts/teardown.

Real are: which commands and options there are and which of them are required (commands.json, taken
from azure-cli by commands.py), JMESPath in --query, and how results are printed (knack, which
azure-cli prints with). What exists is a JSON file, named by AZ_STAND_IN; each call is noted there.

Not covered: Azure. Rights, quota, names that others have, states that pass, what a template makes:
`deployment group create` makes the servers that the parameters of restore.bicep name, ready at once.

`fail` in the file: {"<command>": "before" | "after" | "half"} ends the next such command with an
error, before it did anything, after it did all, or (a deployment) after its first server.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

FACTS = json.loads(Path(__file__).with_name("commands.json").read_text())


class Refused(Exception):
    """What the CLI, or Azure, answers with an error."""


def parse(words):
    """The command, and its options by their first name; as strict as azure-cli's own parser."""
    length = next((n for n in range(len(words), 0, -1) if " ".join(words[:n]) in FACTS["commands"]), 0)
    if not length:
        raise Refused(f"'{' '.join(words)}' is misspelled or not recognized by the system")
    command = " ".join(words[:length])
    options = FACTS["commands"][command] | FACTS["global"]
    names = {name: first for first, option in options.items() for name in option["names"]}
    given, current = {}, None
    for word in words[length:]:
        if word.startswith("--"):
            if word not in names:
                raise Refused(f"unrecognized arguments: {word}")
            current = names[word]
            if current in given and options[current]["values"] != "many":
                raise Refused(f"{word} is given twice")
            given.setdefault(current, [])
        elif current is None or options[current]["values"] == "none":
            raise Refused(f"unrecognized arguments: {word}")
        elif options[current]["values"] == "one" and given[current]:
            raise Refused(f"unrecognized arguments: {word}")
        else:
            given[current].append(word)
    for name, values in given.items():
        if options[name]["values"] in ("one", "many") and not values:
            raise Refused(f"argument {name}: expected one argument")
    missing = [name for name, option in options.items() if option["required"] and name not in given]
    if missing:
        raise Refused(f"the following arguments are required: {', '.join(missing)}")
    return command, {name: " ".join(values) for name, values in given.items()}, given


def the(items, name):
    found = [item for item in items if item["name"] == name]
    if not found:
        raise Refused(f"(ResourceNotFound) {name} was not found")
    return found[0]


def restore(state, pairs, half):
    """What restore.bicep asks for. A server that is there is not restored again."""
    wanted = dict(pair.split("=", 1) for pair in pairs)
    for role in ("base", "head"):
        if wanted[f"create{role.title()}"] != "true":
            continue
        name = wanted[f"{role}ServerName"]
        if any(server["name"] == name for server in state["servers"]):
            raise Refused(f"(ServerNameAlreadyExists) {name} exists")
        state["servers"].append({
            "name": name, "location": wanted["location"], "state": "Ready",
            "tags": {
                "project": "deltacompare", "disposable": "true", "role": role,
                "restoredFrom": wanted["sourceServerId"].rsplit("/", 1)[1],
                "restoredTo": wanted[f"{role}Time"],
            },
        })
        if half:
            raise Refused("(DeploymentFailed) At least one resource deployment operation failed")


def perform(state, command, one, many, half):
    match command:
        case "postgres flexible-server show":
            return the(state["servers"], one["--ids"].rsplit("/", 1)[1])
        case "postgres flexible-server list":
            return state["servers"]
        case "network private-endpoint list":
            return state["endpoints"]
        case "keyvault secret list":
            return state["secrets"]
        case "deployment group create":
            return restore(state, many["--parameters"], half)
    kind = {
        "postgres flexible-server delete": "servers",
        "network private-endpoint delete": "endpoints",
        "keyvault secret delete": "secrets",
    }.get(command)
    if kind is None:
        raise Refused(f"the stand-in does not do `az {command}`")
    state[kind].remove(the(state[kind], one["--name"]))
    return None


def main():
    file = Path(os.environ["AZ_STAND_IN"])
    state = json.loads(file.read_text())
    state["calls"].append(sys.argv[1:])
    try:
        command, one, many = parse(sys.argv[1:])
        failure = state["fail"].pop(command, None)
        if failure == "before":
            raise Refused("(InternalServerError) nothing was done")
        result = perform(state, command, one, many, failure == "half")
        if failure == "after":
            raise Refused("(GatewayTimeout) no answer")
    except Refused as refused:
        print(f"ERROR: {refused}", file=sys.stderr)
        return 1
    finally:
        file.write_text(json.dumps(state))
    # Slow to load, and needed by few calls.
    if result is not None and "--query" in one:
        import jmespath
        result = jmespath.search(one["--query"], result)
    if result is not None and one.get("--output") != "none":
        from knack.output import format_json, format_tsv
        printer = format_tsv if one.get("--output") == "tsv" else format_json
        print(printer(SimpleNamespace(result=result, is_query_active=False)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
