"""The documents say what the code does: names, defaults and links, wherever they can be compared."""

import ast
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import click
import pytest

from i2i import config, explanations, forms, practice, worker
from i2i.app import create_app
from i2i.config import ROOT, Settings
from i2i.db import shipped_migrations
from i2i.models import JobStatus, SubmissionState

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
REFERENCE = TEXTS["docs/reference.md"]
ARCHITECTURE = TEXTS["docs/architecture.md"]
JOB_STATES = TEXTS["docs/job-states.md"]
ENV_EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

GUNICORN = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")

NEEDED = {"SECRET_KEY": "only-for-tests-0123456789"}

EXAMPLES = {"POSTGRES_URL", "BLOB_URL", "PUBLIC_URL", "TRUSTED_HOSTS", "X_ACCEL_REDIRECT"}
"""Lines of .env.example that show a form, because the default has none."""

FLASKS_OWN = {"run", "shell", "routes"}


def variables():
    """What config.py reads, found in its source: `read("X", …)`, `secret("X")`, `environ.get("X")`."""
    for node in ast.walk(ast.parse((ROOT / "i2i" / "config.py").read_text())):
        match node:
            case ast.Call(func=ast.Name("read"), args=[ast.Constant(str() as name), *_]):
                yield name
            case ast.Call(func=ast.Name("secret"), args=[ast.Constant(str() as name)]):
                yield name
                yield f"{name}_FILE"
            case ast.Call(
                func=ast.Attribute(value=ast.Name("environ"), attr="get"),
                args=[ast.Constant(str() as name), *_],
            ):
                yield name


VARIABLES = sorted(set(variables()))


