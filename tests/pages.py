"""Reads a page as a strict person would: what it shows, and what is wrong with its HTML."""

import re
from collections import Counter
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
CONTROLS = {"input", "select", "textarea"}
NAMED = {"a", "button", "summary", "h1", "h2", "h3", "legend", "label", "title"}
REFERENCES = ("for", "form", "aria-describedby", "aria-labelledby")


class Element:
    """One element: `tag`, `attributes`, `parent`, `children` (elements and strings)."""

    def __init__(self, tag, attributes=(), parent=None):
        self.tag, self.attributes, self.parent = tag, dict(attributes), parent
        self.children = []

    def __getitem__(self, name):
        return self.attributes[name]

    def get(self, name, default=None):
        return self.attributes.get(name, default)

    @property
    def text(self):
        """The words in it, with single spaces."""
        return " ".join(self._text().split())

    def _text(self):
        return "".join(
            child if isinstance(child, str) else child._text() for child in self.children
        )

    @property
    def above(self):
        element = self.parent
        while element is not None:
            yield element
            element = element.parent

    def all(self, tag=None, **attributes):
        """Every element below with this tag and these attributes (`class_`: one class; True: any)."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        for child in self.children:
            if isinstance(child, str):
                continue
            if tag in {None, child.tag} and all(
                name in child.attributes
                if value is True
                else value in (child.get(name) or "").split()
                if name == "class"
                else child.get(name) == value
                for name, value in wanted.items()
            ):
                yield child
            yield from child.all(tag, **attributes)

    def one(self, tag=None, **attributes):
        (found,) = self.all(tag, **attributes)
        return found


class Page(HTMLParser):
    """A parsed page or fragment: `root`, and `faults` found on the way."""

    def __init__(self, response):
        super().__init__()
        assert response.mimetype == "text/html"
        self.root = self._open = Element("")
        self.faults = []
        self.source = response.get_data(as_text=True)
        self.feed(self.source)
        self.close()
        if self._open is not self.root:
            self.faults.append(f"<{self._open.tag}> is never closed")

    def handle_starttag(self, tag, attrs):
        names = Counter(name for name, _ in attrs)
        self.faults += [f"<{tag}> says {name} twice" for name in names if names[name] > 1]
        element = Element(tag, attrs, self._open)
        self._open.children.append(element)
        if tag not in VOID:
            self._open = element

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open = self._open.parent

    def handle_endtag(self, tag):
        if self._open.tag == tag:
            self._open = self._open.parent
        else:
            self.faults.append(f"</{tag}> inside <{self._open.tag}>")

    def handle_data(self, data):
        self._open.children.append(data)

    def all(self, tag=None, **attributes):
        return list(self.root.all(tag, **attributes))

    def one(self, tag=None, **attributes):
        return self.root.one(tag, **attributes)

    @property
    def text(self):
        return self.root.text

    def form(self, action):
        """What a browser would send for the form with this action, as it stands."""
        form = self.one("form", action=action)
        sent = []
        for control in form.all():
            if control.tag not in CONTROLS or not control.get("name"):
                continue
            kind = control.get("type")
            if kind in {"checkbox", "radio"} and "checked" not in control.attributes:
                continue
            value = control.get("value", "on" if kind == "checkbox" else "")
            if control.tag == "select":
                chosen = [each for each in control.all("option") if "selected" in each.attributes]
                value = (chosen or list(control.all("option")))[0]["value"]
            sent.append((control["name"], value))
        return sent


def check(response, *, whole=True):
    """The page, after a look at everything that must hold for all of them."""
    page = Page(response)
    elements = page.all()
    faults = [*page.faults]
    ids = Counter(each["id"] for each in elements if each.get("id") is not None)
    faults += [f"id {name!r} stands {number} times" for name, number in ids.items() if number > 1]
    for element in elements:
        faults += _faults(element, ids=ids)
    if whole:
        for tag in ("html", "title", "main", "h1"):
            number = len(page.all(tag))
            faults += [] if number == 1 else [f"{number} of <{tag}>"]
        faults += [] if page.one("html").get("lang") == "en" else ["no language"]
    assert faults == []
    return page


def _faults(element, *, ids):
    attributes, tag = element.attributes, element.tag
    yield from (f"<{tag} {name}>" for name in attributes if name == "style" or name[:2] == "on")
    if tag == "style" or (tag == "script" and not attributes.get("src")):
        yield f"inline <{tag}>"
    for name in ("href", "src", "action", "formaction"):
        if name in attributes and not re.match(r"(/(?!/)|#)", attributes[name] or ""):
            yield f"<{tag} {name}={attributes[name]!r}> leaves this site"
    if any(above.tag == "template" for above in element.above):
        return  # script fills it in
    for name in REFERENCES:
        for wanted in (attributes.get(name) or "").split():
            if wanted not in ids:
                yield f"<{tag} {name}={wanted!r}> names nothing"
    href = attributes.get("href") or ""
    if href.startswith("#") and href[1:] not in ids:
        yield f"a link to {href}, which is nowhere"
    if tag == "img" and not {"alt", "width", "height"} <= set(attributes):
        yield "an <img> without alt or size"
    if tag in NAMED and not (element.text or attributes.get("aria-label")):
        yield f"an empty <{tag}>"
    if tag in CONTROLS and attributes.get("type") != "hidden" and not _is_labelled(element):
        yield f"no label for {attributes.get('name')}"


def _is_labelled(control):
    if {"aria-label", "aria-labelledby", "aria-hidden"} & set(control.attributes):
        return True
    if any(above.tag == "label" and above.text for above in control.above):
        return True
    *_, root = control.above
    return any(
        label.text for label in root.all("label", for_=control.get("id")) if control.get("id")
    )
