"""The routes for buyers' browsers, and their answers."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from marketplace.platform.errors import AwsError, ExpiredTokenError, InvalidTokenError, ThrottledError
from marketplace.platform.http import Answer, BodyTooLargeError, Request, RequestError, Response, json_response
from marketplace.platform.problem import ROUTE_UNKNOWN, Problem
from marketplace.registration import pages, problems
from marketplace.registration.codes import SHAPE, RegistrationCodes
from marketplace.registration.contacts import Contact, Contacts, TooManyContactsError, checked
from marketplace.registration.register import ProductNotOfferedError, Registration
from marketplace.registration.seller import Seller

TOKEN_FIELD = "x-amzn-marketplace-token"  # noqa: S105 - the name of a form field
"""Seller Guide: SaaS product customer setup. The other fields that come with it are the browser's word and not used."""

BODY_LIMIT = 16_384
"""Bytes; tokens are a few hundred."""

SAVED = "saved"

SELLER_PATHS = frozenset({"registrations", "subscriptions", "usage"})
"""What the paths of the seller API begin with (template.yaml). A request for one of them that no route takes comes
here, perhaps unsigned. It is answered as by the seller API, the same whether or not there is something at its path."""

_METHODS = ("GET", "HEAD", "POST")

_PAGE = re.compile(rf"(?P<path>(?:/[A-Za-z0-9._~-]+)*/(?:register|register/{SHAPE.pattern}))(?P<slashes>/*)")
"""The path of a page, perhaps under a base path."""


class BuyerRoutes:
    """The public routes, and every request that no route takes. A registered buyer is sent to `sign_up_url`, or to the
    built-in landing page when that is empty. `front_stage` is the only stage of the API whose requests get a page, when
    it is not empty: the one that CloudFront asks."""

    def __init__(
        self,
        registration: Registration,
        codes: RegistrationCodes,
        contacts: Contacts,
        seller: Seller,
        sign_up_url: str = "",
        *,
        front_stage: str = "",
    ) -> None:
        self._registration = registration
        self._codes = codes
        self._contacts = contacts
        self.seller = seller
        self._sign_up_url = sign_up_url
        self._front_stage = front_stage

    def answer(self, request: Request) -> Answer:
        """Answers a request. A request that is wrong and an error of AWS have answers too."""
        try:
            is_open = self._front_stage in ("", request.stage)
            return self._route(request) if is_open else self._around_the_front(request)
        except BodyTooLargeError:
            return self._problem(request, problems.FORM_TOO_LARGE)
        except RequestError:
            return self._problem(request, problems.FORM_UNREADABLE)
        except AwsError as error:
            return self._problem(request, _problem_of(error), error=f"{type(error).__name__} {error.code}")

    def _route(self, request: Request) -> Answer:
        path = _PAGE.fullmatch(request.raw_path)
        if path and path["slashes"]:
            return self._without_slash(request, path)
        match request.route:
            case "POST /register":
                return self._register(request)
            case "GET /register" | "HEAD /register":
                return Answer(self._page(200, pages.how_to_start(self.seller)), "HowToStartShown")
            case "GET /register/{code}" | "HEAD /register/{code}":
                return self._show(request)
            case "POST /register/{code}":
                return self._submit(request)
        return self._without_route(request, is_page=path is not None)

    def _around_the_front(self, request: Request) -> Answer:
        if _is_of_the_seller_api(request):
            return _json_answer(ROUTE_UNKNOWN)
        return self._problem(request, problems.ADDRESS_CLOSED)

    def _without_route(self, request: Request, *, is_page: bool) -> Answer:
        if is_page and request.method not in _METHODS:
            return self._problem(request, problems.METHOD_NOT_ALLOWED)
        if _is_of_the_seller_api(request):
            return _json_answer(ROUTE_UNKNOWN)
        return self._problem(
            request, problems.FULFILMENT_URL_WRONG if _brings_a_token(request) else problems.PAGE_NOT_FOUND
        )

    def _without_slash(self, request: Request, path: re.Match[str]) -> Answer:
        """Sends the browser to the page itself, with the same method and body (status 308: RFC 9110, 15.4.9).

        The address is relative where it can be, so that it holds under any base path: clients differ in what `..` is
        after several slashes. It holds nothing that was sent but the path and the code.
        """
        page = path["path"] if len(path["slashes"]) > 1 else f"../{path['path'].rpartition('/')[2]}"
        location = f"{page}?{SAVED}=1" if _asks_for_saved(request) else page
        return Answer(Response(308, headers={"location": location}), "SlashRedirected")

    def _register(self, request: Request) -> Answer:
        # A token has no spaces. One that arrives with spaces was sent with its plus signs not percent-encoded.
        token = request.form(BODY_LIMIT).get(TOKEN_FIELD, "").strip().replace(" ", "+")
        if not token:
            return self._problem(request, problems.TOKEN_MISSING)
        try:
            registered = self._registration.register(token)
        except ProductNotOfferedError:
            return self._problem(request, problems.PRODUCT_NOT_OFFERED)
        location = (
            with_parameter(self._sign_up_url, "registration", registered.code)
            if self._sign_up_url
            else f"register/{registered.code}"  # relative, so that it holds under any stage or base path
        )
        return Answer(Response(303, headers={"location": location}), "RegistrationResolved", registered.subscription_id)

    def _show(self, request: Request) -> Answer:
        code = request.path.get("code", "")
        opened = self._codes.opened_by(code)
        if opened is None:
            return self._problem(request, problems.REGISTRATION_UNKNOWN)
        subscription_id, product_code = opened.subscription_id, opened.product_code
        contact = self._contacts.read(subscription_id, code=code)
        if contact is not None and _asks_for_saved(request):
            page = pages.confirmation(self.seller, contact.email, product_code)
            return Answer(self._page(200, page), "ConfirmationShown", subscription_id)
        typed = {} if contact is None else contact.values
        page = pages.landing(self.seller, typed, product_code=product_code)
        return Answer(self._page(200, page), "LandingPageShown", subscription_id)

    def _submit(self, request: Request) -> Answer:
        code = request.path.get("code", "")
        form = request.form(BODY_LIMIT)
        opened = self._codes.opened_by(code)
        if opened is None:
            return self._problem(request, problems.REGISTRATION_UNKNOWN)
        contact = checked(form)
        if not isinstance(contact, Contact):
            page = pages.landing(self.seller, form, contact, opened.product_code)
            return Answer(self._page(400, page), "ContactRefused", opened.subscription_id)
        try:
            self._contacts.save(opened.subscription_id, contact, code)
        except TooManyContactsError:
            return self._problem(request, problems.TOO_MANY_CONTACTS)
        return Answer(Response(303, headers={"location": f"?{SAVED}=1"}), "ContactSaved", opened.subscription_id)

    def _page(self, status: int, html: pages.Html) -> Response:
        return _page(self.seller, status, html)

    def _problem(self, request: Request, problem: Problem, error: str | None = None) -> Answer:
        return problem_answer(request, problem, self.seller, error)


