"""What must hold of a deployment after any fault: one function that returns every sentence which does not."""

from collections.abc import Iterable, Iterator, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from mlflow import MlflowClient

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import hash_text
from llambert_etl.errors import LlambertError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.registry import Registry, model_name
from llambert_etl.schemas import TABLES, AnnotationStatus, DocumentStatus, TableName
from llambert_etl.settings import Settings

# Replaced as a whole, so that all rows of a partition come from one writer.
_REPLACED: tuple[TableName, ...] = ("documents", "gold", "labels")
_ACCEPTED = pl.col("status") == DocumentStatus.ACCEPTED


def violations(
    task: LabellingTask,
    settings: Settings,
    *,
    settled: bool,
    secrets: Mapping[str, str] | None = None,
    written: Iterable[tuple[str, bytes]] = (),
) -> list[str]:
    """Return what is wrong with the task's tables, versions and champion.

    `settled`: every step has since ended well, so that nothing is behind anything else. None of the values of `secrets`
    may be in any table, nor in what else was `written`: names and contents of logs, reports, notes.
    """
    lake, registry = Lake.from_settings(settings), Registry.from_settings(settings)
    frames = {table: lake.scan(table, task.name).collect() for table in TABLES}
    found: list[str] = []
    for table, frame in frames.items():
        found += _schema(lake, settings, table)
        found += _keys(table, frame)
        found += _accounts(lake, task, table, frame)
        found += _leaks(secrets or {}, ((f"table {table}", repr(row).encode()) for row in frame.iter_rows()))
    found += _documents(frames["documents"])
    found += _annotations(task, frames["annotations"], frames["documents"])
    found += _labels(task, registry, frames["labels"], frames["documents"], settled)
    found += _champion(task, settings, registry, frames["promotions"], settled)
    found += _leaks(secrets or {}, written)
    return found


def _schema(lake: Lake, settings: Settings, table: TableName) -> Iterator[str]:
    declared = TABLES[table].schema
    delta = DeltaTable(lake.table_uri(table), storage_options=settings.storage_options)
    if not pa.schema(delta.schema()).equals(declared):
        yield f"{table}: the log's schema is not the declared one"
    inside = pa.schema([field for field in declared if field.name not in ("task", "partition")])
    for uri in delta.file_uris():
        with lake.storage.open(uri.removeprefix(f"{lake.uri}/")) as file:
            if not pq.read_schema(file).equals(inside):
                yield f"{table}: {uri} has another schema than the declared one"


def _keys(table: TableName, frame: pl.DataFrame) -> Iterator[str]:
    declared = TABLES[table]
    key = [*declared.key, *(["partition"] if declared.scope == "partition" else [])]
    rows = frame.filter(_ACCEPTED) if table == "documents" else frame  # a refused row may repeat an id: that is why
    if declared.open is not None:
        tries = rows.filter(pl.col("status") == declared.open)
        rows = rows.filter(pl.col("status") != declared.open)
        if again := tries.filter(tries.select([*key, "partition", "run"]).is_duplicated()).height:
            yield f"{table}: {again} rows are tries of one run"
    if twice := rows.filter(rows.select(key).is_duplicated()).height:
        yield f"{table}: {twice} rows share their key {key}"
    if table in _REPLACED:
        for day, runs in frame.group_by("partition").agg(pl.col("run").n_unique()).iter_rows():
            if runs != 1:
                yield f"{table} {day}: rows of {runs} runs, so more than one writer won"


def _accounts(lake: Lake, task: LabellingTask, table: TableName, frame: pl.DataFrame) -> Iterator[str]:
    """Each manifest adds up, or it could not be read; the last one of a partition counts what is there."""
    try:
        manifests = [commit.manifest for commit in lake.commits(table, task.name)]
    except LlambertError as error:
        yield f"{table}: {error}"
        return
    newest: dict[str, Manifest] = {}
    for manifest in manifests:
        if manifest is not None:
            newest.setdefault(manifest.partition, manifest)
    runs = {manifest.run for manifest in manifests if manifest is not None}
    if unknown := set(frame["run"].to_list()) - runs:
        yield f"{table}: rows of runs {sorted(unknown)[:3]}, of which no commit tells"
    if table in _REPLACED:
        for day, manifest in newest.items():
            here = frame.filter(pl.col("partition") == day).height
            if manifest.rows.get("read") != here:
                yield f"{table} {day}: {here} rows, but its manifest says {manifest.rows}"


