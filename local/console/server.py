"""The console: the seller's own application, as small as it can be.

What it knows of subscriptions it has from the documented seller API. It also shows what this machine sees beside: the
seller's event bus, the queues, the requests of the API, and what AWS Marketplace has billed.
"""

from collections.abc import Callable
from threading import Event
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from jinja2 import FileSystemLoader
from werkzeug import Request, Response
from werkzeug.exceptions import NotFound
from werkzeug.utils import send_from_directory

from local.console import words
from local.console.api import STATUSES, Api, ApiError, path_of
from local.console.forms import Forms
from local.console.seller import LocalSeller, System, purchase_of
from local.console.subscription import SubscriptionPages, curl
from local.console.timeline import about
from local.options import ROOT
from local.server import Server
from marketplace_emulator.clock import iso_seconds
from marketplace_emulator.live import changes
from marketplace_emulator.model import Purchase
from marketplace_emulator.pages import clock_buttons
from marketplace_emulator.story import story_of
from marketplace_emulator.views import STATIC, Frame, Link, environment, minute, paged, respond, see_other

LISTED = 10
_LINKS = (("/", "Subscriptions"), ("/events", "Event bus"), ("/requests", "Requests"), ("/queues", "Queues"))

type Query = dict[str, str]


class NotFoundError(Exception):
    """There is no such page."""


