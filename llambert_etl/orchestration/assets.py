"""The assets of a labelling task. An event on one of them carries a partition key, and so starts the next Dag."""

from typing import NamedTuple

from airflow.sdk import Asset, PartitionedAssetTimetable, StartOfDayMapper
from airflow.sdk.definitions.asset import BaseAsset


class TaskAssets(NamedTuple):
    """What the Dags of one labelling task tell each other."""

    documents: Asset
    training_due: Asset
    champion: Asset
    labels: Asset


def assets_of(task: str) -> TaskAssets:
    """Name the assets. They have no URI: for its scheme, Airflow would import every provider's client at each parse."""
    return TaskAssets(*(Asset(name=f"{task}__{name}") for name in TaskAssets._fields))


def on_partition_of(assets: BaseAsset) -> PartitionedAssetTimetable:
    """Run once for each partition key that arrives. The mapper refuses a key that is not a day."""
    return PartitionedAssetTimetable(assets=assets, default_partition_mapper=StartOfDayMapper(input_format="%Y-%m-%d"))
