"""How a run is bounded, stopped and ended: statuses, budgets, the decision to stop."""

from __future__ import annotations

from mutants.mutant import RUNTIME, SANDBOX, mutant

_STATUS = f"{RUNTIME}/journal/status.py"
_END = f"{RUNTIME}/run/end.py"
_STATUS_TEST = "runtime/journal/test_status.py"
_BUDGET = f"{RUNTIME}/run/budget.py"
_BUDGET_TEST = "runtime/run/test_budget.py"
_LOOP = f"{RUNTIME}/run/loop_detector.py"
_LOOP_TEST = "runtime/run/test_loop_detector.py"

MUTANTS = (
    mutant(
        "a call that has answered is ended though all its processes have got SIGTERM",
        "sandbox/inside/test_soft_rungs.py::"
        "test_who_handles_sigterm_has_its_time_though_the_tool_has_answered",
        f"{SANDBOX}/host/call_process.py",
        "process is not None and Rung.TERM not in self.ladder.rungs",
        "process is not None",
    ),
    mutant(
        "exec exits with its command's code where its run was stopped",
        "cli/test_command.py::"
        "test_a_signal_just_after_the_commands_own_end_has_one_code_here_and_in_the_record",
        f"{RUNTIME}/cli/verbs/exec_run.py",
        "result.exit_code if stopped else None",
        "None",
    ),
    mutant(
        "a call that never began counts as made",
        "sandbox/host/test_verdict.py",
        f"{SANDBOX}/host/verdict.py",
        "        made=not unmade,\n",
        "        made=True,\n",
    ),
    mutant(
        "a run whose calls could not be made ends as it would",
        "runtime/run/test_end.py",
        _END,
        "        if not self._calls:\n            return None\n",
        "        return None\n",
    ),
    mutant(
        "a call that was repeated and made still counts",
        "runtime/run/test_end.py",
        _END,
        "                self._calls.pop(key, None)\n",
        "                pass\n",
    ),
    mutant(
        "idle -> done is legal",
        _STATUS_TEST,
        _STATUS,
        "    Status.IDLE: frozenset({Status.RUNNING}),\n",
        "    Status.IDLE: frozenset({Status.RUNNING, Status.DONE}),\n",
    ),
    mutant(
        "a run that is done cannot go on",
        _STATUS_TEST,
        _STATUS,
        "    **{end: frozenset({Status.RUNNING}) for end in _ENDS},\n",
        "    **{end: frozenset({Status.RUNNING}) for end in _ENDS - {Status.DONE}},\n"
        "    Status.DONE: frozenset(),\n",
    ),
    mutant(
        "a running conversation can become idle",
        _STATUS_TEST,
        _STATUS,
        "_ENDS = frozenset(Status) - {Status.IDLE, Status.RUNNING}\n",
        "_ENDS = frozenset(Status) - {Status.RUNNING}\n",
    ),
    mutant(
        "a failed run exits with 0",
        _STATUS_TEST,
        _STATUS,
        "    Status.FAILED: ExitCode.FAILED,\n",
        "    Status.FAILED: ExitCode.DONE,\n",
    ),
    mutant(
        "a run with survivors is done",
        _STATUS_TEST,
        _END,
        "    status = Status.ERROR if end.status is Status.DONE else end.status\n",
        "    status = end.status\n",
    ),
    mutant(
        "a run without survivors exits as one with some",
        "runtime/run/test_end.py",
        _END,
        "    if not names:\n        return end\n",
        "",
    ),
    mutant(
        "a spent budget reads as an interrupt",
        _STATUS_TEST,
        _END,
        "            return End(Status.BUDGET, why)\n",
        "            return End(Status.INTERRUPTED, why, exit_code)\n",
    ),
    mutant(
        "one turn more than the budget",
        f"{_BUDGET_TEST}::test_a_budget_of_the_replay_counts_every_turn",
        _BUDGET,
        "turns >= budgets.turns",
        "turns > budgets.turns",
    ),
    mutant(
        "ten times 0.1 dollars are less than 1",
        f"{_BUDGET_TEST}::test_ten_times_ten_cents_are_a_dollar",
        f"{RUNTIME}/journal/usage.py",
        "else rounded(self.usage.cost_usd)",
        "else self.usage.cost_usd",
    ),
    mutant(
        "an answer without a known price costs nothing",
        f"{_BUDGET_TEST}::test_a_budget_that_cannot_be_enforced_ends_the_run_with_the_first_answer",
        _BUDGET,
        "            and usage.cost_usd is None\n",
        "            and not model\n",
    ),
    mutant(
        "an answer that came too late costs nothing",
        f"{_BUDGET_TEST}::test_an_answer_that_came_too_late_counts_against_every_budget",
        _BUDGET,
        "        self.used.add(usage)\n        self._used_in_last_segment.add(usage)\n",
        "        self.used.requests += 0\n",
    ),
    mutant(
        "a replay's own budget counts only the last recorded segment",
        f"{_BUDGET_TEST}::test_a_budget_of_the_replay_counts_every_turn",
        _BUDGET,
        "return self._used_in_last_segment if name in self._taken_over else self.used",
        "return self._used_in_last_segment",
    ),
    mutant(
        "a recorded budget counts the turns of all segments",
        f"{_BUDGET_TEST}::test_a_budget_from_the_recording_counts_the_turns_of_its_last_segment",
        _BUDGET,
        "return self._used_in_last_segment if name in self._taken_over else self.used",
        "return self.used",
    ),
    mutant(
        "repetitions before the last recorded segment count",
        f"{_BUDGET_TEST}::test_repetitions_count_like_the_other_budgets",
        _BUDGET,
        'if not self._counts("repeats", number):',
        'if not self._counts("", number):',
    ),
    mutant(
        "the same calls are a loop whatever they gave",
        f"{_LOOP_TEST}::test_any_difference_begins_a_new_row",
        _LOOP,
        "(call.tool, call.arguments, result.outcome, result.content, result.images)",
        "(call.tool, call.arguments)",
    ),
    mutant(
        "what the user says is no news",
        f"{_LOOP_TEST}::test_a_user_message_starts_a_new_row",
        _LOOP,
        "self._row.add((user_messages, made or text))",
        "self._row.add(made or text)",
    ),
    mutant(
        "the last stop counts, not the first",
        "runtime/run/test_stop_decision.py",
        f"{RUNTIME}/run/stop_decision.py",
        "        except IndexError:\n            return False\n",
        "        except IndexError:\n            pass\n",
    ),
    mutant(
        "a stop after the natural end cancels the token",
        "runtime/run/test_stop_decision.py",
        f"{RUNTIME}/run/stop_decision.py",
        "        except IndexError:\n            return False\n        try:\n",
        "        except IndexError:\n            self.token.cancel(reason)\n"
        "            return False\n        try:\n",
    ),
    mutant(
        "bytes are left out and not counted",
        "runtime/run/test_truncate.py",
        f"{SANDBOX}/capture.py",
        "    left_out += len(head) - len(whole_head) + len(tail) - len(whole_tail)\n",
        "",
    ),
)
