"""Open an archive of the configuration, whichever way it speaks."""

from __future__ import annotations

from medsr_pacs.configuration import Configuration
from medsr_pacs.remote import Remote


def open_remote(configuration: Configuration, name: str | None = None) -> Remote:
    """The archive of this name, ready to be asked; nothing is sent yet.

    Raises:
        InputError: no such archive, a certificate that is none, or a secret that is not in the environment.
    """
    chosen = configuration.choose(name)
    settings = configuration.remotes[chosen]
    if settings.kind == "dimse":
        from medsr_pacs.dimse import DimseRemote

        return DimseRemote(chosen, settings, configuration.network)
    from medsr_pacs.dicomweb import WebRemote

    return WebRemote(chosen, settings)
