"""Guards, each with the change that removes it and a test that must notice. Data only; `sabotage` carries it out."""

from typing import NamedTuple

_LAKE = "tests/integration/test_lake_verbs.py::test_"
_UPKEEP = "tests/integration/test_upkeep.py::test_"
_KILLS = "tests/integration/test_kills.py::test_"
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
        "_take_turn(delta, horizon(delta))",
        "pass",
        _UPKEEP + "of_two_compactions_at_once_one_merges_and_no_row_is_there_twice",
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
        "a text that was answered is never asked again",
        "llambert_etl/annotation/backlog.py",
        'documents.join(answered, on="text_hash", how="anti")',
        'documents.join(answered, on="text_hash", how="left")',
        "tests/integration/test_annotate.py::test_a_second_run_asks_nothing",
    ),
    Guard(
        "a reply goes to the document that it answers",
        "llambert_etl/annotation/backlog.py",
        "to_dicts(), replies, strict=True)",
        "to_dicts(), list(replies)[::-1], strict=True)",
        "tests/integration/test_annotate.py::test_every_sampled_document_is_asked_once_and_kept",
    ),
    Guard(
        "results come back in the order of the texts, whatever the batches",
        "llambert_etl/compute/batching.py",
        "return [results[index] for index in range(len(items))]",
        "return list(results.values())",
        "tests/unit/test_batching.py::test_every_item_comes_back_in_its_place",
    ),
    Guard(
        "a reply that names two labels is no label",
        "llambert_etl/llm/parsing.py",
        "if len({mention.label for mention in said.mentions if said.names(mention)}) > 1 or said.negates(answers):",
        "if said.negates(answers):",
        "tests/unit/llm/test_parsing.py::test_a_reply_is_a_label_or_a_reason",
    ),
    Guard(
        "what a model thinks is no answer",
        "llambert_etl/llm/thoughts.py",
        'return said[last.end() :] if last["closed"] else None',
        "return said",
        "tests/unit/llm/test_parsing.py::test_a_reply_is_a_label_or_a_reason",
    ),
    Guard(
        "a reply that a server cut off is no whole sentence",
        "llambert_etl/llm/chat.py",
        "read_reply(self.task, choice.text, tokens, cut=cut)",
        "read_reply(self.task, choice.text, tokens)",
        "tests/unit/llm/test_completions.py::test_an_answer_that_was_cut_off_counts_only_where_it_begins_with_its_label",
    ),
    Guard(
        "an answer of no known shape is paid once",
        "llambert_etl/llm/served_batch.py",
        'return ("unreadable", 0.0) if reply is None else',
        'return ("unreadable", 0.0) if reply is None or reply.reason == UNKNOWN else',
        "tests/unit/llm/test_completions.py::test_an_answer_of_no_known_shape_is_kept_and_never_asked_for_again",
    ),
    Guard(
        "control tokens in a document are text",
        "llambert_etl/llm/encoding.py",
        "for text in unmarked], split_special_tokens=True)",
        "for text in unmarked])",
        "tests/unit/llm/test_encoding.py::test_no_control_token_comes_out_of_a_document",
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
        "tests/integration/test_label_run.py::"
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
        "a version is promoted for the labels that the task has",
        "llambert_etl/champion/moves.py",
        "if version.labels != task.label_names:",
        "if False:",
        "tests/integration/test_promote.py::test_labels_in_another_order_are_a_configuration_error",
    ),
    Guard(
        "an encoder that gives one label only is not promoted",
        "llambert_etl/champion/verdict.py",
        "        *map(share, sorted(task.labels, key=lambda label: score.shares[label] - floors[label])),\n",
        "",
        "tests/integration/test_promote.py::test_a_collapsed_encoder_is_refused_with_what_was_seen_and_expected",
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
        "of two promotions at once the one that is entered second decides again",
        "llambert_etl/champion/moves.py",
        "if commit.replayed and not self._entered(row):",
        "if False:",
        "tests/integration/test_champion.py::test_the_best_candidate_wins_though_another_was_entered_first",
    ),
    Guard(
        "an alias that was set too late is set back",
        "llambert_etl/champion/moves.py",
        "            self._registry.set_champion(self._task, None if earlier is None else earlier.version)\n",
        "",
        "tests/integration/test_champion.py::test_a_worse_candidate_that_sets_the_alias_last_is_taken_back",
    ),
    Guard(
        "a used-up budget stops a run before its next batch",
        "llambert_etl/annotation/backlog.py",
        "if spent is None:",
        "if True:",
        "tests/integration/test_served.py::test_a_used_up_budget_stops_after_the_batch_in_flight_and_a_higher_one_goes_on",
    ),
    Guard(
        "what is out as a batch file is asked about in no other way",
        "llambert_etl/annotation/side_by_side.py",
        "            refuse_sent(work)\n",
        "",
        "tests/integration/test_batches.py::test_what_is_sent_is_asked_in_no_other_way_meanwhile",
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
        "what was compared is what is promoted",
        "llambert_etl/steps/promote.py",
        "if self.number is not None:",
        "if False:",
        "tests/integration/test_promote.py::test_what_was_compared_is_promoted_whatever_was_trained_since",
    ),
    Guard(
        "what a server answered before it refused us is kept",
        "llambert_etl/annotation/backlog.py",
        "except (HalfAnsweredError, HalfRefusedError) as error:",
        "except HalfAnsweredError as error:",
        "tests/integration/test_served.py::"
        "test_what_a_server_answered_before_it_refused_us_is_kept_and_no_more_is_asked",
    ),
    Guard(
        "a mark that a tokenizer does not call special is text in a document",
        "llambert_etl/llm/encoding.py",
        "return cls(_plain(tokenizer), prefix",
        "return cls(tokenizer, prefix",
        "tests/unit/llm/test_encoding.py::"
        "test_a_mark_that_is_not_called_special_acts_in_the_prompt_and_is_text_in_a_document",
    ),
    Guard(
        "a file of the store that was replaced while it was read is read again",
        "llambert_etl/store/storage.py",
        "if stream.metadata() == read:",
        "if True:",
        "tests/integration/test_store_contract.py::test_a_file_that_is_replaced_while_it_is_read_is_read_whole",
    ),
)
