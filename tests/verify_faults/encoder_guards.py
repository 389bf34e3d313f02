"""Guards of encoders in training; the others are in `guards`. Data only."""

from tests.verify_faults.guards import Guard

_CHECKPOINTS = "tests/integration/test_checkpoints.py::test_"

GUARDS = (
    Guard(
        "a way of padding that sways logits is not taken",
        "llambert_etl/encoder/inputs.py",
        "if same_logits(alone, together):",
        "if True:",
        "tests/unit/encoder/test_architectures.py::"
        "test_every_architecture_learns_and_gives_a_text_the_logits_that_it_has_alone[fnet-left]",
    ),
    Guard(
        "a text in a packed row has the positions that it has alone",
        "llambert_etl/encoder/packing.py",
        "within * counted + padding",
        "within - 1",
        "tests/unit/encoder/test_packing.py::test_texts_in_one_row_have_the_logits_that_they_have_alone[roberta]",
    ),
    Guard(
        "texts are packed only where that is seen to change no logits",
        "llambert_etl/encoder/packing.py",
        'None if same_logits(exact, together) else "its logits differ"',
        "None",
        "tests/unit/encoder/test_packing.py::"
        "test_texts_are_padded_and_the_log_says_why_where_their_logits_differ[wrong positions]",
    ),
    Guard(
        "a killed training goes on with the optimizer as it was",
        "llambert_etl/encoder/stages.py",
        "self.begun.resume(self.optimizer, self.lr_scheduler)",
        "pass",
        _CHECKPOINTS + "a_training_that_was_stopped_goes_on_to_the_weights_of_one_that_was_not[first stage]",
    ),
    Guard(
        "a stage that was over is not trained again",
        "llambert_etl/encoder/checkpoints.py",
        'found = self._read(f"stage-{number}")',
        "found = None",
        _CHECKPOINTS + "a_training_that_was_over_is_not_done_again",
    ),
    Guard(
        "of two runs of one training the first to end gives the candidate",
        "llambert_etl/steps/train.py",
        "settle(folder, target)",
        "folder.rename(target)",
        "tests/integration/test_train.py::"
        "test_of_two_runs_of_one_training_at_once_both_end_with_the_version_of_the_first",
    ),
)
