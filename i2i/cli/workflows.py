"""`flask workflows`: workflows as documents that are read, checked, stored and written out."""

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from i2i import documents, forms
from i2i.cli.console import (
    Group,
    Refusal,
    as_json,
    confirm,
    connection,
    print_json,
    print_table,
    say,
    settings,
)
from i2i.errors import FalError, InvalidWorkflow, Refused
from i2i.forms import Definition
from i2i.gateways.fal import HttpFal, Offer
from i2i.models import Workflow
from i2i.queries import workflows as queries
from i2i.services import workflows

group = Group("workflows", help="What pictures can be made, and how.")

MANY = "workflows"
"""The one key of a document that holds several definitions, as `export` writes it."""


@group.command("list", audited="never")
@as_json
def list_(*, json_: bool) -> None:
    """Show all workflows, those that are switched off too."""
    with connection() as conn:
        found = [describe(each) for each in queries.list_all(conn, only_active=False)]
    if json_:
        print_json(found)
        return
    print_table(
        ["ID", "NAME", "ACTIVE", "VERSION", "ENDPOINT", "PRICE"],
        [
            (
                each["id"],
                each["name"],
                each["is_active"],
                each["version"],
                each["fal_endpoint"],
                price_words(each["unit_price"], each["price_unit"], each["currency"]),
            )
            for each in found
        ],
    )


def describe(workflow: Workflow) -> dict[str, Any]:
    """One object of `list --json`; `unit_price` is null where the price is unknown."""
    definition = workflows.definition_of(workflow.definition)
    return {
        "id": workflow.id,
        "name": definition.name,
        "description": definition.description,
        "is_active": workflow.is_active,
        "version": workflow.version,
        "fal_endpoint": definition.fal_endpoint,
        "unit_price": definition.unit_price,
        "price_unit": definition.price_unit,
        "currency": definition.currency,
        "max_references": definition.max_references,
        "created_at": workflow.created_at,
        "updated_at": workflow.updated_at,
    }


def price_words(price: object, unit: str, currency: str) -> str:
    return "unknown" if price is None else f"{price} {currency} per {unit}"


@group.command(audited="never")
@click.argument("workflow")
def show(workflow: str) -> None:
    """Show one workflow and its parameters."""
    with connection() as conn:
        found = workflows.get(conn, workflow_id=workflow)
    definition = workflows.definition_of(found.definition)
    for name, value in (
        ("Name", definition.name),
        ("About", definition.description),
        ("Endpoint", definition.fal_endpoint),
        ("Price", price_words(definition.unit_price, definition.price_unit, definition.currency)),
        ("Active", "yes" if found.is_active else "no"),
        ("Version", found.version),
        ("Inputs", f"{', '.join(definition.formats)}; up to {definition.max_side} a side"),
        ("References", f"up to {definition.max_references}"),
        ("Deadline", f"{definition.deadline_seconds} s"),
    ):
        say(f"{name:<11} {value}")
    say("")
    print_table(
        ["PARAMETER", "LABEL", "DEFAULT", "VALUES"],
        [
            (field.name, field.label, field.default, value_words(field))
            for field in forms.fields(definition.parameter_schema, definition.default_parameters)
        ],
    )


def value_words(field: forms.Field) -> str:
    """What a field takes, in a few words."""
    if field.choices and field.kind != "integer":
        return ", ".join(value for value, _ in field.choices)
    if field.minimum is not None or field.maximum is not None:
        bounds = ("" if each is None else f"{each:.10g}" for each in (field.minimum, field.maximum))
        return " to ".join(bounds)
    return field.kind


@group.command()
@click.argument("file")
def apply(file: str) -> None:
    """Check a TOML or JSON document and store it; - reads standard input."""
    name = "standard input" if file == "-" else file
    definitions = read_definitions(read_text(file, name=name), name=name)
    with connection() as conn:
        results = workflows.save_edited(conn, definitions)
    for saved, changed in results:
        what = f": {', '.join(changed)}" if changed else ""
        say(f"{saved.id}: {saved.change}{what} (version {saved.version})")


