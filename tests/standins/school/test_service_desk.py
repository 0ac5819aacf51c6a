"""The desk is busy in exam months, keeps most of its promises, and answers before it resolves."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

DATABASE, SCALE = "service_desk", 0.5

# Each ticket's first answer: the earliest comment that is for all to see and not the requester's.
ANSWERS = r"""
WITH answers AS (
  SELECT t.id, min(c.created_at) AS answered_at FROM tickets t JOIN comments c ON c.ticket_id = t.id
  WHERE NOT internal AND upper(trim(both E' \t' FROM author))
                         <> upper(trim(both E' \t' FROM requester))
  GROUP BY 1
)
"""


def rows(connection: Connection, query: str) -> list[Any]:
    return connection.execute(query.encode()).fetchall()


def test_every_priority_has_its_targets(school: Connection) -> None:
    found = rows(
        school, "SELECT priority, first_answer, resolution FROM service_targets ORDER BY 1"
    )
    assert found == [
        (1, timedelta(hours=1), timedelta(hours=8)),
        (2, timedelta(hours=4), timedelta(days=2)),
        (3, timedelta(days=1), timedelta(days=5)),
        (4, timedelta(days=2), timedelta(days=15)),
    ]


def test_three_years_of_tickets_follow_the_terms_and_grow(school: Connection) -> None:
    ((first, last),) = rows(
        school, "SELECT min(opened_at)::date, max(opened_at)::date FROM tickets"
    )
    assert (str(first)[:7], str(last)) == ("2023-11", "2026-11-20")
    by_month = dict(
        rows(
            school,
            "SELECT extract(month FROM opened_at)::int, count(*) FROM tickets"
            " WHERE opened_at >= '2023-11-21' AND opened_at < '2026-11-21' GROUP BY 1",
        )
    )
    quiet = max(by_month[8], by_month[12])
    assert all(by_month[busy] > 2 * quiet for busy in (1, 3, 7, 9, 11))
    assert quiet < min(count for month, count in by_month.items() if month not in {8, 12})
    older, newer = rows(
        school,
        "SELECT count(*) FILTER (WHERE opened_at < '2024-11-21'),"
        " count(*) FILTER (WHERE opened_at >= '2025-11-21') FROM tickets",
    )[0]
    assert newer > 1.1 * older


def test_urgent_tickets_are_resolved_sooner_in_the_median(school: Connection) -> None:
    found = rows(
        school,
        "SELECT priority, percentile_cont(0.5) WITHIN GROUP (ORDER BY closed_at - opened_at),"
        " avg((closed_at - opened_at <= resolution)::int)"
        " FROM tickets JOIN service_targets USING (priority) WHERE closed_at IS NOT NULL"
        " GROUP BY 1 ORDER BY 1",
    )
    assert len(found) == 4
    assert all(sooner[1] < later[1] for sooner, later in pairwise(found))
    assert all(0.6 < kept < 0.95 for *_, kept in found)


def test_a_server_takes_longer_than_a_projector(school: Connection) -> None:
    medians = dict(
        rows(
            school,
            "SELECT a.kind::text,"
            " percentile_cont(0.5) WITHIN GROUP (ORDER BY closed_at - opened_at)"
            " FROM tickets t JOIN assets a ON a.id = asset_id WHERE priority = 3 GROUP BY 1",
        )
    )
    assert medians["server"] > 1.5 * medians["projector"]
    assert medians["printer"] > medians["laptop"]


def test_most_of_what_is_a_month_old_is_closed_and_some_was_forgotten(school: Connection) -> None:
    ((closed, opened),) = rows(
        school, "SELECT count(closed_at), count(*) FROM tickets WHERE opened_at < '2026-10-01'"
    )
    assert 0.9 * opened < closed < opened


def test_first_answers_come_by_priority_after_the_question_and_before_the_end(
    school: Connection,
) -> None:
    found = rows(
        school,
        ANSWERS + "SELECT priority, avg((answered_at IS NOT NULL)::int),"
        " percentile_cont(0.5) WITHIN GROUP (ORDER BY answered_at - opened_at),"
        " avg((answered_at - opened_at <= first_answer)::int)"
        " FROM tickets JOIN service_targets USING (priority) LEFT JOIN answers USING (id)"
        " WHERE closed_at IS NOT NULL GROUP BY 1 ORDER BY 1",
    )
    assert all(0.75 < answered < 0.98 for _, answered, _, _ in found)
    assert all(sooner[2] < later[2] for sooner, later in pairwise(found))
    assert all(0.6 < kept < 0.95 for *_, kept in found)
    ((too_early, too_late, answers),) = rows(
        school,
        ANSWERS + "SELECT count(*) FILTER (WHERE answered_at < opened_at),"
        " count(*) FILTER (WHERE answered_at > closed_at), count(*)"
        " FROM tickets JOIN answers USING (id)",
    )
    assert too_early == 0
    assert too_late < 0.05 * answers


def test_comments_follow_one_another_and_requesters_speak_too(school: Connection) -> None:
    backwards = (
        "SELECT count(*) FROM comments a JOIN comments b ON b.ticket_id = a.ticket_id"
        " AND b.position = a.position + 1 WHERE b.created_at < a.created_at"
    )
    assert rows(school, backwards) == [(0,)]
    ((own, everything),) = rows(
        school,
        r"SELECT count(*) FILTER (WHERE upper(trim(both E' \t' FROM author))"
        r" = upper(trim(both E' \t' FROM requester))), count(*)"
        " FROM comments c JOIN tickets t ON t.id = ticket_id",
    )
    assert 0.15 < own / everything < 0.5