def section(text, title):
    """The part under a heading, up to the next one of its level."""
    level = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert level, f"no heading {title!r}"
    rest = text[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def environment_rows():
    """Variable to the default that the reference gives, where it is a plain value."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", section(REFERENCE, "Environment"), re.MULTILINE)
    return {name: default.strip("`") for name, default in rows if re.fullmatch("`[^`]+`", default)}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Without a database: routes and commands are known before one is needed."""
    folder = tmp_path_factory.mktemp("docs")
    return create_app(Settings.from_env(NEEDED | {"DATA_DIR": str(folder)}))


# --- Settings ---------------------------------------------------------------------------------


def test_the_source_was_understood():
    assert len(VARIABLES) > 30


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_is_in_the_reference_and_the_example(name):
    assert re.search(rf"`{name}`", section(REFERENCE, "Environment"))
    assert re.search(rf"\b{name}\b", ENV_EXAMPLE)


def test_the_reference_names_no_variable_that_nobody_reads():
    named = set(
        re.findall(r"^\| `([A-Z][A-Z_]+)` \|", section(REFERENCE, "Environment"), re.MULTILINE)
    )
    assert named <= set(VARIABLES)


def test_defaults_of_the_reference_are_the_programs(monkeypatch):
    monkeypatch.chdir(ROOT)
    given = environment_rows()
    data_dir = given["DATA_DIR"]
    given["BLOB_URL"] = given["BLOB_URL"].replace("DATA_DIR", str(Path(data_dir).absolute()))
    del given["POSTGRES_URL_NON_POOLING"]
    assert len(given) >= 20
    assert Settings.from_env(given | NEEDED) == Settings.from_env(NEEDED)


def test_defaults_of_the_example_are_the_programs(monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    shown = {name: value for name, value in lines.items() if name not in EXAMPLES} | NEEDED
    usual = Settings.from_env(NEEDED)
    assert replace(Settings.from_env(shown), decoders=usual.decoders) == usual
    assert Settings.from_env(lines | NEEDED).public_url == lines["PUBLIC_URL"]


def test_the_lease_is_the_documented_one():
    assert f"| {config.LEASE_SECONDS} s (`config.LEASE_SECONDS`)" in JOB_STATES


def test_the_workers_times_are_the_documented_ones():
    table = section(JOB_STATES, "Leases and fences")
    for words in (
        f"| {worker.PROOF_SECONDS / 60:.0f} minutes after `sent` at the earliest |",
        f"| {worker.GONE_SECONDS / 60:.0f} minutes since the first |",
        f"| after {worker.LATE_SECONDS / 3600:.0f} h of 404 |",
        f"| {worker.DRAIN_SECONDS:.0f} s |",
        f"| {worker.DECODE_LEASE_SECONDS:.0f} s: ",
        f"| every {worker.RENEW_SECONDS:.0f} s |",
    ):
        assert words in table


# --- Routes and commands ----------------------------------------------------------------------


def routes_of(app):
    return {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }


def test_the_reference_lists_exactly_the_routes(app):
    listed = re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", section(REFERENCE, "Routes"), re.MULTILINE)
    assert sorted(listed) == sorted(routes_of(app))


def commands_of(group, before="flask"):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{before} {name}")
        elif before != "flask" or name not in FLASKS_OWN:
            yield f"{before} {name}", command


def command_rows():
    """Command to the first cell of its row, which also holds the options."""
    cells = re.findall(
        r"^\| (`flask [^|]*`) \|", section(REFERENCE, "flask").replace(r"\|", "/"), re.MULTILINE
    )
    found = {}
    for cell in cells:
        for usage in re.findall(r"`(flask [^`]*)`", cell):
            words = [word for word in usage.split() if re.fullmatch(r"[a-z][a-z-]*", word)]
            found[" ".join(words)] = cell
    return found


def test_the_reference_lists_exactly_the_commands(app):
    assert sorted(command_rows()) == sorted(name for name, _ in commands_of(app.cli))


def test_the_reference_lists_every_option(app):
    rows = command_rows()
    missing = [
        (name, option)
        for name, command in commands_of(app.cli)
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option not in rows[name]
    ]
    assert missing == []


# --- Deployment -------------------------------------------------------------------------------

DEPLOY = ROOT / "docs" / "deploy"
OPERATIONS = TEXTS["docs/operations.md"]
UNITS = {path.name: path.read_text() for path in DEPLOY.glob("i2i-*.*")}
SERVICES = sorted(name for name in UNITS if name.endswith(".service"))
SHELL = "\n".join(re.findall(r"^```sh[^\n]*\n(.*?)^```$", OPERATIONS, re.MULTILINE | re.DOTALL))


def options(unit):
    """Name to values of a unit file."""
    found = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNITS[unit], re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_fits_what_the_page_installs(app, unit):
    given = options(unit)
    [user], [command], [folder] = given["User"], given["ExecStart"], given["WorkingDirectory"]
    assert re.search(rf"for account in .*\b{user}\b.*; do\n  useradd", SHELL)
    assert f'git clone "$REPOSITORY" {folder}\n' in SHELL
    assert f">{given['EnvironmentFile'][0]}\n" in SHELL
    for path in given["ReadWritePaths"]:
        assert re.search(rf"install -d -o {user} .* {path}\n", SHELL)
    program, *words = command.removeprefix(f"{folder}/.venv/bin/").split()
    if program == "flask":
        assert f"flask {words[0]}" in dict(commands_of(app.cli))
    else:
        assert (program, words) == ("gunicorn", ["wsgi:app"])


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_takes_away_what_is_not_needed(unit):
    given = options(unit)
    for name, value in {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "CapabilityBoundingSet": "",
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
        "UMask": "0077" if "practice" in str(unit) else "0027",  # www-data reads the pictures
    }.items():
        assert given[name] == [value], name
    assert given["SystemCallFilter"][0] == "@system-service"
    assert given["MemoryMax"]


def test_units_wait_for_the_programs_to_end():
    """Longer than they take for what is in hand: gunicorn.conf.py and the worker's own time."""
    graceful = int(re.search(r"^graceful_timeout = (\d+)", GUNICORN, re.MULTILINE)[1])
    assert int(options("i2i-web.service")["TimeoutStopSec"][0]) > graceful
    assert int(options("i2i-worker.service")["TimeoutStopSec"][0]) > worker.DRAIN_SECONDS


def test_nginx_the_socket_and_gunicorn_have_one_address():
    [address] = options("i2i-web.socket")["ListenStream"]
    assert f'bind = "{address}"' in GUNICORN
    assert f"server {address}" in (DEPLOY / "nginx.conf").read_text()


def test_the_environment_file_holds(tmp_path):
    text = (DEPLOY / "i2i.env").read_text()
    listed = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert set(listed) <= set(VARIABLES)
    for name, value in list(listed.items()):
        if name.endswith("_FILE"):
            assert Path(value).parent == Path("/etc/i2i")
            assert Path(value).name in re.search(r"for secret in (.*); do", SHELL)[1]
            listed[name] = str(tmp_path / name)
            Path(listed[name]).write_text("")
    Path(listed["SECRET_KEY_FILE"]).write_text(NEEDED["SECRET_KEY"])
    settings = Settings.from_env(listed)
    assert str(settings.data_dir) in options("i2i-web.service")["ReadWritePaths"]
    assert settings.practice
    assert settings.trusted_proxies == 1


def test_every_command_of_the_page_exists(app):
    known = set(dict(commands_of(app.cli)))
    page = re.sub(r"/usr/\S+", "", OPERATIONS)
    used = re.findall(r"(?:^|`)i2i ([a-z][a-z -]*[a-z])", page, re.MULTILINE)
    assert len(used) > 10
    for words in used:
        first = " ".join(words.split(" --")[0].split()[:2])
        assert {f"flask {first}", f"flask {first.split()[0]}"} & known or any(
            name.startswith(f"flask {first} ") for name in known
        ), words


def test_every_unit_of_the_page_exists():
    used = set(re.findall(r"\bi2i-[a-z]+(?:\.\w+)?", SHELL))
    assert used
    for name in used:
        assert name in UNITS or f"{name}.service" in UNITS, name


def test_every_file_of_the_page_exists():
    named = set(re.findall(r"docs/deploy/[\w.*-]+", OPERATIONS))
    assert len(named) > 6
    assert [name for name in named if not list(ROOT.glob(name))] == []


# --- Workflows, practice, tables, states ------------------------------------------------------


def test_every_key_of_a_definition_is_documented():
    listed = re.findall(r"^\| `(\w+)` \|", section(REFERENCE, "Workflow definitions"), re.MULTILINE)
    assert set(forms._READERS) <= set(listed)


def test_every_schema_keyword_is_documented():
    cells = re.findall(r"^\| (.*?) \|", section(REFERENCE, "Schema keywords"), re.MULTILINE)
    listed = set(re.findall(r"`([\w-]+)`", " ".join(cells)))
    assert listed == set(forms._KEYWORDS)


def test_reserved_names_and_filters_are_documented():
    text = section(REFERENCE, "Workflow definitions")
    names = forms.RESERVED | forms.TEMPLATE_NAMES | set(forms._SANDBOX.filters)
    assert {name for name in names | set(forms._SANDBOX.tests) if f"`{name}`" not in text} == set()


def test_the_small_workflow_holds():
    found = re.search(r"```toml\n(.*?)```", section(REFERENCE, "Workflow definitions"), re.DOTALL)
    forms.check_definition(forms.parse_definition(tomllib.loads(found[1])))


def test_every_fault_of_the_practice_server_is_documented():
    listed = re.findall(r"^\| `(\w+)` \|", section(REFERENCE, "Practice server"), re.MULTILINE)
    assert set(listed) == set(practice.FAULTS)


@pytest.mark.parametrize(
    "folder", ["i2i", "i2i/web", "i2i/services", "i2i/queries", "i2i/gateways"]
)
def test_every_module_is_on_the_map(folder):
    names = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py"}
    assert names, "the folder moved"
    assert {name for name in names if name not in ARCHITECTURE} == set()


def test_every_table_is_documented():
    schema = "".join(path.read_text() for path in (ROOT / "migrations").glob("*.sql"))
    names = set(re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", schema))
    listed = re.findall(r"^\| `(\w+)` ", section(REFERENCE, "Tables"), re.MULTILINE)
    assert names == set(listed) - {"_yoyo_migration"}


@pytest.mark.parametrize(
    ("title", "states"), [("Jobs", JobStatus), ("Submissions", SubmissionState)]
)
def test_the_pictures_show_every_state(title, states):
    drawn = re.search(r"```mermaid\n(.*?)```", section(JOB_STATES, title), re.DOTALL)[1]
    ends = re.findall(r"(\w+|\[\*\]) --> (\w+|\[\*\])", drawn)
    assert {name for pair in ends for name in pair} - {"[*]"} == set(states)


def test_the_picture_of_a_job_shows_exactly_the_legal_transitions():
    texts = [(ROOT / "migrations" / f"{each}.sql").read_text() for each in shipped_migrations()]
    source = [text for text in texts if "FUNCTION is_legal_transition" in text][-1]
    cases = re.findall(r"WHEN '(\w+)' THEN ARRAY\[(.*?)\]|ELSE ARRAY\[(.*?)\]", source)
    legal = {
        (name or "[*]", after)
        for name, *ends in cases
        for after in re.findall(r"\w+", "".join(ends))
    }
    drawn = re.search(r"```mermaid\n(.*?)```", section(JOB_STATES, "Jobs"), re.DOTALL)[1]
    edges = set(re.findall(r"(\w+|\[\*\]) --> (\w+)", drawn))
    assert edges == legal


def test_every_crash_point_is_explained_once():
    table = section(JOB_STATES, "When something dies")
    assert re.findall(r"^\| C(\d+) \|", table, re.MULTILINE) == [str(n) for n in range(1, 15)]


def test_every_audit_action_is_documented():
    nouns = "access|batch|job|password|session|token|upload|user|workflow"
    used = {
        node.value
        for folder in ("services", "web")
        for path in (ROOT / "i2i" / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and re.fullmatch(rf"({nouns})\.[a-z_]+|trash\.emptied", str(node.value))
    }
    cells = re.findall(r"^\| (`.*?`) \|", section(REFERENCE, "Audit actions"), re.MULTILINE)
    listed = set(re.findall(r"`(\w+\.\w+)`", " ".join(cells)))
    assert len(used) > 20
    assert used == listed - {"command.users_create"}


def test_every_reason_of_a_failure_is_documented():
    table = section(REFERENCE, "Why a job failed")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (\w+) \|$", table, re.MULTILINE)
    assert sorted(rows) == sorted(
        (each.code, each.title, each.charged) for each in explanations.ALL.values()
    )


def test_every_word_of_a_job_is_in_the_table():
    table = section(ARCHITECTURE, "What a job looks like on a page")
    source = ast.parse((ROOT / "i2i" / "web" / "cards.py").read_text())
    shown = [
        [argument.value for argument in node.args[1:3]]
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "State"
    ]
    assert len(shown) > 10
    for tone, word in shown:
        assert re.search(rf"\| {word} \|.*\| {tone} \|", table), (tone, word)


# --- Links and paths --------------------------------------------------------------------------


def anchors(text):
    """Anchors of headings, as GitHub makes them."""
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", TEXTS)
def test_relative_links_resolve(document):
    text = re.sub(r"```.*?```", "", TEXTS[document], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / document).parent / path if path else ROOT / document
        assert found.exists(), target
        if anchor:
            assert anchor in set(anchors(found.read_text(encoding="utf-8"))), target


@pytest.mark.parametrize("document", TEXTS)
def test_files_that_are_named_exist(document):
    """A path may be told from the root, from the package, or from beside its neighbours."""
    places = [
        ROOT,
        ROOT / "i2i",
        ROOT / "i2i" / "web",
        ROOT / "templates",
        (ROOT / document).parent,
    ]
    named = re.findall(
        r"`([\w.-]+(?:/[\w.-]+)*\.(?:py|sql|html|js|css|md|toml|png))\b", TEXTS[document]
    )
    gone = [name for name in named if not any((place / name).exists() for place in places)]
    assert [name for name in gone if "NNNN" not in name] == []


@pytest.mark.parametrize("document", [*TEXTS, ".env.example"])
def test_no_path_of_somebodys_machine(document):
    text = TEXTS.get(document, ENV_EXAMPLE)
    assert re.findall(r"/(?:work|home|root|tmp|Users|opt/conda)/\S*", text) == []
