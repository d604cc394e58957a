"""What is sent to the demonstration's services: visitors and attackers, each with an address of its own.

The addresses are those that are kept for documentation (RFC 5737, RFC 3849);
``X-Forwarded-For`` names them, as a proxy on the same machine would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

VISITORS = ("192.0.2.10", "192.0.2.11", "2001:db8:1::5")
GUESSER = "203.0.113.20"
INJECTOR = "198.51.100.66"
SCANNER = "198.51.100.23"
HURRIED = "203.0.113.50"

GUESSES = 30
PATHS = 60
BURST = 30

EXPECTED = {
    "shop": {"authentication_failed", "penetration_attempt", "rate_limited"},
    "accounts": {"authentication_failed", "penetration_attempt", "access_denied", "behavioral_violation"},
    "gateway": {"penetration_attempt", "ip_blocked"},
}
"""The types of events that have to come of it, by service."""


class Clients:
    """Sends requests in the names of others."""

    def __init__(self, http: requests.Session, services: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Send to the addresses of the services, by name, and `say` what is done; ``gateway`` may be missing."""
        self._http, self._say = http, say
        self._shop, self._accounts, self._gateway = services["shop"], services["accounts"], services.get("gateway")

    def status(self, address: str, url: str) -> int:
        """Return the status of the answer that an address gets."""
        return self._http.get(url, headers={"X-Forwarded-For": address}, timeout=30).status_code

    def send_all(self) -> None:
        """Visit and attack."""
        self._say(f"{len(VISITORS)} visitors look around")
        for visitor in VISITORS:
            self.status(visitor, f"{self._shop}/items/1")
            self.status(visitor, f"{self._accounts}/profiles/ada")
        self._say(f"{GUESSER} guesses passwords")
        self._log_in(self._shop, 1)
        self._log_in(self._accounts, GUESSES)
        self._say(f"{INJECTOR} tries injections")
        searches = [f"{self._shop}/search", f"{self._accounts}/profiles/ada"]
        if self._gateway:
            searches.append(f"{self._gateway}/catalogue")
        for url in searches:
            self.status(INJECTOR, f"{url}?q=1%27%20UNION%20SELECT%20password%20FROM%20users")
        self._say(f"{SCANNER} looks for what is not linked")
        for number in range(PATHS):
            self.status(SCANNER, f"{self._accounts}/backup-{number}.zip")
        self.status(SCANNER, f"{self._accounts}/reports")
        self._say(f"{HURRIED} asks too often")
        for number in range(BURST):
            self.status(HURRIED, f"{self._shop}/items/{number}")
        if self._gateway:
            self._say(f"{HURRIED} comes from a country that the gateway blocks")
            self.status(HURRIED, f"{self._gateway}/catalogue")

    def _log_in(self, url: str, times: int) -> None:
        for number in range(times):
            guess = {"user": "ada", "password": f"guess-{number}"}
            self._http.post(f"{url}/login", json=guess, headers={"X-Forwarded-For": GUESSER}, timeout=30)
