"""The routes for buyers' browsers, and their answers."""

from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from marketplace.platform.errors import AwsError, ExpiredTokenError, InvalidTokenError, ThrottledError
from marketplace.platform.http import Answer, BodyTooLargeError, Request, RequestError, Response, json_response
from marketplace.platform.problem import Problem
from marketplace.registration import pages, problems
from marketplace.registration.codes import RegistrationCodes
from marketplace.registration.contacts import Contact, Contacts, TooManyContactsError, checked
from marketplace.registration.pages import SellerLinks
from marketplace.registration.register import ProductNotOfferedError, Registration

TOKEN_FIELD = "x-amzn-marketplace-token"  # noqa: S105 - the name of a form field
"""Seller Guide: SaaS product customer setup. The other fields that come with it are the browser's word and not used."""

BODY_LIMIT = 16_384
"""Bytes; tokens are a few hundred."""

SAVED = "saved"


class BuyerRoutes:
    """The public routes. A registered buyer is sent to `sign_up_url`, or to the built-in landing page when that is
    empty."""

    def __init__(
        self,
        registration: Registration,
        codes: RegistrationCodes,
        contacts: Contacts,
        links: SellerLinks,
        sign_up_url: str = "",
    ) -> None:
        self._registration = registration
        self._codes = codes
        self._contacts = contacts
        self._links = links
        self._sign_up_url = sign_up_url

    def answer(self, request: Request) -> Answer:
        """Answers a request. A request that is wrong and an error of AWS have answers too."""
        try:
            return self._route(request)
        except BodyTooLargeError:
            return self._problem(request, problems.FORM_TOO_LARGE)
        except RequestError:
            return self._problem(request, problems.FORM_UNREADABLE)
        except AwsError as error:
            return self._problem(request, _problem_of(error), error=f"{type(error).__name__} {error.code}")

    def _route(self, request: Request) -> Answer:
        match request.route:
            case "POST /register":
                return self._register(request)
            case "GET /register":
                return Answer(_page(200, pages.how_to_start(self._links)), "HowToStartShown")
            case "GET /register/{code}":
                return self._show(request)
            case "POST /register/{code}":
                return self._submit(request)
        return self._problem(request, problems.PAGE_NOT_FOUND)

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
        subscription_id = self._codes.subscription_of(code)
        if subscription_id is None:
            return self._problem(request, problems.REGISTRATION_UNKNOWN)
        contact = self._contacts.read(subscription_id, code=code)
        if contact is not None and request.raw_query.startswith(f"{SAVED}="):
            return Answer(
                _page(200, pages.confirmation(self._links, contact.email)), "ConfirmationShown", subscription_id
            )
        typed = {} if contact is None else contact.values
        return Answer(_page(200, pages.landing(self._links, typed)), "LandingPageShown", subscription_id)

    def _submit(self, request: Request) -> Answer:
        code = request.path.get("code", "")
        form = request.form(BODY_LIMIT)
        subscription_id = self._codes.subscription_of(code)
        if subscription_id is None:
            return self._problem(request, problems.REGISTRATION_UNKNOWN)
        contact = checked(form)
        if not isinstance(contact, Contact):
            return Answer(_page(400, pages.landing(self._links, form, contact)), "ContactRefused", subscription_id)
        try:
            self._contacts.save(subscription_id, contact, code)
        except TooManyContactsError:
            return self._problem(request, problems.TOO_MANY_CONTACTS)
        return Answer(Response(303, headers={"location": f"?{SAVED}=1"}), "ContactSaved", subscription_id)

    def _problem(self, request: Request, problem: Problem, error: str | None = None) -> Answer:
        return _problem_answer(request, problem, self._links, error)


def failure(request: Request, error: str) -> Answer:
    """The answer to a buyer after an unexpected error; `error` is for the log."""
    return _problem_answer(request, problems.REGISTRATION_FAILED, SellerLinks(), error)


def _problem_answer(request: Request, problem: Problem, links: SellerLinks, error: str | None) -> Answer:
    if request.wants_json:
        response = json_response(problem.status, problem.as_json(), problem.headers)
    else:
        response = _page(problem.status, pages.problem_page(links, problem), problem.headers)
    return Answer(response, problem.metric, error=error)


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


def _page(status: int, html: pages.Html, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, html, {**pages.HEADERS, **(headers or {})})