def read_text(file: str, *, name: str) -> str:
    """The file, or standard input for "-"; Refused when it cannot be read."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise Refused(f"{name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise Refused(f"{name} is not UTF-8 text.") from None


def read_definitions(text: str, *, name: str) -> list[Definition]:
    """The checked definitions of a document; Refusal names the place that does not hold."""
    place = ""
    found = []
    try:
        document = documents.read(text, is_json=name.lower().endswith(".json"))
        many = set(document) == {MANY}
        for index, each in enumerate(listed(document[MANY]) if many else [document]):
            place = f"/{MANY}/{index}" if many else ""
            found.append(forms.parse_definition(each))
            forms.check_definition(found[-1])
    except InvalidWorkflow as error:
        raise fault(error, name=name, place=place) from error
    return found


def listed(value: object) -> list[Mapping[str, Any]]:
    """The definitions of a document of several; InvalidWorkflow when it is no list of objects."""
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return value
    raise InvalidWorkflow("This must be a list of objects.", f"/{MANY}")


def fault(error: InvalidWorkflow, *, name: str, place: str) -> Refusal:
    """The place as compilers write it: file:line:column for syntax, else the JSON Pointer."""
    if syntax := re.match(r"Line (\d+), column (\d+): (.*)", error.message, re.DOTALL):
        message = f"{name}:{syntax[1]}:{syntax[2]}: {syntax[3]}"
    else:
        pointer = f"{place}{error.pointer}"
        message = f"{name}: {pointer}: {error.message}" if pointer else f"{name}: {error.message}"
    return Refusal(" ".join(message.split()))


@group.command(audited="never")
@click.argument("workflow", required=False)
@as_json
def export(workflow: str | None, *, json_: bool) -> None:
    """Write one workflow, or all, as TOML that `apply` takes; --json writes JSON."""
    with connection() as conn:
        found = (
            [workflows.get(conn, workflow_id=workflow)]
            if workflow
            else queries.list_all(conn, only_active=False)
        )
    found_documents = [
        forms.dump_document(
            replace(workflows.definition_of(each.definition), is_active=each.is_active)
        )
        for each in found
    ]
    document = found_documents[0] if workflow else {MANY: found_documents}
    if json_:
        print_json(document)
    else:
        click.echo(documents.write_toml(document))


@group.command()
@click.argument("workflow")
def enable(workflow: str) -> None:
    """Offer a workflow to users."""
    with connection() as conn:
        workflows.set_active(conn, workflow_id=workflow, is_active=True)
    say(f"{workflow} is on.")


@group.command()
@click.argument("workflow")
@click.option("--cancel-waiting", is_flag=True, help="Cancel what was not sent yet, which is free.")
def disable(workflow: str, *, cancel_waiting: bool) -> None:
    """Offer a workflow no more; what waits still runs, unless it is cancelled."""
    with connection() as conn:
        count = workflows.set_active(
            conn, workflow_id=workflow, is_active=False, cancel_waiting=cancel_waiting
        )
    say(f"{workflow} is off{f'; {count} waiting pictures cancelled' if cancel_waiting else ''}.")


@group.command()
@click.argument("workflow")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(workflow: str, *, yes: bool) -> None:
    """Remove a workflow and its versions; refused while jobs name it."""
    with connection() as conn:
        workflows.get(conn, workflow_id=workflow)
        confirm(f"Delete {workflow} with all its versions?", yes=yes)
        workflows.delete(conn, workflow_id=workflow)
    say(f"Deleted {workflow}.")


@group.command(audited="never")
def check() -> None:
    """Check all stored workflows; with a fal key also that endpoints and prices still hold."""
    with connection() as conn:
        found = queries.list_all(conn, only_active=False)
    fal = HttpFal(settings()) if settings().fal_key else None
    wrong = 0
    for workflow in found:
        try:
            definition = forms.parse_definition(workflow.definition)
            forms.check_definition(definition)
            problems = compare(definition, fal.offer(definition.fal_endpoint)) if fal else []
        except InvalidWorkflow as error:
            problems = [str(error)]
        except FalError as error:
            problems = [f"fal does not answer: {error.detail}"]
        wrong += bool(problems)
        say(f"{workflow.id}: {'; '.join(problems) or 'ok'}")
    if fal is None:
        say("No fal key is set: endpoints and prices were not compared.")
    if wrong:
        raise Refused(f"{wrong} of {len(found)} workflows need a look.")


def compare(definition: Definition, offer: Offer | None) -> list[str]:
    """What differs between a workflow and what fal offers."""
    if offer is None:
        return [f"fal does not know the endpoint {definition.fal_endpoint}"]
    problems = []
    if offer.status not in {None, "active"}:
        problems.append(f"fal lists {definition.fal_endpoint} as {offer.status}")
    ours = (definition.unit_price, definition.price_unit, definition.currency)
    theirs = (offer.unit_price, (offer.unit or "image").removesuffix("s"), offer.currency)
    if offer.unit_price is not None and ours != theirs:
        problems.append(f"the price is {price_words(*ours)} here, {price_words(*theirs)} at fal")
    return problems