def _documents(frame: pl.DataFrame) -> Iterator[str]:
    for row in frame.iter_rows(named=True):
        accepted = row["status"] == DocumentStatus.ACCEPTED
        where = f"documents {row['partition']} {row['source']} {row['place']}"
        if accepted and hash_text(row["text"]) != row["text_hash"]:
            yield f"{where}: the text is not that of its hash"
        if not accepted and (row["text"] is not None or not row["reason"]):
            yield f"{where}: refused, but with its text or without a reason"


def _annotations(task: LabellingTask, frame: pl.DataFrame, documents: pl.DataFrame) -> Iterator[str]:
    texts = set(documents.filter(_ACCEPTED)["text_hash"].to_list())
    for row in frame.iter_rows(named=True):
        labelled = row["status"] == AnnotationStatus.LABELLED
        made_by = (row["model"], row["revision"]) == (task.annotator.model, task.annotator.revision)
        if row["text_hash"] not in texts or not made_by or not row["prompt_hash"] or not row["parser_version"]:
            yield f"annotations {row['id']}: its text, model or prompt cannot be found"
        if (row["label"] in task.labels) is not labelled:
            yield f"annotations {row['id']}: status {row['status']} with label {row['label']!r}"


def _labels(
    task: LabellingTask, registry: Registry, frame: pl.DataFrame, documents: pl.DataFrame, settled: bool
) -> Iterator[str]:
    accepted, key = documents.filter(_ACCEPTED), ["partition", "id", "text_hash"]
    if settled and (behind := accepted.join(frame, on=key, how="anti").height):
        yield f"labels: {behind} accepted documents without one"
    if settled and (lost := frame.join(accepted, on=key, how="anti").height):
        yield f"labels: {lost} rows of no accepted document"
    for row in frame.iter_rows(named=True):
        best = max(row["probabilities"], key=lambda entry: entry["probability"])
        if row["label"] not in task.labels or (best["label"], best["probability"]) != (row["label"], row["confidence"]):
            yield f"labels {row['partition']} {row['id']}: {row['label']!r} is not what its probabilities say"
    makers = frame.select("partition", "model_name", "model_version", "config_hash").unique()
    if makers["partition"].is_duplicated().any():
        yield "labels: a partition of several model versions"
    for day, name, version, config in makers.iter_rows():
        try:
            known = registry.version(task.name, version).name == name
        except LlambertError as error:
            yield f"labels {day}: {error}"
        else:
            if not known or config != task.config_hash:
                yield f"labels {day}: made by {name} {version} and configuration {config}, which are not there"


def _champion(
    task: LabellingTask, settings: Settings, registry: Registry, moves: pl.DataFrame, settled: bool
) -> Iterator[str]:
    champion = registry.champion(task.name)
    moves = moves.sort("number")
    if champion is None:
        if moves.height or settled:
            yield f"champion: none, but {moves.height} moves are entered"
        return
    client = MlflowClient(settings.mlflow_uri, settings.mlflow_uri)
    status = client.get_model_version(model_name(task.name), str(champion.version)).status
    if status != "READY":
        yield f"champion {champion.version}: its status is {status}"
    try:
        registry.download(champion)
    except LlambertError as error:
        yield f"champion: {error}"
    if not settled:
        return
    chain = moves.select("from_version", "to_version").rows()
    if not chain or chain[-1][1] != champion.version:
        yield f"champion: version {champion.version}, but the moves entered are {chain}"
    if [before for before, _ in chain[1:]] != [to for _, to in chain[:-1]] or any(before == to for before, to in chain):
        yield f"promotions: {chain} is no chain of moves"
    if moves["number"].to_list() != list(range(1, moves.height + 1)):
        yield f"promotions: the moves are numbered {moves['number'].to_list()}"


def _leaks(secrets: Mapping[str, str], written: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    for where, content in written:
        for name, value in secrets.items():
            if value.encode() in content:
                yield f"{where}: holds the secret {name}"
