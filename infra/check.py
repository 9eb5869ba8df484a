"""Checks the templates as far as it can be done without Azure and without the Bicep compiler, which
no package registry has: syntax, API versions that exist, parameter files, what each choice of network
makes, names that the templates share with the program, queries, security findings, workflows.
`az bicep lint` and `what-if` say the rest; the workflows and the runbook run them.

QUERY_PARSER is the folder of @kusto/language-service-next, which scripts/setup installs.

    check.py             everything
    check.py --syntax    without the tools of infra/tools.txt: no security findings, no workflows
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import bicep
import expansion
import networks
import tree_sitter
import tree_sitter_bicep

INFRA = Path(__file__).resolve().parent
REPO = INFRA.parent
PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bicep.language()))

# Azure refuses or ignores these on Flex Consumption.
FORBIDDEN_SETTINGS = {
    "FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "WEBSITE_RUN_FROM_PACKAGE",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING", "WEBSITE_CONTENTSHARE", "WEBSITE_TIME_ZONE", "TZ",
    "SCM_DO_BUILD_DURING_DEPLOYMENT", "ENABLE_ORYX_BUILD",
}
# What the platform itself reads.
PLATFORM_SETTINGS = {
    "AzureWebJobsStorage", "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
}
# What Azure has refused in siteConfig on Flex Consumption (error 51021), or says that it will.
REFUSED_SITE_CONFIG = {
    "alwaysOn", "ftpsState", "functionAppScaleLimit", "functionsRuntimeScaleMonitoringEnabled", "linuxFxVersion",
    "netFrameworkVersion", "preWarmedInstanceCount", "use32BitWorkerProcess", "windowsFxVersion",
}
# Of the client, not of the app.
# Of commands that never run in the app, and of the build.
CLIENT_SETTINGS = {
    "DELTACOMPARE_APP", "DELTACOMPARE_APP_KEY", "DELTACOMPARE_PRODUCTION",
    "DELTACOMPARE_PRODUCTION_PASSWORD", "DELTACOMPARE_WRITE_DOCUMENTS",
}
# Only for a desk: `func start` wants it.
DESK_SETTINGS = {"FUNCTIONS_WORKER_RUNTIME"}


def templates():
    return sorted(INFRA.rglob("*.bicep"))


def syntax_errors(source):
    """The lines that the grammar does not understand."""
    found, nodes = [], [PARSER.parse(source).root_node]
    while nodes:
        node = nodes.pop()
        if node.type == "ERROR" or node.is_missing:
            found.append(node.start_point[0] + 1)
        nodes.extend(child for child in node.children if child.has_error or child.is_missing)
    return sorted(set(found))


def resource_types(source):
    """Each resource's type@version; a child's is put together with its parent's."""
    def visit(node, parent):
        for child in node.children:
            inner = parent
            if child.type == "resource_declaration":
                name = next(c for c in child.named_children if c.type == "string")
                inner = name.text.decode().strip("'")
                if "@" not in inner:
                    kind, version = parent.split("@")
                    inner = f"{kind}/{inner}@{version}"
                yield inner
            yield from visit(child, inner)
    return list(visit(PARSER.parse(source).root_node, None))


def unknown_types(source, known):
    return sorted(set(resource_types(source)) - known)


def parameters(source):
    """Name to whether it must be given."""
    return {d.name: d.value is None for d in bicep.parse(source) if d.kind == "param"}


def known_settings():
    """The program's settings: docs/cli.md, which is made of the program's definitions."""
    reference = (REPO / "docs/cli.md").read_text()
    names = set(re.findall(r"DELTACOMPARE_[A-Z_]+", reference))
    code = (REPO / "src/app/host/bindings.rs").read_text()
    prefix = re.search(r'QUEUE_CONNECTION: &str = "(\w+)"', code)
    names.add(prefix[1] if prefix else "DELTACOMPARE_QUEUES")
    return names


