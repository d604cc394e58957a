"""Requests that look as if something were in them, and are only what people and programs send; the same at each seed.

Queries of forms, searches, code that people look for, names, Markdown, Base64, JSON, URLs in parameters, tokens, and text
of several languages; paths of pages, files and interfaces.
"""

# ruff: noqa: E501, RUF001  what people write has long lines, and letters that look like others

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus, urlencode

NAMES = (
    *("O'Brien", "D'Angelo", "Null", "Test", "N'Golo Kanté", "Conan O'Brien", "van der Berg", "Ó Súilleabháin"),
    *("Mary-Jane", "Jean-Luc", "Smith & Sons", 'Robert "Bobby" Tables', "Anne Select", "Union Jack", "Drop Kick"),
    *("L'Oréal", "Ke$ha", "P!nk", "will.i.am", "AC/DC", "Guns N' Roses", "Al'Thor", "d'Or", "Sinéad O'Connor"),
)
SEARCHES = (
    *("select the best from the list", "union of concerned scientists", "order by phone", "drop table lamp"),
    *("insert coin into machine", "update your profile set picture", "delete files from phone", "where is my order"),
    *(
        "how to use 'or' and 'and' in a sentence",
        "rock 'n' roll",
        "5' 11\" tall",
        '12" vinyl',
        "50% off",
        "100% cotton",
    ),
    *("c++ vs c#", "a && b", "what is 1=1", "x > 5 and y < 3", "salt & pepper; oil", "cats | dogs", "the cat's toys"),
    *("men's shoes -- size 10", "don't drop the table", "exec assistant jobs", "select all; copy; paste", "{curly}"),
    *(
        "price: $100 (or less)",
        "price <= 100",
        "(red OR blue) AND shoes",
        '"exact phrase" -excluded',
        "site:example.com",
    ),
    *(
        "how to edit /etc/hosts on linux",
        "difference between /etc/passwd and /etc/shadow files",
        "cd .. command",
        "../ meaning",
    ),
    *("what does ; do in bash", "sleep and dreams", "benchmark gpu 2026", "cmd.exe not found", "ls command not found"),
    *("javascript: void(0) error", "what is <div>", "html <b> tag", "onclick handler", "document.cookie httponly"),
    *(
        "template {{ name }}",
        "${variable} in string",
        "#hashtag",
        "100 * 7",
        "7*7",
        "2+2=4",
        "a/b/c",
        "~tilde~",
        "[1,2]",
    ),
    *(
        "union select committee",
        "select committee on europe",
        "group by therapy",
        "having 2 dogs",
        "like 'new' or used",
    ),
    *(
        "information_schema tutorial",
        "@@version meaning",
        "load_file in mysql",
        "xp_cmdshell disabled",
        "concat strings",
    ),
    *(
        "file:///c:/ in chrome",
        "localhost:3000",
        "127.0.0.1",
        "169.254.169.254 what is",
        "ldap vs ad",
        "php://input docs",
    ),
    *(
        "alert fatigue",
        "prompt engineering",
        "confirm booking",
        "script for a play",
        "iframe alternatives",
        "svg icons",
    ),
    *(
        "base64 decode online",
        "eval vs exec python",
        "os.system vs subprocess",
        "wget vs curl",
        "ping 8.8.8.8",
        "whoami",
    ),
    *(
        "fishing rod; reel; line",
        "and now for something",
        "yes or no",
        "1 or 2 bedrooms",
        "3 and 4 star hotels",
        "'90s music",
    ),
    *(
        'how do I say "I\'m fine"',
        "it's 5 o'clock",
        "Hawai'i hotels",
        "qur'an",
        "rock'n'roll",
        "y'all",
        "'tis the season",
    ),
)
CODE = (
    "SELECT name, price FROM products WHERE price > 10 ORDER BY name LIMIT 5",
    "SELECT a.id, b.name FROM a JOIN b ON a.id = b.a_id WHERE b.name = 'x' AND a.id IN (1, 2)",
    "INSERT INTO users (name, email) VALUES ('Ann', 'ann@shop.example')",
    "UPDATE users SET name = 'Bob' WHERE id = 5",
    "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(50)); INSERT INTO t VALUES (1, 'a');",
    "SELECT COUNT(*) FROM orders GROUP BY customer HAVING COUNT(*) > 3",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "if x == 'a' or y == 'b':\n    print(\"yes\")",
    "for i in range(10): total += prices[i] * 2",
    'df[df["age"] > 30 & (df["city"] == "Paris")]',
    "import os\nprint(os.getcwd())",
    "os.path.join('..', 'data', 'file.csv')",
    "await asyncio.sleep(1)",
    "time.sleep(0.5)",
    "lambda x: x['id'] if x else None",
    "const { exec } = require('child_process')",
    "import thing from '../../lib/thing.js'",
    "document.getElementById('root').innerHTML = ''",
    "fetch('/api/items').then(r => r.json())",
    "const s = `Hello ${name}, you have ${count} messages`",
    "setTimeout(() => { console.log('done') }, 1000)",
    "arr.filter(x => x > 3 && x < 10).map(x => x * 2)",
    '<a href="https://shop.example/page?id=1&x=2">link</a>',
    '<img src="cat.png" alt="A cat\'s face">',
    '<button class="big" onclick="save()">Save</button>',
    '<div style="color: red"><b>bold</b> and <i>italic</i></div>',
    '<link rel="stylesheet" href="style.css">',
    '<iframe src="https://video.example/embed/xyz" allowfullscreen></iframe>',
    "ls -la | grep foo | wc -l",
    'git commit -m "fix: don\'t crash" && git push',
    "docker run -it --rm -v $(pwd):/app python:3.12 bash",
    "curl -sSL https://install.example/get.sh | sh",
    "for f in *.txt; do echo $f; done",
    "find . -name '*.py' -exec grep -l 'import os' {} ;",
    "cat file.txt | sort | uniq -c",
    "sudo apt-get update && sudo apt-get install -y curl",
    "grep -rn 'foo' src/ || echo none",
    "export PATH=$PATH:/usr/local/bin; echo ok",
    "#!/bin/bash\nset -e\ncd /tmp",
    'int main() { printf("%d\\n", 5); return 0; }',
    'System.out.println("Hello");',
    "public static void main(String[] args) { }",
    "echo $_SERVER",
    "^[a-z]+(?:\\d{2,3})?$",
    "(?:https?|ftp)://[^\\s/$.?#].[^\\s]*",
    "{% for item in items %}{{ item.name }}{% endfor %}",
    "{{ user.first_name|title }}",
    "{{#each items}}{{this}}{{/each}}",
    "<%= form.name %>",
    "$(document).ready(function() { $('#x').hide(); })",
    "a = b ? c : d; e = f || g;",
    "sudo systemctl restart nginx; journalctl -u nginx",
    "x = [1, 2, 3]; y = {'a': 1}",
    "try { x(); } catch (e) { alert; }",
    "C:\\Users\\ann\\Documents\\file.txt",
    "self.__class__.__name__",
    "SELECT * FROM information_schema.columns",
    "git log --oneline -- src/",
    "# comment\n-- another",
    "=SUM(A1:A10)",
    '=IF(A1>5,"yes","no")',
)
MARKDOWN = (
    "# Title\n\n- one\n- two\n\n**bold** and _it's_ `code`",
    "See [the docs](https://docs.example/a/b?x=1#y) or [this](../../other.md).",
    "> quoted\n\n1. first; 2. second -- done",
    "| a | b |\n|---|---|\n| 1 | 'x' |",
    "```sql\nSELECT 1;\n```",
    "Use `ls` or `id` to look; don't use `rm`.",
    "![img](data:image/png;base64,iVBORw0KGgo=)",
    "<!-- a comment --> text",
    '~~old~~ new; it\'s -- well -- "nice" & good',
)
LANGUAGES = (
    *("Größe ändern – größer wie 5", "l'été dernier, c'était l'année d'avant", "¿Dónde está? ¡Aquí!", "naïve café"),
    *(
        "你好,世界(测试)",
        "価格は¥1,000です。「はい」または「いいえ」",
        "한국어 검색어 & 결과",
        "поиск товара или 'услуги'",
    ),
    *("Αναζήτηση προϊόντων", "بحث عن المنتجات", "חיפוש מוצרים", "ค้นหาสินค้า", "tìm kiếm sản phẩm", "Straße 5; Haus 3"),
    *("emoji 😀 and 'quotes' “curly” ‘single’", "ｆｕｌｌ　ｗｉｄｔｈ", "L’homme d’à côté", "„Zitat“ und ‚noch eins‘"),
)
URLS = (
    *("https://shop.example/cart?item=5&qty=2#top", "http://localhost:3000/callback", "https://www.example.org/a/../b"),
    *(
        "/account/orders?page=2",
        "../login",
        "//cdn.example/lib.js",
        "mailto:ann@shop.example?subject=Hi",
        "http://[::1]:8000/",
    ),
    *(
        "https://user@host.example/path;v=1/x",
        "ftp://ftp.example/pub/",
        "myapp://callback?code=1",
        "http://127.0.0.1:8080/cb",
    ),
    *(
        "https://maps.example/@52.5,13.4,15z/data=!3m1!4b1",
        "tel:+49-30-123456",
        "https://a.example/?next=https://b.example/",
    ),
)
FIELDS = (
    "q",
    "query",
    "name",
    "comment",
    "text",
    "title",
    "message",
    "filter",
    "next",
    "redirect_uri",
    "url",
    "data",
    "s",
)


