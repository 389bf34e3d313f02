"""What the demo prints at its end."""

import io

from rich.console import Console

from laptop.demo.report import WIDTH, show
from laptop.demo.summary import (
    Accuracy,
    Night,
    Prediction,
    Refusal,
    Runs,
    Stage,
    Step,
    Summary,
    Trained,
)

SUMMARY = Summary(
    task="movie_sentiment",
    annotator="HuggingFaceTB/SmolLM2-135M-Instruct",
    encoder="sentence-transformers/all-MiniLM-L6-v2",
    champion=3,
    stages=[
        Stage(partition="2026-11-10", landed=6_404, accepted=6_404, rejected=0, labelled=6_404, model_versions=[3]),
        Stage(partition="2026-11-12", landed=3_218, accepted=3_202, rejected=16, labelled=3_202, model_versions=[3]),
    ],
    annotations={"labelled": 1_990, "unparsed": 10},
    gold={"test": 1_000, "train": 500},
    refusals=[
        Refusal(partition="2026-11-12", reason="text_blank", count=1, example="partner.jsonl.gz, line 10"),
    ],
    accuracy=[
        Accuracy(who="LLM", on="gold rows in its sample", right=190, of=235),
        Accuracy(who="encoder", on="gold, test rows (never learnt from)", right=798, of=1_000),
    ],
    trained=[
        Trained(
            strategy="llm",
            version=None,
            metrics={"gold.accuracy": 0.774, "gold.macro_f1": 0.77, "gold.ece": 0.05},
            decision="what version 3 was before it saw gold",
        ),
        Trained(
            strategy="gold",
            version=2,
            metrics={"gold.accuracy": 0.759, "gold.macro_f1": 0.75, "gold.ece": 0.05},
            decision="kept",
        ),
        Trained(
            strategy="combined",
            version=3,
            metrics={"gold.accuracy": 0.798, "gold.macro_f1": 0.79, "gold.ece": 0.009, "gold.ece_mass": 0.044},
            decision="promoted",
        ),
    ],
    steps=[
        Step(
            partition="2026-11-10",
            dag="retrain",
            step="annotate",
            run="asset__1",
            rows=2_000,
            seconds=72.0,
            in_airflow=84.0,
        ),
        Step(
            partition="2026-11-10",
            dag="label",
            step="plan",
            run="asset__2",
            rows=0,
            seconds=0.4,
            in_airflow=4.0,
        ),
    ],
    last_night=Night(partition="2026-11-12", documents=3_202, inferred=3_190, reused=12, llm_calls=0, seconds=61.0),
    runs=Runs(rows_by_kind={"asset_triggered": 9_606}, unlisted=[]),
    predictions=[Prediction(text="A [quiet] triumph.", label="positive", probabilities={"positive": 0.97})],
    parts={"servers": 41.0, "night 1": 212.0},
    lake="s3://lake",
    s3_endpoint="http://127.0.0.1:12345",
    seconds=512.0,
    machine="2 cores, native bf16",
)


def printed(summary: Summary) -> str:
    out = io.StringIO()
    show(summary, Console(file=out, width=WIDTH))
    return out.getvalue()


def test_report_accounts_for_rows_refusals_quality_cost_and_place() -> None:
    lines = [" ".join(line.split()) for line in printed(SUMMARY).splitlines()]
    assert "2026-11-12 3,218 16 3,202 3,202 3" in lines
    assert "all 9,622 16 9,606 9,606" in lines
    assert "2026-11-12 text_blank 1 partner.jsonl.gz, line 10" in lines
    assert "LLM gold rows in its sample 190 235 80.9%" in lines
    assert "2026-11-10 retrain annotate 2,000 72.0 28 84.0" in lines
    assert (
        "3,202 new documents: 3,190 inferred, 12 reused, 0 LLM calls, 61 s of work; no other day was touched" in lines
    )
    assert any('pl.scan_delta("s3://lake/labels"' in line for line in lines)


def test_champion_is_marked_among_the_ways_to_train_which_stand_worst_first() -> None:
    rows = [line for line in printed(SUMMARY).splitlines() if "LLM labels" in line or "gold labels alone" in line]
    assert [row.strip().split("  ")[0] for row in rows] == [
        "500 gold labels alone",
        "LLM labels alone",
        "LLM labels, then gold",
    ]
    assert "promoted, champion" in rows[2]
    assert "0.009, 0.044" in rows[2]


def test_text_of_a_review_cannot_style_the_report() -> None:
    assert "A [quiet] triumph." in printed(SUMMARY)


def test_no_line_is_wider_than_the_page() -> None:
    assert max(len(line) for line in printed(SUMMARY).splitlines()) <= WIDTH
