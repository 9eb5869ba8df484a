"""Reads the part of Bicep that these templates use into declarations and expressions. The grammar of
tree-sitter finds errors of syntax; its trees do not have Bicep's precedence of operators.
"""

import re
from dataclasses import dataclass, field

TOKENS = re.compile(
    r"(?P<space>[ \t]+|//[^\n]*|/\*.*?\*/)|(?P<newline>\n)|(?P<long>'''.*?''')|(?P<quote>')|(?P<number>\d+)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>\.\?|\?\?|::|=>|==|!=|<=|>=|&&|\|\||[-+*/%<>=!?:.,@|(){}\[\]])", re.S)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "'": "'", "\\": "\\", "$": "$"}
LEVELS = [["??"], ["||"], ["&&"], ["==", "!="], ["<", "<=", ">", ">="], ["+", "-"], ["*", "/", "%"]]


class Wrong(Exception):
    """What the compiler, or Azure, would refuse."""


def tokens(source, at=0, closing=None):
    """(kind, text) from `at` to the end, or to the `closing` brace of an interpolation; and the end."""
    found, depth = [], 0
    while at < len(source):
        match = TOKENS.match(source, at)
        if not match:
            raise Wrong(f"line {source.count(chr(10), 0, at) + 1}: {source[at]!r} is not Bicep")
        kind, text, at = match.lastgroup, match[0], match.end()
        if closing and text == "}" and depth == 0:
            return found, at
        if kind == "sign":
            depth += {"{": 1, "}": -1}.get(text, 0)
        if kind == "quote":
            parts, at = string_parts(source, at)
            found.append(("string", parts))
        elif kind == "long":
            found.append(("string", [text[3:-3].removeprefix("\n")]))
        elif kind != "space":
            found.append((kind, text))
    return found, at


def string_parts(source, at):
    parts = [""]
    while source[at] != "'":
        if source[at] == "\n":
            raise Wrong(f"line {source.count(chr(10), 0, at) + 1}: a string does not end")
        if source[at] == "\\":
            parts[-1] += ESCAPES[source[at + 1]]
            at += 2
        elif source.startswith("${", at):
            inner, at = tokens(source, at + 2, closing=True)
            parts += [Parser(inner).whole(), ""]
        else:
            parts[-1] += source[at]
            at += 1
    return parts, at + 1


@dataclass
class Declaration:
    kind: str
    name: str
    type: object = None
    value: object = None
    existing: bool = False
    decorators: dict = field(default_factory=dict)


