"""scripts/restore and scripts/teardown, against testbed/az."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path

from expansion import Template

REPO = Path(__file__).resolve().parent.parent
SOURCE = "/subscriptions/0/resourceGroups/production/providers/Microsoft.DBforPostgreSQL/flexibleServers/shop"
DEPLOY = "deployment group create"


def moment(**before_now):
    return (datetime.now(timezone.utc) - timedelta(**before_now)).strftime("%Y-%m-%dT%H:%M:%SZ")


BASE_TIME, HEAD_TIME = moment(hours=9), moment(hours=4)


def tags(role, time, **other):
    return {"project": "deltacompare", "disposable": "true", "role": role,
            "restoredFrom": "shop", "restoredTo": time} | other


def restored(role, time):
    return {"name": f"shop-dc-{role}", "location": "centralindia", "state": "Ready", "tags": tags(role, time)}


PRODUCTION = {"name": "shop", "location": "Central India", "state": "Ready", "tags": None,
              "network": {"publicNetworkAccess": "Enabled", "delegatedSubnetResourceId": None},
              "backup": {"earliestRestoreDate": moment(days=7).replace("Z", ".123456+00:00")}}


class Scripts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "azure.json"
        program = self.folder / "az"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {REPO}/testbed/az/az.py "$@"\n')
        program.chmod(0o755)
        self.set(servers=[PRODUCTION], endpoints=[], secrets=[], fail={}, calls=[])

    def state(self):
        return json.loads(self.file.read_text())

    def set(self, **changed):
        before = self.state() if self.file.exists() else {}
        self.file.write_text(json.dumps(before | changed))

    def names(self, kind):
        return sorted(item["name"] for item in self.state()[kind])

    def calls(self, command):
        return [call for call in self.state()["calls"] if " ".join(call).startswith(command)]

    def run_script(self, name, arguments, path=None):
        environment = os.environ | {"AZ_STAND_IN": str(self.file), "PATH": path or f"{self.folder}:{os.environ['PATH']}"}
        done = subprocess.run([REPO / "scripts" / name, *arguments], env=environment, cwd=self.folder,
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def completes(self, done):
        self.assertEqual(done[0], 0, done[1])
        return done[1]

    def refuses(self, done, *words):
        self.assertNotEqual(done[0], 0, done[1])
        for word in words:
            self.assertIn(word, done[1])


class Restore(Scripts):
    def restore(self, **changed):
        given = {"source": SOURCE, "group": "recovery", "base": "shop-dc-base", "base_time": BASE_TIME,
                 "head": "shop-dc-head", "head_time": HEAD_TIME} | changed
        arguments = []
        for name, value in given.items():
            if value is not None:
                arguments += [f"--{name.replace('_', '-')}", value]
        return self.run_script("restore", arguments)

    def test_both_servers_are_restored_as_the_template_wants_it(self):
        said = self.completes(self.restore())
        self.assertIn("deltacompare record", said)
        [call] = self.calls(DEPLOY)
        given = dict(word.split("=", 1) for word in call if "=" in word)
        template = (REPO / "infra/restore.bicep").read_text()
        declared = dict(re.findall(r"^param (\w+) \w+( =)?", template, re.M))
        self.assertLessEqual(set(given), set(declared))
        self.assertLessEqual({name for name, default in declared.items() if not default}, set(given))
        self.assertEqual(call[call.index("--template-file") + 1], "infra/restore.bicep")
        self.assertEqual(given["location"], "centralindia")
        servers = {server["name"]: server["tags"] for server in self.state()["servers"]}
        self.assertEqual(servers, {"shop": None, "shop-dc-base": tags("base", BASE_TIME), "shop-dc-head": tags("head", HEAD_TIME)})

    def test_the_stand_in_tags_as_the_template_does(self):
        template = (REPO / "infra/restore.bicep").read_text()
        for line in ("project: 'deltacompare'", "disposable: 'true'", "restoredFrom: last(split(sourceServerId, '/'))",
                     "role: 'base', restoredTo: baseTime", "role: 'head', restoredTo: headTime"):
            self.assertIn(line, template)

    def test_the_operator_is_admitted(self):
        said = self.completes(self.restore())
        self.assertIn("admit no address yet", said)
        self.assertIn("operatorAddress=", self.calls(DEPLOY)[0])
        # To servers that are there, too: the template makes only the rules then.
        said = self.completes(self.restore(operator_address="203.0.113.7"))
        self.assertIn("both admit 203.0.113.7", said)
        [_, call] = self.calls(DEPLOY)
        for given in ("createBase=false", "createHead=false", "operatorAddress=203.0.113.7"):
            self.assertIn(given, call)
        made = Template(REPO / "infra/restore.bicep", dict(word.split("=", 1) for word in call if "=" in word)
                        | {"createBase": False, "createHead": False}).made
        rules = {rule.name: rule.body["properties"] for rule in made}
        only = {"startIpAddress": "203.0.113.7", "endIpAddress": "203.0.113.7"}
        self.assertEqual(rules, {f"shop-dc-{role}/deltacompare-operator": only for role in ("base", "head")})

    def test_a_server_in_a_virtual_network_has_no_firewall(self):
        subnet = "/subscriptions/0/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/postgres"
        self.set(servers=[PRODUCTION | {"network": {"publicNetworkAccess": "Disabled", "delegatedSubnetResourceId": subnet}}])
        self.refuses(self.restore(operator_address="203.0.113.7"), "is in a virtual network", "Leave --operator-address out", subnet)
        self.assertEqual(self.calls(DEPLOY), [])
        self.assertNotIn("admit", self.completes(self.restore()))

    def test_what_exists_is_skipped(self):
        self.completes(self.restore())
        self.completes(self.restore())
        self.assertEqual(len(self.calls(DEPLOY)), 1)

    def test_after_a_failure_in_the_middle_the_rest_is_restored(self):
        for role, failure in (("base", "half"), ("head", "before")):
            self.set(servers=[PRODUCTION], calls=[], fail={DEPLOY: failure})
            self.refuses(self.restore(), "run this again")
            self.completes(self.restore())
            self.assertEqual(self.names("servers"), ["shop", "shop-dc-base", "shop-dc-head"], role)
        self.set(servers=[PRODUCTION, restored("head", HEAD_TIME)], calls=[])
        self.completes(self.restore())
        [call] = self.calls(DEPLOY)
        self.assertIn("createBase=true", call)
        self.assertIn("createHead=false", call)

    def test_nothing_is_restored_when_azure_cannot_be_asked(self):
        # A list that failed must not look like an empty one.
        for command in ("postgres flexible-server show", "postgres flexible-server list"):
            self.set(fail={command: "before"}, calls=[])
            self.refuses(self.restore(), "InternalServerError")
            self.assertEqual(self.calls(DEPLOY), [])

    def test_moments_that_cannot_be(self):
        for changed, *words in (
            ({"base_time": moment(days=8)}, "--base-time is before", "earliest"),
            ({"head_time": moment(seconds=60)}, "last five minutes", "wait"),
            ({"head_time": moment(days=-1)}, "last five minutes"),
            ({"base_time": HEAD_TIME, "head_time": BASE_TIME}, "--base-time must be before --head-time"),
            ({"base_time": HEAD_TIME}, "must be before"),
            ({"base_time": "2026-01-31 09:30"}, "is not a moment in UTC such as"),
            ({"head_time": "2026-01-31T09:30:00+05:30"}, "is not a moment in UTC"),
        ):
            self.refuses(self.restore(**changed), *words)
        self.set(servers=[PRODUCTION | {"backup": {"earliestRestoreDate": None}}])
        self.refuses(self.restore(), "does not say from when on")
        self.assertEqual(self.calls(DEPLOY), [])

    def test_arguments_that_cannot_be(self):
        for name in ("source", "group", "base", "base_time", "head", "head_time"):
            self.refuses(self.restore(**{name: None}), f"--{name.replace('_', '-')} is missing")
        self.refuses(self.restore(bass="x"), "I do not know --bass")
        self.refuses(self.run_script("restore", ["--base"]), "--base needs a value")
        self.refuses(self.restore(head="shop-dc-base"), "are the same name")
        for name in ("x'] | [0", "Shop", "a", "-shop", "a" * 64):
            self.refuses(self.restore(base=name), "is not a server's name")
        for address in ("203.0.113.0/24", "203.0.113", "203.0.113.256", "::1", "me"):
            self.refuses(self.restore(operator_address=address), "is not one IPv4 address")
        self.assertEqual(self.state()["calls"], [])
        for tool in ("bash", "dirname"):
            (self.folder / "no-az" / tool).parent.mkdir(exist_ok=True)
            (self.folder / "no-az" / tool).symlink_to(f"/usr/bin/{tool}")
        done = self.run_script("restore", ["--source", SOURCE, "--group", "g", "--base", "bbb", "--base-time", BASE_TIME,
                                           "--head", "hhh", "--head-time", HEAD_TIME], path=str(self.folder / "no-az"))
        self.refuses(done, "the Azure CLI is missing")

    def test_another_server_is_never_taken_for_a_restore(self):
        ours = restored("base", BASE_TIME)
        for other, *words in (
            (ours | {"tags": None}, "not as a restore of shop", "choose another name"),
            (ours | {"tags": tags("base", HEAD_TIME)}, f"not as a restore of shop to {BASE_TIME}"),
            (ours | {"tags": tags("base", BASE_TIME, restoredFrom="other")}, "not as a restore of shop"),
            (ours | {"state": "Dropping"}, "Dropping and not Ready", "wait"),
        ):
            self.set(servers=[PRODUCTION, other])
            self.refuses(self.restore(), *words)
        self.assertEqual(self.calls(DEPLOY), [])


class Teardown(Scripts):
    def setUp(self):
        super().setUp()
        others = [{"name": name, "tags": tags(role, BASE_TIME)} for name, role in (("other-dc-base-pe", "base"), ("shop-pe", "head"))]
        ours = [(f"shop-dc-{role}", tags(role, time)) for role, time in (("base", BASE_TIME), ("head", HEAD_TIME))]
        self.set(
            servers=[PRODUCTION, restored("base", BASE_TIME), restored("head", HEAD_TIME),
                     restored("base", BASE_TIME) | {"name": "other-dc-base"}],
            endpoints=others + [{"name": f"{name}-pe", "tags": of} for name, of in ours],
            secrets=[{"name": "shop-password", "tags": None}] + [{"name": f"{name}-password", "tags": of} for name, of in ours],
        )

    def teardown(self, *more, **changed):
        given = {"group": "recovery", "base": "shop-dc-base", "head": "shop-dc-head", "vault": "dc-vault"} | changed
        arguments = [word for name, value in given.items() if value for word in (f"--{name}", value)]
        return self.run_script("teardown", [*arguments, *more])

    def deletions(self):
        return [call for call in self.state()["calls"] if "delete" in call]

    def assert_only_others_are_left(self):
        self.assertEqual(self.names("servers"), ["other-dc-base", "shop"])
        self.assertEqual(self.names("endpoints"), ["other-dc-base-pe", "shop-pe"])
        self.assertEqual(self.names("secrets"), ["shop-password"])

    def test_without_yes_it_only_says_what_it_would_do(self):
        said = self.completes(self.teardown())
        for what in ("server shop-dc-base", "server shop-dc-head", "endpoint shop-dc-base-pe", "secret shop-dc-head-password"):
            self.assertIn(f"would remove {what}\n", said)
        self.assertIn("--yes", said)
        self.assertEqual(self.deletions(), [])

    def test_it_removes_what_is_ours_and_nothing_else(self):
        self.completes(self.teardown("--yes"))
        self.assert_only_others_are_left()
        self.assertEqual(len(self.deletions()), 6)
        self.assertIn("nothing of the two is there", self.completes(self.teardown("--yes")))
        self.assertEqual(len(self.deletions()), 6)

    def test_a_vault_that_is_not_named_is_left_alone(self):
        self.completes(self.teardown("--yes", vault=None))
        self.assertEqual(self.calls("keyvault"), [])
        self.assertEqual(len(self.names("secrets")), 3)

    def test_nothing_at_all_is_removed_if_one_of_it_is_not_ours(self):
        whole = self.state()
        wrong = [None, {}, {"disposable": "true"}, tags("base", BASE_TIME, disposable="false"),
                 tags("base", BASE_TIME, project="other"), tags("head", BASE_TIME)]
        cases = [("servers", "base", of) for of in wrong] + [
            (kind, role, None) for kind, role in (("servers", "head"), ("endpoints", "base"), ("secrets", "head"))]
        for kind, role, of in cases:
            items = [item | ({"tags": of} if item["name"].startswith(f"shop-dc-{role}") else {}) for item in whole[kind]]
            self.set(**whole | {kind: items})
            self.refuses(self.teardown("--yes"), f"shop-dc-{role}", "nothing was removed")
            self.assertEqual(self.deletions(), [], (kind, role, of))
        self.set(**whole)
        self.refuses(self.teardown("--yes", base="shop", vault=None), "shop", "has not the tags")
        self.refuses(self.teardown("--yes", base="shop-dc-head", head="shop-dc-base"), "role=base")
        self.assertEqual(self.deletions(), [])

    def test_after_a_failure_in_the_middle_it_goes_on_there(self):
        whole = self.state()
        for command, failure in (("postgres flexible-server delete", "before"), ("postgres flexible-server delete", "after"),
                                 ("network private-endpoint delete", "after"), ("keyvault secret delete", "before")):
            self.set(**whole | {"fail": {command: failure}})
            self.refuses(self.teardown("--yes"), "could not be removed: run this again")
            self.completes(self.teardown("--yes"))
            self.assert_only_others_are_left()

    def test_nothing_is_removed_when_azure_cannot_be_asked(self):
        for command in ("postgres flexible-server list", "network private-endpoint list", "keyvault secret list"):
            self.set(fail={command: "before"})
            self.refuses(self.teardown("--yes"), "nothing was removed", "run this again")
            self.assertEqual(self.deletions(), [])

    def test_arguments_that_cannot_be(self):
        for name in ("group", "base", "head"):
            self.refuses(self.teardown(**{name: None}), f"--{name} is missing")
        self.refuses(self.teardown("--force"), "I do not know --force")
        self.refuses(self.run_script("teardown", ["--vault"]), "--vault needs a value")
        self.refuses(self.teardown(base="x'] | [0"), "is not a server's name")
        self.assertEqual(self.state()["calls"], [])


class StandIn(Scripts):
    """What the Azure CLI would refuse, its stand-in refuses: else the tests above prove little."""

    def az(self, *words):
        return subprocess.run([self.folder / "az", *words], env=os.environ | {"AZ_STAND_IN": str(self.file)},
                              capture_output=True, text=True, check=False)

    def test_it_is_as_strict_as_the_azure_cli(self):
        for words, sentence in (
            (["postgres", "flexible", "list"], "misspelled or not recognized"),
            (["postgres", "flexible-server", "list", "--resourcegroup", "x"], "unrecognized arguments: --resourcegroup"),
            (["postgres", "flexible-server", "list", "x"], "unrecognized arguments: x"),
            (["network", "private-endpoint", "delete", "--name", "x", "--yes"], "unrecognized arguments: --yes"),
            (["keyvault", "secret", "list", "--vault-name"], "expected one argument"),
            (["deployment", "group", "create", "--name", "x"], "required: --resource-group"),
            (["keyvault", "secret", "delete", "--vault-name", "v", "--name", "x"], "x was not found"),
        ):
            done = self.az(*words)
            self.assertEqual(done.returncode, 1, words)
            self.assertIn(sentence, done.stderr)

    def test_it_prints_as_the_azure_cli(self):
        query = "[?name=='{}'].[state, tags.restoredFrom] | [0]"
        for name, printed in (("shop", "Ready\nNone\n"), ("nosuch", "")):
            done = self.az("postgres", "flexible-server", "list", "--output", "tsv", "--query", query.format(name))
            self.assertEqual((done.stdout, done.stderr), (printed, ""))


if __name__ == "__main__":
    unittest.main()
