"""Templates made up from a seed, of what both engines know. Not all of them make sense, and both must
say so of the same ones."""
import random

NAMES = ["x", "y", "s", "l", "t", "f", "d", "n", "m", "u"]
CONSTANTS = ["0", "1", "-2", "3", "2.5", "'a'", "'Hello World'", "''", "' pad '", "'a,b,c'", "true",
             "false", "none", "[1, 2, 3]", "[]", "{}", "{'a': 1, 'b': 'x'}", "(1, 2)", "'é世'",
             "'a\\nb'", "['b', 'A', 'c']"]
BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in",
          "and", "or"]
FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "first", "last", "list",
           "string", "int", "float", "abs", "round", "sort", "tojson", "join(',')", "default('d')",
           "default('e', true)", "replace('a', 'b')", "reverse|list", "min", "max",
           "sum", "items|list", "dictsort", "map('string')|list", "select|list",
           "reject|list", "map('upper')|list", "select('defined')|list",
           "selectattr('role')|list", "map(attribute='role')|list", "tojson(indent=2)",
           "sort(reverse=true)", "center(9)", "int(7)", "batch(2)|list"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean",
         "mapping", "sequence", "iterable", "odd", "even", "true", "false", "lower", "upper",
         "equalto(1)", "in([1, 2])", "divisibleby(2)", "sameas(none)", "gt(1)", "callable"]
METHODS = [".upper()", ".lower()", ".strip()", ".split(',')", ".split()", ".title()", ".get('a')",
           ".keys()|list", ".values()|list", ".items()|list", ".startswith('a')",
           ".endswith('d')", ".replace('l', 'L')", ".find('o')", ".count('l')", ".a", ".role",
           "[0]", "[-1]", "['a']", "[1:]", "[:-1]", "[::-1]", "[0:2]", ".splitlines()",
           ".capitalize()", ".lstrip('H')", ".rstrip('d')", ".isdigit()", ".join(['p', 'q'])",
           ".rsplit('l', 1)", ".partition('l')", ".zfill(4)", ".swapcase()", "[::2]"]
BLANKS = ["", " ", "\n", "\n  ", "  \n", "\t"]
SIGNS = ["", "", "", "-", "+"]


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def one(self, choices):
        return self.random.choice(choices)

    def expression(self, depth=3):
        if depth == 0 or self.random.random() < 0.15:
            return self.one(NAMES) if self.random.random() < 0.5 else self.one(CONSTANTS)
        kind = self.random.randrange(8)
        inner = self.expression(depth - 1)
        if kind == 0:
            return f"({inner} {self.one(BINARY)} {self.expression(depth - 1)})"
        if kind == 1:
            return f"{inner} {self.one(BINARY)} {self.expression(depth - 1)}"
        if kind == 2:
            return f"({inner})|{self.one(FILTERS)}"
        if kind == 3:
            return f"({inner} is {self.one(['', 'not '])}{self.one(TESTS)})"
        if kind == 4:
            return f"({inner}){self.one(METHODS)}"
        if kind == 5:
            return f"({inner} if {self.expression(depth - 1)} else {self.expression(depth - 1)})"
        if kind == 6:
            return f"[{inner}, {self.expression(depth - 1)}]"
        return f"{self.one(['not ', '-', ''])}{inner}|{self.one(FILTERS)}"

    def tag(self, text, mark="%"):
        left, right = ("{{", "}}") if mark == "{" else ("{%", "%}")
        end = self.one(SIGNS)
        if mark == "{" and end == "+":
            end = ""  # a plus ends no output
        return f"{left}{self.one(SIGNS)} {text} {end}{right}"

    def text(self):
        return self.one(BLANKS) + self.one(["", "a", "b c", "{", "}"]) + self.one(BLANKS)

    def statement(self, depth):
        kind = self.random.randrange(7) if depth > 0 else 0
        if kind == 0:
            return self.tag(self.expression(2), "{")
        body = self.body(depth - 1)
        if kind == 1:
            return self.tag(f"if {self.expression(2)}") + body + self.tag("else") + body + self.tag("endif")
        if kind == 2:
            loop = self.tag("loop.index ~ ':' ~ v", "{")
            return self.tag(f"for v in {self.expression(2)}") + loop + body + self.tag("endfor")
        if kind == 3:
            return self.tag(f"set q = {self.expression(2)}")
        if kind == 4:
            return self.tag("set q") + body + self.tag("endset") + self.tag("q", "{")
        if kind == 5:
            name = self.one(["p", "r"])
            return (self.tag(f"macro {name}(a, b={self.expression(1)})") + body + self.tag("a ~ b", "{")
                    + self.tag("endmacro") + self.tag(f"{name}({self.expression(1)})", "{"))
        return "{#" + self.one(SIGNS) + " c " + self.one(SIGNS) + "#}" + body

    def body(self, depth):
        n = self.random.randrange(1, 4)
        return "".join(self.text() + self.statement(depth) for _ in range(n)) + self.text()

    def template(self):
        if self.random.random() < 0.6:
            return "{{ " + self.expression() + " }}"
        return self.body(2)
