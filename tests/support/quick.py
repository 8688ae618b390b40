"""The quick selection, ``pytest -m quick``: files below ``tests``, and tests of the command line."""

from __future__ import annotations

FILES = (
    "data/test_data_sets.py",
    "data/test_data_splits.py",
    "kernels/test_parity.py",
    "layers/test_conv.py",
    "layers/test_linear.py",
    "norms/test_batch_norm.py",
    "norms/test_mixture_functions.py",
    "stepping/test_step_command.py",
    "test_backend.py",
    "test_completion.py",
    "test_definitions.py",
    "test_losses.py",
    "test_models.py",
    "test_readme.py",
    "training/test_schedules.py",
    "verify/test_check.py",
)
"""What ``pytest -m quick`` runs, but for ``slow`` ones: of every subject its heart, and every layer's gradients."""
COMMANDS = ("test_version", "test_help", "test_no_command_shows_the_help", "test_usage_errors_are_one_sentence")
COMMANDS += ("test_compare_writes_what_it_promises", "test_train_save_evaluate_resume", "test_compare_refuses")
"""And with what the names of its tests of commands begin, in ``test_cli.py`` and ``test_cli_train.py``."""
