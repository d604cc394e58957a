"""A second kind of harmless requests, written after the signatures were fixed: what tools, tickets and trades send.

Filters of query languages, log lines and stack traces pasted into tickets, configuration, style sheets, formulas, recipes,
chats, addresses of maps and analytics. It has nothing in common with `benign_requests` but its shape.
"""

# ruff: noqa: E501  what people write has long lines, and letters that look like others

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlencode

FILTERS = (
    "name eq 'Milk' and price lt 2.55",
    "contains(name, 'O''Neil') or startswith(city, 'St.')",
    '(status:open OR status:pending) AND -label:"won\'t fix"',
    "created:>=2026-01-01 author:ann is:open sort:updated-desc",
    "price=gt=10;name=='Pro*'",
    "and(eq(type,'a'),in(id,(1,2,3)))",
    "{ user(id: 5) { name, friends(first: 10) { name } } }",
    "query Q($id: ID!) { item(id: $id) { title } }",
    'mutation { update(id: 1, name: "x") { ok } }',
    '{"where": {"age": {"$gte": 18, "$lt": 65}, "name": {"$regex": "^A"}}}',
    '{"$or": [{"a": 1}, {"b": {"$in": [1, 2]}}]}',
    'sum(rate(http_requests_total{job="api",status=~"5.."}[5m])) by (path) > 0.05',
    "project = WEB AND assignee in (currentUser(), 'bob') ORDER BY priority DESC",
    "fields=items(id,name,owner(login)),nextPageToken",
    "$.store.book[?(@.price < 10)].title",
    "//div[@class='a']/a[contains(text(),'more')]",
    'level=error | json | line_format "{{.msg}}" | duration > 10s',
    "index=web sourcetype=access | stats count by host | where count > 5",
    "(&(objectClass=person)(mail=*@shop.example))",
    "id IN (1, 2, 3) AND NOT deleted",
    "type:'invoice' && total>=100 || vip",
)
LINES = (
    'Traceback (most recent call last):\n  File "/srv/app/main.py", line 12, in handler\n    raise ValueError("x")',
    'java.lang.NullPointerException: Cannot invoke "String.length()" because "s" is null\n\tat com.shop.App.main(App.java:5)',
    "Uncaught TypeError: Cannot read properties of undefined (reading 'id') at HTMLButtonElement.onclick (index.html:10)",
    '203.0.113.5 - - [28/Nov/2026:10:00:00 +0000] "GET /a?b=1 HTTP/1.1" 200 512 "-" "Mozilla/5.0"',
    'ERROR: duplicate key value violates unique constraint "users_email_key"; DETAIL: Key (email)=(a@b.example) exists.',
    "ORA-00933: SQL command not properly ended; the statement was: select * from dual where rownum = 1",
    "Segmentation fault (core dumped) -- ./a.out < input.txt > /dev/null 2>&1",
    "permission denied: '/var/log/app/app.log' (uid=1000 gid=1000)",
    "warning: unused variable `x` --> src/main.rs:5:9 | help: if this is intentional, prefix it: `_x`",
    "E   assert 3 == 4 -- where 3 = len('abc'); see tests/test_x.py::test_y[a-b]",
    'nginx: [emerg] unknown directive "proxy_pas" in /etc/nginx/conf.d/default.conf:12',
    "kubectl get pods -n web -o jsonpath='{.items[*].metadata.name}' | tr ' ' '\\n'",
    "npm ERR! code ERESOLVE; npm ERR! Found: react@18.2.0",
    "From: ann@shop.example\r\nSubject: Re: Fwd: it's broken\r\n\r\nHi, can't log in & the page says \"error; try again\".",
    "pip install 'fastapi[standard]>=0.100' && uvicorn main:app --reload",
    "crontab: */5 * * * * /usr/local/bin/backup.sh > /dev/null",
    "ssh -i ~/.ssh/key user@host 'tail -f /var/log/syslog'",
    "sed -e 's/a/b/g' file; awk '{print $1}' x | head -5",
    "git rebase -i HEAD~3; git push --force-with-lease || true",
)
DOCUMENTS = (
    "server:\n  port: 8080\n  ssl: {enabled: true}\nusers: ['ann', \"bob\"]",
    "[tool.x]\nname = 'y'\nitems = [1, 2]\n# comment -- not used",
    "body { font: 12px/1.5 'Helvetica Neue', sans-serif; background: url(\"bg.png\") no-repeat; }",
    "@media (max-width: 600px) { .a > .b::after { content: '→'; } }",
    "\\frac{a}{b} + \\sqrt{x^2} = \\sum_{i=0}^{n} \\alpha_i \\text{ if } x < 5",
    "(1R,2S)-2-(methylamino)-1-phenylpropan-1-ol; 3',5'-cyclic AMP; C6H12O6 + 6 O2",
    "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 {the Ruy Lopez} *",
    "Mix 1/2 cup sugar & 2 tbsp 'brown' butter; bake @ 350°F -- 20 min.",
    '§ 5 (2) lit. a) BGB; Art. 6(1)(f) GDPR -- "legitimate interests" or consent',
    "He said: \"I'll be there at 5\"; she didn't -- or wouldn't -- reply. 1 in 5 do.",
    "lol :-) <3 ;) \\o/ ¯\\_(ツ)_/¯ >_< (╯°□°)╯ {:^|} </sarcasm>",
    "<p>Dear <em>customer</em>,</p><ul><li>it's &amp; that's</li></ul><br/><table border=\"1\"><tr><td>x</td></tr></table>",
    "<h1 id='a'>Title</h1><pre><code class=\"language-js\">let a = b;</code></pre>",
    '<svg width="24" height="24" viewBox="0 0 24 24"><path d="M4 6h16v2H4z"/></svg>',
    '<video controls width="250"><source src="/media/flower.webm" type="video/webm"></video>',
    '<?xml version="1.0" encoding="UTF-8"?><note><to>Ann</to></note>',
    "BEGIN:VCARD\nVERSION:4.0\nFN:Ann O'Hara\nTEL;TYPE=home:+1-555-1234\nEND:VCARD",
    "Müller & Söhne GmbH; z. Hd. Frau D'Amico (Raum 3/4) -- 10115 Berlin",
    "T-shirt (men's, size: L | XL) -- 20% off; code: 'SAVE20' or \"VIP\"",
    "Is 'x' = 'y'? If a > b and c = d, then e or f; (g and h) = i.",
    "5'10\" and 180 lbs; 6' or taller = discount",
    "Rock & Roll 'n' Soul -- 60's, 70's and 80's = great; or 90's",
    "I've tried turning it off and on; it's = broken. \"Help\" or 'SOS'!",
    "union members select delegates, order by seniority; having 3 or more = quorum",
    "select all that apply: a) update b) delete c) insert from file d) drop",
    "The script tag, the alert box and the document window",
    "Cat's eye; dog's ear | bird's nest & cow's lick $(5.00) `quoted`",
)
ADDRESSES = (
    "https://analytics.example/collect?v=2&tid=G-1&dl=https%3A%2F%2Fshop.example%2F%3Fa%3D1%26b%3D%2527x%2527&ul=en-us",
    "https://login.example/authorize?response_type=code&redirect_uri=http%3A%2F%2Flocalhost%3A8080%2Fcb&scope=openid+email",
    "otpauth://totp/Shop:ann?secret=JBSWY3DPEHPK3PXP&issuer=Shop",
    "geo:52.52,13.405?q=Café+d'Or",
    "blob:https://shop.example/5f2c1a7e-2b0d",
    "file.tar.gz",
    "s3://bucket/key with spaces/(1).csv",
    "postgresql://localhost/shop?sslmode=require",
    "ws://127.0.0.1:3000/socket",
    "javascript-tips/",
    "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg'/>",
    "/docs/../docs/index.html",
    "./relative/path.md#L10-L20",
    "\\\\server\\share\\folder",
    "D:\\Projects\\app\\..\\lib\\x.dll",
    "~/notes/todo.txt",
)
PARAMETERS = (
    "$filter",
    "q",
    "jql",
    "where",
    "expr",
    "body",
    "note",
    "dl",
    "u",
    "return_to",
    "path",
    "file",
    "description",
)


