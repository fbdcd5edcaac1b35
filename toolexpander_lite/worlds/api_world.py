"""A small world of real tools with state: bank accounts, a calendar, a store, and unit conversion.

Calls of the nano world are right when they look right. Here they are *executed*, and what counts is the
state they leave behind. Every tool has a strict JSON Schema (all arguments required, no others taken),
changes the state in one transaction or not at all, and answers with plain JSON. Tools, names and numbers
are ours.
"""

import copy
import random
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
    """One fresh copy of the state with its tools; also as `with World() as world:`, which shows how long it is used.

    `tools` is the `ToolRegistry` through which calls are run; only the offered tools are in it.
    """

    def __init__(self, seed=0, offered=TOOL_NAMES, state=None):
        """`seed`: of `initial_state`, unless a `state` is given. `offered`: names of tools; others are unknown."""
        self._state = copy.deepcopy(state or initial_state(seed))
        self._lock = threading.Lock()  # calls run in worker threads, over HTTP several at a time
        self.tools = ToolRegistry()
        for schema in TOOLS:
            if schema["function"]["name"] in offered:
                self.tools.register(self._whole_or_not_at_all(getattr(self, schema["function"]["name"])), schema)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def state(self):
        """The state now, in the form of `initial_state`."""
        with self._lock:
            return copy.deepcopy(self._state)

    def _whole_or_not_at_all(self, method):
        def tool(**arguments):
            with self._lock:
                before = copy.deepcopy(self._state)
                try:
                    return method(**arguments)
                except BaseException:  # it refuses, breaks, or is stopped by the time limit, which raises SystemExit
                    self._state = before
                    raise

        return tool

    def _find(self, table, key):
        """What the state holds of `key`; `ValueError` where it does not."""
        if key not in self._state[table]:
            raise ValueError(f"there is no {key!r} in the {table}")
        return self._state[table][key]

    def _pay(self, owner, amount):
        """Add `amount` euros (negative: take) to an account -> the new balance."""
        balance = self._find("accounts", owner)
        if balance + amount < 0:
            raise ValueError(f"{owner} has only {balance} euros")
        self._state["accounts"][owner] = balance + amount
        return balance + amount

    def _check_free(self, day, hour):
        """`ValueError` when the hour is taken."""
        for title, taken in self._state["events"].items():
            if taken == [day, hour]:
                raise ValueError(f"{day} at {hour} is taken by {title!r}")

    def get_balance(self, owner):
        return {"owner": owner, "balance": self._find("accounts", owner)}

    def deposit_money(self, owner, amount):
        return {"owner": owner, "balance": self._pay(owner, amount)}

    def withdraw_money(self, owner, amount):
        return {"owner": owner, "balance": self._pay(owner, -amount)}

    def transfer_money(self, sender, receiver, amount):
        if sender == receiver:
            raise ValueError("sender and receiver are the same account")
        self._find("accounts", receiver)
        self._pay(sender, -amount)
        self._pay(receiver, amount)
        return {"moved": amount}

    def find_event(self, title):
        day, hour = self._find("events", title)
        return {"title": title, "day": day, "hour": hour}

    def list_events(self, day):
        events = [{"title": title, "hour": hour} for title, (on, hour) in self._state["events"].items() if on == day]
        return {"day": day, "events": sorted(events, key=lambda event: event["hour"])}

    def add_event(self, title, day, hour):
        self._check_free(day, hour)
        if title in self._state["events"]:
            raise ValueError(f"there is a {title!r} in the events already")
        self._state["events"][title] = [day, hour]
        return {"title": title, "day": day, "hour": hour}

    def move_event(self, title, day, hour):
        event = self._find("events", title)
        self._check_free(day, hour)
        event[:] = day, hour
        return {"title": title, "day": day, "hour": hour}

    def cancel_event(self, title):
        self._find("events", title)
        del self._state["events"][title]
        return {"cancelled": title}

    def check_stock(self, item):
        quantity, unit, price = self._find("stock", item)
        return {"item": item, "quantity": quantity, "unit": unit, "price": price}

    def restock_item(self, item, quantity):
        self._find("stock", item)[0] += quantity
        return {"item": item, "quantity": self._find("stock", item)[0]}

    def sell_item(self, item, quantity, buyer):
        stored, unit, price = self._find("stock", item)
        if stored < quantity:
            raise ValueError(f"there are only {stored} {unit} of {item}")
        self._pay(buyer, -price * quantity)
        self._find("stock", item)[0] -= quantity
        return {"item": item, "sold": quantity, "paid": price * quantity}

    def convert_units(self, value, from_unit, to_unit):
        return {"value": convert(value, from_unit, to_unit), "unit": to_unit}
