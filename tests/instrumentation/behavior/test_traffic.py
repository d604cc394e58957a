"""Generated attackers and innocents among ordinary people: who of them is told, by one process and by four that share.

A part of what `make detection` counts, chosen to take seconds.
"""

from __future__ import annotations

import pytest
from traffic import against_logins, benign, floods, fourth, payloads, scans, second, third_attacks, third_benign
from traffic.asking import Actor
from traffic.scene import CommonMemory, Fleet, play

FOUND: dict[type[Actor], str] = {
    against_logins.GuessingEveryTenSeconds: "brute_force",
    against_logins.GuessingAmongOtherRequests: "brute_force",
    against_logins.GuessingAnswered200: "login_attempts",
    against_logins.SuccessAfterGuessing: "success_after_failures",
    against_logins.StuffingFrom500Addresses: "logins_from_many_addresses",
    against_logins.SprayOverA48: "logins_from_many_addresses",
    against_logins.OneUserReported: "distributed_brute_force",
    scans.ScanEvery13Seconds: "scanning",
    scans.ScanFromManyAddresses: "paths_from_many_addresses",
    scans.EnumerationOfNothing: "missing_objects",
    scans.Fuzzing: "refused_submissions",
    third_attacks.KeysInAHeader: "guessed_credentials",
    third_attacks.KeysThatAreForbidden: "guessed_credentials",
    fourth.KeysInTheQuery: "guessed_credentials",
    third_attacks.ResetsOfNobody: "refused_submissions",
    third_attacks.GiftCards: "objects_from_many_addresses",
    third_attacks.AccountsOfOthers: "missing_objects",
}
INNOCENT: tuple[type[Actor], ...] = (
    benign.RetryingPhone,
    benign.OfficeInTheMorning,
    benign.SessionsThatEnd,
    benign.LinkPreviewers,
    benign.SignUpForm,
    benign.ForgetfulPerson,
    benign.CrawlerAfterAMigration,
    second.GalleryThatIsScrolled,
    second.PasswordsExpire,
    third_benign.PhonesAfterAnOutage,
    third_benign.SmokeTests,
    third_benign.ProxyAtNine,
    third_benign.VpnWhoseTokensEnd,
)


@pytest.mark.parametrize("actor", FOUND, ids=lambda actor: actor.name())
@pytest.mark.parametrize("workers", [1, 4])
def test_an_attack_is_found_and_told_a_few_times(actor: type[Actor], workers: int) -> None:
    outcome = play(actor(), 1, Fleet(workers, CommonMemory() if workers > 1 else None))
    assert FOUND[actor] in outcome.patterns
    incidents = [told for told in outcome.found if "incident" in told.event["metadata"]]
    assert len(incidents) <= 2 + actor.seconds / 60, "once a minute at most, and what is more specific at once"
    assert outcome.innocent == []


@pytest.mark.parametrize("actor", INNOCENT, ids=lambda actor: actor.name())
@pytest.mark.parametrize("workers", [1, 4])
def test_an_innocent_is_not_accused(actor: type[Actor], workers: int) -> None:
    outcome = play(actor(), 1, Fleet(workers, CommonMemory() if workers > 1 else None))
    assert [told.event for told in (*outcome.found, *outcome.innocent)] == []


def test_the_sets_are_as_large_as_what_is_said_of_them() -> None:
    attacks = (*against_logins.ACTORS, *scans.ACTORS, *payloads.ACTORS, *floods.ACTORS)
    assert (len(set(attacks)), len(set(benign.ACTORS))) == (47, 22)
    assert min(len(second.ATTACKS), len(second.BENIGN)) >= 10
    assert (len(set(third_attacks.ATTACKS)), len(set(third_benign.BENIGN))) == (25, 18)
    assert (len(set(fourth.ATTACKS)), len(set(fourth.BENIGN))) == (12, 12)


def test_the_same_seed_is_the_same_traffic() -> None:
    def told(seed: int) -> list[float]:
        outcome = play(against_logins.GuessingWithManyAgents(), seed, Fleet(1))
        return [one.at for one in outcome.found]

    assert told(3) == told(3)
    assert told(3) != told(4)


def test_apps_that_ask_for_a_renamed_interface_are_one_burst() -> None:
    outcome = play(third_benign.RenamedVersion(), 1, Fleet(1))
    assert outcome.patterns == ["not_found_burst"]
    assert len(outcome.found) == 1