def benign_requests(seed: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield paths and queries, as they are sent."""
    chance = random.Random(seed)
    for _ in range(count):
        yield _path(chance).encode(), _query(chance).encode()


def _query(chance: random.Random) -> str:
    pairs = [(chance.choice(FIELDS), chance.choice(_VALUES)(chance)) for _ in range(chance.randrange(1, 4))]
    if chance.random() < 0.3:
        pairs.append(
            (chance.choice(("sort", "order", "fields")), chance.choice(("-created", "name:asc", "a,b,c", "id")))
        )
    return urlencode(
        pairs, quote_via=chance.choice((quote, quote_plus)), safe=chance.choice(("", "/:", "'()*!", "/:?@,;"))
    )


def _path(chance: random.Random) -> str:
    kind = chance.randrange(6)
    if kind == 0:
        return f"/items/{chance.randrange(10_000)}"
    if kind == 1:
        return "/search/" + quote(_mixed(chance))
    if kind == 2:
        return f"/static/js/app.{chance.randrange(16**8):08x}.min.js"
    if kind == 3:
        return "/users/" + quote(chance.choice(NAMES)) + "/profile;v=" + str(chance.randrange(9))
    if kind == 4:
        return f"/files/{quote('Report (final) 2026 ' + chance.choice(LANGUAGES))}.pdf"
    return f"/v1/things('{chance.randrange(99)}')/parts(name=%27x%27)"


def _mixed(chance: random.Random) -> str:
    words = " ".join(chance.sample(SEARCHES, chance.randrange(1, 3))).split()
    begin = chance.randrange(max(len(words) - 1, 1))
    return " ".join(words[begin : begin + chance.randrange(2, 8)])


def _names(chance: random.Random) -> str:
    return " ".join(chance.sample(NAMES, 2)) if chance.random() < 0.5 else chance.choice(NAMES)


def _address(chance: random.Random) -> str:
    street = chance.choice(("O'Connell St", "Rue de l'Église", "Straße 5; Hof", "5th Ave #12-B", "King's Rd (rear)"))
    return f"{chance.choice(NAMES)}, {chance.randrange(300)} {street}"


def _json(chance: random.Random) -> str:
    value = {
        "filter": {"price": {"$between": [1, chance.randrange(99)]}, "name": chance.choice(NAMES)},
        "tags": chance.sample(SEARCHES, 2),
        "on": chance.random() < 0.5,
    }
    return json.dumps(value, ensure_ascii=chance.random() < 0.5)


def _base64(chance: random.Random) -> str:
    return base64.b64encode(chance.randbytes(chance.randrange(8, 200))).decode()


def _token(chance: random.Random) -> str:
    parts = (json.dumps({"alg": "HS256"}), json.dumps({"sub": chance.randrange(10**9), "name": chance.choice(NAMES)}))
    head = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    return head + "." + base64.urlsafe_b64encode(chance.randbytes(32)).decode().rstrip("=")


def _number(chance: random.Random) -> str:
    return chance.choice(
        (
            f"{chance.uniform(-90, 90):.5f},{chance.uniform(-180, 180):.5f}",
            "1-5",
            "10:30",
            "2026-11-28T10:00:00+01:00",
            "+49 30 123",
            "€5.00",
            "(5)",
        )
    )


def _sentence(chance: random.Random) -> str:
    return chance.choice((". ", "; ", " -- ", "\r\n", " & ", " | ")).join(
        (_mixed(chance), chance.choice(LANGUAGES), _names(chance))
    )


_VALUES: tuple[Callable[[random.Random], str], ...] = (
    _mixed,
    _mixed,
    _names,
    _address,
    _json,
    _base64,
    _token,
    _number,
    _sentence,
    lambda chance: chance.choice(CODE),
    lambda chance: chance.choice(MARKDOWN),
    lambda chance: chance.choice(LANGUAGES),
    lambda chance: chance.choice(URLS),
    lambda chance: chance.choice(CODE) + "\n" + chance.choice(CODE),
)
