"""The agreement API. Source: botocore model of marketplace-agreement."""

import pytest

PAYG, CONTRACT = "ca2payasyougoproduct00000", "ca1contractandconsumption"
SERVICE = "AWSMPCommerceService_v20200301"


def search(agreement, **filters):
    named = {"PartyType": "Proposer", "AgreementType": "PurchaseAgreement", **filters}
    items = [{"name": name, "values": [value]} for name, value in named.items()]
    return agreement.search_agreements(filters=items)["agreementViewSummaries"]


def ids(summaries):
    return {item["agreementId"] for item in summaries}


def test_a_search_gives_the_licence_of_every_agreement(emulator, agreement):
    one, other = emulator.buy(PAYG), emulator.buy(CONTRACT)
    found = {item["agreementId"]: item["entitlements"] for item in search(agreement)}
    assert found == {item.agreement_id: [{"licenseArn": item.license_arn}] for item in (one, other)}


def test_a_search_filters(emulator, agreement):
    one = emulator.buy(PAYG, "111111111111")
    emulator.clock.advance("PT1H")
    two = emulator.buy(CONTRACT, "222222222222", auto_renew=True)
    emulator.m.purchases.cancel(one.id)
    first, second = {one.agreement_id}, {two.agreement_id}
    assert ids(search(agreement, ResourceIdentifier=one.product.id)) == first
    assert ids(search(agreement, AcceptorAccountId="222222222222")) == second
    assert ids(search(agreement, Status="CANCELLED")) == first
    assert ids(search(agreement, Status="ACTIVE")) == second
    assert ids(search(agreement, LicenseArn=two.license_arn)) == second
    assert ids(search(agreement, InitialAgreementId=one.agreement_id)) == first
    assert ids(search(agreement, OfferId=two.agreement.offer_id)) == second
    assert ids(search(agreement, ResourceType="SaaSProduct")) == first | second
    assert ids(search(agreement, ResourceType="AmiProduct")) == set()
    assert ids(search(agreement, EndTimeBehaviorType="RENEW")) == second
    assert ids(search(agreement, AfterStartTime="2026-11-22T12:30:00Z")) == second
    assert ids(search(agreement, BeforeStartTime="2026-11-22T12:30:00Z")) == first
    assert ids(search(agreement, BeforeEndTime="2030-01-01T00:00:00Z")) == second
    assert ids(search(agreement, AcceptorAccountId="222222222222", Status="CANCELLED")) == set()


def test_a_search_by_last_update_finds_what_changed(emulator, agreement):
    one, two = emulator.buy(PAYG), emulator.buy(PAYG)
    emulator.clock.advance("PT1H")
    emulator.m.purchases.cancel(two.id)
    assert ids(search(agreement, AfterLastUpdateTime="2026-11-22T12:30:00Z")) == {two.agreement_id}
    assert ids(search(agreement, BeforeLastUpdateTime="2026-11-22T12:30:00Z")) == {one.agreement_id}


def test_a_search_needs_party_and_agreement_type(agreement):
    with pytest.raises(agreement.exceptions.ValidationException) as caught:
        agreement.search_agreements(filters=[{"name": "AgreementType", "values": ["PurchaseAgreement"]}])
    assert caught.value.response["reason"] == "MISSING_PARTY_TYPE"
    with pytest.raises(agreement.exceptions.ValidationException):
        agreement.search_agreements(filters=[{"name": "PartyType", "values": ["Proposer"]}])


def test_the_seller_accepted_no_agreements(emulator, agreement):
    emulator.buy()
    assert search(agreement, PartyType="Acceptor") == []


@pytest.mark.parametrize(
    "request_",
    [
        {"filters": [{"name": "Nope", "values": ["x"]}]},
        {"filters": [{"values": ["x"]}]},
        {"filters": [{"name": "Status", "values": ["x", "y"]}]},
        {"filters": [{"name": "Status", "values": ["SLEEPING"]}]},
        {"filters": [{"name": "AfterEndTime", "values": ["soon"]}]},
        {"filters": [{"name": "Status", "values": ["ACTIVE"]}] * 11},
        {"maxResults": 51},
        {"nextToken": "abc"},
        {"sort": {"sortBy": "Colour"}},
        {"sort": {"sortOrder": "UP"}},
    ],
)
def test_a_wrong_search_is_refused(emulator, request_):
    base = [{"name": "PartyType", "values": ["Proposer"]}, {"name": "AgreementType", "values": ["PurchaseAgreement"]}]
    filters = base + request_.pop("filters", [])
    answer = emulator.call(f"{SERVICE}.SearchAgreements", filters=filters, **request_)
    assert (answer.status, answer.error) == (400, "ValidationException")


def test_a_search_is_paged_and_sorted(emulator, agreement):
    for number in range(5):
        emulator.buy(PAYG)
        emulator.clock.advance(60 * (number + 1))
    base = [{"name": "PartyType", "values": ["Proposer"]}, {"name": "AgreementType", "values": ["PurchaseAgreement"]}]
    sort = {"sortBy": "StartTime", "sortOrder": "DESCENDING"}
    pages = agreement.get_paginator("search_agreements").paginate(
        filters=base, sort=sort, PaginationConfig={"PageSize": 2}
    )
    sizes, starts = [], []
    for page in pages:
        sizes.append(len(page["agreementViewSummaries"]))
        starts += [item["startTime"] for item in page["agreementViewSummaries"]]
    assert sizes == [2, 2, 1]
    assert starts == sorted(starts, reverse=True)


