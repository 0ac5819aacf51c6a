"""How a run ended, as it goes from the trigger to whoever ends the task."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

# Trying again may mend what is passing, and not what is lasting.
Kind = Literal["done", "lasting", "passing"]


@dataclass(frozen=True)
class End:
    """``summary`` is what the job says of itself: data, which nobody has checked."""

    kind: Kind
    message: str = ""
    hint: str = ""
    summary: dict[str, Any] | None = None

    @classmethod
    def read(cls, payload: object) -> End:
        """Return the end that :meth:`data` made; raises :class:`ValueError` for anything else."""
        return _END.validate_python(payload)

    def data(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)

    def names(self, asset: str) -> bool:
        """Return whether the asset has changed: the summary names it, or it names none at all."""
        return asset in self._assets if self._lists_assets else self.kind == "done"

    def said_of(self, asset: str) -> dict[str, Any]:
        """Return what the summary says of the asset."""
        said = self._assets.get(asset)
        return said if isinstance(said, dict) else {}

    @property
    def _lists_assets(self) -> bool:
        return isinstance((self.summary or {}).get("assets"), dict)

    @property
    def _assets(self) -> dict[str, Any]:
        return (self.summary or {})["assets"] if self._lists_assets else {}


_END = TypeAdapter(End)
