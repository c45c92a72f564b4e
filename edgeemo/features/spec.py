"""What every front-end's parameters have in common: a kind, and a plain form for manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from edgeemo.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class FrontEndSpec:
    """Base of the parameter sets of front-ends; subclasses are frozen dataclasses that set ``KIND``."""

    KIND: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dict, ready for a manifest; `from_json` reads it back."""
        plain = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        return {"kind": self.KIND, **plain}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Returns the spec that `to_json` wrote.

        Raises:
            InputError: the kind is another one, a field is unknown or missing, or a value cannot be used.
        """
        if plain.get("kind") != cls.KIND:
            raise InputError(f"expected a front-end of kind {cls.KIND!r}, got {plain.get('kind')!r}")
        known = {field.name for field in fields(cls)}
        given = set(plain) - {"kind"}
        if given != known:
            raise InputError(
                f"front-end {cls.KIND!r}: unknown fields {sorted(given - known)}, "
                f"missing {sorted(known - given)}; its fields are {sorted(known)}"
            )
        values = {name: tuple(v) if isinstance(v := plain[name], list) else v for name in known}
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"front-end {cls.KIND!r}: {error}") from error
