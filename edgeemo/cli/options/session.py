"""What a command knows of the model before it opens a session, and the settings that it changes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from edgeemo.bundle import Bundle
from edgeemo.cli.exit_codes import UsageError
from edgeemo.cli.options.values import setting
from edgeemo.errors import InputError
from edgeemo.sensors.drop import Drop, check_modality
from edgeemo.session import Settings
from edgeemo.session.settings import settings_from_thresholds, settings_with
from edgeemo.shipped import DEFAULT_BUNDLE


def add_settings_option(parser: argparse._ActionsContainer) -> None:
    """Adds ``--set``."""
    parser.add_argument(
        "--set",
        action="append",
        type=setting,
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the session, such as hop_s=0.25; repeatable",
    )


def bundle_from_options(args: argparse.Namespace) -> Bundle:
    """Returns the bundle that ``--bundle`` names, or the one that ships.

    Raises:
        BundleError: there is none, or it cannot be used.
    """
    return Bundle.open(args.bundle or DEFAULT_BUNDLE)


def settings_from_options(args: argparse.Namespace, bundle: Bundle) -> Settings:
    """Returns the bundle's settings with those that ``--set`` changes.

    Raises:
        UsageError: there is no such setting, or it cannot have that value.
    """
    own = settings_from_thresholds(bundle.manifest.thresholds)
    try:
        return settings_with(own, dict(args.set))
    except InputError as error:
        raise UsageError(f"--set: {error}") from None


def check_drops(drops: Sequence[Drop], bundle: Bundle) -> None:
    """Refuses a rehearsed failure of what the model does not listen to.

    Raises:
        UsageError: there is no such modality.
    """
    try:
        for drop in drops:
            check_modality(drop, bundle.manifest.order)
    except InputError as error:
        raise UsageError(f"--drop {error}") from None
