"""infra/bicep.py and infra/expansion.py understand Bicep as the compiler does, as far as the templates go."""

import tempfile
import unittest
from pathlib import Path

from bicep import Wrong
from expansion import Runtime, Template, parameter_file

MAIN = Path(__file__).resolve().parent / "main.bicep"


class Bicep(unittest.TestCase):
    def expand(self, source, given=None, **others):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in others.items():
                (Path(folder) / f"{name}.bicep").write_text(text)
            path = Path(folder) / "main.bicep"
            path.write_text(source)
            return Template(path, given or {})

    def value(self, expression, given=None, before=""):
        return self.expand(f"{before}\noutput it string = {expression}\n", given).outputs["it"]

    def refuses(self, sentence, source, given=None, **others):
        with self.assertRaisesRegex(Wrong, sentence):
            self.expand(source, given, **others)

    def test_expressions(self):
        objects = "var some = { a: 'x', b: null }\nvar none = null\n"
        for expression, value in (
            ("false ? 'yes' : some.?c ?? 'no'", "no"),
            ("true ? 'yes' : some.?c ?? 'no'", "yes"),
            ("true ? false ? 1 : 2 : 3", 2),
            ("some.?b ?? 'null is nothing'", "null is nothing"),
            ("none.?a ?? 'nothing'", "nothing"),
            ("!empty(some.a) && some.a == 'x' || false", True),
            ("'${some.a}-${'in ${'two'}'}}'", "x-in two}"),
            ("'a\\'b\\n\\${c}'", "a'b\n${c}"),
            ("[\n  1\n  2\n][1]", 2),
            ("[for n in ['a', 'b']: { name: n }][1].name", "b"),
            ("{ 'odata.type': 'T' }['odata.type']", "T"),
            ("split('/subscriptions/s/resourceGroups/g', '/')[4]", "g"),
            ("resourceId('A.B/c/d', 'x', 'y')", "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/recovery/providers/A.B/c/x/d/y"),
            ("resourceId('g', 'A.B/c', 'x')", "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g/providers/A.B/c/x"),
            ("resourceId('s', 'g', 'A.B/c', 'x')", "/subscriptions/s/resourceGroups/g/providers/A.B/c/x"),
            ("union({ a: 1, b: 1 }, { b: 2 }).b", 2),
            ("max(2, 20)", 20),
        ):
            self.assertEqual(self.value(expression, before=objects), value, expression)

    def test_resources_children_and_modules(self):
        made = self.expand(
            "resource a 'A.B/c@1' = {\n  name: 'x'\n  resource d 'd' = {\n    name: 'y'\n  }\n}\n"
            "resource e 'A.B/c/e@2' = [for n in ['1', '2']: if (n != '1') {\n  parent: a\n  name: n\n  properties: { of: a::d.id }\n}]\n"
            "module m 'inner.bicep' = {\n  scope: resourceGroup('other')\n  params: { id: a.id }\n}\n"
            "resource there 'A.B/c@1' existing = {\n  name: 'there'\n}\n",
            inner="param id string\nresource f 'F.G/h@3' = {\n  name: 'in'\n  properties: { id: id }\n}\n").made
        ids = [resource.id.split("/resourceGroups/")[1] for resource in made]
        self.assertEqual(ids, ["recovery/providers/A.B/c/x", "recovery/providers/A.B/c/x/d/y",
                               "recovery/providers/A.B/c/x/e/2", "other/providers/F.G/h/in"])
        self.assertEqual([r.version for r in made], ["1", "1", "2", "3"])
        self.assertEqual(made[2].body["properties"]["of"], made[1].id)
        self.assertEqual(made[3].body["properties"]["id"], made[0].id)

    def test_what_azure_alone_knows_makes_no_name_and_no_condition(self):
        a = "resource a 'A.B/c@1' = {\n  name: 'x'\n}\n"
        late = "a.properties.host"
        self.assertIsInstance(self.value(f"'on ${{{late}}}'", before=a), Runtime)
        self.refuses("the name of b depends on x.properties.host", f"{a}resource b 'A.B/c@1' = {{\n  name: {late}\n}}\n")
        self.refuses("the condition of b depends", f"{a}resource b 'A.B/c@1' = if ({late} == 'h') {{\n  name: 'b'\n}}\n")
        self.refuses("the loop of b depends", f"{a}resource b 'A.B/c@1' = [for n in {late}: {{\n  name: n\n}}]\n")
        self.refuses("the name of f depends on m.outputs.o",
                     "module m 'one.bicep' = {\n  params: {}\n}\nmodule n 'two.bicep' = {\n  params: { p: m.outputs.o }\n}\n",
                     one="output o string = 'o'\n", two="param p string\nresource f 'F.G/h@3' = {\n  name: p\n}\n")

    def test_parameters(self):
        for sentence, source, given in (
            ("p is missing", "param p string\n", {}),
            ("has no parameter q", "param p string\n", {"p": "x", "q": 1}),
            ("p is 'x', no int", "param p int\n", {"p": "x"}),
            ("minValue is 40", "@minValue(40)\nparam p int\n", {"p": 39}),
            ("maxLength is 2", "@maxLength(2)\nparam p string\n", {"p": "abc"}),
            ("allowed are", "@allowed(['a', 'b'])\nparam p string\n", {"p": "c"}),
            ("no list", "param p string[]\n", {"p": "a"}),
            ("has no b", "type t = {\n  a: string?\n}\nparam p t\n", {"p": {"b": "x"}}),
            ("a is missing", "type t = {\n  a: string\n}\nparam p t\n", {"p": {}}),
            ("instead of 'x'.*instead of 'y'", "type t = { k: 'x' } | { k: 'y' }\nparam p t\n", {"p": {"k": "z"}}),
        ):
            self.refuses(sentence, source, given)
        self.expand("type t = {\n  a: string?\n  b: int[]\n}\nparam p t\n", {"p": {"b": [1]}})

    def test_the_service_takes_no_fewer_than_forty_instances(self):
        with self.assertRaisesRegex(Wrong, "maximumInstanceCount is 39"):
            Template(MAIN, {"maximumInstanceCount": 39})
        [app] = [r for r in Template(MAIN, {}).made if r.type == "Microsoft.Web/sites"]
        self.assertEqual(app.body["properties"]["functionAppConfig"]["scaleAndConcurrency"]["maximumInstanceCount"], 40)

    def test_addresses_from_outside_reach_vault_and_hub_and_nothing_else(self):
        made = {r.type: r.body["properties"] for r in Template(MAIN, {"operatorPrefixes": ["203.0.113.7"], "consumerPrefixes": ["198.51.100.0/24"]}).made
                if "properties" in r.body}
        vault, hub = made["Microsoft.KeyVault/vaults"], made["Microsoft.EventHub/namespaces/networkRuleSets"]
        self.assertEqual((vault["publicNetworkAccess"], vault["networkAcls"]["defaultAction"]), ("Enabled", "Deny"))
        self.assertEqual(vault["networkAcls"]["ipRules"], [{"value": "203.0.113.7"}])
        self.assertEqual((hub["publicNetworkAccess"], hub["defaultAction"]), ("Enabled", "Deny"))
        self.assertEqual([rule["ipMask"] for rule in hub["ipRules"]], ["203.0.113.7", "198.51.100.0/24"])
        self.assertEqual(made["Microsoft.Storage/storageAccounts"]["publicNetworkAccess"], "Disabled")

    def test_passwords_that_were_set_by_hand_only_go_to_the_vault(self):
        template, given = parameter_file(MAIN.with_name("prepare.bicepparam"))
        for updates, servers in ((True, 2), (False, 0)):
            made = Template(template, given | {"updateServers": updates, "basePassword": "by hand"}).made
            self.assertEqual(len([r for r in made if r.type == "Microsoft.DBforPostgreSQL/flexibleServers"]), servers)
            secrets = {r.name: r.body["properties"]["value"] for r in made if r.type == "Microsoft.KeyVault/vaults/secrets"}
            self.assertEqual(secrets["dc-xxxxxxxxxxxxx/shop-dc-base-password"], "by hand")
            self.assertEqual(len(secrets), 2)


if __name__ == "__main__":
    unittest.main()
