"""Turns unpacked Debian packages into clean English text; launch/corpus_english.sh unpacks them and calls this.

    corpus_english.py list                 the packages, one a line, names to try in turn
    corpus_english.py read UNPACKED OUT    UNPACKED/<package>/…, with UNPACKED/<package>.version beside it

OUT/text gets a text file a package, OUT gets manifest.tsv. Documents (a page, a chapter, a group of dictionary entries) are divided
by a line "%%", paragraphs by an empty line. What is kept: paragraphs of English prose, and the headings above them. What
goes: markup, code, tables of numbers, navigation, other languages, and every paragraph that has been seen before in
whatever package, which takes licences, boilerplate and copies of pages with it. The result depends on the packages alone.
"""
import gzip
import hashlib
import html.parser
import pathlib
import re
import string
import subprocess
import sys

MARK = "%%"
LEAST_DOCUMENT = 300  # characters
MOST_REPEATED = 0.5   # of a document's text: beyond it is a copy of another one
ENTRIES = 40          # dictionary entries or sayings of a document

HTML = r"\.x?html?(\.gz)?$"
# (names to try, reader, files to take, files to leave out). The order is that of preference: of two equal paragraphs the first stays.
SOURCES = [
    (["bible-kjv"], "bible", "", None),
    (["anarchism"], "html", HTML, r"changelog"),
    (["debian-handbook"], "html", r"/en-US/.*" + HTML, None),
    (["debian-policy"], "html", r"/policy\.html/.*" + HTML, r"genindex|search"),
    (["debian-reference-en"], "html", HTML, None),
    (["developers-reference"], "html", HTML, r"genindex|search|/developers-reference-(de|fr|ja|ru|it)"),
    (["debian-faq"], "html", HTML, None),
    (["debian-edu-doc-en"], "html", HTML, None),
    (["debian-kernel-handbook", "kernel-handbook"], "html", HTML, None),
    (["aptitude-doc-en"], "html", HTML, None),
    (["fortunes", "fortunes-mod"], "fortunes", r"/fortunes/[^/.]+$", r"ascii-art|/translate-me|/zippy"),
    (["fortunes-min"], "fortunes", r"/fortunes/[^/.]+$", None),
    (["gnome-user-docs"], "html", r"/help/C/.*\.page$", None),
    (["libreoffice-help-en-us"], "html", HTML, None),
    (["python3.11-doc", "python3.12-doc", "python3.13-doc"], "html", HTML, r"genindex|/_static/|changelog|search|py-modindex"),
    (["postgresql-doc-15", "postgresql-doc-16", "postgresql-doc-17"], "html", HTML, r"bookindex"),
    (["apache2-doc"], "html", r"(\.en|/[^./]+)\.html?(\.gz)?$|\.html\.en", None),
    (["git-doc"], "html", HTML, None),
    (["perl-doc"], "pod", r"\.pod$", r"perl[0-9]+delta|perltoc|perl(cn|jp|ko|tw)\.pod"),
    (["sqlite3-doc"], "html", HTML, r"/matrix/|releaselog|changes|/session/"),
    (["python-django-doc"], "html", HTML, r"genindex|search|/_modules/"),
    (["rust-doc"], "html", r"/html/(book|reference|nomicon|rust-by-example|edition-guide|embedded-book|unstable-book|rustc|rustdoc|cargo)/.*" + HTML, r"print\.html|toc\.html"),
    (["linux-doc-6.1", "linux-doc-6.8", "linux-doc"], "html", r"/html/(process|maintainer|doc-guide|dev-tools|kernel-hacking|admin-guide|filesystems|core-api|mm|scheduler|"
     r"locking|RCU|networking|security|userspace-api|virt|power|block|trace|accounting|livepatch|sound|staging)/.*" + HTML, r"genindex|search"),
    (["shorewall-doc"], "html", HTML, None),
    (["exim4-doc-html"], "html", HTML, None),
    (["bacula-doc"], "html", HTML, None),
    (["r-doc-html"], "html", HTML, None),
    (["dict-gcide"], "dictionary", r"gcide\.dict\.dz$", None),
    (["dict-foldoc"], "dictionary", r"foldoc\.dict\.dz$", None),
    (["dict-jargon"], "dictionary", r"jargon\.dict\.dz$", None),
]

COMMON = frozenset(
    "a about all also an and any are as at be been but by can do does for from had has have he her his how i if in into is it its "
    "may more most must my no not of on one only or other our out same she should so some such than that the their them then there "
    "these they this to two up us use used was we were what when where which who will with would you your".split())
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
NOT_PLAIN = re.compile(r"[^A-Za-z ,.;:'’‘“”\"!?()–—-]")


def is_prose(text, least_words=8, least_common=0.22, least_plain=0.9):
    """English sentences, not code, a table, a list of names, or another language."""
    words = WORD.findall(text)
    if len(words) < least_words:
        return False
    common = sum(word.lower() in COMMON for word in words)
    plain = len(text) - len(NOT_PLAIN.findall(text))
    return common >= least_common * len(words) and plain >= least_plain * len(text)


