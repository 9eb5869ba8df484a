"""Expands a template for given parameters into the resources that it makes. The compiler is in no
package registry; this stands in for its snapshot.

What Azure alone knows (`reference()` in the compiled template: properties of resources, outputs of
modules) is a `Runtime` value. A name, a condition, a loop or a scope that is made of one is an error
here: Bicep refuses it, or what-if cannot tell what it would do.
"""

import hashlib
import uuid
from dataclasses import dataclass

from bicep import Wrong, parse


class Runtime(str):
    """What is known only while Azure deploys; its text says what it is."""


@dataclass
class Scope:
    subscription: str = "/subscriptions/00000000-0000-0000-0000-000000000000"
    group: str = "recovery"

    @property
    def id(self):
        return f"{self.subscription}/resourceGroups/{self.group}"


@dataclass
class Resource:
    type: str
    version: str
    name: str
    id: str
    body: dict
    existing: bool


@dataclass
class Module:
    name: str
    resources: list
    needs: set


def known(value, what):
    if isinstance(value, Runtime):
        raise Wrong(f"{what} depends on {value}, which is known only while Azure deploys")
    return value


def runtime(*values):
    """The first of the values that Azure alone knows, or that contains such a value at its top."""
    return next((v for v in values if isinstance(v, Runtime)), None)


def digest(*values):
    return hashlib.sha256("|".join(map(str, values)).encode())


def resource_id(scope, kind, *names):
    provider, *types = kind.split("/")
    parts = [part for pair in zip(types, names, strict=True) for part in pair]
    return f"{scope}/providers/{provider}/" + "/".join(parts)