class Console(Server):
    """The console's server. `seller` is what the emulator's pages may know of it."""

    def __init__(self, host: str, port: int, system: System) -> None:
        self._system = system
        self._stopping = Event()
        self._templates = environment(FileSystemLoader(ROOT / "local" / "console" / "templates"))
        self._templates.filters |= {"about": about, "short": words.short, "month_name": words.month_name}
        self._templates.globals |= {
            "STATUS": words.STATUS,
            "STATE": words.STATE,
            "REASONS": words.REASONS,
            "RESULT": words.RESULT,
            "of_rejection": words.of_rejection,
            "curl": curl,
        }
        self._lists: dict[str, Callable[[Query], Response]] = {
            "": self._home,
            "changes": self._changes,
            "sign-up": self._sign_up,
            "events": self._events,
            "events.json": self._events_as_json,
            "requests": self._requests,
            "queues": self._queues,
        }
        super().__init__(host, port, self._answer)
        self.seller = LocalSeller(system, self.url)
        self._forms = Forms(system)
        self._pages = SubscriptionPages(system, self._page)

    def stop(self) -> None:
        """Take no more requests, and end the streams of changes."""
        self._stopping.set()
        super().stop()

    def _answer(self, request: Request) -> Response:
        """The page for a request; a form is carried out, then answered with 303 to where the result shows."""
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin is not None and urlsplit(origin).netloc != request.host:
            return Response("the request comes from another site", 403)
        path = [unquote(part) for part in urlsplit(request.environ["REQUEST_URI"]).path.split("/") if part]
        try:
            if path[:1] == ["static"]:
                return send_from_directory(STATIC, "/".join(path[1:]), request.environ)
            if request.method == "POST":
                return self._forms.carry_out(path, request.form.to_dict()) or self._not_found()
            return self._get(path, request.args.to_dict())
        except (NotFoundError, NotFound):
            return self._not_found()
        except ApiError as error:
            title = "Not found" if error.status == 404 else "That did not work"
            return self._page("problem.html", "", status=error.status, title=title, text=str(error))

    def _not_found(self) -> Response:
        return self._page("problem.html", "", status=404, title="Not found", text="There is no such page here.")

    def _get(self, path: list[str], query: Query) -> Response:
        match path:
            case [] | [_] if (page := self._lists.get("".join(path))) is not None:
                return page(query)
            case ["subscriptions", subscription_id, *rest]:
                shown = self._pages.show(subscription_id, rest, query)
                if shown is not None:
                    return shown
            case ["purchases", purchase_id]:
                return self._subscription_of(purchase_id)
            case ["requests", seq]:
                return self._exchange(seq)
        raise NotFoundError

    def _changes(self, query: Query) -> Response:
        return changes(self._system.marketplace.version, query.get("since", ""), self._stopping)

    def _sign_up(self, query: Query) -> Response:
        """The page that names what is about to be claimed, before anything is."""
        found, code, problem = None, query.get("registration", ""), query.get("problem", "")
        if code and not problem:
            try:
                found = Api(self._system.api_url).get(f"/registrations/{quote(code, safe='')}")
            except ApiError as error:
                problem = str(error)
        given = {**query, **({"problem": problem} if problem else {})}
        return self._page("sign_up.html", "/sign-up", given, found=found, titles=self._titles())

    def _events(self, query: Query) -> Response:
        shown = paged(list(self._system.aws.events)[::-1], query.get("page"))
        return self._page("events.html", "/events", query, events=shown)

    def _requests(self, query: Query) -> Response:
        shown = paged(self._system.traffic.exchanges(), query.get("page"))
        return self._page("requests.html", "/requests", query, exchanges=shown)

    def _home(self, query: Query) -> Response:
        """The first subscriptions of each status, or a page of one status."""
        api = Api(self._system.api_url)
        status = query.get("status", "")
        wanted = (status,) if status in STATUSES else STATUSES
        given = {"limit": str(LISTED)} | ({"cursor": query["cursor"]} if query.get("cursor") else {})
        pages = {one: api.subscriptions(status=one, **given) for one in wanted}
        return self._page("home.html", "/", query, pages=pages, chosen=status, titles=self._titles())

    def _subscription_of(self, purchase_id: str) -> Response:
        """Lead from a purchase to its subscription."""
        purchase = self._system.marketplace.registry.purchases.get(purchase_id)
        if purchase is None:
            raise NotFoundError
        for one in Api(self._system.api_url).subscriptions_of(purchase.account_id):
            if purchase_of(self._system.marketplace, one) is purchase:
                return see_other(path_of(one["subscription_id"]))
        text = "The application does not know this purchase yet: the buyer has not set up the account."
        return self._page("problem.html", "", status=404, title="Not set up yet", text=text, about=purchase)

    def _events_as_json(self, _query: Query) -> Response:
        fields = ("at", "bus", "source", "detail_type", "detail")
        events = [{name: getattr(one, name) for name in fields} for one in list(self._system.aws.events)]
        return Response(
            self._templates.filters["pretty"]({"events": events}),
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
            content_type="application/json",
        )

    def _exchange(self, seq: str) -> Response:
        exchange = self._system.traffic.exchange(seq)
        if exchange is None:
            raise NotFoundError
        url = self._system.api_url
        return self._page("request.html", "/requests", exchange=exchange, command=curl(url, exchange))

    def _queues(self, query: Query) -> Response:
        deployment, aws = self._system.deployment, self._system.aws
        polled = {mapping.queue: mapping.function for mapping in deployment.queue_mappings}
        queues = [(queue.name, polled.get(queue.name), aws.messages(queue.name)) for queue in deployment.queues]
        return self._page("queues.html", "/queues", query, queues=queues)

    def _titles(self) -> dict[str, str]:
        return {product.code: product.title for product in self._system.marketplace.registry.products.values()}

    def _page(
        self,
        template: str,
        path: str,
        query: Query | None = None,
        *,
        status: int = 200,
        about: Purchase | None = None,
        metered: bool | None = None,
        final_at: float | None = None,
        **values: Any,
    ) -> Response:
        """A page with the bar and the story: of the purchase `about`, otherwise of the newest one.

        `metered` says whether the application knows usage of it as metered; `final_at` when a subscription that ends is
        metered for the last time.
        """
        system, given = self._system, query or {}
        clock, marketplace = system.clock, system.marketplace
        now = clock.timestamp()
        kept = {name: value for name, value in given.items() if name in _KEPT}
        buttons = clock_buttons(now, frozen=clock.is_frozen)
        moment = self.seller.metered_at() if final_at is None else final_at
        if moment is not None and moment > now:
            what = "usage metered" if final_at is None else "last usage metered"
            buttons.insert(0, (f"until {iso_seconds(moment)}", f"To {minute(moment)[11:]}: {what}"))
        with marketplace.agenda.acting():
            newest = next(reversed(marketplace.registry.purchases.values()), None)
            story = story_of(marketplace, about or newest, system.marketplace_url, metered if about else None)
        section = f"/{path.split('/')[1]}" if path else ""
        frame = Frame(
            site="application",
            links=[Link(url, text, section in (url, "/subscriptions" if url == "/" else "")) for url, text in _LINKS],
            other=Link(system.marketplace_url, "AWS Marketplace"),
            now=now,
            frozen=clock.is_frozen,
            clock_action="/clock",
            clock_buttons=buttons,
            back=f"{path or '/'}?{urlencode(kept)}" if kept else path or "/",
            version=marketplace.version(),
            story=story,
        )
        content = self._templates.get_template(template).render(
            frame=frame,
            query=given,
            page_query=kept,
            path=path,
            marketplace_url=system.marketplace_url,
            api_url=system.api_url,
            **values,
        )
        return respond(content, status)


_KEPT = frozenset({"check", "cursor", "from", "month", "of", "page", "record", "status", "to"})
"""What of a query says which part of a page is shown."""
