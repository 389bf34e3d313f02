"""Guards, each with the change that removes it and a test that must notice. Data only; `sabotage` carries it out."""

from typing import NamedTuple

_LAKE = "tests/integration/test_lake_verbs.py::test_"
_UPKEEP = "tests/integration/test_upkeep.py::test_"
_KILLS = "tests/integration/test_kills.py::test_"
_FORGET = "tests/integration/test_forget_meanwhile.py::test_"
_DAGS = "tests/dags/test_"


class Guard(NamedTuple):
    """`old` stands exactly once in `file`."""

    name: str
    file: str
    old: str
    new: str
    test: str


GUARDS = (
    Guard(
        "a commit key that is there already makes no second commit",
        "llambert_etl/lake/tables.py",
        "if current == key:",
        "if False:",
        _LAKE + "replaying_a_replacement_adds_no_version_and_no_row",
    ),
    Guard(
        "a writer that began before another's replacement is refused",
        "llambert_etl/lake/tables.py",
        "if current != staged.replaces:",
        "if False:",
        _LAKE + "a_writer_that_began_before_a_replacement_cannot_undo_it",
    ),
    Guard(
        "a commit looks whether its staged files are there",
        "llambert_etl/lake/tables.py",
        "if gone := missing(self.storage, table, staged, horizon(delta)):",
        "if gone := []:",
        _UPKEEP + "a_staged_file_that_is_not_there_any_more_is_never_committed",
    ),
    Guard(
        "a replacement is never rebased by Delta",
        "llambert_etl/lake/tables.py",
        "Transaction(fence, key), retries=0",
        "Transaction(fence, key), retries=10",
        _UPKEEP + "a_replacement_beside_a_compaction_leaves_none_of_the_rows_that_it_replaces",
    ),
    Guard(
        "compactions take turns",
        "llambert_etl/lake/upkeep.py",
        "_take_turn(delta, horizon(delta))\n",
        "pass\n",
        _UPKEEP + "of_two_compactions_at_once_one_merges_and_no_row_is_there_twice",
    ),
    Guard(
        "a forget puts off every commit that was begun before it",
        "llambert_etl/steps/forget.py",
        "put_off(lake, table)  #",
        "pass  #",
        _FORGET + "an_ingest_of_it_is_refused_and_the_next_keeps_nothing_of_it",
    ),
    Guard(
        "a file that is refused takes no documents back",
        "llambert_etl/sources/tally.py",
        "return self._sources - self._files_refused",
        "return self._sources",
        "tests/integration/test_ingest.py::test_a_file_that_cannot_be_read_any_more_takes_no_documents_back",
    ),
    Guard(
        "old is what the store's clock says too",
        "llambert_etl/lake/upkeep.py",
        "min(lake.storage.now(), datetime.datetime.now(datetime.UTC))",
        "datetime.datetime.now(datetime.UTC)",
        _UPKEEP + "a_clock_that_is_wrong_deletes_nothing_young",
    ),
    Guard(
        "one application transaction puts racing appends in a row",
        "llambert_etl/lake/tables.py",
        "properties_of(made, Transaction(fence, turn), retries",
        "properties_of(made, Transaction(f'{fence}/{made.run}', turn), retries",
        _KILLS + "racing_appends_of_overlapping_rows_add_each_row_once",
    ),
    Guard(
        "an append leaves out the rows that the table holds",
        "llambert_etl/lake/keys.py",
        'one.join(held, on=key, how="anti", nulls_equal=True)',
        'one.join(held, on=key, how="left", nulls_equal=True)',
        _LAKE + "append_once_adds_only_what_is_absent",
    ),
    Guard(
        "a column of another type is refused before Delta casts it",
        "llambert_etl/lake/staging.py",
        "if found[field.name] != field.type:",
        "if False:",
        _LAKE + "another_schema_is_refused_before_any_commit",
    ),
    Guard(
        "rows go to the partition that they name",
        "llambert_etl/lake/staging.py",
        "            if found not in ([], [wanted]):\n",
        "            if False:\n",
        _LAKE + "rows_of_another_day_cannot_be_staged_into_a_partition",
    ),
    Guard(
        "a gate that fails stops the run",
        "llambert_etl/steps/check.py",
        "if validation.failures:",
        "if False:",
        "tests/integration/test_check.py::test_a_drop_with_only_bad_rows_is_stopped",
    ),
    Guard(
        "nothing is published that did not pass its gate",
        "llambert_etl/steps/publish.py",
        "if not was_checked(lake, plan, staged):",
        "if False:",
        "tests/integration/test_label_run.py::test_nothing_is_published_before_its_gate",
    ),
    Guard(
        "a label run that a newer one has overtaken leaves the newer labels",
        "llambert_etl/steps/publish.py",
        'return there if ours == "older" else None',
        "return None",
        "tests/integration/test_label_runs_at_once.py::"
        "test_a_run_that_a_newer_one_has_overtaken_leaves_its_labels_and_says_so[champion]",
    ),
    Guard(
        "a manifest adds up",
        "llambert_etl/manifest.py",
        'if self.rows and self.rows.get("read") != sum(outcomes.values()):',
        "if False:",
        "tests/unit/test_words.py::test_a_manifest_whose_rows_do_not_add_up_cannot_be_made",
    ),
    Guard(
        "a text that gold tests on is not learnt, under whatever id",
        "llambert_etl/steps/train.py",
        ' | pl.col("text_hash").is_in(test["text_hash"].to_list())\n    kept',
        "\n    kept",
        "tests/integration/test_train.py::test_a_text_that_gold_tests_on_is_not_learnt_under_another_id",
    ),
    Guard(
        "an encoder whose files are not those registered is refused",
        "llambert_etl/store/copies.py",
        "if wrong := mismatch(folder, hashes):",
        "if wrong := None:",
        "tests/integration/test_registry.py::test_a_swapped_artifact_is_refused",
    ),
    Guard(
        "a run without a partition key fails before it starts",
        "llambert_etl/orchestration/commands.py",
        "        parse_partition(partition_of(argv))\n",
        "        partition_of(argv)\n",
        _DAGS + "commands.py::test_a_partition_that_is_no_day_is_refused_before_anything_starts",
    ),
    Guard(
        "the plugin's routes ask who is there",
        "plugins/llambert_pages.py",
        "dependencies=[Depends(may_read)], ",
        "",
        _DAGS + "pages.py::test_every_route_refuses_an_anonymous_caller",
    ),
    Guard(
        "a command that is asked to stop says that trying again helps",
        "llambert_etl/cli/outcome.py",
        "with handling(_leave, signal.SIGTERM), contextlib",
        "with contextlib",
        "tests/integration/test_stops.py::test_a_command_that_is_asked_to_stop_ends_what_it_has_begun_and_says_try_again",
    ),
    Guard(
        "training on gold alone asks no LLM",
        "llambert_etl/orchestration/dags.py",
        '(context["params"]["strategy"] or labelling.encoder.strategy) == "gold"',
        "False",
        _DAGS + "flow.py::test_training_on_gold_alone_pays_for_no_llm",
    ),
    Guard(
        "a commit is found however many came after it",
        "llambert_etl/lake/commits.py",
        "_PAGES = (20, 500, None)",
        "_PAGES = (20,)",
        "tests/unit/test_commits.py::test_the_commit_of_a_day_is_found_behind_those_of_other_days",
    ),
    Guard(
        "a file of the hub is the one that the hub lists",
        "llambert_etl/hub/client.py",
        "self.file.oid in (self.sha256, self._git.hexdigest())",
        "True",
        "tests/unit/hub/test_client.py::test_a_file_that_is_cut_off_is_transient_and_another_one_is_refused",
    ),
    Guard(
        "a warehouse never goes back to older labels",
        "llambert_etl/exports/warehouse.py",
        "if held and int(str(held[0][0])) >= published.version:",
        "if False:",
        "tests/integration/test_warehouse.py::test_of_two_exports_of_a_day_at_once_the_newer_labels_stay",
    ),
    Guard(
        "an example of a prompt is not what the prompt is judged by",
        "llambert_etl/studies/asked.py",
        'gold.filter(~pl.col("text_hash").is_in(shown))',
        "gold",
        "tests/integration/test_study_asked.py::"
        "test_an_example_of_the_prompt_is_never_among_the_documents_that_it_is_judged_by",
    ),
    Guard(
        "a study learns from no text that gold tests on",
        "llambert_etl/studies/data.py",
        "documents.filter(~tested)",
        "documents",
        "tests/integration/test_study.py::test_no_text_that_gold_tests_on_is_learnt_from",
    ),
    Guard(
        "a day's gold comes from one source",
        "llambert_etl/steps/review_import.py",
        "    refuse_other_source(task, lake, partition, _STEP)\n",
        "",
        "tests/integration/test_review_import.py::test_a_day_s_gold_has_one_source",
    ),
    Guard(
        "an unchanged gold file does not win over what people have corrected since",
        "llambert_etl/steps/gold.py",
        "if (imported := _imported(task, lake, partition, key)) is not None:",
        "if (imported := None) is not None:",
        "tests/integration/test_review_import.py::"
        "test_what_people_corrected_stands_when_the_same_file_is_imported_again",
    ),
    Guard(
        "late days that an earlier try has taken in are named",
        "llambert_etl/steps/ingest.py",
        "if (made.run, Ingested.of(made).late_for) == (run.name, run.partition):",
        "if False:",
        "tests/integration/test_late_days.py::test_a_night_that_is_tried_again_names_the_late_days_of_the_first_try_too",
    ),
    Guard(
        "a restored table forgets the keys of what was undone",
        "llambert_etl/lake/tables.py",
        "CommitProperties(app_transactions=fences)",
        "CommitProperties()",
        _LAKE + "a_restored_table_forgets_what_was_done_since_and_takes_it_again",
    ),
    Guard(
        "a file of the store that was replaced while it was read is read again",
        "llambert_etl/store/storage.py",
        "if stream.metadata() == read:",
        "if True:",
        "tests/integration/test_store_contract.py::test_a_file_that_is_replaced_while_it_is_read_is_read_whole",
    ),
)
