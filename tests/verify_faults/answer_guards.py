"""Guards of what the annotator is asked and has answered, as those of `guards`."""

from tests.verify_faults.guards import Guard

_KILLS = "tests/integration/test_kills.py::test_"
_ANSWERS = "tests/integration/test_answers.py::test_"
_FAILED = "tests/integration/test_failed_for_good.py::test_"
_SIDE = "tests/integration/test_side_by_side.py::test_"
_SERVED = "tests/integration/test_served.py::test_"
_CLAIMS = "tests/integration/test_batch_claims.py::test_"
_BATCHES = "tests/integration/test_batches.py::test_"
_RESULTS = "tests/integration/test_batch_results.py::test_"

GUARDS = (
    Guard(
        "a question that is answered takes no other row",
        "llambert_etl/lake/keys.py",
        "closing = _missing(wanted.filter(~is_open), held.filter(~is_open), key)",
        'closing = _missing(wanted.filter(~is_open), held.filter(~is_open), [*key, "status"])',
        _ANSWERS + "a_question_that_is_answered_takes_no_other_row",
    ),
    Guard(
        "of two answers to a text a rule chooses",
        "llambert_etl/corpus/answers.py",
        'return rows.sort(order).unique(_KEY, keep="first", maintain_order=True)',
        "return rows",
        _ANSWERS + "every_reader_sees_the_one_answer_that_counts",
    ),
    Guard(
        "answers whose commit lost its reply are the run's own",
        "llambert_etl/lake/tables.py",
        "if not was_committed(self.storage, table, delta, files[0].key):",
        "if True:",
        _KILLS + "answers_whose_commit_lost_its_reply_are_not_taken_for_another_runs[500_after]",
    ),
    Guard(
        "what another run has answered meanwhile is not asked for",
        "llambert_etl/annotation/backlog.py",
        "if version != self._looked:",
        "if False:",
        _ANSWERS + "an_answer_that_another_run_gave_meanwhile_is_not_asked_for",
    ),
    Guard(
        "two runs at once do not ask in one order",
        "llambert_etl/annotation/backlog.py",
        "if not self.outrun:",
        "if True:",
        _ANSWERS + "a_run_that_another_is_always_ahead_of_goes_on_in_another_order",
    ),
    Guard(
        "a document that failed in so many runs is left alone",
        "llambert_etl/annotation/backlog.py",
        "unanswered.filter(~self._have_failed_for_good())",
        "unanswered",
        _FAILED + "one_bad_document_fails_in_so_many_runs_and_is_then_left_alone",
    ),
    Guard(
        "what was not asked when another run was first is asked later",
        "llambert_etl/annotation/side_by_side.py",
        "        self._settle()  # once more: what a commit has withdrawn may have nothing under way\n",
        "",
        "tests/integration/test_side_by_side.py::test_what_was_not_asked_when_another_run_was_first_is_asked_later",
    ),
    Guard(
        "a slow answer keeps no slot of the others empty",
        "llambert_etl/annotation/side_by_side.py",
        "if not first and (not self._annotator.is_understood or work.may_use_up(len(self._asked))):",
        "if not first:",
        _SIDE + "a_slow_answer_keeps_none_of_the_other_slots_empty",
    ),
    Guard(
        "no more is asked and not committed than a batch",
        "llambert_etl/annotation/side_by_side.py",
        "while len(self._asked) + self._work.pending < self._annotator.batch_size:",
        "while len(self._asked) < self._annotator.batch_size:",
        "tests/integration/test_annotate_stops.py::test_what_is_asked_and_not_committed_is_never_more_than_a_batch",
    ),
    Guard(
        "an answer that is under way at a fault is kept",
        "llambert_etl/annotation/side_by_side.py",
        "        while self._asked:\n",
        "        while False:\n",
        _SIDE + "an_answer_that_is_under_way_when_the_server_refuses_us_is_kept",
    ),
    Guard(
        "what is under way counts against the budget",
        "llambert_etl/annotation/backlog.py",
        "return self.spending.used_up(*more) is not None",
        "return False",
        _SERVED + "a_used_up_budget_stops_after_the_batch_in_flight_and_a_higher_one_goes_on",
    ),
    Guard(
        "a server that is down uses up no try of a document",
        "llambert_etl/annotation/backlog.py",
        "self.keep(documents, replies if well else without_blame(replies))",
        "self.keep(documents, replies)",
        _FAILED + "a_server_that_goes_down_half_way_uses_up_no_try",
    ),
    Guard(
        "one bad document is told from a server that is down",
        "llambert_etl/annotation/backlog.py",
        "if text is None:",
        "if True:",
        _FAILED + "one_bad_document_fails_in_so_many_runs_and_is_then_left_alone",
    ),
    Guard(
        "a batch is claimed before it is sent",
        "llambert_etl/annotation/claims.py",
        "if note.swap(None, claim) != claim:",
        "if False:",
        _CLAIMS + "two_runs_send_one_batch_and_both_read_it",
    ),
    Guard(
        "a run that lost its claim sends nothing under it",
        "llambert_etl/annotation/claims.py",
        "if note.swap(claim, sending) != sending:",
        "if False:",
        _CLAIMS + "a_run_that_was_taken_for_dead_as_it_uploaded_sends_nothing_under_its_old_claim",
    ),
    Guard(
        "a note is replaced by whoever has seen it",
        "llambert_etl/annotation/sent.py",
        "if _parse(lies) == old else lies.encode()",
        "",
        _CLAIMS + "a_run_that_reads_late_leaves_the_note_of_the_next_batch",
    ),
    Guard(
        "a batch of which nothing is answered is no success",
        "llambert_etl/steps/batch.py",
        'if not well and batch.status != "cancelled":',
        "if False:",
        _RESULTS + "a_batch_of_which_every_row_failed_is_no_success_and_blames_no_document[failed]",
    ),
    Guard(
        "what an expired batch did not come to is sent again",
        "llambert_etl/steps/batch.py",
        'if batch.status == "expired":',
        "if False:",
        _RESULTS + "what_an_expired_batch_did_not_come_to_is_sent_again_and_counted_once",
    ),
    Guard(
        "an append knows the rows of files that were replaced meanwhile",
        "llambert_etl/lake/keys.py",
        "if not read <= files:",
        "if False:",
        "tests/unit/test_held_keys.py::test_what_another_has_changed_meanwhile_is_seen[taken out]",
    ),
    Guard(
        "a reply that may have been cut off is read as one",
        "llambert_etl/annotation/again.py",
        " or int(version) < _TELLS_CUT",
        "",
        "tests/unit/test_read_again.py::test_other_rows_stay_as_they_are[perhaps cut off]",
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
        "what a server answered before it refused us is kept",
        "llambert_etl/annotation/failures.py",
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
)