def problem_answer(request: Request, problem: Problem, seller: Seller, error: str | None = None) -> Answer:
    """A problem as a page, or as JSON for those who ask for it; `error` is for the log."""
    if request.wants_json:
        return _json_answer(problem, error)
    response = _page(seller, problem.status, pages.problem_page(seller, problem), problem.headers)
    return Answer(response, problem.metric, error=error)


def _json_answer(problem: Problem, error: str | None = None) -> Answer:
    return Answer(json_response(problem.status, problem.as_json(), problem.headers), problem.metric, error=error)


def _is_of_the_seller_api(request: Request) -> bool:
    """Whether an application sent it: to a path of the seller API, or signed, which no browser does."""
    return not SELLER_PATHS.isdisjoint(request.raw_path.split("/")) or "authorization" in request.headers


def _brings_a_token(request: Request) -> bool:
    try:
        return request.method == "POST" and TOKEN_FIELD in request.form(BODY_LIMIT)
    except RequestError:
        return False


def _asks_for_saved(request: Request) -> bool:
    return request.raw_query.startswith(f"{SAVED}=")


def with_parameter(url: str, name: str, value: str) -> str:
    """The URL with one more query parameter. Its other parameters and its fragment stay.

    value: must need no encoding.
    """
    parts = urlsplit(url)
    query = f"{parts.query}&{name}={value}" if parts.query else f"{name}={value}"
    return urlunsplit(parts._replace(query=query))


def _problem_of(error: AwsError) -> Problem:
    match error:
        case ExpiredTokenError():
            return problems.TOKEN_EXPIRED
        case InvalidTokenError():
            return problems.TOKEN_INVALID
        case ThrottledError():
            return problems.REGISTRATION_BUSY
    return problems.REGISTRATION_UNAVAILABLE


def _page(seller: Seller, status: int, html: pages.Html, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, html, {**pages.headers(seller), **(headers or {})})
