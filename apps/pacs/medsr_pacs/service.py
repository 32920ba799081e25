"""The listener: takes series, upscales each when it is complete, and sends the result, one at a time."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pynetdicom import evt

from medsr_monai.system.errors import InputError
from medsr_pacs.arrivals import Arrivals
from medsr_pacs.configuration import open_remote
from medsr_pacs.delivery import deliver, derived_files
from medsr_pacs.durable import make_folder, move, sync_files
from medsr_pacs.identifiers import is_loopback
from medsr_pacs.instances import VOLUMES, Instance
from medsr_pacs.journal import say
from medsr_pacs.remote import UnreachableError
from medsr_pacs.settings import ListenSettings, Settings
from medsr_pacs.spool import Spool, names_in
from medsr_pacs.storage import LEFT_ASIDE, Refusal, application, serving, take
from medsr_pacs.tls import server_context
from medsr_pacs.upscaling import InterruptedUpscalingError, Upscale, UpscaleProcess

LONGEST_PAUSE = 600.0
TICK = 0.2


class Service(contextlib.ExitStack):
    """The whole listener. A context manager: within it, images are taken; :meth:`run` works at them.

    Args:
        configuration: with a table ``[listen]``.
        upscale: what upscales a folder; None for the bundle in a process of its own.

    Raises:
        InputError: there is no ``[listen]``, the folder or the port cannot be had, a certificate is none.
    """

    def __init__(self, configuration: Settings, upscale: Upscale | None = None) -> None:
        super().__init__()
        if configuration.listen is None:
            raise InputError(f"{configuration.file}: listen: is missing; describe the listener as [listen]")
        self.settings: ListenSettings = configuration.listen
        self.remote = open_remote(configuration, self.settings.destination)
        self._upscale = upscale or UpscaleProcess(configuration.upscale.model_dump(exclude_none=True))
        tls = server_context(self.settings.tls) if self.settings.tls else None
        self.spool = Spool(self.settings.folder, self.settings)
        self.callback(self.spool.close)
        self._arrivals = Arrivals(self.settings.quiet_seconds, self.settings.complete_on_release)
        self._retry_at: dict[str, tuple[float, float]] = {}
        self._stop = threading.Event()
        entity = application(configuration, self.settings.calling_ae_titles, self.settings.max_associations)
        handlers = [
            (evt.EVT_C_STORE, take, [self._store]),
            (evt.EVT_RELEASED, self._closed, [True]),
            (evt.EVT_ABORTED, self._closed, [False]),
            (evt.EVT_CONN_CLOSE, self._closed, [False]),
            (evt.EVT_REJECTED, lambda event: say("refused a connection: AE titles, or too many at once")),
        ]
        address = (self.settings.host, self.settings.port)
        self._server = serving(entity, address, VOLUMES, handlers, self.settings.max_instance_mb * 1e6, tls)

    def __enter__(self) -> Service:
        settings = self.settings
        for key in self.spool.keys("incoming"):
            self._arrivals.arrived(key)
        try:
            self.port = self.enter_context(self._server)
        except InputError:
            self.close()
            raise
        self.callback(self.stop)
        counts = [f"{len(self.spool.keys(state))} series {state}" for state in ("incoming", "ready", "failed")]
        say(f"listening on {settings.host}:{self.port}{' with TLS' if settings.tls else ''}, {', '.join(counts)}")
        if not is_loopback(settings.host) and settings.tls is None:
            say("warning: other machines can connect, and what they send is not encrypted; see [listen.tls]")
        return self

    def stop(self) -> None:
        """Let :meth:`run` end soon; a series that is being upscaled is taken up again at the next start."""
        self._stop.set()
        if isinstance(self._upscale, UpscaleProcess):
            self._upscale.stop()

    def _store(self, instance: Instance, data: Any, connection: Any) -> None:
        """Keep an instance that arrived."""
        if instance.is_own_result:
            # A warning: an archive that pushes a whole study would stop at a failure, and what comes after never come.
            raise Refusal(LEFT_ASIDE, "it is a result of this program")
        self._arrivals.arrived(self.spool.store(instance, data), connection)

    def _closed(self, event: Any, in_order: bool) -> None:
        self._arrivals.closed(event.assoc, in_order)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Work until :meth:`stop` is called, or `until` says so."""
        while not self._stop.is_set() and not until():
            try:
                busy = self.step()
            except OSError as error:  # a full or failing disk; the series stay where they are
                say(f"cannot go on now: {error.strerror or type(error).__name__}")
                busy = False
                self._stop.wait(min(5.0, self.settings.retry_seconds))
            if not busy:
                self._stop.wait(TICK)

    def step(self) -> bool:
        """Do one thing that is due; returns whether there was one."""
        self._take_complete()
        self.spool.drop_kept(self.settings.keep_seconds)
        now = time.monotonic()
        for key in self.spool.keys("ready"):
            if self._retry_at.get(key, (0.0, 0.0))[0] <= now:
                self._process(key)
                return True
        return False

    def _take_complete(self) -> None:
        for key in self._arrivals.complete():
            n_images = len(names_in(self.spool.folder("incoming", key)))
            outcome = self.spool.complete(key)
            if outcome == "busy":
                continue  # asked again at the next step
            self._arrivals.forget([key])
            if self.spool.folder("incoming", key).exists() and outcome != "lacking":
                self._arrivals.arrived(key)  # an image came between the two
            say(f"series {key}: {n_images} images, {outcome}")
            if outcome == "lacking":
                reason = "images came after the series was done, and the others are no longer kept; send all again"
                self._fail("incoming", key, reason)

    def _fail(self, state: str, key: str, reason: str) -> None:
        self.spool.fail(state, key, reason)
        self._retry_at.pop(key, None)
        say(f"series {key}: failed: {reason}")

    def _process(self, key: str) -> None:
        """Upscale and send one series."""
        source, keep = self.spool.folder("ready", key), self.settings.keep_seconds > 0
        record = self.spool.record(key)
        if record and set(record["instances"]) == names_in(source):  # sent, and then killed
            self.spool.tidy(key, keep)
            return
        try:
            if not self.spool.folder("result", key).exists():
                self._make(key, source)
            started = time.monotonic()
            # A series that was done before may be there under the same UIDs, with the older images.
            n_images = deliver(self.spool.folder("result", key), self.remote, ask_first=record is None)
        except InterruptedUpscalingError:
            return
        except OSError as error:
            self._later(key, error.strerror or type(error).__name__)
        except UnreachableError as error:
            self._later(key, str(error))
        except InputError as error:
            if self.spool.disk_is_full:
                self._later(key, "the disk is full (min_free_gb)")
            else:
                self._fail("ready", key, str(error))
        else:
            self.spool.finish(key, n_images, keep)
            self._retry_at.pop(key, None)
            say(f"series {key}: {n_images} images sent to {self.remote.name} in {time.monotonic() - started:.1f} s")

    def _make(self, key: str, source: Path) -> None:
        """Upscale into ``result``."""
        started = time.monotonic()
        target = self.spool.root / "work" / f"{key}-{time.monotonic_ns()}"
        log = target.with_name(f"{target.name}.log")
        try:
            self._upscale(source, target)
            make_folder(target)
            derived_files(target)
            sync_files(target)
            move(target, self.spool.folder("result", key))
        except (InterruptedUpscalingError, OSError):
            raise
        except Exception as error:  # whatever is injected must not end the service
            if log.exists():
                log.replace(source / "upscaling.log")
            if isinstance(error, InputError):
                raise
            raise InputError(f"upscaling failed ({type(error).__name__})") from error
        finally:
            log.unlink(missing_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            self.spool.recount()
        say(f"series {key}: upscaled in {time.monotonic() - started:.1f} s")

    def _later(self, key: str, reason: str) -> None:
        pause = min(2 * self._retry_at.get(key, (0.0, self.settings.retry_seconds / 2))[1], LONGEST_PAUSE)
        self._retry_at[key] = (time.monotonic() + pause, pause)
        say(f"series {key}: {reason}; again in {pause:g} s")