def check_settings(problems):
    known = known_settings() | PLATFORM_SETTINGS
    deployed = re.findall(r"^  (\w+): ", (INFRA / "modules/app.bicep").read_text(), re.M)
    deployed = {name for name in deployed if name.isupper() or "__" in name or name.upper() == name}
    if len(deployed) < 10:
        problems.append(f"modules/app.bicep: only {len(deployed)} settings were found")
    for name in sorted(deployed):
        if name.split("__")[0] not in known:
            problems.append(f"modules/app.bicep: the program does not know the setting {name}")
        if name in FORBIDDEN_SETTINGS:
            problems.append(f"modules/app.bicep: {name} must not be set on Flex Consumption")
    desk = json.loads((REPO / "local.settings.example.json").read_text())["Values"]
    for name in sorted(desk):
        if name.split("__")[0] not in known | DESK_SETTINGS:
            problems.append(f"local.settings.example.json: nothing reads {name}")
    for name in sorted(known_settings() - CLIENT_SETTINGS - set(desk)):
        problems.append(f"local.settings.example.json: {name} is missing")
    for name in ("DELTACOMPARE_BASE", "DELTACOMPARE_HEAD", "DELTACOMPARE_QUEUES", "AzureWebJobsStorage"):
        for place, settings in (("modules/app.bicep", deployed), ("local.settings.example.json", desk)):
            if name not in {setting.split("__")[0] for setting in settings}:
                problems.append(f"{place}: {name} is missing")
    source = (INFRA / "modules/app.bicep").read_text()
    for name in sorted(set(re.findall(r"\b(\w+): ", source)) & REFUSED_SITE_CONFIG):
        problems.append(f"modules/app.bicep: Flex Consumption refuses {name}")
    # Who logs in, and whose password the vault has.
    prepared = (INFRA / "modules/prepared_server.bicep").read_text()
    app = (INFRA / "modules/app.bicep").read_text()
    for side in ("base", "head"):
        if f"postgres://${{administratorLogin}}@${{{side}ServerName}}." not in app:
            problems.append(f"modules/app.bicep: the app does not log in to {side} as the administrator")
        if f"DELTACOMPARE_{side.upper()}_SECRET: '${{{side}ServerName}}-password'" not in app:
            problems.append(f"modules/app.bicep: {side}'s secret is not the one that prepare.bicep writes")
    if "administratorLoginPassword: password" not in prepared or "name: '${name}-password'" not in prepared:
        problems.append("modules/prepared_server.bicep: the administrator's password is not the vault's")


def check_functions(problems):
    bindings = {
        path.parent.name: json.loads(path.read_text())["bindings"][0]
        for path in (REPO / "functions").glob("*/function.json")
    }
    triggers = [b for b in bindings.values() if b["type"] == "queueTrigger"]
    triggered = {b["queueName"] for b in triggers}
    storage = (INFRA / "modules/storage.bicep").read_text()
    made = set(re.findall(r"'([\w-]+)'", re.search(r"queueNames = \[(.*?)\]", storage)[1]))
    if made != triggered:
        problems.append(f"modules/storage.bicep makes {sorted(made)}, functions read {sorted(triggered)}")
    app = (INFRA / "modules/app.bicep").read_text()
    for connection in {b["connection"] for b in triggers}:
        if f"  {connection}__queueServiceUri:" not in app:
            problems.append(f"modules/app.bicep: no {connection}__queueServiceUri, which functions use")
    alerts = (INFRA / "modules/alerts.bicep").read_text()
    program = "".join(p.read_text() for p in (REPO / "src").rglob("*.rs"))
    for names in re.findall(r'Name (?:== |in \()((?:"\w+"(?:, )?)+)', alerts):
        for name in re.findall(r'"(\w+)"', names):
            if name not in bindings:
                problems.append(f"modules/alerts.bicep: there is no function {name}")
    lines = re.findall(r'Message has "(.*?)"', alerts)
    for line in lines:
        if f'"{line}"' not in program:
            problems.append(f"modules/alerts.bicep: the program never logs {line!r}")
    if not lines:
        problems.append("modules/alerts.bicep: no alert looks at log lines")
    logging = json.loads((REPO / "host.json").read_text())["logging"]
    if logging["applicationInsights"]["samplingSettings"]["isEnabled"] is not False:
        problems.append("host.json: sampling may drop the very lines that alerts look for")
    levels = logging["logLevel"]
    if levels.get("Azure.Core") != "Warning":
        problems.append("host.json: Azure.Core logs each request to a queue, five a second of an idle instance")
    for category in re.findall(r'Properties\.Category\) == "([\w.]+)"', alerts):
        if levels.get(category) != "Warning":
            problems.append(f"host.json: {category} is not kept, and an alert looks for its warnings")


