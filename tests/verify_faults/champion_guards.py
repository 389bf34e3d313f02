"""Guards of the champion, of days and of label runs at once; the others are in `guards`. Data only."""

from tests.verify_faults.guards import Guard

_GONE = "tests/integration/test_champion_gone.py::test_"
_TWICE = "tests/integration/test_label_twice.py::test_"

GUARDS = (
    Guard(
        "nothing is labelled with a champion that nobody stands behind",
        "llambert_etl/steps/plan.py",
        "    champion.standing.ensure(task.name)\n",
        "",
        _GONE + "nothing_is_labelled_and_everybody_is_told",
    ),
    Guard(
        "a promotion follows the champion that is gone",
        "llambert_etl/champion/moves.py",
        "if own or self.number is None else",
        "if own else",
        _GONE + "the_next_candidate_is_measured_alone_and_entered_after_the_one_that_is_gone",
    ),
    Guard(
        "no version is given the number of another",
        "llambert_etl/registry/models.py",
        "while number < upto:",
        "while False:",
        _GONE + "the_next_candidate_is_measured_alone_and_entered_after_the_one_that_is_gone[model deleted]",
    ),
    Guard(
        "a day that has not begun is refused",
        "llambert_etl/partition.py",
        "if day > now:",
        "if False:",
        "tests/unit/test_days.py::test_a_day_that_has_not_begun_is_refused_by_every_command",
    ),
    Guard(
        "a rollback puts the day of a champion right",
        "llambert_etl/champion/moves.py",
        'min([version.partition, *moves["partition"]])',
        "version.partition",
        "tests/integration/test_promote.py::"
        "test_a_promotion_as_of_a_day_far_ahead_is_repaired_by_a_rollback_as_of_today[the version of that day]",
    ),
    Guard(
        "a shard is found by every run that would make the same labels",
        "llambert_etl/labelling/plan.py",
        "fingerprint([self.commit_key, self.shards, *forgotten, *cut])",
        "fingerprint([self.commit_key, self.shards, self.run, *forgotten, *cut])",
        _TWICE + "a_finished_shard_is_left_alone_by_every_run_of_the_same_labels",
    ),
    Guard(
        "of two runs at one shard the second waits",
        "llambert_etl/labelling/turns.py",
        "if self._is_mine(found):",
        "if True:",
        _TWICE + "a_second_run_waits_as_long_as_the_first_is_heard_of",
    ),
    Guard(
        "a run that is at a shard is heard of",
        "llambert_etl/labelling/turns.py",
        "while not ended.wait(every):",
        "while False:",
        _TWICE + "a_second_run_waits_as_long_as_the_first_is_heard_of",
    ),
    Guard(
        "a run that was held up leaves what another has staged",
        "llambert_etl/steps/label.py",
        "            if (note := find_shard(lake, plan, shard)) is None:\n                write_shard",
        "            if True:\n                write_shard",
        _TWICE + "a_run_that_was_held_up_leaves_what_another_has_staged_meanwhile",
    ),
    Guard(
        "a shard counts while its files are there",
        "llambert_etl/labelling/plan.py",
        "[note if found else None for note, found in zip(notes, whole, strict=True)]",
        "notes",
        _TWICE + "a_shard_whose_files_are_gone_is_made_again",
    ),
    Guard(
        "what MLflow's database refuses is tried again",
        "llambert_etl/registry/faults.py",
        "if said == _REFUSED_BY_DATABASE:",
        "if False:",
        "tests/integration/test_registry.py::test_a_request_that_the_servers_database_refuses_may_be_tried_again",
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
        "what was compared is what is promoted",
        "llambert_etl/steps/promote.py",
        "if self.number is not None:",
        "if False:",
        "tests/integration/test_promote.py::test_what_was_compared_is_promoted_whatever_was_trained_since",
    ),
)
