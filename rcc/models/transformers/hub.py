"""Finding out fast whether a model name can be loaded from the local cache or from the hub."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import HFValidationError, validate_repo_id

PROBE_SECONDS = 3.0
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def is_name(name: str) -> bool:
    """Whether a model on the hub can be called `name`."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def cached(name: str, weights: bool = True) -> bool:
    """Whether the config of the hub model `name`, and with `weights` its weights too, are in the local cache."""

    def there(file: str) -> bool:
        return isinstance(try_to_load_from_cache(name, file), str)

    return there("config.json") and (not weights or any(there(file) for file in WEIGHTS))


def why_unreachable(seconds: float = PROBE_SECONDS) -> str:
    """Why the hub cannot be asked, or an empty string if it answers.

    The whole probe, name look-up included, is given up after `seconds` + 1 s; proxies and HF_ENDPOINT are
    honoured.
    """
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    outcome: list[str] = []

    def ask() -> None:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
            outcome.append("")
        except urllib.error.HTTPError as error:
            # Any answer of the hub itself will do. A gateway that cannot pass the question on answers 5xx or
            # 407.
            refused = error.code >= 500 or error.code in (403, 407)
            outcome.append(f"{constants.ENDPOINT} answered {error.code} {error.reason}" if refused else "")
        except (OSError, ValueError) as error:
            outcome.append(f"{constants.ENDPOINT} could not be reached ({getattr(error, 'reason', error)})")

    # A daemon, because a name look-up cannot be interrupted and must not keep the program waiting.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    return outcome[0] if outcome else f"{constants.ENDPOINT} did not answer within {seconds + 1:.0f} s"