def tidy(text):
    text = re.sub("[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\ufffd¶]", "", text)
    return re.sub(r"\s+", " ", text).strip()


def content(path):
    """A file's text, unpacked; Latin-1 where it is not UTF-8."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


# Readers: a list of files → documents, each a list of (is a heading, text).


class Page(html.parser.HTMLParser):
    """Paragraphs and headings of a page, in HTML or in Mallard's XML."""
    SKIP = frozenset("script style head nav header footer pre code-block programlisting screen svg math form select button noscript".split())
    HEADINGS = frozenset("h1 h2 h3 h4 h5 h6 title".split())
    BREAKS = frozenset("p div li dd dt td th tr table ul ol dl blockquote section article body br hr item note".split()) | HEADINGS
    VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
    CLASSES = re.compile(r"(?:^|\s)(nav(bar|header|footer|set\w*)?|wy-nav-(side|top)|sphinxsidebar|toc|toctree-wrapper|contents|headerlink|"
                         r"highlight(-\w+)?|footer|breadcrumbs?|menu|related|index|tocset|SCodeFlow|RktBlk|verbatim|example|programlisting|"
                         r"screen|sourceCode|synopsis)(?:\s|$)")

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.blocks, self.text, self.heading = [], [], False
        self.skip = []  # open elements from the skipped one on

    def flush(self):
        text = tidy("".join(self.text))
        if text:
            self.blocks.append((self.heading, text))
        self.text = []

    def handle_starttag(self, tag, attributes):
        if self.skip:
            if tag not in self.VOID:
                self.skip.append(tag)
            return
        if tag in self.BREAKS or tag in self.SKIP:
            self.flush()
            self.heading = tag in self.HEADINGS
        if tag in self.SKIP or tag not in self.VOID and tag != "body" and self.CLASSES.search(dict(attributes).get("class") or ""):
            self.skip.append(tag)

    def handle_endtag(self, tag):
        if self.skip:
            if tag in self.skip:  # an element left open inside it ends with it
                while self.skip.pop() != tag:
                    pass
            return
        if tag in self.BREAKS:
            self.flush()
            self.heading = False

    def handle_data(self, data):
        if not self.skip:
            self.text.append(data)


def read_html(files):
    for path in files:
        page = Page()
        page.feed(content(path))
        page.close()
        page.flush()
        yield page.blocks


def read_text(files):
    """Paragraphs between empty lines; indented ones are code or tables."""
    for path in files:
        blocks = []
        for paragraph in re.split(r"\n\s*\n", content(path)):
            if not paragraph.startswith((" ", "\t")):
                blocks.append((False, tidy(paragraph)))
        yield blocks


def read_pod(files):
    inner = re.compile(r"[BCFILSXZ]<([^<>]*)>")
    entities = {"E<lt>": "<", "E<gt>": ">", "E<sol>": "/", "E<verbar>": "|"}
    for path in files:
        blocks = []
        for paragraph in re.split(r"\n\s*\n", content(path)):
            if paragraph.startswith((" ", "\t")):
                continue
            heading = re.match(r"=(head\d|item)\s", paragraph)
            if paragraph.startswith("=") and not heading:
                continue
            paragraph = paragraph[heading.end():] if heading else paragraph
            for entity, character in entities.items():
                paragraph = paragraph.replace(entity, character)
            paragraph = re.sub(r"L<([^<>|]*)\|[^<>]*>", r"\1", paragraph)
            for _ in range(4):
                paragraph = inner.sub(r"\1", paragraph)
            blocks.append((bool(heading), tidy(paragraph)))
        yield blocks


def grouped(entries):
    entries = list(entries)
    for i in range(0, len(entries), ENTRIES):
        yield entries[i:i + ENTRIES]


def read_fortunes(files):
    for path in files:
        yield from grouped((False, tidy(re.sub(r".\x08", "", saying))) for saying in re.split(r"(?m)^%\s*$", content(path)))


