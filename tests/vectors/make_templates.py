"""Writes templates/expected.json and templates/expressions.json: what jinja2, set up by transformers for chat templates,
makes of the templates in templates/*.jinja with the conversations of templates/conversations.json, and of the small
templates below. Usage: make_templates.py"""
import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = pathlib.Path(__file__).parent / "templates"

# The variables of all small templates.
VARIABLES = {
    "s": "Hello, World", "u": "Grüße, Ωmega ß €𝄞", "empty": "", "spaces": " \t two  words \n", "lines": "a\nb\n\nc",
    "q": "it's \"q\" \\ \n\t\u0007\u00a0\u200b<&>", "n": 7, "neg": -7, "zero": 0, "big": 9007199254740993,
    "f": 2.5, "g": 1e21, "h": 1e-7, "t": True, "nothing": None,
    "l": [3, 1, 2], "strings": ["b", "A", "c", "a"], "mixed": [1, "1", 1.0, True, None, [1, [2]], {"k": "v"}],
    "d": {"b": 1, "a": 2, "C": 3}, "nested": {"x": {"y": [10, 20, {"z": "deep"}]}}, "e": {}, "el": [],
    "users": [{"name": "Ann", "age": 30, "tags": ["x"]}, {"name": "bob", "age": 25, "tags": []},
              {"name": "Cy", "age": 30}],
    "weird": {"items": "I", "get": "G", "_p": "under", "a b": 1},
    "numbers": [0.1, 0.5, 1.5, 2.675, 100.0, 123456789.123, 1e16, 1e15, 123456789012345680.0, 5e-324,
                1.7976931348623157e308, -0.0, 0.0001, 0.00001],
    "tool": {"type": "function", "function": {"name": "f", "description": "dé <b>", "parameters": {
        "type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}},
}

# An entry without a tag is an expression. Not here because we refuse what jinja2 lets pass: a comment or raw block that
# nothing ends at the very end of a template, a break inside of a captured block, attributes of Python's own objects.
SMALL = r"""
1 + 2 * 3
(1 + 2) * 3
7 / 2
6 / 2
7 // 2
neg // 2
neg % 3
7 % neg
-7 // 2
7.5 // 2
-7.5 // 2
-7.5 % 2
7.5 % -2
2 ** 10
2 ** 3 ** 2
-2 ** 2
2 ** -1
2 ** 0.5
1 / 0
1 // 0
1 % 0
1.0 / 0
0.1 + 0.2
1e3
1E-3
1_000 + 0x1F + 0o17 + 0b101
0.1e1
3.0
10 / 4
9223372036854775807
-9223372036854775807 - 1
big
big + 1
1 + true
true + true
-true
+n
--n
- n | abs
neg | abs
n - -n
f * 2
g
h
g + h
1 == 1.0
1 == true
"1" == 1
1 < 2 < 3
1 < 3 < 2
1 < 2 > 1
3 > 2 >= 2 != 1
n in l
3 in l
3 not in l
not 3 in l
"ell" in s
"x" in s
1 in s
"a" in d
"z" in d
1 in nothing
none in mixed
"" in s
1.0 in l
[1, 2] < [1, 3]
[1] < [1, 0]
(1, 2) < (2,)
[1] == (1,)
[1, "a"] == [1.0, "a"]
{"a": 1, "b": 2} == {"b": 2, "a": 1}
"a" < "b"
"a" < "B"
"a" < 1
none < 1
none == none
none == false
zero == false
s and n
zero and n
zero or "x"
empty or el or e or "last"
not s
not not s
not empty
t and f or n
1 if t else 2
1 if not t else 2
1 if empty
"a" if n == 7 else "b" if n == 8 else "c"
("x" if t) ~ "y"
"a" "b" 'c'
"a" ~ 1 ~ 2.0 ~ none ~ true
1 ~ 2
"%s and %d" % ("x", 3)
"%s" % "one"
"%s" % [1, 2]
"%5.2f|%-6d|%06d|%+d" % (3.14159, 42, -42, 7)
"%x %X %o %e %g" % (255, 255, 8, 12345.678, 0.0001)
"%(a)s-%(b)r" % {"a": 1, "b": "x"}
"%%" % ()
"%s %s" % ("x",)
"%s" % ("x", "y")
"%d" % "x"
"%c%c" % ("a", 98)
"%r" % s
"%10s|%-10s|%.3s" % ("ab", "cd", "efghij")
"%s" % none
"ab" * 3
3 * "ab"
"ab" * 0
"ab" * -1
[1, 2] * 2
(1,) * 3
"ab" * 1.5
[1] + [2, 3]
(1,) + (2,)
[1] + (2,)
"a" + 1
1 + "a"
"a" + "b"
none + 1
s + nothing
d + d
l - l
s[0]
s[-1]
s[100]
s[1:4]
s[::-1]
s[::2]
s[-5:]
s[:-5]
s[5:2]
s[4:1:-1]
u[2]
u[2:4]
u[::-1]
u | length
l[0]
l[-1]
l[5]
l[::-1]
l[1:]
l[:1]
l[:-1]
l[-2:]
l[::2]
l[::-2]
l[10:]
l[1:2, 3]
l["a"]
l[1.0]
l[true]
s["x"]
(1, 2, 3)[1:]
range(5)[1:3] | list
range(5)[-1]
l[::0]
nothing[1:]
n[0]
d.b
d["b"]
d.missing
d.missing.more
d["missing"]["more"]
missing
missing.x
missing[0]
missing[1:]
missing()
missing + 1
missing ~ "x"
missing == 1
missing == other
missing < 1
missing | length
missing | list
missing | default("d")
missing | upper
missing | trim
missing | string
missing | join(",")
missing | first
missing | last
missing | items | list
missing | tojson
missing | int
missing in l
1 in missing
"" in missing
missing is iterable
missing is sequence
missing is mapping
missing is string
missing is number
- missing
nested.x.y[2].z
nested["x"]["y"][0]
nested.x.y.2.z
nested.x.q is defined
weird.items is callable
weird["items"]
weird.get is callable
weird["get"]
weird._p
weird["_p"]
weird["a b"]
weird.get("a b")
d.get("b")
d.get("q")
d.get("q", 5)
d.get("q", default=5)
d.get()
d.keys() | list
d.values() | list
d.items() | list
d.items()
d.keys()
d.values()
d.items() | length
d.keys() | first
d.keys()[0]
d | list
d | length
d | first
d | last
e | first
e | first is defined
{"a": 1}["a"]
{1: "i", 1.5: "f", true: "b", none: "n"}
{(1, 2): 3}
{[1]: 2}
{"a": 1, "a": 2}
{"x": {"y": 1}}
{}
[]
()
(1,)
(1, 2)
1, 2
[1, [2, (3,)], {"a": none}]
[true, false, none, 1.0, "a'b", 'a"b', "a'\"b"]
mixed
[q]
[u]
q
[missing]
{"a": missing}
numbers
numbers | join(" ")
range(3)
range(3) | list
range(1, 4) | list
range(10, 0, -3) | list
range(0) | list
range(1, 10, 0)
range(1.5)
range(2, 5)
range(3, -1, -1) | list
range(100001)
dict(a=1, b="x")
dict([("a", 1), ("b", 2)])
dict({"a": 1}, b=2)
dict(d)
namespace(a=1).a
namespace({"a": 1}, b=2).b
namespace().x
namespace(_a=1)
namespace(a=1)
namespace(a=1)["a"]
raise_exception("no")
raise_exception(missing)
strftime_now("%%")
nosuchfunction(1)
n()
s()
"abc".upper()
"ABC".lower()
u.upper()
u.lower()
u | upper
u | lower
"hello wORLD-foo (bar)".title()
"hello wORLD-foo (bar) it's" | title
"hELLO World" | capitalize
"hELLO World".capitalize()
"éA" | capitalize
"ǆabc" | capitalize
"aBc".swapcase()
"  x ".strip()
"  x ".lstrip()
"  x ".rstrip()
"xxaxx".strip("x")
"abcab".strip("ba")
"xxaxx".lstrip("x")
"xxaxx".rstrip("x")
"éxé".strip("é")
spaces.strip()
spaces | trim
"--a--" | trim("-")
"--a--" | trim(chars="-")
n | trim
u.strip("ß€𝄞 ")
"a,b,c".split(",")
"a,b,c".split(",", 1)
"a,b,c".split(",", maxsplit=1)
"a,b,c".rsplit(",", 1)
" a  b c ".split()
" a  b c ".split(none, 1)
" a  b c ".rsplit(none, 1)
" a  b c ".rsplit()
"".split()
"".split(",")
"abc".split("")
"a||b".split("||")
"<think>x</think>y".split("</think>")[-1]
"a-b-c".partition("-")
"a-b-c".rpartition("-")
"abc".partition("-")
"abc".rpartition("-")
lines.splitlines()
lines.splitlines(true)
"a\r\nb\rc".splitlines()
"a\n".splitlines()
"abcabc".replace("b", "X")
"abcabc".replace("b", "X", 1)
"abc".replace("", "-")
"" .replace("", "x")
"aaa" | replace("a", "b", 2)
"aaa" | replace("a", "b")
123 | replace("2", "x")
"abc".startswith("ab")
"abc".startswith(("x", "a"))
"abc".startswith("b", 1)
"abc".endswith("bc")
"abc".endswith(("x", "y"))
"abc".endswith("ab", 0, 2)
"abc".startswith(1)
"hello".find("l")
"hello".find("z")
"hello".find("l", 3)
"hello".rfind("l")
"hello".index("e")
"hello".index("z")
"hello".count("l")
"aaaa".count("aa")
"abc".count("")
u.find("€")
"-".join(["a", "b"])
"-".join("abc")
"-".join([1])
"abc".ljust(5) ~ "|"
"abc".rjust(5, "*")
"abc".center(8, "*")
"abc".center(7, "*")
"ab".center(7, "*")
"-42".zfill(6)
"abc".removeprefix("a")
"abc".removesuffix("bc")
"abc".removeprefix("x")
"abc".isalpha()
"ab1".isalpha()
"ab1".isalnum()
"123".isdigit()
"12a".isdigit()
"".isdigit()
"½".isnumeric()
"½".isdigit()
"²".isdigit()
"12".isdecimal()
" \n".isspace()
"abc".islower()
"aBc".islower()
"ABC1".isupper()
"é".isascii()
"abc".nosuch()
"abc".nosuch
l.index(1)
l.index(9)
l.count(1)
l.copy()
l.nosuch()
(1, 2, 1).count(1)
d.copy()
l | length
s | length
n | length
none | length
l | count
l | first
l | last
el | first
el | last
"abc" | first
"abc" | last
range(4) | last
l | sort
l | sort(reverse=true)
l | sort(true)
strings | sort
strings | sort(case_sensitive=true)
users | sort(attribute="age") | map(attribute="name") | list
users | sort(attribute="age,name") | map(attribute="name") | list
users | sort(attribute="age", reverse=true) | map(attribute="name") | list
mixed | sort
el | sort
"bca" | sort
d | dictsort
d | dictsort(true)
d | dictsort(by="value")
d | dictsort(reverse=true)
d | dictsort(false, "value", true)
d | dictsort(by="x")
l | dictsort
l | min
l | max
strings | min
strings | max
strings | max(case_sensitive=true)
users | min(attribute="age")
el | min
l | sum
users | sum(attribute="age")
l | sum(start=10)
el | sum
strings | sum
numbers | sum
l | join
l | join(", ")
l | join(d="-")
users | join(", ", attribute="name")
"abc" | join("-")
d | join(",")
n | join
l | reverse | list
"abc" | reverse
u | reverse
strings | unique | list
strings | unique(case_sensitive=true) | list
["a", "A", "b", "a", 1, 1.0, true] | unique | list
users | unique(attribute="age") | map(attribute="name") | list
l | map("string") | list
strings | map("upper") | join
strings | map("replace", "a", "z") | list
users | map(attribute="name") | list
users | map(attribute="tags") | list
users | map(attribute="tags", default=[]) | list
users | map(attribute="nope", default="d") | list
users | map(attribute="tags.0") | list
l | map | list
l | map("nosuch") | list
l | map("round", 1) | list
users | selectattr("tags") | map(attribute="name") | list
users | selectattr("tags", "defined") | map(attribute="name") | list
users | selectattr("age", "equalto", 30) | map(attribute="name") | list
users | selectattr("age", ">", 26) | list | length
users | selectattr("name", "in", ["Ann", "Cy"]) | list | length
users | rejectattr("age", "equalto", 30) | map(attribute="name") | list
users | rejectattr("tags") | list | length
users | selectattr | list
l | select("odd") | list
l | select(">", 1) | list
l | select | list
[0, 1, "", "x", none] | select | list
[0, 1, "", "x", none] | reject | list
l | reject("odd") | list
l | reject("in", [1, 2]) | list
l | select("nosuch") | list
(l | select("odd")) | length
("yes" if el | select else "no")
l | batch(2) | list
l | batch(2, "x") | list
d | items | list
l | items | list
d | items | length
nothing | default("d")
nothing | default("d", true)
empty | default("d")
empty | default("d", boolean=true)
missing | d("x")
missing | default
missing | default(none)
missing.a | default("x")
d.q | default("x")
3.7 | int
-3.7 | int
"42" | int
" 42 " | int
"4_2" | int
"42.9" | int
"x" | int
"x" | int(5)
"ff" | int(0, 16)
"0x1f" | int(0, 16)
"0x1f" | int
"0b11" | int(base=0)
none | int
none | int("n")
true | int
l | int
"1.5" | float
"x" | float
"x" | float(2.0)
"1e3" | float
" inf " | float
"nan" | float
"-infinity" | float
"1_0.5" | float
n | float
none | float
2.5 | round
3.5 | round
2.567 | round(2)
2.675 | round(2)
1234.5 | round(-2)
2.1 | round(0, "ceil")
2.9 | round(method="floor")
2.345 | round(1, "ceil")
n | round
n | round(2)
42.55 | round
"x" | round
2.5 | round(0, "x")
neg | abs
-2.5 | abs
"x" | abs
n | string
l | string
none | string
true | string | upper
f | string
l | list
"abc" | list
d | list
n | list
(1, 2) | list
lines | indent
lines | indent(2)
lines | indent(2, true)
lines | indent(2, first=true, blank=true)
lines | indent("> ")
lines | indent(width=1, blank=true)
"a\n" | indent(2)
"" | indent(2, true)
"<a href='x'>&\"" | e
"<a>" | escape
"<a>" | safe
"<a>" | safe | e
("<a>" | safe) + "<b>"
"<b>" + ("<a>" | safe)
("<a>" | safe) ~ "<b>"
(("<a>" | safe) + "<b>") | length
("<a>" | safe) is string
("<a>" | safe) is escaped
"<a>" is escaped
["<a>" | safe]
("%s<" | safe) % "<x>"
("a<b" | safe).replace("b", "<")
("," | safe).join(["<", ">"])
("<a>" | safe) | upper
("<a>" | safe) | tojson
("<a>" | safe) * 2
("<ab>" | safe)[1:3] + "<"
("<a>" | safe) == "<a>"
"%s-%s" | format("a", 1)
"%(x)s" | format(x=1)
"%s" | format
l | attr("index") is defined
d | attr("b")
s | attr("upper") is callable
n | tojson
f | tojson
g | tojson
none | tojson
true | tojson
q | tojson
u | tojson
u | tojson(ensure_ascii=true)
u | tojson(true)
q | tojson(ensure_ascii=true)
d | tojson
d | tojson(sort_keys=true)
d | tojson(indent=2)
d | tojson(indent=0)
d | tojson(indent=-1)
d | tojson(indent="--")
d | tojson(indent=none)
d | tojson(indent=true)
nested | tojson(indent=4)
mixed | tojson
mixed | tojson(indent=1)
tool | tojson
tool | tojson(indent=4)
tool | tojson(separators=(",", ":"))
tool | tojson(separators=[",", ":"], indent=2)
tool | tojson(separators=",")
{1: 2, none: 3, true: 4, 1.5: 5} | tojson
{(1, 2): 3} | tojson
{"a": 1, 2: 3} | tojson(sort_keys=true)
[] | tojson(indent=2)
{} | tojson(indent=2)
[[], {}, [{}]] | tojson(indent=2)
(1, 2) | tojson
range(3) | tojson
d.keys() | tojson
[missing] | tojson
namespace(a=1) | tojson
numbers | tojson
"nan" | float | tojson
[" inf" | float, "-inf" | float] | tojson
l | nosuchfilter
l is nosuchtest
n is defined
missing is defined
missing is not defined
missing is undefined
n is not undefined
n is number
f is number
t is number
"1" is number
n is integer
t is integer
f is integer
f is float
n is float
t is boolean
n is boolean
t is true
n is true
t is false
false is false
none is none
nothing is none
nothing is not none
missing is none
s is string
n is string
l is string
d is mapping
l is mapping
l is sequence
s is sequence
d is sequence
d.keys() is sequence
n is sequence
(l | map("string")) is sequence
range(3) is sequence
l is iterable
s is iterable
d is iterable
n is iterable
none is iterable
(l | map("string")) is iterable
s is callable
range is callable
n is odd
n is even
neg is odd
n is divisibleby 7
n is divisibleby(3)
n is eq 7
n is equalto 7
n is ne(8)
n is gt 6
n is greaterthan 7
n is ge 7
n is lt 8
n is lessthan 7
n is le 7
n is in [1, 7]
n is not in [1, 7]
n is sameas 7
nothing is sameas none
t is sameas true
l is sameas l
l is sameas [3, 1, 2]
"abc" is lower
"ABC" is upper
"aBC" is upper
"upper" is filter
"nosuch" is filter
"defined" is test
n is defined and n > 5
n is defined is true
missing is defined or n is odd
not n is defined
n is not string and n is not none
"\x41\u00e9\U0001F600\101\n\t\\\'\"\a|\d|\q"
'a\
b'
"é\u20ac"
"\u12"
"unterminated
'it''s'
s.upper().lower().title()
s | upper | lower | title | length
(s | upper) ~ (n | string)
[1, 2, 3,]
{"a": 1,}
(1, 2,)
[,]
{,}
(,)
1 +
* 2
a b
a.
a.1.2
a[
a[1
a(1
(1
1)
[1)
a(b=1, 2)
d.get(*["q", 9])
d.get(**{"key": "b"})
dict(**{"a": 1})
"x" if
not
a is
a |
@
1 = 2
$x
`x`
true.x
True and False or None
TRUE
s.__class__
s.__class__.__mro__
s.__class__()
d.__class__
[].__class__.__base__
"".join.__self__
"".__class__.__mro__[1].__subclasses__()
s["__class__"]
s["__class__"]["__mro__"]
s | attr("__class__")
s | attr("__class__") | attr("__mro__")
range.__globals__
namespace.__init__
namespace.__init__.__globals__
raise_exception.__globals__["os"]
dict.mro()
cycler.__init__.__globals__.os.popen("id").read()
l.sort
loop
caller
varargs
super()
users | groupby('age')
users | groupby('age') | map('first') | list
users | groupby('age') | map(attribute='list') | map('length') | list
(users | groupby('age'))[0].grouper
(users | groupby('age'))[1].list[0].name
(users | groupby('age'))[0] | list
users | groupby('nosuch')
users | groupby('nosuch', default='x')
users | groupby('tags', default=[])
users | groupby('name')
[{"k": "b"}, {"k": "B"}, {"k": "a"}, {"k": "B"}] | groupby('k')
[{"k": "b"}, {"k": "B"}, {"k": "a"}, {"k": "B"}] | groupby('k', case_sensitive=true)
[(1, 2), (1, 3), (0, 4)] | groupby(0)
[(1, 2), (3,)] | groupby(1, default='none')
[(1, 2), (3,)] | map(attribute=1, default=7) | list
[] | groupby('x')
mixed | groupby('x')
n | groupby('x')
users | groupby
[1, 2, 3, 4, 5, 6, 7] | slice(3) | list
[1, 2, 3, 4, 5, 6, 7] | slice(3, 'x') | list
[1, 2, 3, 4, 5, 6, 7] | slice(3, fill_with=0) | list
[1, 2, 3] | slice(1) | list
[1, 2] | slice(5, none) | list
[1, 2] | slice(5, '-') | list
[] | slice(2) | list
'abcd' | slice(3) | list
l | slice(0) | list
l | slice(-1) | list
l | slice | list
d | slice(2) | list
n | slice(2) | list
'foo bar baz qux' | truncate(9)
'foo bar baz qux' | truncate(9, True)
'foo bar baz qux' | truncate(11)
'foo bar baz qux' | truncate(11, False, '...', 0)
'foo bar baz qux' | truncate(9, end='')
'foo bar baz qux' | truncate(9, leeway=0, end='…')
'foobarbazquxfoobar' | truncate(9)
u * 10 | truncate(20)
(u * 10) | truncate(20)
(u * 10) | truncate(20, true, leeway=0)
s | truncate
(s * 40) | truncate
(s * 40) | truncate(length=30, leeway=none)
s | truncate(2)
s | truncate(5, leeway=-1)
s | truncate(3, leeway=0)
l | truncate
missing | truncate
n | truncate
s | center(20)
s | center(21) ~ '|'
s | center(3)
n | center(5) ~ '|'
n | center(6) ~ '|'
s | center | length
u | center(width=30) ~ '|'
'a' | center(-5)
"The quick brown fox jumps over the lazy dog" | wordwrap(10)
"The quick brown fox jumps over the lazy dog" | wordwrap(width=15, wrapstring='<br>')
"aaaaaaaaaaaaaaaaaaaaaaaaa bbb" | wordwrap(10)
"aaaaaaaaaaaaaaaaaaaaaaaaa bbb" | wordwrap(10, false)
"a well-known state-of-the-art thing -- and so--on, e-mail x-y-z 1-2-3 -x--y" | wordwrap(6)
"a well-known state-of-the-art thing -- and so--on, e-mail x-y-z 1-2-3 -x--y" | wordwrap(6, break_on_hyphens=false)
"a well-known state-of-the-art thing -- and so--on, e-mail x-y-z 1-2-3 -x--y" | wordwrap(9, false, '|')
"a well-known state-of-the-art thing -- and so--on, e-mail x-y-z 1-2-3 -x--y" | wordwrap(1)
"well-knownwell-knownwell---known ---- a-b ab-cd ab-c a-bc ab--cd" | wordwrap(7)
"-----------a------- b" | wordwrap(5)
"ab cdefghij" | wordwrap(3)
"  leading and   inner   space  \n\n second line\n" | wordwrap(8)
"  leading and   inner   space  \n\n second line\n" | wordwrap(8, wrapstring='/')
"\t tabs\tand\u00a0nbsp \u2003 em\u3000wide spaces \u00a0 end" | wordwrap(5)
u * 4 | wordwrap(7)
(u * 4) | wordwrap(7)
lines | wordwrap(3)
empty | wordwrap(3)
spaces | wordwrap(4)
" " | wordwrap(1)
("word " * 30) | wordwrap
s | wordwrap(0)
s | wordwrap(-1)
n | wordwrap(3)
missing | wordwrap(3)
"e.g. don't \"quote\" a&b-cd ¿x²-yz _a_-_b_ don't-stop" | wordwrap(4)
n | pprint
s | pprint
q | pprint
missing | pprint
nothing | pprint
l | pprint
d | pprint
users | pprint
users * 3 | pprint
(users * 3) | pprint
tool | pprint
[tool, tool] | pprint
{"long": "word " * 30, "b": ["x" * 50, "y" * 50], "a": ("t" * 90,)} | pprint
("word " * 30) | pprint
(("word " * 30) ~ "\nline two\n" ~ ("w" * 100)) | pprint
[("word " * 30), ("a" * 100) ~ " b\n" ~ "c"] | pprint
(1, "x" * 100, [1, 2, {"k": "v" * 70}]) | pprint
{1: "a" * 40, "x": "b" * 40, none: 2} | length
range(100) | list | pprint
{"z": 1, "a": {"y": 1, "b": 2}} | pprint
[] | pprint
() | pprint
{} | pprint
("a" * 78) | pprint
("a" * 79) | pprint
(u * 12) | pprint
(("é\t" * 20) ~ ' end') | pprint
users | groupby('age') | pprint
{"k" * 90: "v" * 90} | pprint
[[[[["deep " * 20]]]]] | pprint
s | wordcount
"a-b c_d don't 1.5 é²" | wordcount
empty | wordcount
n | wordcount
"<a>" | safe | forceescape
q | forceescape
'random' is filter and false
"{} and {}".format(1, 'b')
"{0} {1} {0}".format('a', 'b')
"{x} {y}".format(x=1, y='z')
"{} {x}".format(1, x=2)
"{} {0}".format(1)
"{0} {}".format(1)
"{}".format()
"{1}".format(1)
"{x}".format()
"{{}} {{{}}}".format(1)
"{".format(1)
"}".format(1)
"{}}".format(1)
"{0.name} {0[age]} {0.tags[0]}".format(users[0])
"{0[1]} {0[0]}".format(l)
"{0[-1]}".format(l)
"{0.nosuch}".format(d)
"{0[nosuch]}".format(d)
"{a[b][c]}".format(a={'b': {'c': 5}})
"{0[a b]}".format(weird)
"{0[}".format(l)
"{0.}".format(l)
"{0[0]x}".format(l)
"{!r} {!s} {0!r}".format('a', 'b')
"{!r}|{!s}".format('a\n', 'b')
"{!x}".format(1)
"{!r:>8}|".format('a')
"{}{}{}{}".format(none, true, 1.5, [1, 'a'])
"{}".format(missing)
"{:5}".format(missing)
"{:5}".format(none)
"{:5}".format([1])
"{:>5}|{:<5}|{:^5}|{:5}|".format('a', 'b', 'c', 'd')
"{:>5}|{:<5}|{:^5}|{:5}|{:=5}|".format(1, 2, 3, 4, -5)
"{:*>6}|{:é^6}|{:->6}|{:0<4}|".format('a', 'b', 3, 4)
"{:=5}".format('a')
"{:+} {:+} {: } {:-}".format(1, -1, 1, 1)
"{:+}".format('a')
"{:05}|{:05}|{:05.1f}|{:05}|{:+06}".format(42, -42, 3.14159, 'a', 7)
"{:,} {:,} {:_} {:,.2f} {:010,} {:011,} {:012,d}".format(1234567, -123, 1234567, 9876543.219, 12345, 12345, 12345)
"{:,}".format('a')
"{:x} {:X} {:#x} {:#X} {:o} {:#o} {:b} {:#b} {:#010b} {:08b} {:_b} {:_x}".format(255, 255, 255, 255, 8, 8, 5, 5, 5, 5, 1023, 1048575)
"{:,x}".format(255)
"{:c}{:c}|{:5c}|".format(65, 8364, 66)
"{:c}".format(-1)
"%c" % 1114112
"{:d} {:d} {:5d}|{:n}".format(5, true, 6, 1234)
"{:d}".format(1.5)
"{:d}".format('a')
"{:s}|{:.2s}|{:8.2s}|".format('abc', 'abc', 'abc')
"{:s}".format(1)
"{:f} {:.2f} {:.0f} {:10.3f}| {:<10.3f}| {:e} {:.2e} {:E} {:g} {:G} {:%} {:.1%}".format(1.5, 2.675, 2.5, 3.14159, 3.14159, 12345.678, 0.00012, 1e10, 1e20, 1e-10, 0.25, 0.1234)
"{:f} {:.1f} {:e} {:%} {:g}".format(1, 2, 3, 4, 1000000)
"{:.3} {:.3} {:.3} {:.10} {:.1} {:.2} {:.0}".format(3.14159, 1234567.0, 2.0, 0.1, 5.0, 150.0, 7.0)
"{:.3} {:.2} {:.4} {:.1} {:.3} {:.5}|{:10.3}|{:<10.3}|{:+.3}".format(150.0, 100.0, 1500.0, 0.0, 999.9, 99999.5, 1e5, 1e-5, 120.0)
"{:10}|{:<10}|{:^10}|{:010}".format(2.5, 2.5, 2.5, -2.5)
"{} {:} {:5} {:f} {:.2f}".format(1e21, 1e-7, 1e16, 1e15, 1e3)
"{:.3}".format(5)
"{:.}".format(5.5)
"{:#.0f} {:#g}".format(5.0, 5.0)
"{:5}|{:<6}|{:>6}|{:d}|{}".format(true, false, true, false, true)
"{:{}}|{:{}.{}}|{:{a}{w}}|".format('x', 5, 3.14159, 8, 3, 'y', a='^', w=7)
"{:{:{}}}".format('x', 5, 3)
"{:zz}".format(1)
"{:10.5zz}".format(1.0)
"{:%}".format('a')
"{a.b}".format(a=namespace(b=3))
"{0.upper}".format('a') is string
"{0.__class__}".format('a')
("<{}>" | safe).format('<b>')
("<{:>6}>" | safe).format('<b>' | safe)
"{} {}".format(*[1, 2])
"{a}".format(**{'a': 3})
"{:<10}|{:>8}".format(users[0].name, "€ 5")
cycler()
cycler('a', 'b').next()
cycler('a', 'b').current
cycler('a', 'b').nosuch
cycler(x=1)
joiner()()
joiner('|')() ~ '.'
joiner(sep='-')()
cycler is defined and joiner is defined
joiner() is callable
lipsum is defined and false
""".strip("\n").split("\n")

# With statements; "\n" of the text is a newline.
STATEMENTS = [
    "", "plain", "plain\n", "plain\n\n", "a\r\nb\rc\r\n", "{{ 'a\r\nb' }}", "{", "{ {", "}}", "%}", "{{", "{%", "{{ }}",
    "{% %}", "{% if %}", "{{ 1 }}\n", "{{ 1 }}\n\n", "{{ 1 }}\n{{ 2 }}", "a {{- 1 -}} b", "a {{+ 1 }} b", "a\n {{- 1 }}",
    "{{ 1 -}}\n\n b", "{#- c -#} x", "a {# c #} b", "a\n  {# c #}\nb", "a\n  {#+ c #}\nb", "a\n {#- c +#}\nb", "{##}", "{#-#}x",
    "{# a {# b #} c #}", "{# '#}' #}",
    "{% if t %}\nyes\n{% endif %}\nend", "  {% if t %}\n  yes\n  {% endif %}\nend\n", "x {% if t %} yes {% endif %} end",
    "{%- if t -%} yes {%- endif -%} end", "  {%+ if t %}yes{% endif +%}\nend", "\t{% if t %}\ta\t{% endif %}\t\nb",
    "{% if t %}a{% endif %}  {% if t %}b{% endif %}", "{% if t %}\n  {% if t %}\n    x\n  {% endif %}\n{% endif %}\n",
    "a\n\n  {%- if t %}b{% endif %}", "\u00a0{%- if t %}x{% endif -%}\u2003y", "{{ '{{' }}", "{{ '%}' }}", "{% set x = '%}' %}{{ x }}",
    "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}}}", "{% set x = {'a': {}} %}{{ x }}", "{{ 1 }}{{ 2 }}", "{{-1}}", "{{ -1 }}",
    "{% if zero %}a{% elif n == 7 %}b{% elif t %}c{% else %}d{% endif %}", "{% if zero %}a{% else %}d{% endif %}",
    "{% if zero %}a{% endif %}", "{% if missing %}a{% else %}b{% endif %}", "{% if missing.x %}a{% endif %}",
    "{% if 1, 2 %}a{% endif %}", "{% if t %}", "{% endif %}", "{% if t %}{% endfor %}", "{% else %}", "{% if t %}{% else %}{% else %}{% endif %}",
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in el %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in missing %}{{ x }}{% else %}none{% endfor %}", "{% for x in n %}{% endfor %}", "{% for x in nothing %}{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for (k, v) in d | items %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d | dictsort %}{{ k }}{{ v }}{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}-{{ b }} {% endfor %}", "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in l %}{% endfor %}",
    "{% for c in u %}[{{ c }}]{% endfor %}", "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in (1, 2) %}{{ x }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}", "{% for x in l if x > 5 %}{{ x }}{% else %}no{% endfor %}",
    "{% for x in (l if t else []) %}{{ x }}{% endfor %}", "{% for u in users if u.tags is defined and u.tags %}{{ u.name }}{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is undefined }} {% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in l %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{{ x if loop.changed(x) else '.' }}{% endfor %}", "{% for x in l %}{{ loop }}{% endfor %}", "{{ loop is defined }}",
    "{% for x in l %}{% for y in l %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }}|{% endfor %}",
    "{% for x in l %}{% set o = loop %}{% for y in [1, 2] %}{{ o.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %};{% endfor %}", "{% break %}", "{% continue %}",
    "{% for x in l %}{% for y in [] %}{% else %}{% break %}{% endfor %}{{ x }}{% endfor %}", 
    "{% for x in l %}{{ x }}{% else %}{% break %}{% endfor %}", "{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in [{'n': 1, 'c': [{'n': 2, 'c': [{'n': 3}]}]}] recursive %}{{ loop.depth }}{{ x.n }}({{ loop(x.c) if x.c }}){% endfor %}",
    "{% for x in l %}{{ loop([1]) }}{% endfor %}", "{% for x in l recursive %}{{ x }}{% endfor %}",
    "{% for x in l %}{% set n = x %}{% endfor %}{{ n }}", "{% set a = 1 %}{% for x in l %}{{ a }}{% set a = a + 1 %}{{ a }} {% endfor %}{{ a }}",
    "{% for x in l %}{% if loop.first %}{% set y = x %}{% endif %}{{ y }}|{% endfor %}", "{% for x in l %}{% endfor %}{{ x }}",
    "{% for n in l %}{{ n }}{% endfor %}{{ n }}", "{% if t %}{% set a = 1 %}{% endif %}{{ a }}", "{% if zero %}{% set n = 1 %}{% endif %}{{ n }}",
    "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b }}",
    "{% set d.x = 1 %}", "{% set missing.x = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{% set ns = namespace(a=1) %}{% set ns.a, b = 2, 3 %}{{ ns.a }}{{ b }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = 'xy' %}{{ a }}{{ b }}",
    "{% set a, b = 1 %}", "{% set a, b = [1] %}", "{% set a = 1, %}{{ a }}", "{% set a = b = 1 %}", "{% set true = 1 %}", "{% set 1 = 1 %}", "{% set a.b.c = 1 %}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x is string }}", "{% set x | upper %}a{{ n }}b{% endset %}{{ x }}", "{% set x | replace('a', 'z') | upper %}a{% endset %}{{ x }}",
    "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y }}", "{% set ns = namespace() %}{% set ns.x %}q{% endset %}{{ ns.x }}",
    "{% set x = 1 if t else 2 %}{{ x }}", "{% set x %}\n  a\n{% endset %}[{{ x }}]", "{% set n = n + 1 %}{{ n }}",
    "{% macro m() %}x{% endmacro %}{{ m() }}{{ m() }}", "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c=9) }} {{ m(b=5, a=4) }} {{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}", "{% macro m() %}{{ varargs | length }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %},{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro m() %}{{ later }}{% endmacro %}{% set later = 1 %}{{ m() }}",
    "{% macro m() %}{% set n = 1 %}{{ n }}{% endmacro %}{{ m() }}{{ n }}", "{% macro m(x) %}{{ x }}{% endmacro %}{% for x in l %}{{ m(x) }}{% endfor %}",
    "{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{% if t %}{% macro m() %}M{% endmacro %}{% endif %}{{ m() }}", "{% macro m(a, a2=[]) %}{{ a2 }}{% endmacro %}{{ m(1) }}", "{{ m is defined }}{% macro m() %}{% endmacro %}{{ m is callable }}{{ m.name }}",
    "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m %}{% endmacro %}", "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in{{ n }}{% endcall %}",
    "{% macro m() %}<{{ caller(1, 2) }}>{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}in{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% call n %}{% endcall %}", "{% call s.upper() %}{% endcall %}",
    "{% macro m(x) %}\n  {{ x }}\n{% endmacro %}\n[{{ m(1) }}]", "{% macro m() -%} x {%- endmacro %}[{{ m() }}]", "{{ m() }}{% macro m() %}x{% endmacro %}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aaa{% endfilter %}", "{% filter trim %}  x  {% endfilter %}|", "{% filter nosuch %}{% endfilter %}",
    "{% filter indent(2) %}a\nb{% endfilter %}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}x{% endwith %}", "{% with a = n, n = 1 %}{{ a }}{{ n }}{% endwith %}{{ n }}",
    "{% raw %}{{ x }}{% if %}{% endraw %}", "a {%- raw -%} {{ x }} {%- endraw -%} b", "{% raw %}\nx\n{% endraw %}\ny", "  {% raw %}a{% endraw %}", "{%raw%}{%endraw%}",
    "x{% raw %} a {% endraw %}y", "{% raw %}{% endraw", "a\n  {% raw %}\n  b\n  {% endraw %}\nc",
    "{% generation %}a{{ n }}{% endgeneration %}b", "{%- generation -%} a {%- endgeneration -%} b", "{% generation %}{% set q9 = 1 %}{{ q9 }}{% endgeneration %}{{ q9 }}",
    "{% for x in l %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}", "{% generation %}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}", "{% do l.append(1) %}", "{% nosuch %}", "{% 1 %}", "{% if t %}{% nosuch %}{% endif %}",
    "{% if n in [7] and s.startswith('H') %}ok{% endif %}", "{% if not (n is defined and n == 8) %}ok{% endif %}", "{{ 'a' if n == 7 }}{{ 'b' if n == 8 }}|",
    "{% set g1 = l | map('string') %}{{ g1 | join }}{{ g1 | join }}", "{% set g1 = l | select('odd') %}{% for x in g1 %}{{ x }}{% endfor %}{% for x in g1 %}{{ x }}{% else %}gone{% endfor %}",
    "{% set x = l + [4] %}{{ x }}{{ l }}", "{% for x in l[::-1] %}{{ x }}{% endfor %}", "{% for i in range(3, -1, -1) %}{{ i }}{% endfor %}", "{% for x in l | reverse %}{{ loop.index }}{{ x }}{% endfor %}",
    "{% for x in d.keys() %}{{ x }}{{ loop.last }}{% endfor %}", "{% for x in 'ab' %}{{ loop.length }}{% endfor %}",
    "{% set content = '<think>a</think>b' %}{% if '</think>' in content %}{{ content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}|{{ content.split('</think>')[-1].lstrip('\\n') }}{% endif %}",
    "{{ raise_exception('Roles must alternate') }}", "{% if zero %}{{ nosuch | nosuchfilter }}{% endif %}ok", "{{ [1, 2] | map('nosuch') }}ok" if False else "ok",
    "{% if t %}{{ 1 | nosuchfilter }}{% endif %}", "{% for x in users | sort(attribute='name') %}{{ x.name }}{% endfor %}", "{%- for x in l -%}\n  {{ x }}\n{%- endfor -%}\n",
    "{% for x in l %}\n{{ x }}\n{% endfor %}\n", "{% for x in l -%}\n  {{ x }}\n{%- if not loop.last %}, {% endif %}\n{%- endfor %}", "a{% set x = 1 %}\nb", "a\n{%- set x = 1 %}\nb", "{{ 1 }} \n {%- set x = 1 -%} \n b",
    "{% set  x  =  1  %}{{x}}", "{%set x=1%}{{x}}", "{% for\nx\nin\nl %}{{\nx\n}}{% endfor %}", "{{ s\n  | upper\n  | length }}", "{{ n }}\u2028{{ n }}", "日本語 {{ u }} 🙂",
    "{% set c = cycler('odd', 'even') %}{% for x in l %}{{ c.next() }}{{ c.current }} {% endfor %}{{ c.reset() }}{{ c.next() }}",
    "{% set j = joiner() %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{% set j = joiner('; ') %}{% if t %}{{ j() }}a{% endif %}{% if t %}{{ j() }}b{% endif %}{{ j() }}c",
    "{% set c = cycler(1) %}{% for x in l %}{% set d = c %}{{ d.next() }}{% endfor %}{{ c == c }}", "{% set j = joiner() %}{{ j(1) }}",
    "{% for g in users | groupby('age') %}{{ g.grouper }}: {% for u in g.list %}{{ u.name }} {% endfor %}{% endfor %}", "{% for age, us in users | groupby('age', default=0) %}{{ age }}{{ us | length }};{% endfor %}",
    "{% for column in range(7) | slice(3, '-') %}{{ column | join(',') }};{% endfor %}", "{% filter wordwrap(9) %}a line that is long enough to wrap{% endfilter %}",
    "{% filter truncate(12) %}a line that is long enough to cut{% endfilter %}", "{% set f = '{}-{}' %}{{ f.format('a', n) }}{{ '%s' | format('x') }}",
]


def render(template, variables):
    try:
        return _compile_jinja_template(template).render(**json.loads(json.dumps(variables)))
    except Exception as e:  # any failure is the expectation
        return e


def small():
    cases = []
    for text in ["{{ " + e + " }}" for e in SMALL] + STATEMENTS:
        out = render(text, VARIABLES)
        if isinstance(out, Exception):
            cases.append({"template": text, "error": type(out).__name__})
        elif " at 0x" in out or "<bound method" in out or "<built-in" in out or "<Context" in out or "TemplateReference" in out:
            print("left out, prints an object of Python:", text)
        else:
            cases.append({"template": text, "text": out})
    with open(HERE / "expressions.json", "w", encoding="utf-8") as f:
        f.write('{"variables": ' + json.dumps(VARIABLES, ensure_ascii=False) + ',\n"cases": [\n')
        f.write(",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]}\n")
    print(len(cases), "small templates,", sum("error" in c for c in cases), "of them fail")


def chats():
    conversations = json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))
    lines = []
    for path in sorted(HERE.glob("*.jinja")):
        for name, variables in conversations.items():
            out = render(path.read_text(encoding="utf-8"), variables)
            case = {"template": path.stem, "conversation": name}
            case.update({"error": str(out)} if isinstance(out, Exception) else {"text": out})
            lines.append(json.dumps(case, ensure_ascii=False))
            if isinstance(out, Exception):
                print(path.stem, name, repr(out))
    (HERE / "expected.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(len(lines), "conversations")


small()
if (HERE / "conversations.json").exists():
    chats()
