"""The schedule: which run starts when, with other processes and interim reports."""

from small_plan import build

from alexnet_jax import run_files, signals
from experiments import executors
from experiments.launch import schedule
from experiments.sweep import plan as plan_lib


class OneByOne(executors.Unasked):
    """Each run is done at once. `events`: what happened, in order."""

    events = ()
    now = ()

    def room(self, run):
        return not self.now

    def start(self, run, folder):
        run_files.write_json(folder / "result.json", {"id": run, "status": "finished"})
        OneByOne.now, OneByOne.events = (run,), (*self.events, "start")
        return True

    def ended(self):
        ended, OneByOne.now = self.now, ()
        return [executors.Ended(run, 0) for run in ended]


class Silent:
    def line(self, text): ...

    def ended(self, run, result, state): ...

    def update(self, state): ...


def test_the_next_run_starts_before_the_interim_report(tmp_path):
    whole, one = build(), OneByOne(1)
    first = whole.order()[:3]
    for run in first:
        (tmp_path / whole.runs[run].dir).mkdir(parents=True)

    def report():
        OneByOne.events = (*OneByOne.events, "report")

    state = schedule.Schedule(whole, tmp_path, first, one, Silent(), report).run(signals.Signals())
    assert list(state.finished) == first
    assert one.events == ("start", "start", "report", "start", "report", "report")


def test_runs_that_another_process_ends_are_counted_while_ours_go_on(tmp_path, monkeypatch):
    whole = build()
    theirs, ours, later = whole.order()[:3]
    folders = {run: tmp_path / whole.runs[run].dir for run in (theirs, ours, later)}
    for folder in folders.values():
        folder.mkdir(parents=True)
    used = {folders[theirs]}
    monkeypatch.setattr(schedule, "_LOOK_AGAIN", 0.0)
    monkeypatch.setattr(plan_lib, "in_use", lambda folder: folder in used)
    seen = []

    class Slow(executors.Unasked):
        now, ticks = "", 0

        def room(self, run):
            return not self.now

        def start(self, run, folder):
            self.now, self.ticks = run, 0
            return True

        def ended(self):
            self.ticks += 1
            if self.now == ours and self.ticks == 2:  # the other process ends its run
                run_files.write_json(folders[theirs] / "result.json", {"id": theirs, "status": "finished"})
                used.clear()
            if not self.now or self.ticks < 5:
                return []
            run, self.now = self.now, ""
            run_files.write_json(folders[run] / "result.json", {"id": run, "status": "finished"})
            return [executors.Ended(run, 0)]

    class Watching(Silent):
        def update(self, state):
            seen.append((list(state.finished), list(state.running), list(state.elsewhere)))

    state = schedule.Schedule(whole, tmp_path, [theirs, ours, later], Slow(1), Watching()).run(signals.Signals())
    assert ([], [ours], [theirs]) in seen
    assert ([theirs], [ours], []) in seen
    assert list(state.finished) == [theirs, ours, later]
