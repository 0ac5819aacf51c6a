"""How a run ended, as it goes from the trigger to whoever ends the task."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    def changed(self, outlets: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the assets that have changed, by name, each with what the summary says of it.

        Those that the summary names, as far as they are among ``outlets`` or below one of them:
        ``raw_hr.staff`` is below ``raw_hr``. If it names none at all, a run that is done has
        changed all ``outlets``.
        """
        assets = (self.summary or {}).get("assets")
        if not isinstance(assets, dict):
            return {name: {} for name in outlets} if self.kind == "done" else {}
        tops = tuple(outlets)
        return {
            name: said if isinstance(said, dict) else {}
            for name, said in assets.items()
            if any(name == top or name.startswith(f"{top}.") for top in tops)
        }


_END = TypeAdapter(End)