def benign_requests(seed: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield paths and queries, as they are sent."""
    chance = random.Random(seed)
    for _ in range(count):
        yield _path(chance).encode(), _query(chance).encode()


def _query(chance: random.Random) -> str:
    values = [chance.choice(_KINDS)(chance) for _ in range(chance.randrange(1, 4))]
    safe = chance.choice(("", "/", "$'()*,;:@/?!", "-_.!~*'()"))
    return urlencode([(chance.choice(PARAMETERS), value) for value in values], quote_via=quote, safe=safe)


def _path(chance: random.Random) -> str:
    return chance.choice(
        (
            "/api/v2/orders('A-17')/lines",
            "/wiki/" + quote(chance.choice(DOCUMENTS)[:30]),
            "/@ann/posts/how-to-select-a-union",
            "/img/" + quote("photo (1) & 'copy'.png"),
            "/tags/c%2B%2B;c%23",
            "/search/" + quote(chance.choice(FILTERS), safe=""),
            "/p/%E4%BD%A0%E5%A5%BD/%F0%9F%98%80",
            "/maps/@52.5,13.4,15z",
        )
    )


def _json(chance: random.Random) -> str:
    return json.dumps({"text": chance.choice(DOCUMENTS), "at": chance.random(), "tags": chance.sample(FILTERS, 2)})


def _pasted(chance: random.Random) -> str:
    return chance.choice(("\n", " ", "; ", " -- ")).join(chance.sample(LINES + DOCUMENTS, 2))


_KINDS: tuple[Callable[[random.Random], str], ...] = (
    lambda chance: chance.choice(FILTERS),
    lambda chance: chance.choice(LINES),
    lambda chance: chance.choice(DOCUMENTS),
    lambda chance: chance.choice(ADDRESSES),
    lambda chance: quote(chance.choice(ADDRESSES)),
    _json,
    _pasted,
)
