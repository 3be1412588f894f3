"""ResolveCustomer. Sources: ResolveCustomer API reference, Seller Guide "saas-product-customer-setup"."""

import pytest
from botocore.exceptions import ClientError

CONTRACT, LEGACY = "ca1contractandconsumption", "legacysubscriptionproduct"
RESOLVE = "AWSMPMeteringService.ResolveCustomer"


def test_a_concurrent_agreements_token_gives_licence_account_and_agreement(emulator, metering):
    purchase = emulator.buy(CONTRACT)
    answer = metering.resolve_customer(RegistrationToken=emulator.m.registration_token(purchase.id))
    assert answer["CustomerIdentifier"] == ""
    assert answer["ProductCode"] == CONTRACT
    assert answer["CustomerAWSAccountId"] == "111122223333"
    assert answer["LicenseArn"] == purchase.license_arn
    assert answer["Metadata"] == {"AgreementId": purchase.agreement_id}


def test_a_legacy_token_gives_a_customer_identifier_and_no_licence(emulator, metering):
    purchase = emulator.buy(LEGACY)
    answer = metering.resolve_customer(RegistrationToken=emulator.m.registration_token(purchase.id))
    assert answer["CustomerIdentifier"] == purchase.customer_identifier != ""
    assert answer["CustomerAWSAccountId"] == "111122223333"
    assert not {"LicenseArn", "Metadata"} & set(answer)


def test_metadata_is_optional(emulator, metering):
    emulator.m.settings.update({"resolve_metadata": False})
    token = emulator.m.registration_token(emulator.buy().id)
    assert "Metadata" not in metering.resolve_customer(RegistrationToken=token)


def test_a_token_gives_the_same_answer_until_it_expires(emulator):
    token = emulator.m.registration_token(emulator.buy().id)
    first = emulator.call(RESOLVE, RegistrationToken=token).json()
    emulator.clock.advance(4 * 3600 - 1)
    assert emulator.call(RESOLVE, RegistrationToken=token).json() == first
    emulator.clock.advance(1)
    assert emulator.call(RESOLVE, RegistrationToken=token).error == "ExpiredTokenException"


def test_expired_and_invalid_tokens_are_told_apart(emulator, metering):
    token = emulator.m.registration_token(emulator.buy().id, lifetime=60)
    emulator.clock.advance(60)
    with pytest.raises(metering.exceptions.ExpiredTokenException):
        metering.resolve_customer(RegistrationToken=token)
    with pytest.raises(metering.exceptions.InvalidTokenException):
        metering.resolve_customer(RegistrationToken=token + "x")


def test_a_missing_or_empty_token_is_a_validation_error(emulator, metering):
    assert emulator.call(RESOLVE).error == "ValidationException"
    with pytest.raises(ClientError, match="ValidationException"):
        metering.resolve_customer(RegistrationToken="")
    assert emulator.call(RESOLVE, RegistrationToken=7).error == "SerializationException"


def test_a_resubmitted_token_can_be_made_to_expire(emulator):
    emulator.m.settings.update({"token_single_use": True})
    token = emulator.m.registration_token(emulator.buy().id)
    assert emulator.call(RESOLVE, RegistrationToken=token).status == 200
    assert emulator.call(RESOLVE, RegistrationToken=token).error == "ExpiredTokenException"


def test_a_token_of_the_agreement_api_lives_thirty_minutes(emulator, agreement):
    purchase = emulator.buy()
    found = agreement.get_agreement_entitlements(agreementId=purchase.agreement_id)["agreementEntitlements"]
    token = found[0]["registrationToken"]
    emulator.clock.advance(1799)
    assert emulator.call(RESOLVE, RegistrationToken=token).status == 200
    emulator.clock.advance(1)
    assert emulator.call(RESOLVE, RegistrationToken=token).error == "ExpiredTokenException"


def test_a_token_resolves_before_the_licence_is_active(emulator):
    purchase = emulator.m.purchases.subscribe()
    token = emulator.m.registration_token(purchase.id)
    assert emulator.call(RESOLVE, RegistrationToken=token).json()["LicenseArn"] == purchase.license_arn
    assert emulator.m.purchases.state(purchase.id) == "pending"


def test_a_token_needs_form_encoding(emulator):
    token = emulator.m.registration_token(emulator.buy().id)
    assert {"+", "/", "="} <= set(token)


def test_the_token_lifetime_is_a_setting(emulator):
    emulator.m.settings.update({"token_lifetime_seconds": 3600})
    token = emulator.m.registration_token(emulator.buy().id)
    emulator.clock.advance(3600)
    assert emulator.call(RESOLVE, RegistrationToken=token).error == "ExpiredTokenException"
