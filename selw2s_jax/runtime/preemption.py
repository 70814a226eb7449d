"""Being told to stop: SIGTERM, or the cloud's notice, becomes one question that every long loop asks.

All processes of a run get the same answer at the same poll, whichever of them was told.
"""

import http.client
import os
import pathlib
import signal
import threading
import time
import urllib.request

from selw2s_jax.runtime import distributed

EXIT_STATUS = 75  # EX_TEMPFAIL: start the same command again

# Google Cloud says so here before it takes a spot machine; the host name is its libraries' environment variable.
_NOTICE_PATH = "/computeMetadata/v1/instance/preempted"
_NOTICE_RETRY_S = 5.0
_told = threading.Event()
_num_polls = 0


class Preempted(Exception):
    """The run was told to stop, and has saved what it needs to go on."""


def watch() -> None:
    """From now on a SIGTERM is an answer to `reached` and no longer the end of the process; so is the cloud's notice.

    With several processes JAX's coordination service has taken the signal already, and tells the others. A terminal
    that is closed (SIGHUP) tells likewise, unless the command was started by nohup.
    """
    if distributed.num_processes() == 1:
        signal.signal(signal.SIGTERM, lambda *_: _told.set())
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    if _is_on_google_cloud():
        watch_cloud_notice()


def _is_on_google_cloud() -> bool:
    """As the machine's firmware says."""
    try:
        return pathlib.Path("/sys/class/dmi/id/product_name").read_text().startswith("Google")
    except OSError:
        return False


def watch_cloud_notice(retry_s: float = _NOTICE_RETRY_S) -> None:
    """Turns Google Cloud's notice of preemption into a SIGTERM.

    Args:
        retry_s: seconds until it is asked again after it did not answer.
    """
    url = f"http://{os.environ.get('GCE_METADATA_HOST', 'metadata.google.internal')}{_NOTICE_PATH}"

    def wait() -> None:
        query = ""  # the first answer is what holds now, the others are what it changes to
        while True:
            try:
                if _ask(url + query) == "TRUE":
                    break
                query = "?wait_for_change=true"
            except (OSError, http.client.HTTPException):
                query = ""
                time.sleep(retry_s)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="preemption notice", daemon=True).start()


def _ask(url: str) -> str:
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    with urllib.request.urlopen(request) as response:
        return response.read().decode().strip().upper()


def reached() -> bool:
    """Whether to save and stop now. Every process asks equally often; once true, it stays true."""
    global _num_polls
    if distributed.num_processes() > 1 and not _told.is_set():
        from jax.experimental import multihost_utils

        _num_polls += 1
        if multihost_utils.reached_preemption_sync_point(_num_polls):
            _told.set()
    return _told.is_set()


def check(label: str) -> None:
    """Raises Preempted when it is time to stop and there is nothing to save.

    Args:
        label: what is left undone, for people.
    """
    if reached():
        raise Preempted(f"stopped before the end of {label}")
