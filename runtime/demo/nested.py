"""Questions whose calls have lists and objects among their arguments, with the tools that take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from demo import names

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """What a user orders: the function that does it, its arguments' schemas, and the arguments."""

    question: str
    function: str
    description: str
    properties: dict[str, Schema]
    arguments: dict[str, Any]


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
DOMAINS = ("example.com", "example.com", "example.org", "example.net", "mail.com")


def order(rng: Random, short: bool) -> Order:
    """One of any kind; `short` ones fit beside other tools."""
    kinds: Sequence[Callable[[Random], Order]] = (_larger, _reminder, _contact) if short else (_event, _event, _parcel)
    return rng.choice(kinds)(rng)


def _event(rng: Random) -> Order:
    title, start, guests, place = (
        rng.choice(keys)
        for keys in (
            ("title", "title", "name", "subject"),
            ("start", "start", "when", "begin"),
            ("attendees", "attendees", "guests", "people", "participants"),
            ("location", "location", "place", "venue"),
        )
    )
    name, mail, city, room = (rng.choice(k) for k in (("name", "who"), ("email", "mail"), ("city", "town"), ("room",)))
    properties = {title: TEXT, start: _told(rng, TEXT, "ISO 8601 date-time"), guests: _list(_object(name, mail))}
    called = names.title(rng)
    invited = [names.word(rng) for _ in range(rng.choice((1, 2, 2, 2, 3)))]
    written = [(who, _mail(rng, who)) for who in invited]
    town = names.place(rng)
    question = f"{rng.choice(('Create', 'Add', 'Plan', 'Make'))} an event {rng.choice(('titled', 'called'))} '{called}'"
    arguments: dict[str, Any] = {title: called}
    if rng.random() < 0.8:
        arguments[start] = _moment(rng)
        question += f" {rng.choice(('starting', 'starting', 'on', 'at'))} {arguments[start]}"
    arguments[guests] = [{name: who, mail: address} for who, address in written]
    listed = _and([f"{who} ({address})" for who, address in written])
    question += f" with {rng.choice(('attendees', 'guests', 'attendees', ''))} {listed}".replace("  ", " ")
    arguments[place] = {city: town}
    question += f", {rng.choice(('located in', 'located in', 'in', 'at'))} {town}"
    if rng.random() < 0.8:
        arguments[place][room] = _number(rng)
        question += f", room {arguments[place][room]}"
    properties[place] = _object(city, room, required=rng.choice((1, len(arguments[place]))))
    function = rng.choice(("create_event", "create_event", "add_event", "plan_event", "calendar_add", "createEvent"))
    description = rng.choice(("Create a calendar event.", "Add an event to the calendar.", "Plan a meeting", ""))
    return Order(question + ".", function, description, properties, arguments)


def _parcel(rng: Random) -> Order:
    who, things, thing, count, where, street, city = (
        rng.choice(keys)
        for keys in (
            ("customer", "name", "buyer"),
            ("items", "lines", "articles"),
            ("article", "item", "product"),
            ("count", "quantity"),
            ("address", "destination", "to"),
            ("street", "road"),
            ("city", "town"),
        )
    )
    buyer, road, town = names.person(rng), f"{names.word(rng)} {rng.randrange(1, 90)}", names.place(rng)
    bought = [(rng.randrange(1, 20), names.word(rng).lower()) for _ in range(rng.choice((1, 2, 2, 3)))]
    listed = _and([f"{number} {what}" for number, what in bought])
    element = {"type": "object", "properties": {thing: TEXT, count: WHOLE}, "required": [thing, count]}
    return Order(
        f"{rng.choice(('Order', 'Send', 'Buy'))} {listed} for {buyer}, to {road} in {town}.",
        rng.choice(("place_order", "create_order", "send_parcel", "order")),
        rng.choice(("Place an order.", "Order articles for a customer", "")),
        {who: TEXT, things: _list(element), where: _object(street, city)},
        {
            who: buyer,
            things: [{thing: what, count: number} for number, what in bought],
            where: {street: road, city: town},
        },
    )


def _contact(rng: Random) -> Order:
    name, inner, mail, city = (
        rng.choice(keys) for keys in (("name", "who"), ("contact", "details"), ("email", "mail"), ("city", "town"))
    )
    who, town = names.person(rng), names.place(rng)
    address = _mail(rng, who.split()[0])
    return Order(
        f"{rng.choice(('Add', 'Save', 'Store'))} the contact {who} ({address}) in {town}.",
        rng.choice(("add_contact", "save_contact", "create_contact")),
        rng.choice(("Add a contact.", "Save a person's contact", "")),
        {name: TEXT, inner: _object(mail, city)},
        {name: who, inner: {mail: address, city: town}},
    )


def _reminder(rng: Random) -> Order:
    people, text = rng.choice(("people", "names", "to")), rng.choice(("text", "subject", "message"))
    who, what = [names.word(rng) for _ in range(rng.choice((1, 2, 3)))], names.title(rng)
    return Order(
        f"{rng.choice(('Remind', 'Tell', 'Notify'))} {_and(who)} of '{what}'.",
        rng.choice(("send_reminder", "remind", "notify_people")),
        rng.choice(("Remind people.", "Send a reminder to some people", "")),
        {people: _list(TEXT), text: TEXT},
        {people: who, text: what},
    )


def _larger(rng: Random) -> Order:
    key = rng.choice(("answer", "answer", "result", "value"))
    function = rng.choice(("record_answer", "save_answer", "record_result", "submit"))
    whole = rng.randrange(1, 20)
    numbers = [f"{whole}.{rng.randrange(10, 60)}", f"{whole}.{rng.randrange(6, 10)}"]
    if rng.random() < 0.5:
        numbers = [str(rng.randrange(1, 60)), str(rng.randrange(60, 100))]
    larger = numbers[1]
    rng.shuffle(numbers)
    before = rng.choice(("", "", "Think it through step by step: ", "Think first: "))
    return Order(
        f"{before}{'which' if before else 'Which'} number is larger, {numbers[0]} or {numbers[1]}? "
        f"{rng.choice(('Then record', 'Record', 'Save'))} the {rng.choice(('larger number', 'answer'))} with the "
        f"{function} tool.",
        function,
        rng.choice(("Record the final answer.", "Save the answer to a question", "")),
        {key: TEXT},
        {key: larger},
    )


def _object(*keys: str, required: int = 9) -> Schema:
    return {"type": "object", "properties": dict.fromkeys(keys, TEXT), "required": list(keys[:required])}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _told(rng: Random, schema: Schema, description: str) -> Schema:
    return {**schema, "description": description} if rng.random() < 0.5 else schema


def _mail(rng: Random, name: str) -> str:
    local = name.lower().encode("ascii", "ignore").decode()
    return f"{local}@{rng.choice(DOMAINS) if rng.random() < 0.8 else names.identifier(rng) + '.com'}"


def _moment(rng: Random) -> str:
    day = f"20{rng.randrange(24, 32)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    return f"{day}T{rng.randrange(7, 22):02}:{rng.choice((0, 0, 0, 15, 30, 45)):02}:00Z"


def _number(rng: Random) -> str:
    return rng.choice((f"{rng.randrange(1, 9)}.{rng.randrange(1, 40):02}", str(rng.randrange(1, 400))))


def _and(parts: Sequence[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]
