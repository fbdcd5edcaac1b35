"""A small world of real tools with state: bank accounts, a calendar and a store in SQLite, and unit conversion.

Calls of the nano world are right when they look right. Here they are *executed*, and what counts is the
state they leave behind. Every tool has a strict JSON Schema (all arguments required, no others taken),
changes the state in one transaction or not at all, and answers with plain JSON. Tools, names and numbers
are ours.
"""

import random
import sqlite3
import threading

from .nano_world import tool_schema
from .run_calls import ToolRegistry

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
HOURS = range(8, 18)  # an event takes one hour; the last begins at 17:00
OWNERS = ("Alice", "Bob", "Carla", "Jürgen", "Omar", "Zoë")
EVENTS = ("dentist", "team meeting", "piano lesson", "book club", "car service", "lunch with Inès", "tax call", "yoga")
ITEMS = {"rice": "kg", "flour": "lb", "milk": "l", "juice": "gal", "rope": "m", "cable": "ft"}
# unit -> (what it measures, its size in metres, kilograms or litres): the exact international definitions
UNITS = {
    "m": ("length", 1.0), "km": ("length", 1000.0), "ft": ("length", 0.3048), "mi": ("length", 1609.344),
    "kg": ("mass", 1.0), "g": ("mass", 0.001), "lb": ("mass", 0.45359237), "oz": ("mass", 0.028349523125),
    "l": ("volume", 1.0), "ml": ("volume", 0.001), "gal": ("volume", 3.785411784),
}  # fmt: skip


def _schema(name, description, **properties):
    schema = tool_schema(name, description, **properties)
    schema["function"]["parameters"]["additionalProperties"] = False
    return schema


_NAME = {"type": "string", "maxLength": 40}
_NEW_NAME = _NAME | {"minLength": 1}
_COUNT = {"type": "integer", "minimum": 1, "maximum": 100_000}
_DAY = {"type": "string", "enum": list(DAYS)}
_HOUR = {"type": "integer", "minimum": HOURS[0], "maximum": HOURS[-1], "description": "24-hour clock"}
_UNIT = {"type": "string", "enum": list(UNITS)}
TOOLS = (
    _schema("get_balance", "Balance of an account, in euros.", owner=_NAME),
    _schema("deposit_money", "Pay euros into an account.", owner=_NAME, amount=_COUNT),
    _schema("withdraw_money", "Take euros out of an account.", owner=_NAME, amount=_COUNT),
    _schema("transfer_money", "Move euros to another account.", sender=_NAME, receiver=_NAME, amount=_COUNT),
    _schema("find_event", "Day and hour of an event in the calendar.", title=_NAME),
    _schema("list_events", "All events of a day.", day=_DAY),
    _schema("add_event", "Put a one-hour event into the calendar.", title=_NEW_NAME, day=_DAY, hour=_HOUR),
    _schema("move_event", "Move an event to another day and hour.", title=_NAME, day=_DAY, hour=_HOUR),
    _schema("cancel_event", "Take an event out of the calendar.", title=_NAME),
    _schema("check_stock", "Quantity, unit and price per unit of an item in the store.", item=_NAME),
    _schema("restock_item", "Add units of an item to the store.", item=_NAME, quantity=_COUNT),
    _schema("sell_item", "Sell units of an item; the buyer's account pays.", item=_NAME, quantity=_COUNT, buyer=_NAME),
    _schema(
        "convert_units", "Convert a length, mass or volume.",
        value={"type": "number", "minimum": 0, "maximum": 1e9}, from_unit=_UNIT, to_unit=_UNIT,
    ),
)  # fmt: skip
TOOL_NAMES = tuple(tool["function"]["name"] for tool in TOOLS)

_TABLES = """
CREATE TABLE accounts (owner TEXT PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0));
CREATE TABLE events (title TEXT PRIMARY KEY, day TEXT NOT NULL, hour INTEGER NOT NULL, UNIQUE (day, hour));
CREATE TABLE stock (item TEXT PRIMARY KEY, quantity INTEGER NOT NULL CHECK (quantity >= 0), unit TEXT, price INTEGER);
"""


def initial_state(seed=0):
    """What the world holds before any call, the same for the same seed.

    Returns:
        dict: "accounts" {owner: euros}, "events" {title: [day, hour]}, "stock" {item: [quantity, unit, price]}.
    """
    rng = random.Random(f"api-world-{seed}")
    days = rng.sample(DAYS * 2, len(EVENTS))  # at most two events on a day
    hours = rng.sample(HOURS, len(EVENTS))
    return {
        "accounts": {owner: rng.randrange(200, 900) for owner in OWNERS},
        "events": {title: [day, hour] for title, day, hour in zip(EVENTS, days, hours)},
        "stock": {item: [rng.randrange(10, 60), unit, rng.randrange(2, 10)] for item, unit in ITEMS.items()},
    }


def convert(value, from_unit, to_unit):
    """`value` in another unit of the same kind, rounded to 4 decimals; `ValueError` for units of two kinds."""
    (kind, size), (other_kind, other_size) = UNITS[from_unit], UNITS[to_unit]
    if kind != other_kind:
        raise ValueError(f"{from_unit} is a {kind}, {to_unit} a {other_kind}")
    return round(value * size / other_size, 4)


