"""The seller's role in another account: whose credentials the calls of AWS Marketplace carry when the product was
published from an account other than the deployment's.

Credentials last an hour, the most that AWS gives a role that assumes another one (IAM User Guide: role chaining).
botocore asks for new ones 15 minutes before their end, and makes calls wait for them from 10 minutes before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.credentials import DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError

from marketplace.platform import clock
from marketplace.platform.aws_errors import SellerRoleError
from marketplace.platform.settings import Settings

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger, Metrics

METHOD = "assume-role"


@dataclass(frozen=True, slots=True, eq=False)
class SellerRole:
    """The role to assume. `assumed` is told the ARN of each session, which names account, role and session; `failed`
    the code of each failure, before anybody else hears of it."""

    arn: str
    external_id: str = ""
    session_name: str = "marketplace-saas"
    assumed: Callable[[str], None] = lambda _: None
    failed: Callable[[str], None] = lambda _: None

    @property
    def account(self) -> str:
        """The account in whose name AWS Marketplace is called."""
        return self.arn.split(":")[4]


def credentials(role: SellerRole, sts: Any) -> DeferredRefreshableCredentials:
    """Credentials of the role, fetched when the first call needs them and again before they end.

    A call that needs new ones and gets none raises SellerRoleError.
    """

    def failure(code: str) -> SellerRoleError:
        role.failed(code)
        return SellerRoleError(provider=METHOD, error_msg=code)

    def fetch() -> dict[str, str]:
        asked: dict[str, Any] = {"RoleArn": role.arn, "RoleSessionName": role.session_name}
        if role.external_id:
            asked["ExternalId"] = role.external_id
        try:
            answer = sts.assume_role(**asked)
            given, session = answer["Credentials"], answer["AssumedRoleUser"]["Arn"]
            expires = given["Expiration"]
        except ClientError as error:
            # `from None`: botocore logs the failure with its cause, and STS's text names roles and policies.
            raise failure(str(error.response.get("Error", {}).get("Code", "Unknown"))) from None
        except (BotoCoreError, KeyError) as error:
            raise failure(type(error).__name__) from None
        if expires <= _now():
            raise failure("CredentialsAlreadyExpired")
        role.assumed(session)
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": expires.isoformat(),
        }

    return DeferredRefreshableCredentials(refresh_using=fetch, method=METHOD, time_fetcher=_now)


def seller_role(settings: Settings, logger: "Logger", metrics: "Metrics") -> SellerRole | None:
    """The role of the deployment's settings, or None. Every line that `logger` writes from now on says in whose account
    AWS Marketplace is called; a failure is the metric SellerRoleFailed."""
    if not settings.seller_role_arn:
        return None

    def assumed(session: str) -> None:
        logger.info("seller role assumed", extra={"session": session})

    def failed(code: str) -> None:
        metrics.add_metric(name="SellerRoleFailed", unit="Count", value=1)
        logger.error("seller role not assumed", extra={"error": code})

    role = SellerRole(
        settings.seller_role_arn,
        settings.seller_role_external_id,
        f"marketplace-saas-{settings.stage}",
        assumed,
        failed,
    )
    logger.append_keys(seller_account=role.account)
    return role


def _now() -> datetime:
    return clock.utc_now()
