"""AWS Marketplace on one machine: metering, entitlement and agreement APIs, buyers, notifications, the bill."""

from marketplace_emulator.catalog import Dimension, Product
from marketplace_emulator.clock import Clock
from marketplace_emulator.errors import AdminError, ServiceError
from marketplace_emulator.ledger import MeteringRecord
from marketplace_emulator.marketplace import Call, Marketplace
from marketplace_emulator.model import Agreement, Purchase
from marketplace_emulator.server import VERSION, Server, serve
from marketplace_emulator.settings import Settings
from marketplace_emulator.wire import Answer, Drop, Reply

__version__ = VERSION

__all__ = [
    "AdminError",
    "Agreement",
    "Answer",
    "Call",
    "Clock",
    "Dimension",
    "Drop",
    "Marketplace",
    "MeteringRecord",
    "Product",
    "Purchase",
    "Reply",
    "Server",
    "ServiceError",
    "Settings",
    "serve",
]
