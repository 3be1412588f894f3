"""Reports usage to Marketplace SaaS from an outbox on disk, and calls its seller API.

    client = Client(os.environ["MARKETPLACE_API"], "usage.sqlite3")
    client.report(UsageRecord(...))  # on the disk when it returns
    client.deliver()                 # or client.run(stop) in a thread

`operations` has a function for every route of the API: `client.call(operations.get_subscription(...))`.
"""

from marketplace_saas_client import operations
from marketplace_saas_client.client import AsyncClient, Client
from marketplace_saas_client.delivery import Delivery, Listener
from marketplace_saas_client.errors import ApiError, ClientError, NoAnswerError, NoCredentialsError
from marketplace_saas_client.outbox import Rejected, Status
from marketplace_saas_client.records import UsageRecord

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "Delivery",
    "Listener",
    "NoAnswerError",
    "NoCredentialsError",
    "Rejected",
    "Status",
    "UsageRecord",
    "operations",
]