DIGITS = {c: i for i, c in enumerate(string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/")}


def number(text):
    value = 0
    for c in text:
        value = value * 64 + DIGITS[c]
    return value


def read_dictionary(files):
    """dictd's format: the index names where each entry begins and ends."""
    for path in files:
        data = gzip.decompress(path.read_bytes())
        places = set()
        for line in (path.parent / path.name.replace(".dict.dz", ".index")).read_text("utf-8").splitlines():
            word, start, length = line.split("\t")[:3]
            if not word.startswith("00"):
                places.add((number(start), number(length)))
        yield from grouped(entry(data[start:start + length].decode("utf-8", "replace")) for start, length in sorted(places))


def entry(text):
    text = re.sub(r"\\[^\\\n]*\\", "", text, count=1)          # pronunciation
    text = re.sub(r"\[(19\d\d Webster|WordNet[^\]]*|PJC|Webster[^\]]*|syn: [^\]]*|ant: [^\]]*|also: [^\]]*)\]", "", text)
    text = re.sub(r"\[=?\.?([a-z]+)\^?\]", r"\1", text)         # accents spelt out
    text = tidy(re.sub(r"[{}|_]", "", text))
    text = re.sub(r"\([^()]*[\"=`^][^()]*\) ?", "", text[:150]) + text[150:]  # pronunciation of foreign words
    return False, text.replace(" ,", ",")


def read_bible(files):
    """A document a book; the program prints the compressed text."""
    root = files[0]
    program = root / "usr/bin/bible"
    text = next(root.parent.glob("bible-kjv-text/usr/lib"))
    done = subprocess.run([program, "-p", text, "-f", "Gen1:1-Rev22:21"], capture_output=True, text=True, encoding="latin-1", check=True)
    book, chapter, blocks = None, None, []
    for line in done.stdout.splitlines():
        place, _, verse = line.partition(" ")
        found = re.fullmatch(r"(\w+?)(\d+):\d+", place)
        if not found:
            raise ValueError(f"the program bible printed an unexpected line: {line!r}")
        if found[1] != book and blocks:
            yield blocks
            blocks = []
        if found[2] != chapter or found[1] != book:
            blocks.append((False, ""))
        book, chapter = found[1], found[2]
        blocks[-1] = (False, tidy(blocks[-1][1] + " " + verse))
    yield blocks


READERS = {"html": read_html, "text": read_text, "pod": read_pod, "fortunes": read_fortunes, "dictionary": read_dictionary, "bible": read_bible}
# Entries and verses have fewer of the common words, and more punctuation, than sentences of manuals.
MEASURES = {"dictionary": (5, 0.12, 0.88), "bible": (5, 0.1, 0.9), "fortunes": (6, 0.15, 0.88)}


class Corpus:
    def __init__(self):
        self.seen = set()

    def clean(self, blocks, measure):
        """The prose of a document that has not been seen before, or None."""
        kept, pending, fresh, repeated, keys = [], None, 0, 0, []
        for heading, text in blocks:
            if heading:
                pending = text if len(text) < 120 and MARK not in text else None
                continue
            if not is_prose(text, *measure):
                continue
            key = hashlib.blake2b(re.sub(r"[^a-z]+", "", text.lower()).encode(), digest_size=12).digest()
            if key in self.seen or key in keys:
                repeated += len(text)
                continue
            keys.append(key)
            if pending is not None:
                kept.append(pending)
                pending = None
            kept.append(text)
            fresh += len(text)
        if fresh < LEAST_DOCUMENT or repeated > MOST_REPEATED * (fresh + repeated):
            return None
        self.seen.update(keys)
        return "\n\n".join(kept)


def files_of(root, reader, take, leave):
    if reader == "bible":
        return [root]
    found = []
    for path in sorted(root.rglob("*")):
        name = "/" + str(path.relative_to(root))
        if path.is_file() and not path.is_symlink() and re.search(take, name) and not (leave and re.search(leave, name)):
            found.append(path)
    return found


def read(unpacked, out):
    corpus, rows, total = Corpus(), [], 0
    for names, reader, take, leave in SOURCES:
        package = next((name for name in names if (unpacked / name).is_dir()), None)
        if package is None:
            continue
        files = files_of(unpacked / package, reader, take, leave)
        documents = []
        for blocks in READERS[reader](files) if files else []:
            text = corpus.clean(blocks, MEASURES.get(reader, (8, 0.22, 0.9)))
            if text is not None:
                documents.append(text)
        if not documents:
            print(f"{package}: no English text in its {len(files)} files", file=sys.stderr)
            continue
        data = f"\n{MARK}\n".join(documents).encode("utf-8", "replace") + b"\n"
        (out / "text" / f"{package}.txt").write_bytes(data)
        version = (unpacked / f"{package}.version").read_text().strip()
        rows.append((package, version, len(documents), len(data), hashlib.sha256(data).hexdigest()))
        total += len(data)
        print(f"{package} {version}: {len(documents)} documents, {len(data) / 1e6:.2f} MB", flush=True)
    with open(out / "manifest.tsv", "w", encoding="utf-8") as f:
        f.write("package\tversion\tdocuments\tbytes\tsha256\n")
        for row in rows:
            f.write("\t".join(map(str, row)) + "\n")
    print(f"{len(rows)} packages, {sum(r[2] for r in rows)} documents, {total / 1e6:.1f} MB")


def main():
    if sys.argv[1:] == ["list"]:
        for names, reader, _, _ in SOURCES:
            print(" ".join(names))
            if reader == "bible":
                print("bible-kjv-text")
    elif len(sys.argv) == 4 and sys.argv[1] == "read":
        read(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