class World:
    """One fresh copy of the state with its tools; a context manager, as it holds a database in memory.

    `tools` is the `ToolRegistry` through which calls are run; only the offered tools are in it.
    """

    def __init__(self, seed=0, offered=TOOL_NAMES, state=None):
        """`seed`: of `initial_state`, unless a `state` is given. `offered`: names of tools; others are unknown."""
        # Calls run in worker threads, over HTTP several at a time: the lock lets one in, not SQLite's own check.
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._lock = threading.Lock()
        self._database.executescript(_TABLES)
        state = state or initial_state(seed)
        with self._database as database:
            database.executemany("INSERT INTO accounts VALUES (?, ?)", state["accounts"].items())
            database.executemany("INSERT INTO events VALUES (?, ?, ?)", [(k, *v) for k, v in state["events"].items()])
            database.executemany("INSERT INTO stock VALUES (?, ?, ?, ?)", [(k, *v) for k, v in state["stock"].items()])
        self.tools = ToolRegistry()
        for schema in TOOLS:
            if schema["function"]["name"] in offered:
                self.tools.register(self._in_transaction(getattr(self, schema["function"]["name"])), schema)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._database.close()

    def state(self):
        """The state now, in the form of `initial_state`."""
        with self._lock:
            rows = {t: self._database.execute(f"SELECT * FROM {t}").fetchall() for t in ("accounts", "events", "stock")}
        state = {table: {key: list(values) for key, *values in found} for table, found in rows.items()}
        return state | {"accounts": dict(rows["accounts"])}

    def _in_transaction(self, method):
        def tool(**arguments):
            with self._lock, self._database:  # rolled back when the tool raises, or is stopped by the time limit
                return method(**arguments)

        return tool

    def _row(self, table, key_column, key):
        """The columns after the key -> tuple; `ValueError` without such a row. Only `key` is a model's text."""
        row = self._database.execute(f"SELECT * FROM {table} WHERE {key_column} = ?", (key,)).fetchone()
        if row is None:
            raise ValueError(f"there is no {key!r} in the {table}")
        return row[1:]

    def _pay(self, owner, amount):
        """Add `amount` euros (negative: take) to an account -> the new balance."""
        (balance,) = self._row("accounts", "owner", owner)
        if balance + amount < 0:
            raise ValueError(f"{owner} has only {balance} euros")
        self._database.execute("UPDATE accounts SET balance = ? WHERE owner = ?", (balance + amount, owner))
        return balance + amount

    def _free(self, day, hour):
        """`ValueError` when the hour is taken."""
        row = self._database.execute("SELECT title FROM events WHERE day = ? AND hour = ?", (day, hour)).fetchone()
        if row is not None:
            raise ValueError(f"{day} at {hour} is taken by {row[0]!r}")

    def get_balance(self, owner):
        return {"owner": owner, "balance": self._row("accounts", "owner", owner)[0]}

    def deposit_money(self, owner, amount):
        return {"owner": owner, "balance": self._pay(owner, amount)}

    def withdraw_money(self, owner, amount):
        return {"owner": owner, "balance": self._pay(owner, -amount)}

    def transfer_money(self, sender, receiver, amount):
        if sender == receiver:
            raise ValueError("sender and receiver are the same account")
        self._row("accounts", "owner", receiver)
        self._pay(sender, -amount)
        self._pay(receiver, amount)
        return {"moved": amount}

    def find_event(self, title):
        day, hour = self._row("events", "title", title)
        return {"title": title, "day": day, "hour": hour}

    def list_events(self, day):
        rows = self._database.execute("SELECT title, hour FROM events WHERE day = ? ORDER BY hour", (day,)).fetchall()
        return {"day": day, "events": [{"title": title, "hour": hour} for title, hour in rows]}

    def add_event(self, title, day, hour):
        self._free(day, hour)
        if self._database.execute("SELECT 1 FROM events WHERE title = ?", (title,)).fetchone():
            raise ValueError(f"there is a {title!r} in the events already")
        self._database.execute("INSERT INTO events VALUES (?, ?, ?)", (title, day, hour))
        return {"title": title, "day": day, "hour": hour}

    def move_event(self, title, day, hour):
        self._row("events", "title", title)
        self._free(day, hour)
        self._database.execute("UPDATE events SET day = ?, hour = ? WHERE title = ?", (day, hour, title))
        return {"title": title, "day": day, "hour": hour}

    def cancel_event(self, title):
        self._row("events", "title", title)
        self._database.execute("DELETE FROM events WHERE title = ?", (title,))
        return {"cancelled": title}

    def check_stock(self, item):
        quantity, unit, price = self._row("stock", "item", item)
        return {"item": item, "quantity": quantity, "unit": unit, "price": price}

    def restock_item(self, item, quantity):
        stored = self._row("stock", "item", item)[0] + quantity
        self._database.execute("UPDATE stock SET quantity = ? WHERE item = ?", (stored, item))
        return {"item": item, "quantity": stored}

    def sell_item(self, item, quantity, buyer):
        stored, unit, price = self._row("stock", "item", item)
        if stored < quantity:
            raise ValueError(f"there are only {stored} {unit} of {item}")
        self._pay(buyer, -price * quantity)
        self._database.execute("UPDATE stock SET quantity = ? WHERE item = ?", (stored - quantity, item))
        return {"item": item, "sold": quantity, "paid": price * quantity}

    def convert_units(self, value, from_unit, to_unit):
        return {"value": convert(value, from_unit, to_unit), "unit": to_unit}
