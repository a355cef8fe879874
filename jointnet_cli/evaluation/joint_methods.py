"""The models of a table's rows, of which one at a time is in memory."""

from __future__ import annotations

from functools import lru_cache

from jointnet_cli.devices import choose_device, choose_dtype
from jointnet_cli.engine import Engine
from jointnet_cli.errors import UserError
from jointnet_cli.evaluation.runner import needed_by_all
from jointnet_cli.model.hub import find_model


class Model:
    """A row's model: looked up now, opened when it is first wanted.

    Args:
        name: a folder, a zip, a name on the hub; empty is `diorama`.
        base: what a checkpoint in the published layout was trained from.
        device: where it computes; `None` chooses.
        dtype: its precision; `None` chooses.

    Raises:
        UserError: there is no such model.
    """

    def __init__(
        self, name: str, *, base: str | None = None, device: str | None = None, dtype: str | None = None
    ) -> None:
        self.name = name or "diorama"
        self.folder = find_model(self.name, base)
        self._base, self._device, self._dtype = base, device, dtype

    def require(self, branch: str) -> None:
        """Refuse a model without a branch.

        Raises:
            UserError: it has none.
        """
        if branch not in self.folder.branches:
            have = ", ".join(self.folder.branches)
            raise UserError(f"{self.name} has no {branch} branch", hint=f"it has {have}")

    @property
    def place(self) -> str:
        """The kind of device, and the precision."""
        device = choose_device(self._device)
        return f"{device.type} {choose_dtype(self._dtype, device)}"

    @property
    def engine(self) -> Engine:
        """The model in memory, in the place of the one that was wanted before.

        Raises:
            RowFault: it cannot be opened.
        """
        with needed_by_all():
            return _open(self.name, self._base, self._device, self._dtype)


@lru_cache(maxsize=1)
def _open(name: str, base: str | None, device: str | None, dtype: str | None) -> Engine:
    return Engine.open(name, base=base, device=device, dtype=dtype)