class Parser:
    """Expressions become tuples whose first element names them."""

    def __init__(self, found):
        self.tokens, self.at = found + [("end", "")], 0

    def peek(self, *texts):
        kind, text = self.tokens[self.at]
        return kind != "string" and text in texts

    def take(self, *texts):
        if texts and not self.peek(*texts):
            raise Wrong(f"{self.tokens[self.at][1]!r} instead of {' or '.join(texts)}")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def maybe(self, text):
        if self.peek(text):
            return self.take()
        return None

    def lines(self):
        while self.tokens[self.at][0] == "newline":
            self.at += 1

    def whole(self):
        value = self.expression()
        if self.tokens[self.at][0] != "end":
            raise Wrong(f"{self.tokens[self.at][1]!r} after an expression")
        return value

    def file(self):
        declarations = []
        self.lines()
        while self.tokens[self.at][0] != "end":
            declarations.append(self.declaration())
            self.lines()
        return declarations

    def declaration(self):
        decorators = {}
        while self.maybe("@"):
            name = self.take()
            self.take("(")
            decorators[name] = self.list(")")
            self.lines()
        kind = self.take("targetScope", "import", "using", "param", "var", "type", "resource", "module", "output")
        if kind in ("import", "using"):
            while self.tokens[self.at][0] not in ("newline", "end"):
                parts = self.take()
            return Declaration(kind, parts[0])
        made = Declaration(kind, kind if kind == "targetScope" else self.take(), decorators=decorators)
        if kind in ("resource", "module"):
            made.type = self.primary()[1][0]
            made.existing = bool(self.maybe("existing"))
        elif kind in ("param", "output") and not self.peek("="):
            made.type = self.type()
        if kind == "type":
            self.take("=")
            made.type = self.type()
        elif self.maybe("="):
            made.value = self.body()
        return made

    def type(self):
        self.maybe("|")
        members = [self.one_type()]
        while self.maybe("|"):
            members.append(self.one_type())
        return members[0] if len(members) == 1 else ("union", members)

    def one_type(self):
        if self.maybe("{"):
            properties, rest = {}, None
            self.lines()
            while not self.maybe("}"):
                while self.maybe("@"):
                    self.take()
                    self.take("(")
                    self.list(")")
                    self.lines()
                name = self.take()
                name = name if isinstance(name, str) else name[0]
                self.take(":")
                if name == "*":
                    rest = self.type()
                else:
                    properties[name] = self.type()
                self.lines()
            found = ("object", properties, rest)
        else:
            kind, text = self.tokens[self.at]
            self.at += 1
            found = ("literal", text[0]) if kind == "string" else ("literal", int(text)) if kind == "number" else ("name", text)
        while self.peek("[", "?"):
            if self.take() == "[":
                self.take("]")
                found = ("array", found)
            else:
                found = ("optional", found)
        return found

    def body(self):
        if self.maybe("if"):
            self.take("(")
            condition = self.expression()
            self.take(")")
            return ("if", condition, self.body())
        return self.expression()

    def list(self, end):
        items = []
        self.lines()
        while not self.maybe(end):
            items.append(self.expression())
            self.maybe(",")
            self.lines()
        return items

    def expression(self):
        condition = self.binary(0)
        if not self.maybe("?"):
            return condition
        self.lines()
        yes = self.expression()
        self.lines()
        self.take(":")
        self.lines()
        return ("ternary", condition, yes, self.expression())

    def binary(self, level):
        if level == len(LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek(*LEVELS[level]):
            left = ("binary", self.take(), left, self.binary(level + 1))
        return left

    def unary(self):
        if self.peek("!", "-"):
            return ("unary", self.take(), self.unary())
        value = self.primary()
        while self.peek(".", ".?", "[", "::", "!"):
            sign = self.take()
            if sign in (".", ".?"):
                value = ("member", value, self.take(), sign == ".?")
            elif sign == "::":
                value = ("nested", value, self.take())
            elif sign == "[":
                value = ("index", value, self.expression())
                self.take("]")
        return value

    def primary(self):
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "string":
            return ("string", text)
        if kind == "number":
            return ("value", int(text))
        if text == "(":
            value = self.expression()
            self.take(")")
            return value
        if text == "{":
            return self.object()
        if text == "[":
            self.lines()
            if not self.maybe("for"):
                return ("array", self.list("]"))
            name = self.take()
            self.take("in")
            items = self.expression()
            self.take(":")
            body = self.body()
            self.lines()
            self.take("]")
            return ("for", name, items, body)
        if kind != "name":
            raise Wrong(f"{text!r} is no expression")
        if text in ("true", "false", "null"):
            return ("value", {"true": True, "false": False, "null": None}[text])
        if self.maybe("("):
            return ("call", text, self.list(")"))
        return ("name", text)

    def object(self):
        pairs, nested = [], []
        self.lines()
        while not self.maybe("}"):
            if self.peek("resource", "@") and self.tokens[self.at + 1][1] != ":":
                nested.append(self.declaration())
            else:
                kind, key = self.tokens[self.at]
                self.at += 1
                self.take(":")
                pairs.append((("string", key if kind == "string" else [key]), self.expression()))
            self.maybe(",")
            self.lines()
        return ("object", pairs, nested)


def parse(source):
    return Parser(tokens(source)[0]).file()