def test_a_description_has_no_terms(emulator, agreement):
    purchase = emulator.buy(CONTRACT, free_trial_days=14)
    found = agreement.describe_agreement(agreementId=purchase.agreement_id)
    assert found["status"] == "ACTIVE"
    assert found["proposalSummary"]["resources"] == [{"id": purchase.product.id, "type": "SaaSProduct"}]
    assert "acceptedTerms" not in found
    assert (found["freeTrialSummary"]["trialEndTime"] - found["startTime"]).days == 14


def test_pay_as_you_go_has_no_end_time(emulator, agreement):
    found = agreement.describe_agreement(agreementId=emulator.buy(PAYG).agreement_id)
    assert not {"endTime", "endTimeBehavior"} & set(found)


def test_a_free_trial_shows_in_the_terms(emulator, agreement):
    trial, paid = emulator.buy(PAYG, free_trial_days=30), emulator.buy(PAYG)

    def kinds(purchase):
        terms = agreement.get_agreement_terms(agreementId=purchase.agreement_id)["acceptedTerms"]
        assert all(len(term) == 1 for term in terms)
        return {key: value for term in terms for key, value in term.items()}

    assert kinds(trial)["freeTrialPricingTerm"]["duration"] == "P30D"
    assert "freeTrialPricingTerm" not in kinds(paid)
    assert kinds(emulator.buy(CONTRACT, auto_renew=True))["renewalTerm"]["configuration"] == {"enableAutoRenew": True}


def test_terms_are_paged(emulator, agreement):
    purchase = emulator.buy(CONTRACT)
    first = agreement.get_agreement_terms(agreementId=purchase.agreement_id, maxResults=2)
    rest = agreement.get_agreement_terms(agreementId=purchase.agreement_id, nextToken=first["nextToken"])
    whole = agreement.get_agreement_terms(agreementId=purchase.agreement_id)
    assert first["acceptedTerms"] + rest["acceptedTerms"] == whole["acceptedTerms"]


def status(agreement, agreement_id):
    (found,) = agreement.get_agreement_entitlements(agreementId=agreement_id)["agreementEntitlements"]
    return found["status"], found["statusReasonCode"]


def test_the_status_of_a_licence_follows_its_life(emulator, agreement):
    later = emulator.m.purchases.subscribe(CONTRACT, start="2026-11-23T00:00:00Z")
    assert status(agreement, later.agreement_id) == ("SCHEDULED", "FUTURE_START_DATE")
    purchase = emulator.m.purchases.subscribe(CONTRACT)
    assert status(agreement, purchase.agreement_id) == ("PENDING", "PROVISIONING_IN_PROGRESS")
    emulator.clock.advance(61)
    assert status(agreement, purchase.agreement_id) == ("PROVISIONED", "AGREEMENT_ACTIVE")
    emulator.m.purchases.suspend(purchase.account_id)
    assert status(agreement, purchase.agreement_id) == ("FAILED", "ACCOUNT_SUSPENDED")
    emulator.m.purchases.unsuspend(purchase.account_id)
    old = purchase.agreement_id
    emulator.m.purchases.renew(purchase.id)
    assert status(agreement, old) == ("DEPROVISIONED", "AGREEMENT_INACTIVE")
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(31)
    assert status(agreement, purchase.agreement_id) == ("DEPROVISIONED", "AGREEMENT_INACTIVE")


def test_a_failed_payment_shows_as_a_failed_entitlement(emulator, agreement):
    purchase = emulator.m.purchases.subscribe(CONTRACT)
    emulator.m.purchases.fail(purchase.id)
    assert status(agreement, purchase.agreement_id) == ("FAILED", "INVALID_PAYMENT_INSTRUMENT")
    assert emulator.m.purchases.state(purchase.id) == "failed"


@pytest.mark.parametrize("operation", ["describe_agreement", "get_agreement_terms", "get_agreement_entitlements"])
def test_an_unknown_agreement_is_not_found(agreement, operation):
    with pytest.raises(agreement.exceptions.ResourceNotFoundException) as caught:
        getattr(agreement, operation)(agreementId="agmt-unknown")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_an_agreement_id_is_required(emulator):
    assert emulator.call(f"{SERVICE}.DescribeAgreement").error == "ValidationException"
    assert emulator.call(f"{SERVICE}.DescribeAgreement", agreementId=5).error == "SerializationException"


def test_access_can_be_denied_per_operation(emulator, agreement):
    """Whether a proposer may call GetAgreementEntitlements is not documented."""
    emulator.m.settings.update({"access_denied": ["GetAgreementEntitlements"]})
    purchase = emulator.buy()
    with pytest.raises(agreement.exceptions.AccessDeniedException) as caught:
        agreement.get_agreement_entitlements(agreementId=purchase.agreement_id)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert agreement.describe_agreement(agreementId=purchase.agreement_id)["status"] == "ACTIVE"