class Template:
    """One template with its parameters; `made` are its own resources and those of its modules."""

    def __init__(self, path, given, scope=None, sources=None):
        self.path, self.scope, self.sources = path, scope or Scope(), sources or {}
        self.made, self.modules, self.seen, self.needs = [], [], {}, set()
        declarations = self.declarations(path)
        # Outputs have names of their own.
        self.declared = {d.name: d for d in declarations if d.kind not in ("import", "output")}
        self.types = {d.name: d for d in self.declared.values() if d.kind == "type"}
        for d in declarations:
            if d.kind == "import":
                imported = self.declarations(path.parent / d.name)
                self.types |= {t.name: t for t in imported if t.kind == "type"}
        for d in self.declared.values():
            if d.kind == "param":
                self.seen[d.name] = self.parameter(d, given)
        unknown = set(given) - {d.name for d in self.declared.values() if d.kind == "param"}
        if unknown:
            raise Wrong(f"{path.name} has no parameter {', '.join(sorted(unknown))}")
        for d in self.declared.values():
            if d.kind in ("resource", "module"):
                self.deploy(d, d.value, {}, None)
        self.outputs = {d.name: self.value(d.value, {}) for d in declarations if d.kind == "output"}

    def declarations(self, path):
        return parse(self.sources.get(path.resolve()) or path.read_text())

    def parameter(self, d, given):
        if d.name not in given and d.value is None:
            raise Wrong(f"{self.path.name}: {d.name} is missing")
        value = given[d.name] if d.name in given else self.value(d.value, {})
        self.check_type(value, d.type, f"{self.path.name}: {d.name}")
        if isinstance(value, Runtime):
            return value
        for rule, limit in d.decorators.items():
            limit = self.value(limit[0], {}) if limit else None
            size = value if rule in ("minValue", "maxValue") else len(value) if rule in ("minLength", "maxLength") else 0
            if (rule.startswith("min") and size < limit) or (rule.startswith("max") and size > limit):
                raise Wrong(f"{self.path.name}: {d.name} is {value!r}, {rule} is {limit}")
            if rule == "allowed" and value not in limit:
                raise Wrong(f"{self.path.name}: {d.name} is {value!r}, allowed are {limit}")
        return value

    def check_type(self, value, kind, what):
        if isinstance(value, Runtime):
            return
        match kind:
            case ("optional", inner):
                if value is not None:
                    self.check_type(value, inner, what)
            case ("array", inner):
                if not isinstance(value, list):
                    raise Wrong(f"{what} is no list")
                for item in value:
                    self.check_type(item, inner, what)
            case ("literal", wanted):
                if value != wanted:
                    raise Wrong(f"{what} is {value!r} instead of {wanted!r}")
            case ("object", properties, rest):
                if not isinstance(value, dict):
                    raise Wrong(f"{what} is no object")
                for name, inner in properties.items():
                    if name in value or inner[0] != "optional":
                        if name not in value:
                            raise Wrong(f"{what}: {name} is missing")
                        self.check_type(value[name], inner, f"{what}.{name}")
                for name in set(value) - set(properties):
                    if rest is None:
                        raise Wrong(f"{what} has no {name}")
                    self.check_type(value[name], rest, f"{what}.{name}")
            case ("union", members):
                self.check_union(value, members, what)
            case ("name", "string" | "int" | "bool" | "object" | "array" as name):
                wanted = {"string": str, "int": int, "bool": bool, "object": dict, "array": list}[name]
                if not isinstance(value, wanted) or (name == "int" and isinstance(value, bool)):
                    raise Wrong(f"{what} is {value!r}, no {name}")
            case ("name", name):
                if name not in self.types:
                    raise Wrong(f"{what}: there is no type {name}")
                self.check_type(value, self.types[name].type, what)

    def check_union(self, value, members, what):
        reasons = []
        for member in members:
            try:
                return self.check_type(value, member, what)
            except Wrong as wrong:
                reasons.append(str(wrong))
        raise Wrong("; ".join(reasons))

    def deploy(self, d, body, local, parent):
        """Adds what a resource or module declaration makes; yields the handle that its name stands for."""
        if body[0] == "if":
            if not known(self.value(body[1], local), f"the condition of {d.name}"):
                return None
            body = body[2]
        if body[0] == "for":
            items = known(self.value(body[2], local), f"the loop of {d.name}")
            return [self.deploy(d, body[3], local | {body[1]: item}, parent) for item in items]
        outer, self.needs = self.needs, set()
        made = self.module(d, body, local) if d.kind == "module" else self.resource(d, body, local, parent)
        self.needs |= outer
        if not local and parent is None:
            self.seen[d.name] = made
        return made

    def resource(self, d, body, local, parent):
        pairs = {key[1][0]: value for key, value in body[1]}
        name = known(self.value(pairs["name"], local), f"the name of {d.name}")
        kind, _, version = d.type.partition("@")
        leaf = name
        scope = self.scope.id
        if "parent" in pairs:
            parent = self.value(pairs["parent"], local)
        if "scope" in pairs:
            at = self.value(pairs["scope"], local)
            scope = known(at["id"], f"the scope of {d.name}")
        if parent is not None:
            if "/" not in kind:
                kind = f"{parent['type']}/{kind}"
                version = version or parent["version"]
            name = f"{parent['whole']}/{name}"
            scope = parent["id"].split("/providers/")[0]
        handle = {"name": leaf, "whole": name, "type": kind, "version": version,
                  "id": resource_id(scope, kind, *name.split("/"))}
        children = {}
        handle["nested"] = children
        content = {key: self.value(value, local) for key, value in pairs.items() if key not in ("parent", "scope", "dependsOn")}
        if not d.existing:
            self.made.append(Resource(kind, version, name, handle["id"], content, False))
        for child in body[2]:
            children[child.name] = self.deploy(child, child.value, local, handle)
        return handle

    def module(self, d, body, local):
        pairs = {key[1][0]: value for key, value in body[1]}
        scope = self.scope
        if "scope" in pairs:
            at = self.value(pairs["scope"], local)
            _, _, subscription, _, group = known(at["id"], f"the scope of {d.name}").split("/")
            scope = Scope(f"/subscriptions/{subscription}", group)
        given = {key[1][0]: self.value(value, local) for key, value in pairs["params"][1]}
        for needed in pairs.get("dependsOn", ("array", []))[1]:
            self.needs.add(needed[1] if needed[0] == "name" else None)
        path = self.path.parent / d.type
        if not path.is_file():
            raise Wrong(f"{self.path.name}: there is no module {d.type}")
        inner = Template(path, given, scope, self.sources)
        self.made += inner.made
        self.modules.append(Module(d.name, inner.made, set(self.needs)))
        return {"outputs": {name: Runtime(f"{d.name}.outputs.{name}") for name in inner.outputs}}

    # An expression's value; `local` are the variables of loops.
    def value(self, expression, local):
        match expression:
            case ("value", value):
                return value
            case ("string", parts):
                values = [self.value(part, local) if isinstance(part, tuple) else part for part in parts]
                text = "".join(str(v) for v in values)
                return Runtime(text) if runtime(*values) is not None else text
            case ("array", items):
                return [self.value(item, local) for item in items]
            case ("object", pairs, _):
                return {self.value(key, local): self.value(value, local) for key, value in pairs}
            case ("for", name, items, body):
                return [self.value(body, local | {name: item}) for item in known(self.value(items, local), "a loop")]
            case ("name", name):
                return local[name] if name in local else self.symbol(name)
            case ("ternary", condition, yes, no):
                chosen = self.value(condition, local)
                if isinstance(chosen, Runtime):
                    return Runtime(f"({chosen} ? … : …)")
                return self.value(yes if chosen else no, local)
            case ("unary", sign, operand):
                operand = self.value(operand, local)
                return operand if isinstance(operand, Runtime) else not operand if sign == "!" else -operand
            case ("binary", sign, left, right):
                return self.operate(sign, left, right, local)
            case ("member", of, name, safe):
                return self.member(self.value(of, local), name, safe)
            case ("nested", of, name):
                return self.value(of, local)["nested"][name]
            case ("index", of, at):
                of, at = self.value(of, local), self.value(at, local)
                return Runtime(f"{of}[{at}]") if isinstance(of, Runtime) else of[at]
            case ("call", name, arguments):
                return self.call(name, [self.value(a, local) for a in arguments])
        raise Wrong(f"{expression[0]} is not understood")

    def symbol(self, name):
        if name not in self.declared:
            raise Wrong(f"{self.path.name}: there is nothing called {name}")
        d = self.declared[name]
        if d.kind in ("resource", "module"):
            self.needs.add(name)
        if name not in self.seen:
            if d.kind == "var":
                self.seen[name] = self.value(d.value, {})
            else:
                # Declared below; a reference back to it is a cycle.
                self.seen[name] = Runtime(f"a cycle through {name}")
                at = len(self.made), len(self.modules)
                self.seen[name] = self.deploy(d, d.value, {}, None)
                del self.made[at[0]:], self.modules[at[1]:]
        return self.seen[name]

    def member(self, of, name, safe):
        if isinstance(of, Runtime):
            return Runtime(f"{of}.{name}")
        if of is None and not safe:
            raise Wrong(f"{self.path.name}: .{name} of nothing")
        if of is None:
            return None
        if "nested" in of and name not in of:
            return Runtime(f"{of['name']}.{name}")
        if name in of:
            return of[name]
        if safe:
            return None
        raise Wrong(f"{self.path.name}: there is no .{name} in {sorted(of)}")

    def operate(self, sign, left, right, local):
        left = self.value(left, local)
        if isinstance(left, Runtime):
            return left
        if (sign == "??" and left is not None) or (sign == "||" and left) or (sign == "&&" and not left):
            return left
        right = self.value(right, local)
        if sign in ("??", "||", "&&") or isinstance(right, Runtime):
            return right
        return {"==": lambda: left == right, "!=": lambda: left != right, "<": lambda: left < right,
                ">": lambda: left > right, "+": lambda: left + right, "*": lambda: left * right}[sign]()

    def call(self, name, given):
        fixed = {
            "subscription": lambda: {"id": self.scope.subscription, "subscriptionId": self.scope.subscription.split("/")[2],
                                     "tenantId": "00000000-0000-0000-0000-00000000000t"},
            "environment": lambda: {"suffixes": {"storage": "core.windows.net"}},
            "newGuid": lambda: str(uuid.UUID(int=0)),
            "utcNow": lambda: "20260131T093000Z",
        }
        if name in fixed:
            return fixed[name]()
        if name == "resourceGroup":
            if not given:
                return {"id": self.scope.id, "name": self.scope.group, "location": "centralindia"}
            subscription = given[0] if len(given) == 2 else self.scope.subscription.split("/")[2]
            return {"id": f"/subscriptions/{subscription}/resourceGroups/{given[-1]}"}
        unknown = runtime(*given)
        if unknown is not None:
            return Runtime(f"{name}({unknown})")
        if name in ("resourceId", "subscriptionResourceId"):
            at = next(n for n, part in enumerate(given) if "/" in part)
            subscription = given[0] if at == 2 else self.scope.subscription.split("/")[2]
            scope = f"/subscriptions/{subscription}"
            if name == "resourceId":
                scope += f"/resourceGroups/{given[at - 1] if at else self.scope.group}"
            return resource_id(scope, *given[at:])
        functions = {
            "uniqueString": lambda *parts: digest(*parts).hexdigest()[:13],
            "guid": lambda *parts: str(uuid.UUID(bytes=digest(*parts).digest()[:16])),
            "empty": lambda of: not of,
            "split": lambda text, sign: text.split(sign),
            "join": lambda items, sign: sign.join(items),
            "take": lambda items, count: items[:count],
            "last": lambda items: items[-1],
            "max": max,
            "concat": lambda *lists: [item for items in lists for item in items],
            "union": lambda *of: self.union(of),
            "items": lambda of: [{"key": key, "value": of[key]} for key in sorted(of)],
            "toUpper": str.upper,
            "replace": lambda text, old, new: text.replace(old, new),
            "dateTimeAdd": lambda moment, span: f"{moment}+{span}",
            "dateTimeToEpoch": lambda moment: 1,
        }
        if name not in functions:
            raise Wrong(f"{self.path.name}: the function {name} is not known here")
        return functions[name](*given)

    @staticmethod
    def union(of):
        if isinstance(of[0], dict):
            return {key: value for item in of for key, value in item.items()}
        return list(dict.fromkeys(item for items in of for item in items))


def parameter_file(path):
    """The template that a .bicepparam file is for, and the values that it gives."""
    declarations = parse(path.read_text())
    template = next(d.name for d in declarations if d.kind == "using")
    empty = object.__new__(Template)
    empty.path, empty.declared, empty.seen = path, {}, {}
    return path.parent / template, {d.name: empty.value(d.value, {}) for d in declarations if d.kind == "param"}
