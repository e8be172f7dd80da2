"""What is written down, and what follows from it: journal, state, history, result.json."""

from __future__ import annotations

from mutants.mutant import RUNTIME, mutant

_FILE = f"{RUNTIME}/journal/file.py"
_FILE_TEST = "runtime/journal/test_file.py"
_STATE = f"{RUNTIME}/journal/state.py"
_STATE_TEST = "runtime/journal/test_state.py"
_QUESTIONS_TEST = "runtime/journal/test_state_questions.py"
_RECORDER = f"{RUNTIME}/journal/recorder.py"
_RECORDER_TEST = "runtime/journal/test_recorder.py"

MUTANTS = (
    mutant(
        "a journal of another version is read",
        f"{_FILE_TEST}::test_a_journal_of_another_version_is_refused_with_a_hint",
        _FILE,
        "    if first.version != VERSION:\n",
        "    if first.version < VERSION:\n",
    ),
    mutant(
        "a torn last line is no end of a journal",
        f"{_FILE_TEST}::test_a_journal_cut_at_any_byte_loads",
        _FILE,
        "    if is_whole(tail):\n        yield at, tail\n",
        "    if tail:\n        yield at, tail\n",
    ),
    mutant(
        "a last line without its newline is lost",
        f"{_FILE_TEST}::test_a_last_line_that_lacks_only_its_newline_is_kept",
        _FILE,
        "        if is_whole(tail):\n            return end",
        "        if is_whole(tail + b'}'):\n            return end",
    ),
    mutant(
        "everybody may read a journal",
        f"{_FILE_TEST}::test_only_its_owner_may_read_it",
        _FILE,
        "        self._fd = os.open(path, flags, 0o600)\n",
        "        self._fd = os.open(path, flags, 0o644)\n",
    ),
    mutant(
        "a journal has two writers",
        f"{_FILE_TEST}::test_a_journal_has_one_writer",
        _FILE,
        "_lock(self._fd, fcntl.LOCK_EX, patience)",
        "_lock(self._fd, fcntl.LOCK_SH, patience)",
    ),
    mutant(
        "half an event stays in the file when the disk is full",
        f"{_FILE_TEST}::test_a_disk_that_fills_up_leaves_whole_events_and_writing_can_be_tried_again",
        _FILE,
        "            os.ftruncate(self._fd, self._size)\n            self._room_until = 0\n",
        "            self._room_until = 0\n",
    ),
    mutant(
        "a call that had started is said not to have",
        _STATE_TEST,
        _STATE,
        "Phase.STARTED: (Outcome.UNKNOWN, StartedState.YES),",
        "Phase.STARTED: (Outcome.UNKNOWN, StartedState.NO),",
    ),
    mutant(
        "a call that was being sent is said not to have been",
        _STATE_TEST,
        _STATE,
        "Phase.DISPATCHING: (Outcome.UNKNOWN, StartedState.MAYBE),",
        "Phase.DISPATCHING: (Outcome.SKIPPED, StartedState.NO),",
    ),
    mutant(
        "a call may end twice",
        _STATE_TEST,
        _STATE,
        "        if to.value <= call.phase.value:\n",
        "        if to.value < call.phase.value:\n",
    ),
    mutant(
        "a call may be asked for twice",
        _STATE_TEST,
        _STATE,
        "        if call.id in self.calls:\n",
        "        if call.id in self.calls and verify:\n",
    ),
    mutant(
        "models see the calls of verify",
        _STATE_TEST,
        _STATE,
        "self._add_call(ToolCall(event.call, event.tool, {}), verify=True)",
        "self._add_call(ToolCall(event.call, event.tool, {}))",
    ),
    mutant(
        "a history changes after it was taken",
        _STATE_TEST,
        _STATE,
        "        messages = list(self._messages) if self._places else self._messages\n",
        "        messages = self._messages\n",
    ),
    mutant(
        "a run whose agent died is idle",
        _QUESTIONS_TEST,
        _STATE,
        "return Status.IDLE if self.segment is None else Status.ERROR",
        "return Status.IDLE",
    ),
    mutant(
        "what verify refused has not been judged",
        _QUESTIONS_TEST,
        _STATE,
        "_VERDICTS = (Status.DONE, Status.FAILED)",
        "_VERDICTS = (Status.DONE,)",
    ),
    mutant(
        "survivors are not named to the model",
        "runtime/journal/test_history.py",
        f"{RUNTIME}/journal/history.py",
        "    if ended.survivors:\n",
        "    if not ended.outcome:\n",
    ),
    mutant(
        "what could not be written is forgotten",
        _RECORDER_TEST,
        _RECORDER,
        "                while self._written < len(self._events):\n",
        "                self._written = len(self._events) - 1\n"
        "                while self._written < len(self._events):\n",
    ),
    mutant(
        "a listener that raises ends the run",
        _RECORDER_TEST,
        _RECORDER,
        "        except Exception as error:\n            complain(",
        "        except KeyError as error:\n            complain(",
    ),
    mutant(
        "a record that cannot be written spoils the old one",
        "runtime/journal/test_result_file.py",
        f"{RUNTIME}/journal/result_file.py",
        'SPARE_FILE = ".result.json.next"\n',
        "SPARE_FILE = RESULT_FILE\n",
    ),
    mutant(
        "a write that fails once is not tried again",
        f"{_FILE_TEST}::test_a_write_that_fails_once_is_tried_again",
        _FILE,
        "            self._write(line)  # A disk may fail once, or be full for a moment.\n",
        "            raise\n",
    ),
    mutant(
        "a journal that has left its place is not missed",
        f"{_FILE_TEST}::test_a_journal_that_has_left_its_place_is_missed",
        _FILE,
        "        if not there:\n",
        "        if there is None:\n",
    ),
    mutant(
        "a message after the end of a segment hides the end",
        "runtime/journal/test_standing.py",
        f"{RUNTIME}/journal/standing.py",
        "            if not isinstance(event, _OUTSIDE):\n",
        "            if event:\n",
    ),
    mutant(
        "a record that says `running` is good enough for a run that is done",
        "runtime/test_resume.py::test_the_record_of_a_done_run_is_completed",
        f"{RUNTIME}/journal/result_file.py",
        "        if (there.segment, there.status) == (record.segment, record.status):\n",
        "        if there.segment == record.segment:\n",
    ),
    mutant(
        "`last` is the first run",
        "runtime/journal/test_lookup.py",
        f"{RUNTIME}/journal/lookup.py",
        "    return list(dict.fromkeys([*noted, *ids, *others]))\n",
        "    return list(dict.fromkeys([*noted, *ids, *others]))[::-1]\n",
    ),
    mutant(
        "`last` goes by the time in the id alone",
        "runtime/journal/test_lookup.py",
        f"{RUNTIME}/journal/lookup.py",
        "    return list(dict.fromkeys([*noted, *ids, *others]))\n",
        "    return list(dict.fromkeys([*ids, *others]))\n",
    ),
)
