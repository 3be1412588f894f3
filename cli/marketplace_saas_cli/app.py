"""Every command of `marketplace-saas`, in one place."""

import typer

from marketplace_saas_cli.arguments import HELP
from marketplace_saas_cli.commands import (
    approvals,
    correct,
    differences,
    doctor,
    finance,
    queue,
    resolve,
    shadow,
    statement,
    status,
    subscriptions,
    trace,
    upkeep,
    usage,
)

APP = typer.Typer(
    name="marketplace-saas",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
APP.command()(doctor.doctor)
APP.command()(status.status)
APP.command()(trace.trace)
APP.command()(finance.reconcile)
APP.command()(shadow.shadow)
APP.command()(statement.statement)
APP.command()(finance.forecast)
APP.command()(usage.retry)
APP.command()(correct.void)
APP.command()(correct.correct)
APP.command()(resolve.resolve)
APP.command()(upkeep.rebuild)
APP.command()(upkeep.migrate)
APP.command()(upkeep.run)
APP.command("put-back")(upkeep.put_back)
APP.add_typer(subscriptions.APP, name="subscriptions")
APP.add_typer(usage.APP, name="usage")
APP.add_typer(approvals.APP, name="approvals")
APP.add_typer(differences.APP, name="differences")
APP.add_typer(queue.APP, name="queue")


@APP.callback(help=f"Marketplace SaaS, for whoever is on duty and for finance.\n\n{HELP}")
def _common() -> None:
    """The common options are read before Typer reads the rest (marketplace_saas_cli.arguments)."""