def check_templates(problems):
    versions = (INFRA / "api-versions.txt").read_text().splitlines()
    known = {line for line in versions if line and not line.startswith("#")}
    used = set()
    for path in templates():
        name, source = path.relative_to(INFRA), path.read_bytes()
        problems.extend(f"{name}:{line}: not Bicep" for line in syntax_errors(source))
        problems.extend(f"{name}: {t} is not in api-versions.txt" for t in unknown_types(source, known))
        used |= set(resource_types(source))
        for module in re.findall(r"^(?:\s*)module \w+ '(.*?)'", source.decode(), re.M):
            if not (path.parent / module).is_file():
                problems.append(f"{name}: there is no module {module}")
    problems.extend(f"api-versions.txt: nothing uses {t}" for t in sorted(known - used))
    for path in sorted(INFRA.glob("*.bicepparam")):
        try:
            template, given = expansion.parameter_file(path)
            expansion.Template(template, given)
        except bicep.Wrong as wrong:
            problems.append(f"{path.name}: {wrong}")
    for path in templates():
        if re.search(r"^param \w+ (object|array)\b", path.read_text(), re.M):
            problems.append(f"{path.name}: a parameter of type object or array takes anything")
        if re.search(r"\}/providers/|'/subscriptions/", path.read_text()):
            problems.append(f"{path.name}: a resource id put together by hand: use resourceId or an existing resource")
        if any(d.kind == "module" and "name" in module_keys(d.value) for d in bicep.parse(path.read_text())):
            problems.append(f"{path.name}: a module with a fixed name: two deployments into one group would share it")


def module_keys(body):
    """The keys of a module's object, below its condition or loop."""
    while body[0] in ("if", "for"):
        body = body[-1]
    return {key[1][0] for key, _ in body[1]}


def check_the_checks(problems):
    """A check that finds nothing in a broken template proves nothing."""
    whole = (INFRA / "modules/vault.bicep").read_bytes()
    if not syntax_errors(whole.replace(b"sku: {", b"sku: [", 1)):
        problems.append("check.py: a broken template passes as Bicep")
    wrong = whole.replace(b"vaults@2026-02-01", b"vaults@2026-02-31", 1)
    if unknown_types(wrong, set(resource_types(whole))) != ["Microsoft.KeyVault/vaults@2026-02-31"]:
        problems.append("check.py: an API version that does not exist passes")


def azure_commands(text):
    """The commands of the Azure CLI in a script, a document or a workflow, joined to one line each."""
    text = text.replace("\\\n", " ")
    return re.findall(r"(?:^|[ `(=])(az (?:[a-z-]+ )+[^`\n|]*)", text, re.M)


def check_azure_commands(problems):
    """Each command and option is one that azure-cli has, each template's parameter one that it declares."""
    facts = json.loads((REPO / "testbed/az/commands.json").read_text())
    paths = [REPO / "README.md", *(REPO / "docs").glob("*.md"), *(REPO / "scripts").iterdir(),
             *(REPO / ".github/workflows").glob("*.yml")]
    seen = 0
    for path in paths:
        for line in azure_commands(path.read_text()):
            words = line.split()
            end = next((at for at, word in enumerate(words) if not re.fullmatch(r"[a-z-]+", word)), len(words))
            end = next((n for n in range(end, 1, -1) if " ".join(words[1:n]) in facts["commands"]), 0)
            if not end:
                # A sentence may speak of a group of commands.
                if "--" in line:
                    problems.append(f"{path.name}: testbed/az/commands.json has no such command: {line}")
                continue
            seen += 1
            options = facts["commands"][" ".join(words[1:end])] | facts["global"]
            names = {name for option in options.values() for name in option["names"]}
            for option in re.findall(r"(?<![\w-])--[\w-]+", line):
                if option not in names:
                    problems.append(f"{path.name}: {' '.join(words[:end])} has no {option}")
            template = re.search(r"--template-file (infra/\w+\.bicep)", line)
            if template:
                declared = parameters((REPO / template[1]).read_text())
                given = re.findall(r"(?<=[ ])(\w+)=", line.split("--parameters")[1])
                problems.extend(f"{path.name}: {template[1]} has no parameter {n}" for n in given if n not in declared)
                if ".bicepparam" not in line and '"$PARAMETERS"' not in line:
                    missing = [n for n, must in declared.items() if must and n not in given]
                    problems.extend(f"{path.name}: {template[1]} needs {n}" for n in missing)
    if seen < 10:
        problems.append(f"check.py: only {seen} commands of the Azure CLI were found")


def queries():
    """(where, query) of each query in templates and documents."""
    alerts = next(d for d in bicep.parse((INFRA / "modules/alerts.bicep").read_text()) if d.name == "alerts")
    for _, pairs, _ in alerts.value[1]:
        alert = {key[1][0]: value for key, value in pairs}
        yield f"modules/alerts.bicep: {alert['name'][1][0]}", alert["query"][1][0]
    for path in [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]:
        text = path.read_text()
        blocks = re.findall(r"^```kusto\n(.*?)^```", text, re.M | re.S)
        # A page may begin its queries with a definition that it gives once.
        shared = "".join(block for block in blocks if block.startswith("let "))
        for block in blocks:
            if not block.startswith("let "):
                yield path.name, (shared if block.startswith("lines") else "") + block
        for code in re.findall(r"`((?:App\w+|FunctionAppLogs) \|[^`]*)`", text):
            yield path.name, code


def complaints(texts):
    folder = Path(os.environ["QUERY_PARSER"])
    done = subprocess.run(["node", INFRA / "queries.js", folder], input=json.dumps(texts), capture_output=True,
                          text=True, check=True)
    return json.loads(done.stdout)


def check_queries(problems):
    found = list(queries())
    # A parser that finds nothing in a broken query proves nothing.
    broken = ["AppTraces | where Mesage has 'x'", "AppTraces | summarize last = take_any(Message)",
              "AppMetrics | summarize sum(Sum) by tostring(Properties.of)"]
    answers = complaints([query for _, query in found] + broken)
    for (place, query), wrong in zip(found, answers):
        problems.extend(f"{place}: {complaint}, in\n{query}" for complaint in wrong)
    problems.extend(f"queries.js: {query} passes" for query, wrong in zip(broken, answers[len(found):], strict=True) if not wrong)
    if len(found) < 15:
        problems.append(f"check.py: only {len(found)} queries were found")


def run_tool(problems, name, *arguments):
    tool = Path(sys.executable).with_name(name)
    done = subprocess.run([tool, *arguments], cwd=REPO, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        problems.append(f"{name}:\n{done.stdout}{done.stderr}")
    return done.stdout


# What checkov's parser does not know, and does not need: types of our own, and where they come from.
NEWER_BICEP = re.compile(r"^import [^\n]*\n|^@(?:export|discriminator)\([^\n]*\)\n", re.M)


def for_checkov(source):
    types = [d for d in bicep.parse(source) if d.kind in ("type", "import")]
    if any(d.kind == "type" for d in types):
        return None
    source = re.sub(r"^(param \w+ )\w+\[\]", r"\1array", source, flags=re.M)
    return re.sub(r"^(param \w+ )\w+Type\b", r"\1object", NEWER_BICEP.sub("", source), flags=re.M)


def check_with_checkov(problems):
    with tempfile.TemporaryDirectory() as folder:
        for path in templates():
            source = for_checkov(path.read_text())
            if source is not None:
                copy = Path(folder) / path.relative_to(INFRA)
                copy.parent.mkdir(exist_ok=True)
                copy.write_text(source)
        return run_tool(problems, "checkov", "--config-file", "infra/checkov.yaml", "-d", folder, "-o", "json")


def check_with_tools(problems):
    out = check_with_checkov(problems)
    try:
        summary = json.loads(out)
        summary = summary[0] if isinstance(summary, list) else summary
        passed, broken = summary["summary"]["passed"], summary["summary"]["parsing_errors"]
        if not passed or broken:
            problems.append(f"checkov: {passed} checks passed, {broken} templates could not be read")
    except (ValueError, KeyError, IndexError):
        problems.append(f"checkov said: {out[:2000]}")
    workflows = sorted(str(path.relative_to(REPO)) for path in (REPO / ".github/workflows").glob("*.yml"))
    run_tool(problems, "zizmor", "--offline", "--no-progress", ".github/workflows")
    run_tool(problems, "actionlint", "-no-color", *workflows)
    run_tool(problems, "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


def main():
    problems = []
    check_the_checks(problems)
    check_templates(problems)
    networks.check(problems)
    check_settings(problems)
    check_functions(problems)
    check_azure_commands(problems)
    check_queries(problems)
    if "--syntax" not in sys.argv[1:]:
        check_with_tools(problems)
    for problem in problems:
        print(f"infra: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"infra: {len(templates())} templates hold")


if __name__ == "__main__":
    main()
